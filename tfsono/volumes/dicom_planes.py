"""The planes that DICOM headers describe: one a file, or one a frame of a multi-frame object.

ITK hands out no sequences, and makes up 1 mm where a header has no spacing; so pydicom reads the headers. No field
that identifies a patient is read. Fields: DICOM PS3.3 C.7.6.2 (image plane), C.7.6.16 (functional groups).
"""

from __future__ import annotations

import math
import mmap
import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.uid import UID

from tfsono.errors import UserError
from tfsono.files import open_regular
from tfsono.volumes.dicom_bytes import check_nesting, check_pixels
from tfsono.volumes.units import FARTHEST

DAMAGE = (BytesLengthException, InvalidDicomError, OSError, EOFError, ValueError, TypeError, AttributeError, KeyError,
          IndexError, NotImplementedError, RecursionError, OverflowError, struct.error, zlib.error)
"""What pydicom raises for files that are damaged or do not follow the standard."""

EXACT = 17
"""The decimals of a number that was not written as decimal text, or has an exponent."""

_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_TIMES = ("FrameTime", "FrameTimeVector", "CineRate", "RecommendedDisplayFrameRate")
_TAGS = ["SOPClassUID", "Modality", "Rows", "Columns", "NumberOfFrames", "PixelSpacing", "ImagerPixelSpacing",
         "ImagePositionPatient", "ImageOrientationPatient", "SpacingBetweenSlices", "RescaleSlope",
         "RescaleIntercept", "BitsAllocated", "BitsStored", "SamplesPerPixel", "PhotometricInterpretation",
         "PixelRepresentation", "HighBit", *_TIMES, *_GROUPS]

_FILMS = ("US", "IVUS", "XA", "RF", "ES")
"""Modalities of which frames without positions are frames in time."""

_CSA_NON_IMAGE = "1.3.12.2.1107.5.9.1"
_NAMED = ("RTSTRUCT", "RTPLAN", "RTDOSE", "SEG", "SR", "PR", "KO", "REG", "DOC", "FID")


@dataclass(frozen=True)
class Plane:
    """One slice.

    Attributes:
        path, frame: where its pixels are; `frame` counts from 0.
        size: columns and rows.
        spacing_mm: along the columns' index and the rows' index; None where the header has none.
        spacing_found: what the header has instead, in a few words.
        position_mm: [3], or None.
        axes: [2, 3], the directions along the columns' and the rows' index, or None.
        decimals: of the position and of the axes, as written.
        between_mm: SpacingBetweenSlices, or None.
        slope, intercept: of the rescaling.
        storage: bits and sign of the stored values, and whether the largest is black.
    """

    path: str
    frame: int
    size: tuple[int, int]
    spacing_mm: tuple[float, float] | None
    spacing_found: str
    position_mm: np.ndarray | None
    axes: np.ndarray | None
    decimals: tuple[int, int]
    between_mm: float | None
    slope: float
    intercept: float
    storage: tuple

    @property
    def name(self) -> str:
        """For messages."""
        return Path(self.path).name + (f" frame {self.frame + 1}" if self.frame else "")


@dataclass(frozen=True)
class Header:
    """One file.

    Attributes:
        path: the file.
        other: what it is instead of an image, such as "RTSTRUCT"; "" for an image.
        in_time: whether its frames, if they have no positions, are frames in time.
        planes: in the order of the frames.
    """

    path: str
    other: str
    in_time: bool
    planes: tuple[Plane, ...]


def read_header(path) -> Header:
    """The header of a DICOM file.

    Raises:
        UserError: it cannot be read.
    """
    check_nesting(path)
    with warnings.catch_warnings(), open_regular(path) as file:
        warnings.simplefilter("ignore")  # for headers that do not quite follow the standard
        try:
            # A map gives at most what there is; a file takes memory first for any length that it is asked for.
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                header = pydicom.dcmread(content, stop_before_pixels=True, force=True, specific_tags=_TAGS)
                file.seek(content.tell())
            other = _no_image(header)
            if not other:
                check_pixels(path, file, header)
            planes = () if other else tuple(_planes(str(path), header))
        except DAMAGE:
            raise UserError(f"{path}: must be a readable DICOM file; found it damaged; copy it again") from None
    in_time = header.get("Modality") in _FILMS or any(name in header for name in _TIMES)
    return Header(str(path), other, in_time, planes)


def _no_image(header: pydicom.Dataset) -> str:
    """What the object is, if its class is that of no image; "" if it is an image or unknown."""
    uid, modality = UID(str(header.get("SOPClassUID", ""))), str(header.get("Modality", ""))
    is_named = uid.name != uid and not any(word in uid.name for word in ("Image", "Volume", "Parametric Map"))
    if not is_named and uid != _CSA_NON_IMAGE:
        return ""
    return modality if modality in _NAMED else uid.name


