"""Files <-> arrays [x, y, z] with their geometry (spacing, origin, direction in millimetres, LPS).

`image` reads, checks, writes and reorients volumes and masks; `dicom` reads one series out of a folder;
`landmarks` reads and writes points. Behind `image` stand `volume` (the dataclass and its checks),
`orientation` (permutation and flips) and `completeness` with `nifti` (what ITK takes without a word though
the file is wrong). NumPy, SimpleITK and the standard library only.
"""
