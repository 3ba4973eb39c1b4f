"""A volume: an array [x, y, z] and the positions of its voxels in the patient (LPS millimetres)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk

from tfsono.errors import UserError
from tfsono.volumes.quiet import quiet_libraries

LENGTH_TOLERANCE = 1e-3
"""Largest difference of an axis's squared length from 1: text headers keep three to six digits."""

LARGEST_SHEAR = 1e-2
"""Largest cosine between two axes that is read, as the nearest rotation: half a degree."""

SMALLEST_SHEAR = 1e-4
"""Axes closer to a right angle than this are kept as they are: headers keep few digits."""

FARTHEST_MM = 1e6
"""Largest spacing, and coordinate of an origin: a kilometre."""

USUAL_SPACING_MM = (0.02, 20.0)
"""A voxel's side outside these probably has the wrong unit."""

GRID_TOLERANCE_VOXELS = 0.01
"""Largest distance of corresponding corners of two grids, as a share of the smallest spacing."""


class NotFiniteError(UserError):
    """Voxels that are NaN, infinite or beyond 32-bit floats."""

    def __init__(self, path: object, bad: int, voxels: int, first: tuple[int, ...]) -> None:
        super().__init__(f"{path}: every voxel must be a finite 32-bit float; found {bad} of {voxels} "
                         f"NaN, infinite or too large, the first at voxel {first}")


class ConstantImageError(UserError):
    """An image without content: every voxel has the same value."""


class NoSpacingError(UserError):
    """A file that says no spacing, or an impossible one; ITK would take 1 mm."""

    def __init__(self, path: object, found: str) -> None:
        super().__init__(f"{path}: the spacing must be positive and stated in the file; found {found}; state it with "
                         "--spacing_mm_of_file x,y,z")


class OtherGridError(UserError):
    """A mask with another grid than its image."""


class LabelValueError(UserError):
    """A mask whose values are not whole numbers, or need more than 32 bits."""


@dataclass(frozen=True)
class Volume:
    """An array and its grid.

    Attributes:
        array: [X, Y, Z], C-contiguous (z runs fastest in memory).
        spacing_mm: three floats, in the order of the array's axes.
        origin_mm: the LPS position of the centre of voxel (0, 0, 0).
        direction: nine floats, row-major as `SimpleITK.GetDirection`; column a is the unit vector of axis a.
        path: the file or folder it was read from, for messages; "" if made in memory.
        notes: what was done or noticed while reading, a line each, without the file's name.
    """

    array: np.ndarray
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float]
    direction: tuple[float, ...]
    path: str = ""
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, ...]:
        """The number of voxels along x, y and z."""
        return self.array.shape[:3]

    @property
    def direction_matrix(self) -> np.ndarray:
        """The direction as [3, 3]: `position = origin + matrix @ (spacing * index)`."""
        return np.asarray(self.direction, np.float64).reshape(3, 3)


RESAMPLE = "resample it to a regular grid first, for example with nibabel.processing.resample_to_output"
"""What to do about a shear."""


def call_quietly(action: Callable):
    """The result of `action()`, with ITK's warnings and its libraries' lines off while it runs (errors still raise)."""
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        with quiet_libraries():
            return action()
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)


def reason_of(error: Exception) -> str:
    """The line of an ITK error with the reason, without source positions and nested calls."""
    text = str(error).split("ERROR: ")[-1].strip()
    if "[nrrd]" in text:  # its nested calls end with the cause
        text = text.split("[nrrd]")[-1].split(":", 1)[-1].strip()
    line = (text.splitlines() or ["no reason given"])[0]
    line = re.sub(r"^\w+ ?\(0x[0-9a-f]+\): *", "", line)[:200].rstrip(".")
    return "".join(letter if letter.isprintable() else "?" for letter in line)


def volume_from_image(image: sitk.Image, path: str) -> Volume:
    """The volume of a SimpleITK image, with every check that needs no second one.

    A fourth axis of length one (a NIfTI or NRRD habit) is dropped. Integers of up to 32 bits keep their type,
    64-bit integers become int32 where they fit, floats become float32. Axes that are nearly perpendicular are read
    as the nearest rotation, with a note.

    Raises:
        UserError: vectors or colours, 4D, 2D or a single slice, zero size, non-positive spacing, a direction
            that is no rotation or reflection, NaN or infinite values, 64-bit integers that do not fit.
    """
    image = _drop_single_time_point(image)
    _check_shape(image, path)
    _check_grid(image, path)
    array = _x_first(sitk.GetArrayViewFromImage(image))
    volume = Volume(
        _plain_type(array, path), image.GetSpacing(), image.GetOrigin(), image.GetDirection(), path
    )
    shear = shear_of(volume.direction_matrix)
    if shear <= SMALLEST_SHEAR:
        return volume
    return replace(volume, direction=nearest_rotation(volume.direction_matrix), notes=(shear_note(shear),))


