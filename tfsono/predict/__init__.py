"""`tfsono predict`: a run or a SavedModel, and files of any kind -> answers in their own geometry, and measurements.

    sources      the options, an opened model, and what predictions depend on
    pixel_sizes  head: millimetres a pixel, of the user or of a table
    inputs       the files that are meant, and a name for each
    tables       measurements.csv and its like: what is there is kept, one case replaced at a time
    loop         every input in turn: skipped where it is answered already, reported where it fails
    masks        what is done with a mask before it becomes a file
    landmarks    what the systems of volumes with landmarks share
    hip, femur, pose, face, head   one input of a system -> its files, its rows, and a line to print

`tfsono.systems.commands` opens the models.
"""
