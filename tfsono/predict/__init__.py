"""`tfsono predict`: a run or a SavedModel, and files -> predictions in each file's own geometry, and measurements.

    sources      the options, an opened model, and the key of a model
    inputs       the files to predict, and a name for each
    tables       measurements.csv and the other tables: existing rows stay, one case is replaced at a time
    loop         predicts each input; skips what is predicted already, reports what fails
    ranges       what of an input and a prediction lies outside of what the model was trained on
    masks        label values and border contact of a mask
    landmarks    shared by the systems with landmarks in volumes
    pixel_sizes  the option --pixel_size_mm
    hip, femur, pose, face, head   one input of a system -> its files, its table rows, and a line to print

`tfsono.systems.commands` opens the models.
"""
