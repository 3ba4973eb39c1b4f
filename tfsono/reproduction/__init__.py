"""How each paper is reproduced, as plain data: its runs, their evaluations, the orderings that it claims.

    plan     what a paper's data are made of
    steps    a paper and the options of the workflow -> the commands, and which needs which
    hip, femur, pose, face, head   the data of each paper: `PAPER`

`workflow/` runs the commands; `tfsono evaluate` takes the names of the rows and the orderings from here.
"""