def shear_of(matrix: np.ndarray) -> float:
    """The largest cosine between two columns [3, 3]: 0 where they are perpendicular."""
    unit = matrix / np.linalg.norm(matrix, axis=0)
    return float(np.abs(unit.T @ unit - np.eye(3)).max())


def nearest_rotation(matrix: np.ndarray) -> tuple[float, ...]:
    """The rotation or reflection with the least distance to the matrix, row by row."""
    left, _, right = np.linalg.svd(matrix / np.linalg.norm(matrix, axis=0))
    return tuple((left @ right).ravel().tolist())


def shear_text(shear: float) -> str:
    """A cosine between two axes in words."""
    return f"axes {np.degrees(np.arcsin(min(shear, 1.0))):.3g} degrees off a right angle"


def shear_note(shear: float) -> str:
    """The note of a volume that was read as the nearest rotation."""
    return f"{shear_text(shear)}: read with the nearest rotation"


def with_spacing(volume: Volume, spacing_mm, found: str = "") -> Volume:
    """The volume with the spacing that a user states, and a note; `found` is what the file says instead.

    Raises:
        UserError: not three positive numbers.
    """
    stated = np.asarray(spacing_mm, np.float64)
    if stated.shape != (3,) or not np.isfinite(stated).all() or (stated <= 0).any():
        raise UserError(f"--spacing_mm_of_file: three positive numbers x,y,z are needed; found {spacing_mm}")
    note = f"spacing {mm_text(stated)} as stated; the file has {found or mm_text(volume.spacing_mm)}"
    return replace(volume, spacing_mm=tuple(stated.tolist()), notes=(*volume.notes, note))


def mm_text(sides) -> str:
    """The sides of a voxel in words."""
    return f"{' x '.join(f'{side:.4g}' for side in sides)} mm"


def with_plausibility(volume: Volume) -> Volume:
    """The volume, with a note if its voxels are unusually small or large."""
    low, high = USUAL_SPACING_MM
    if low <= min(volume.spacing_mm) and max(volume.spacing_mm) <= high:
        return volume
    note = f"a voxel of {mm_text(volume.spacing_mm)}, where {low:g} to {high:g} mm are usual: is the unit right?"
    return replace(volume, notes=(*volume.notes, note))


