"""The calibration of an ultrasound image: the Sequence of Ultrasound Regions (0018,6011) of its DICOM header.

ITK hands out no sequences, so pydicom reads the header. Fields: DICOM PS3.3 C.8.5.5 (US Region Calibration).
"""

from __future__ import annotations

import struct
import warnings
import zlib

import pydicom
from pydicom.errors import BytesLengthException, InvalidDicomError

_TWO_DIMENSIONAL, _CENTIMETRES = 1, 3
_MM_IN_CM = 10.0


def region_pixel_sizes(path) -> list[tuple[float, float]]:
    """Millimetres a pixel along x and y of each 2D region in centimetres; empty where the header has none.

    Args:
        path: a DICOM file.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # for headers that do not quite follow the standard
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SequenceOfUltrasoundRegions"])
            sizes = [_region_size(region) for region in header.get("SequenceOfUltrasoundRegions", ())]
        except (BytesLengthException, InvalidDicomError, OSError, EOFError, ValueError, TypeError, AttributeError,
                KeyError, NotImplementedError, RecursionError, struct.error, zlib.error):
            return []  # damaged, which `read_image_2d` reports
    return [sides for sides in sizes if sides is not None]


def _region_size(region: pydicom.Dataset) -> tuple[float, float] | None:
    """Only for 2D regions in centimetres: M-mode and Doppler have seconds and velocities on their axes."""
    kind = (region.get("RegionSpatialFormat"), region.get("PhysicalUnitsXDirection"),
            region.get("PhysicalUnitsYDirection"))
    steps = (region.get("PhysicalDeltaX"), region.get("PhysicalDeltaY"))
    if kind != (_TWO_DIMENSIONAL, _CENTIMETRES, _CENTIMETRES) or None in steps:
        return None
    sides = tuple(abs(float(step)) * _MM_IN_CM for step in steps)
    return sides if min(sides) > 0 else None
