"""The report room: numbers and arrays in; CSV, Markdown, LaTeX, figures and one HTML page out.

    tables    a table and its written forms, `cases.csv`, and the tables that set our rows beside the paper's
    surface   a closed surface from a mask and its picture, in NumPy
    plots     the figures (matplotlib, PNG; no window system, no global state)
    page      one self-contained HTML page
    rows      the rows of `cases.csv` by method, and their means by case
    agreement   Bland and Altman's table and plots
    overlay   one answer of `head` over its picture
    head_tables, head_plots   the tables of `head` over folds, answers beside the reference
    landmark_tables, pck   landmarks in columns, our rows beside the paper's; curves of correct points
    skeleton, pose_tables, refinement   poses as drawn bodies; the tables of `pose`; whom a refinement helps

Nothing here loads TensorFlow. Masks and images are `[x, y, z]` with spacings in millimetres; figures name the
directions of LPS arrays (x to the patient's left, y to posterior, z to superior).
"""
