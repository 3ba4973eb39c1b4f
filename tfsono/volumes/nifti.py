"""The few header fields of a NIfTI file that ITK does not check or does not keep to the last bit.

Offsets are those of nifti1.h; Analyze 7.5 has the same sizes and spacings at the same places. ITK reads no NIfTI-2.
Where a file has a qform and an sform that differ, ITK uses the sform only if its code is 1 (scanner); other
programs may use the other. Written files carry both, so that each program shows the result on the image.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

import numpy as np

from tfsono.volumes.units import HeaderSpacing, positive, spacing_in_units
from tfsono.volumes.volume import LARGEST_SHEAR, RESAMPLE, Volume, corners_mm, nearest_rotation, shear_of, shear_text

_BITS = {2: 8, 4: 16, 8: 32, 16: 32, 32: 64, 64: 64, 128: 24, 256: 8, 512: 16, 768: 32, 1024: 64, 1280: 64,
         1536: 128, 1792: 128, 2048: 256, 2304: 32}
"""Of a voxel, by the code of its type."""

_FLOATS = {16: "f4", 64: "f8"}
"""The codes of the supported types whose voxels can be NaN."""

_SCALE_TOLERANCE = 1e-2
"""Largest relative difference of an sform's column from the spacing: beyond it millimetres are ambiguous."""

_FORMS_TOLERANCE = 0.1
"""Largest distance between corners by the qform and by the sform without a note, in voxels."""

_UNITS = {1: "m", 2: "mm", 3: "um"}

_ONE_FILE, _TWO_FILES = b"n+1\0", b"ni1\0"
_LEAST_OFFSET = 352
"""Of the voxels behind the header and four bytes for its extensions."""


@dataclass(frozen=True)
class NiftiHeader:
    """The size, bytes and geometry in a header.

    Attributes:
        order: "<" or ">", the byte order.
        size: the sides of all axes; empty where the header's number of axes is invalid.
        spacing: of the first three axes at most, in the header's units.
        data_offset, data_bytes: of the voxels.
        float_type: of voxels that can be NaN or infinite, as NumPy names it (">f4"); "" of all others.
        type_problem: why the type of the voxels is none; "" if it is one.
        value_problem: what the header says of the voxels' place or scale that cannot be; "" if there is nothing.
        unit: of the spacing and the forms; "" where the header leaves it open.
        qform, sform: [3, 4] in the header's units and axes (RAS), or None where the header has none.
    """

    order: str
    size: tuple[int, ...]
    spacing: tuple[float, ...]
    data_offset: int
    data_bytes: int
    float_type: str
    type_problem: str
    value_problem: str
    unit: str
    qform: np.ndarray | None
    sform: np.ndarray | None

    def sform_problem(self) -> str:
        """Why the sform is not a rotation times the spacing, as text; "" if it is.

        ITK drops such an sform and uses the qform, or no rotation at all, with a warning at most.
        """
        if self.sform is None or len(self.spacing) < 3:
            return ""
        if not np.isfinite(self.sform).all():
            return "numbers that are not finite; correct the header"
        lengths = np.linalg.norm(self.sform[:, :3], axis=0)
        if positive(self.spacing, 3) and not np.allclose(lengths, self.spacing, rtol=_SCALE_TOLERANCE, atol=0):
            return f"columns of {_three(lengths)} against a spacing of {_three(self.spacing)}; correct the header"
        return f"a shear, {shear_text(self.shear)}; {RESAMPLE}" if self.shear > LARGEST_SHEAR else ""

    def qform_problem(self) -> str:
        """Why the qform, where it is the only form, is not a rotation times the spacing; "" if it is."""
        if self.qform is None or not positive(self.spacing, 3):
            return ""
        lengths = np.linalg.norm(self.qform[:, :3], axis=0)
        unfit = self.sform is None and not np.allclose(lengths, self.spacing, rtol=_SCALE_TOLERANCE, atol=0)
        return f"columns of {_three(lengths)} against a spacing of {_three(self.spacing)}" if unfit else ""

    @property
    def shear(self) -> float:
        """The largest cosine between two axes of the sform; 0 without one."""
        if self.sform is None or not np.linalg.norm(self.sform[:, :3], axis=0).all():
            return 0.0
        return shear_of(self.sform[:, :3])

    def sform_direction(self) -> tuple[float, ...]:
        """The nearest rotation to the sform, as in `Volume`."""
        return nearest_rotation(np.diag((-1.0, -1.0, 1.0)) @ self.sform[:, :3])

    def spacing_found(self, path) -> HeaderSpacing:
        """What the header says of its spacing. ITK converts the unit itself."""
        missing = "" if positive(self.spacing, len(self.spacing)) else f"pixdim {_three(self.spacing)}"
        notes = spacing_in_units(path, [self.unit]).notes
        return HeaderSpacing(missing=missing, notes=notes)

    def forms_note(self, volume: Volume) -> str:
        """Which of a differing qform and sform a volume was read with, and how far they are apart; "" if they agree."""
        if self.qform is None or self.sform is None:
            return ""
        scale = spacing_in_units(volume.path, [self.unit]).factor[0]
        to_lps = np.array([[-scale], [-scale], [scale]])
        at_q, at_s = (_corners_mm(form * to_lps, volume.size) for form in (self.qform, self.sform))
        apart_mm = np.linalg.norm(at_q - at_s, axis=1).max()
        if not apart_mm > _FORMS_TOLERANCE * min(volume.spacing_mm):  # neither for a quaternion of NaN
            return ""
        taken = corners_mm(volume)
        is_qform = np.abs(taken - at_q).max() <= np.abs(taken - at_s).max()
        taken, other = ("qform", "sform") if is_qform else ("sform", "qform")
        return (f"qform and sform are up to {apart_mm:.3g} mm apart: the {taken} was taken, as ITK and 3D Slicer do; "
                f"points from a program that takes the {other} are off")