def image_from_array(array: np.ndarray, like: Volume) -> sitk.Image:
    """A SimpleITK image of `array` [X, Y, Z] on the grid of `like`."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose(2, 1, 0)))
    image.SetSpacing([float(value) for value in like.spacing_mm])
    image.SetOrigin([float(value) for value in like.origin_mm])
    image.SetDirection([float(value) for value in like.direction])
    return image


def check_not_constant(volume: Volume) -> None:
    """Raises ConstantImageError if every voxel has the same value."""
    low, high = volume.array.min(), volume.array.max()
    if low == high:
        raise ConstantImageError(f"{volume.path}: an image must hold more than one value; every voxel is {low}")


def grid_difference(first: Volume, second: Volume) -> str:
    """"" if both have the same grid, else the differences as text.

    Corresponding corners of the two grids must be within 1 % of the smallest spacing of each other. That
    covers size, spacing, origin and direction in one measure, by their effect on a voxel's position.
    """
    if first.size != second.size:
        return f"size {_words(first.size)} against {_words(second.size)}"
    distance_mm = np.linalg.norm(corners_mm(first) - corners_mm(second), axis=1).max()
    if distance_mm <= GRID_TOLERANCE_VOXELS * min(first.spacing_mm):
        return ""
    parts = [
        f"{name} {_words(one)} against {_words(other)}"
        for name, one, other in (
            ("spacing", first.spacing_mm, second.spacing_mm),
            ("origin", first.origin_mm, second.origin_mm),
            ("direction", first.direction, second.direction),
        )
        if not np.allclose(one, other, rtol=1e-6, atol=1e-6)
    ]
    return f"{', '.join(parts)} (corners up to {distance_mm:.3g} mm apart)"


def corners_mm(volume: Volume) -> np.ndarray:
    """The LPS positions [8, 3] of the centres of the corner voxels."""
    corners = np.array(np.meshgrid(*[(0, side - 1) for side in volume.size], indexing="ij")).reshape(3, 8)
    scaled = np.asarray(volume.spacing_mm)[:, None] * corners
    return np.asarray(volume.origin_mm) + (volume.direction_matrix @ scaled).T


def _drop_single_time_point(image: sitk.Image) -> sitk.Image:
    while image.GetDimension() > 3 and image.GetSize()[-1] == 1:
        size = list(image.GetSize())[:-1] + [0]
        collapse = sitk.ExtractImageFilter.DIRECTIONCOLLAPSETOSUBMATRIX
        image = sitk.Extract(image, size, [0] * len(size), collapse)
    return image


def _check_shape(image: sitk.Image, path: str) -> None:
    size = image.GetSize()
    if image.GetNumberOfComponentsPerPixel() != 1 or "complex" in image.GetPixelIDTypeAsString():
        found = f"{image.GetNumberOfComponentsPerPixel()} x {image.GetPixelIDTypeAsString()}"
        raise UserError(f"{path}: one real number a voxel is needed (no colour, no vectors); found {found}")
    if len(size) != 3:
        raise UserError(f"{path}: a 3D volume is needed; found {len(size)}D, size {_words(size)}")
    if min(size) == 0:
        raise UserError(f"{path}: a volume must have voxels; found size {_words(size)}")
    if min(size) == 1:
        raise UserError(f"{path}: two or more voxels are needed along each axis; found size {_words(size)}; "
                        "of a DICOM series give the folder")


def _check_grid(image: sitk.Image, path: str) -> None:
    spacing = np.asarray(image.GetSpacing())
    if not ((0 < spacing) & (spacing <= FARTHEST_MM)).all():
        raise UserError(f"{path}: the spacing must be positive, up to {FARTHEST_MM:g} mm; found {_words(spacing)} mm")
    if not (np.abs(image.GetOrigin()) <= FARTHEST_MM).all():
        raise UserError(f"{path}: the origin must be finite, up to {FARTHEST_MM:g} mm; found "
                        f"{_words(image.GetOrigin())} mm")
    matrix = np.asarray(image.GetDirection()).reshape(3, 3)
    if not np.allclose((matrix**2).sum(axis=0), 1, rtol=0, atol=LENGTH_TOLERANCE):
        raise UserError(f"{path}: the axes must be perpendicular unit vectors; found direction "
                        f"{_words(image.GetDirection())}; correct the header")
    if shear_of(matrix) > LARGEST_SHEAR:
        raise UserError(f"{path}: the axes must be perpendicular to half a degree; found "
                        f"{shear_text(shear_of(matrix))}; {RESAMPLE}")


def _x_first(array: np.ndarray) -> np.ndarray:
    """[Z, Y, X] as [X, Y, Z], C-contiguous; in blocks that stay in the processor's cache, a third faster."""
    found = np.empty(array.shape[::-1], array.dtype)
    for y in range(0, array.shape[1], 16):
        found[:, y:y + 16] = array[:, y:y + 16].transpose(2, 1, 0)
    return found


def _plain_type(array: np.ndarray, path: str) -> np.ndarray:
    if array.dtype.kind == "f":
        return _finite_float(array, path)
    if array.dtype.itemsize <= 4:
        return array
    low, high = int(array.min()), int(array.max())
    limits = np.iinfo(np.int32)
    if low < limits.min or high > limits.max:
        raise UserError(f"{path}: 64-bit integers must fit into 32 bits; found values from {low} to {high}")
    return array.astype(np.int32)


def _finite_float(array: np.ndarray, path: str) -> np.ndarray:
    with np.errstate(over="ignore"):  # a double beyond float32 becomes infinite, and is counted below
        array = array.astype(np.float32, copy=False)
    finite = np.isfinite(array)
    if not finite.all():
        bad = array.size - int(np.count_nonzero(finite))
        first = tuple(int(index) for index in np.argwhere(~finite)[0])
        raise NotFiniteError(path, bad, array.size, first)
    return array


def _words(values) -> str:
    if all(isinstance(value, (int, np.integer)) for value in values):
        return "x".join(str(value) for value in values)
    return "(" + ", ".join(f"{value:.6g}" for value in values) + ")"
