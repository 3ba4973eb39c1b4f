"""The loop of an evaluation: which runs share a row, whether they are comparable, and every test case measured once.

    methods      a name for each run: what tells it from the others
    comparable   whether runs may stand in one table
    ensembles    the runs that predict together
    measured     test cases measured one after the other; an evaluation that was interrupted resumes
    displaced    reference masks that may be misaligned with their image
"""
