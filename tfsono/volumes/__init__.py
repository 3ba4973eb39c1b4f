"""Files <-> arrays [x, y, z] with their geometry (spacing, origin, direction in millimetres, LPS).

    image                reads, checks, writes and reorients volumes and masks
    dicom                one DICOM series of a folder
    landmarks            points and boxes in files
    image_2d             2D images and their masks
    volume, orientation  the dataclass and its checks; permutation and flips
    completeness, nifti  damage that ITK does not report; fields of NIfTI headers
    image_file           kind and completeness of 2D files
    ultrasound_regions   the calibration in a DICOM header

NumPy, SciPy, SimpleITK, OpenCV, pydicom and the standard library only.
"""