class NonFiniteCount:
    """Counts the NaN and infinite voxels of an unpacked file that comes piece by piece.

    The values as stored: a rescale slope makes no NaN, and values too large are found after reading.

    Attributes:
        bad: their number.
        first: [x, y, z, ...] of the first of them, in the order of the file; () if there is none.
    """

    def __init__(self, header: NiftiHeader) -> None:
        """`header` describes the file whose pieces `add` will get, from its first byte on."""
        self.bad = 0
        self.first: tuple[int, ...] = ()
        self._header = header
        self._rest = b""
        self._position = self._voxels = 0

    def add(self, piece: bytes) -> int:
        """Takes the next piece, of any length (a voxel may begin in one and end in the next); returns its length."""
        header = self._header
        if not header.float_type:
            return len(piece)
        begin = max(0, header.data_offset - self._position)
        end = max(begin, header.data_offset + header.data_bytes - self._position)
        self._position += len(piece)
        data = self._rest + piece[begin:end]
        whole = len(data) - len(data) % np.dtype(header.float_type).itemsize
        self._rest = data[whole:]
        self._count(np.frombuffer(data[:whole], header.float_type))
        return len(piece)

    def _count(self, values: np.ndarray) -> None:
        bad = ~np.isfinite(values)
        count = int(np.count_nonzero(bad))
        if count and not self.bad:
            place = np.unravel_index(self._voxels + int(bad.argmax()), self._header.size, order="F")
            self.first = tuple(int(index) for index in place)
        self.bad += count
        self._voxels += len(values)


def parse_header(start: bytes) -> NiftiHeader | None:
    """The header at the start of an unpacked NIfTI-1 or Analyze file of either byte order; None if it is none."""
    for order in "<>":
        if len(start) >= 348 and struct.unpack_from(order + "i", start)[0] == 348:
            return _parse(start, order)
    return None


def is_nifti_2(start: bytes) -> bool:
    """Whether an unpacked file begins as a NIfTI-2 file does."""
    return start[4:8] in (b"n+2\0", b"ni2\0")


