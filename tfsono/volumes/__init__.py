"""Files <-> arrays [x, y, z] with their geometry (spacing, origin, direction in millimetres, LPS).

`image` reads, checks, writes and reorients volumes and masks; `dicom` reads one series out of a folder;
`landmarks` reads and writes points. `volume`, `orientation` and `completeness` are what they share. NumPy,
SimpleITK and the standard library only.
"""
