"""Files <-> arrays [x, y, z] with their geometry (spacing, origin, direction in millimetres, LPS).

    image                reads, checks, writes and reorients volumes and masks
    dicom                one DICOM series of a folder, or one multi-frame object
    dicom_planes         the slices that DICOM headers describe
    dicom_grid           whether they make an even grid
    dicom_bytes          nesting and pixel data, before GDCM reads a file
    masks                whole numbers on the grid of an image
    landmarks            points and boxes in files
    image_2d             2D images and their masks
    sector               the part of a 2D image that shows the ultrasound, without a screen's border
    volume, orientation  the dataclass and its checks; permutation and flips
    completeness         damage that ITK does not report
    nifti, metaimage, nrrd, minc   the headers of these formats: spacing, units, forms, axes
    stored_voxels        where those of MetaImage and NRRD are, and their verified values
    units                numbers of text headers, units of length, and what a header says about its spacing
    image_file           kind and completeness of 2D files
    ultrasound_regions   the calibration in a DICOM header
    limits               how many voxels and pixels a file may declare
    quiet                keeps lines of C++ libraries off the terminal

NumPy, SciPy, SimpleITK, OpenCV, pydicom, h5py and the standard library only.
"""
