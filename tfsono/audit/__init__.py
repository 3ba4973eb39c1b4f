"""Reads a dataset once and reports its problems.

    dataset        each case: unreadable, NaN, another grid, unknown labels ..., and all cases together
    head           the points of a head against its mask
    femur          the two tips of a femur against its mask
    body           the joints of a body against one another and against the other cases
    table          the problems as lines of text
    contact_sheet  one page of previews
    cache_writer   the cases that it accepts -> the HDF5 file that training reads
"""
