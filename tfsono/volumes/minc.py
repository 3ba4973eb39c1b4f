"""The header of a MINC 2 file (HDF5): what it says about the spacing."""

from __future__ import annotations

import h5py

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


def _text(value) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
