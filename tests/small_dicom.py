"""DICOM files written field by field: slices, and multi-frame objects with functional groups."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

CLASSES = {
    "mr": "1.2.840.10008.5.1.4.1.1.4", "enhanced mr": "1.2.840.10008.5.1.4.1.1.4.1",
    "enhanced us": "1.2.840.10008.5.1.4.1.1.6.2", "us frames": "1.2.840.10008.5.1.4.1.1.3.1",
    "capture frames": "1.2.840.10008.5.1.4.1.1.7.3",
    "RTSTRUCT": "1.2.840.10008.5.1.4.1.1.481.3", "SEG": "1.2.840.10008.5.1.4.1.1.66.4",
    "SR": "1.2.840.10008.5.1.4.1.1.88.33", "PR": "1.2.840.10008.5.1.4.1.1.11.1",
    "KO": "1.2.840.10008.5.1.4.1.1.88.59",
}  # fmt: skip
NAME = "Invented^Person"
"""Of the patient: it must be in no message and no note."""

AXES = ("1", "0", "0", "0", "1", "0")


def dataset(kind: str, modality: str, series: str = "1.2.3.4", number: int = 1, **fields) -> Dataset:
    """An object without pixels; `fields` are keywords of the dictionary."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = CLASSES[kind]
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = f"{series}.{number}"
    made.Modality, made.PatientName, made.PatientID = modality, NAME, "P0"
    made.StudyInstanceUID, made.SeriesInstanceUID, made.InstanceNumber = "1.2.3", series, number
    for keyword, value in fields.items():
        setattr(made, keyword, value)
    return made


def with_pixels(made: Dataset, values: np.ndarray) -> Dataset:
    """`values` are uint16 [Y, X] or [frames, Y, X]."""
    made.Rows, made.Columns = values.shape[-2:]
    if values.ndim == 3:
        made.NumberOfFrames = len(values)
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated = made.BitsStored = 16
    made.HighBit, made.PixelRepresentation = 15, 0
    made.PixelData = np.ascontiguousarray(values, np.uint16).tobytes()
    return made


def save(made: Dataset, path: Path) -> Path:
    """Writes it, and returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made.save_as(path, enforce_file_format=True)
    return path


def item(**fields) -> Sequence:
    """A sequence of one item."""
    made = Dataset()
    for keyword, value in fields.items():
        setattr(made, keyword, value)
    return Sequence([made])


def write_slices(folder: Path, values: np.ndarray, positions, slopes=None, **fields) -> Path:
    """One MR file a slice of `values` [slices, Y, X]; `positions` are texts of z, or three of x, y and z."""
    for index, (one, position) in enumerate(zip(values, positions, strict=True)):
        place = ["0", "0", position] if isinstance(position, str) else list(position)
        made = dataset("mr", "MR", number=index + 1, ImagePositionPatient=place,
                       **{"ImageOrientationPatient": list(AXES), "PixelSpacing": ["0.7", "0.5"], **fields})
        if slopes is not None:
            made.RescaleSlope, made.RescaleIntercept = slopes[index]
        save(with_pixels(made, one), folder / f"{(index * 7) % 10}_{index}.dcm")
    return folder


def write_frames(path: Path, values: np.ndarray, positions, slopes=None, kind: str = "enhanced mr", **fields) -> Path:
    """One object whose frames have positions (z) and perhaps slopes of their own; `fields` replace shared groups."""
    made = dataset(kind, "US" if kind == "enhanced us" else "MR")
    volume = kind == "enhanced us"
    shared = {
        "PixelMeasuresSequence": item(PixelSpacing=["0.7", "0.5"], SliceThickness="1"),
        **({"PlaneOrientationVolumeSequence": item(ImageOrientationVolume=[float(one) for one in AXES])} if volume else
           {"PlaneOrientationSequence": item(ImageOrientationPatient=list(AXES))}),
        **fields,
    }
    made.SharedFunctionalGroupsSequence = item(**shared)
    frames = []
    for index, z in enumerate(positions):
        groups = {"PlanePositionVolumeSequence": item(ImagePositionVolume=[0.0, 0.0, float(z)])} if volume else {
            "PlanePositionSequence": item(ImagePositionPatient=["0", "0", str(z)])}
        if slopes is not None:
            slope, intercept = slopes[index]
            groups["PixelValueTransformationSequence"] = item(RescaleSlope=str(slope), RescaleIntercept=str(intercept),
                                                              RescaleType="US")
        frames += item(**groups)
    made.PerFrameFunctionalGroupsSequence = Sequence(frames)
    return save(with_pixels(made, values), path)
