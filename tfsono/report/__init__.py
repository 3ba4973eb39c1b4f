"""Numbers and arrays in; CSV, Markdown, LaTeX, figures and one HTML page out.

    tables      a table and its written forms, `cases.csv`, and the tables that set our rows beside the paper's
    rows        the rows of `cases.csv` by method, and their means by case
    plots       the figures (matplotlib, PNG; no window system, no global state)
    page, evaluation_page   one self-contained HTML page; that of an evaluation
    surface     a closed surface from a mask, and its rendering, in NumPy
    agreement   Bland and Altman's table and plots
    comparison  a slice of a case, reference beside prediction, as an array for TensorBoard
    overlay     a prediction of `head` over its image
    skeleton, boxes   poses as drawn bodies; boxes over slices
    pck, histograms, head_plots   curves of correct points; distributions of ratios; predictions and reference of `head`
    landmark_tables   landmarks in columns, our rows beside the paper's
    hip_tables, femur_tables, pose_tables, face_tables, head_tables   the tables of each system
    head_sizes   `head` by the size of the head, and its intervals
    calibration  whether the probabilities of landmarks are true, and an ensemble's spreads
    orderings   whether the orderings of a paper hold
    refinement  when the refinement of `pose` helps

No module here loads TensorFlow. Masks and volumes are `[x, y, z]` with spacings in millimetres; figures name the
directions of LPS arrays (x to the patient's left, y to posterior, z to superior).
"""
