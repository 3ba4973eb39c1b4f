"""`tfsono predict`: a run or a SavedModel, and files of any kind -> answers in their own geometry, and measurements.

    sources      a folder -> the system that it is of, and who answers for it; `tfsono export` too
    inputs       the files that are meant, and a name for each
    tables       measurements.csv and its like: what is there is kept, one case replaced at a time
    loop         every input in turn: skipped where it is answered already, reported where it fails
    masks        what is done with a mask before it becomes a file
    hip, femur, pose, head   one input of a system -> its files, its rows, and a line to print
"""
