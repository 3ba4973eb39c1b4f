"""A MINC 2 file (HDF5): what its header says about the spacing, and whether its voxels are all there."""

from __future__ import annotations

import h5py

from tfsono.errors import UserError
from tfsono.volumes.limits import check_voxels
from tfsono.volumes.quiet import quiet_libraries
from tfsono.volumes.units import HeaderSpacing, spacing_in_units

_AXES = ("xspace", "yspace", "zspace")


def minc_spacing(path) -> HeaderSpacing:
    """What the header of a file says. ITK takes 1 mm where it says nothing, and ignores units.

    Raises:
        UserError: an unknown unit.
    """
    try:
        with h5py.File(path, "r") as file:
            axes = [file["minc-2.0/dimensions"][name].attrs for name in _AXES]
            steps = [float(axis.get("step", 0)) for axis in axes]
            units = [_text(axis.get("units", "")) for axis in axes]
    except (OSError, KeyError, ValueError, TypeError) as error:
        return HeaderSpacing(missing=f"no readable dimensions ({type(error).__name__})")
    return spacing_in_units(path, units, "" if all(steps) else "an axis without step")


def check_minc(path) -> None:
    """Reads the voxels once, so that every chunk is unpacked: ITK's library prints pages for a damaged one.

    Raises:
        UserError: no image, one that is damaged or in another file, or too large.
    """
    try:
        with quiet_libraries(), h5py.File(path, "r") as file:
            image = _plain_image(path, file)
            check_voxels(path, image.shape, path.stat().st_size)
            for start in range(len(image)):
                image[start]
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise UserError(f"{path}: must be a readable MINC file; found it damaged ({reason}); copy it again") from None


def _plain_image(path, file: h5py.File) -> h5py.Dataset:
    """The voxels of full resolution, which must be in this file."""
    place = file
    for name in ("minc-2.0", "image", "0", "image"):
        if not isinstance(place.get(name, getlink=True), h5py.HardLink):
            raise UserError(f"{path}: the voxels must be in the file itself; found a link; save it as one file")
        place = place[name]
    if not isinstance(place, h5py.Dataset) or place.external or place.is_virtual or place.dtype.kind not in "iuf":
        raise UserError(f"{path}: the voxels must be numbers in the file itself; found others; save it as one file")
    if not 2 <= place.ndim <= 4 or min(place.shape) < 1:
        raise UserError(f"{path}: a volume must have voxels along 3 axes; found {place.shape}")
    return place


def _text(value) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