def copy_geometry(source: bytes, target: bytes) -> bytes:
    """`target` with the geometry of `source`, both starts of NIfTI-1 files; the byte order is the target's.

    Copies pixdim[0..3], the spatial unit, both form codes, the quaternion, its offset and the sform, so that
    the written file's geometry is the source's to the last bit. ITK alone keeps it to about 1e-8.

    Raises:
        ValueError: one of them is not a NIfTI-1 header.
    """
    found, written = parse_header(source), parse_header(target)
    if found is None or written is None:
        raise ValueError("source and target must begin with a NIfTI-1 header")
    result = bytearray(target)
    for layout, offset in (("4f", 76), ("2h18f", 252)):
        struct.pack_into(written.order + layout, result, offset,
                         *struct.unpack_from(found.order + layout, source, offset))
    result[123] = (result[123] & ~7) | (source[123] & 7)
    return bytes(result)


def _parse(start: bytes, order: str) -> NiftiHeader:
    sides = struct.unpack_from(order + "8h", start, 40)
    code, bits = struct.unpack_from(order + "2h", start, 70)
    spacing = struct.unpack_from(order + "8f", start, 76)
    (data_offset,) = struct.unpack_from(order + "f", start, 108)
    size = sides[1 : sides[0] + 1] if 1 <= sides[0] <= 7 else ()
    size = (*size[:3], *(side or 1 for side in size[3:]))  # an unused dimension of 0 is 1 to every reader
    return NiftiHeader(
        order=order,
        size=size,
        spacing=spacing[1 : 1 + min(3, len(size))],
        data_offset=max(int(data_offset) if math.isfinite(data_offset) else 0, 0),
        data_bytes=math.prod(size) * _BITS.get(code, 0) // 8,
        float_type=order + _FLOATS[code] if code in _FLOATS else "",
        type_problem=_type_problem(code, bits),
        value_problem=_value_problem(start, order),
        unit=_UNITS.get(start[123] & 7, "") if is_nifti(start) else "",
        qform=_qform(start, order),
        sform=_sform(start, order),
    )


def _type_problem(code: int, bits: int) -> str:
    if code not in _BITS:
        return f"datatype {code}"
    return f"datatype {code} of {_BITS[code]} bits with bitpix {bits}" if bits != _BITS[code] else ""


def _value_problem(start: bytes, order: str) -> str:
    """What ITK would pass over: it takes the end of the header for voxels, and values as they are stored."""
    offset, slope, intercept = struct.unpack_from(order + "3f", start, 108)
    if start[344:348] == _ONE_FILE and not (offset >= _LEAST_OFFSET and offset % 1 == 0):
        return f"vox_offset {offset:g}, where the header has {_LEAST_OFFSET} bytes"
    scaled = is_nifti(start) and slope and not math.isnan(slope)  # NaN, as nibabel writes it, is no scale
    if scaled and not (math.isfinite(slope) and math.isfinite(intercept)):
        return f"scl_slope {slope:g}, scl_inter {intercept:g}"
    return ""


def is_nifti(start: bytes) -> bool:
    """Whether a header is of NIfTI-1, and not of Analyze 7.5, which has other fields in the place of the forms."""
    return start[344:348] in (_ONE_FILE, _TWO_FILES)


def _qform(start: bytes, order: str) -> np.ndarray | None:
    """From the quaternion, its offset and the spacing, as nifti1.h says."""
    (code,) = struct.unpack_from(order + "h", start, 252)
    if not is_nifti(start) or code <= 0:
        return None
    b, c, d, *offset = struct.unpack_from(order + "6f", start, 256)
    left, *spacing = struct.unpack_from(order + "4f", start, 76)
    a = math.sqrt(max(0.0, 1.0 - (b * b + c * c + d * d)))
    rotation = np.array([
        [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
        [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
        [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
    ])
    spacing[2] *= -1 if left < 0 else 1
    return np.column_stack([rotation * spacing, offset])


def _corners_mm(affine: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """[8, 3], in the order of `volume.corners_mm`."""
    corners = np.array(np.meshgrid(*[(0, side - 1) for side in size], indexing="ij")).reshape(3, 8)
    return (affine[:, :3] @ corners + affine[:, 3:]).T


def _sform(start: bytes, order: str) -> np.ndarray | None:
    (code,) = struct.unpack_from(order + "h", start, 254)
    if not is_nifti(start) or code <= 0:
        return None
    return np.array(struct.unpack_from(order + "12f", start, 280), np.float64).reshape(3, 4)


def _three(values) -> str:
    return "(" + ", ".join(f"{value:.6g}" for value in values) + ")"