def _planes(path: str, header: pydicom.Dataset):
    """ValueError where there are no pixels."""
    shared, per_frame = (header.get(name) or [] for name in _GROUPS)
    size = int(header.get("Columns", 0)), int(header.get("Rows", 0))
    if min(size) < 1:
        raise ValueError("no pixels")
    for frame in range(int(header.get("NumberOfFrames") or 1)):
        levels = [*per_frame[frame:frame + 1], *shared[:1]]
        yield _plane(path, frame, size, header, levels)


def _plane(path: str, frame: int, size: tuple[int, int], header: pydicom.Dataset, levels: list) -> Plane:
    position, decimals = _numbers(_group(levels, header, "PlanePositionSequence"), "ImagePositionPatient", 3)
    axes, of_axes = _numbers(_group(levels, header, "PlaneOrientationSequence"), "ImageOrientationPatient", 6)
    if position is None and axes is None:  # 3D ultrasound, in its own frame of reference
        position, decimals = _numbers(_group(levels, {}, "PlanePositionVolumeSequence"), "ImagePositionVolume", 3)
        axes, of_axes = _numbers(_group(levels, {}, "PlaneOrientationVolumeSequence"), "ImageOrientationVolume", 6)
    measures = _group(levels, header, "PixelMeasuresSequence")
    values = _group(levels, header, "PixelValueTransformationSequence")
    spacing, found = _spacing(measures, header)
    between = _number(measures, "SpacingBetweenSlices", None)
    return Plane(
        path=path, frame=frame, size=size, spacing_mm=spacing, spacing_found=found, position_mm=position,
        axes=None if axes is None else axes.reshape(2, 3), decimals=(decimals, of_axes),
        between_mm=abs(between) if between else None,
        slope=_rescaling(path, values, "RescaleSlope"), intercept=_rescaling(path, values, "RescaleIntercept"),
        storage=(header.get("BitsAllocated"), header.get("PixelRepresentation"),
                 header.get("PhotometricInterpretation") == "MONOCHROME1"))


def _rescaling(path: str, item, name: str) -> float:
    """The number, 1 for an absent slope, 0 for an absent intercept: GDCM takes these for what is no number, too.

    Raises:
        UserError: it is no finite number, or a slope of 0.
    """
    found = _number(item, name, math.nan)
    if math.isfinite(found) and (found or name != "RescaleSlope"):
        return found
    try:
        value = item.get(name)
    except DAMAGE:
        value = "what cannot be read"
    if value is None or value == "":
        return float(name == "RescaleSlope")
    raise UserError(f"{path}: {name} must be a finite number up to {FARTHEST:g}, and no slope of 0; found "
                    f"{str(value)[:40]!r}; export it again")


def _group(levels: list, header, sequence: str):
    """The first item of a functional group, of the frame or else of all frames, or else the header itself."""
    for level in levels:
        if level.get(sequence):
            return level.get(sequence)[0]
    return header


def _numbers(item, name: str, count: int) -> tuple[np.ndarray | None, int]:
    """The numbers of a field and their most decimals; None where it is absent or not `count` numbers up to `FARTHEST`.
    """
    try:
        value = item.get(name)
        values = [] if value is None else [value] if isinstance(value, (int, float)) else list(value)
        array = np.array([float(one) for one in values])
    except DAMAGE:
        return None, EXACT
    if array.size != count or not (np.abs(array) <= FARTHEST).all():
        return None, EXACT
    return array, max(map(_decimals, values))


def _number(item, name: str, default):
    array, _ = _numbers(item, name, 1)
    return default if array is None else float(array[0])


def _decimals(value) -> int:
    text = getattr(value, "original_string", "").strip().lower()
    if not text or "e" in text:
        return EXACT
    return len(text.partition(".")[2])


def _spacing(measures, header) -> tuple[tuple[float, float] | None, str]:
    """PixelSpacing has the distance of the rows first."""
    spacing, _ = _numbers(measures, "PixelSpacing", 2)
    if spacing is not None and (spacing > 0).all():
        return (float(spacing[1]), float(spacing[0])), ""
    if spacing is not None:
        return None, f"PixelSpacing {spacing[0]:g}, {spacing[1]:g}"
    if _numbers(header, "ImagerPixelSpacing", 2)[0] is not None:
        return None, "ImagerPixelSpacing only, which is of the detector and not of the patient"
    return None, "no PixelSpacing"
