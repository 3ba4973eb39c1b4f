"""The loop of an evaluation: which runs share a row, whether they are comparable, and every test case once.

    evaluation   an evaluation from its runs to its tables and page
    methods      a name for each run: how it differs from the others
    comparable   whether runs may share a table
    ensembles    the runs that predict together
    measured     test cases measured one by one; an interrupted evaluation resumes
    confidence   columns of cases.csv on probabilities and spreads of landmarks
    displaced    reference masks that may be misaligned with their image
"""
