"""Masks: values that are whole numbers, on the grid of an image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tfsono.volumes.orientation import reorient
from tfsono.volumes.volume import LabelValueError, OtherGridError, Volume, grid_difference

_ROUNDING = 1e-3
"""Largest difference from a whole number, relative to values above 1, that counts as rounding."""

_STORED_ROUNDING = 0.02
"""The same where rounding joins no two values: masks stored with a scale in 8 bits are up to 0.01 off."""


def whole_numbers(mask: Volume) -> Volume:
    """The mask as uint8 where its values fit, else as int32, with a note if values were rounded.

    Raises:
        LabelValueError: fractions, or values beyond 32 bits.
    """
    array, notes = mask.array, mask.notes
    if array.dtype.kind == "f":
        rounded = np.rint(array)
        if (array != rounded).any():
            notes = (*notes, _rounding_note(mask, rounded))
        array = rounded
    low, high = int(array.min()), int(array.max())
    if low < np.iinfo(np.int32).min or high > np.iinfo(np.int32).max:
        raise LabelValueError(f"{mask.path}: labels must fit into 32 bits; found values from {low} to {high}")
    return replace(mask, array=array.astype(np.uint8 if 0 <= low and high <= 255 else np.int32, copy=False),
                   notes=notes)


def on_grid_of(mask: Volume, like: Volume, may_be_cropped: bool = False) -> Volume:
    """The mask with the geometry of its image `like`; axes are exchanged, reversed or padded where that is enough.

    Raises:
        OtherGridError: it has another grid.
    """
    difference = grid_difference(mask, like)
    if not difference:
        return _taken_over(mask, like)
    turned = _with_axes_of(mask, like)
    if not grid_difference(turned, like):
        return _taken_over(turned, like, "stored with its axes in another order or direction: reoriented to its image")
    padded = _padded(turned, like) if may_be_cropped else None
    if padded is not None:
        return _taken_over(padded, like, "stored without its empty margin: padded to its image")
    raise OtherGridError(f"{mask.path}: a mask must have the grid of its image {like.path}; found "
                         f"{difference}; resample it onto the image (nearest neighbour)")


def _rounding_note(mask: Volume, rounded: np.ndarray) -> str:
    off = np.abs(mask.array - rounded)
    worst = np.unravel_index(int(off.argmax()), off.shape)
    found = f"{mask.array[worst]:.7g}"
    if (off > _ROUNDING * np.maximum(1, np.abs(rounded))).any():
        values = np.unique(mask.array)
        if off[worst] > _STORED_ROUNDING or np.unique(np.rint(values)).size < values.size:
            raise LabelValueError(f"{mask.path}: a mask must hold whole numbers; found {found}; store the labels as "
                                  "integers (resample masks with nearest neighbour)")
    return f"values rounded to whole numbers, such as {found} to {rounded[worst]:.0f}"


def _taken_over(mask: Volume, like: Volume, *notes: str) -> Volume:
    return replace(like, array=mask.array, path=mask.path, notes=(*mask.notes, *notes))


def _with_axes_of(mask: Volume, like: Volume) -> Volume:
    """The mask with its array's axes nearest to those of `like`, at the same place."""
    frame = like.direction_matrix
    seen = replace(mask, direction=tuple((frame.T @ mask.direction_matrix).ravel().tolist()),
                   origin_mm=tuple((frame.T @ mask.origin_mm).tolist()))
    turned = reorient(seen, "LPS")
    return replace(turned, direction=tuple((frame @ turned.direction_matrix).ravel().tolist()),
                   origin_mm=tuple((frame @ turned.origin_mm).tolist()))


def _padded(mask: Volume, like: Volume) -> Volume | None:
    """The mask with a margin of 0 up to the size of `like`; None where it is no part of that grid."""
    away_mm = like.direction_matrix.T @ np.subtract(mask.origin_mm, like.origin_mm)
    first = np.rint(away_mm / like.spacing_mm).astype(int)
    margins = [(start, whole - start - part) for start, part, whole in zip(first, mask.size, like.size, strict=True)]
    if np.min(margins) < 0:
        return None
    padded = replace(mask, array=np.pad(mask.array, margins),
                     origin_mm=tuple(np.subtract(mask.origin_mm, mask.direction_matrix
                                                 @ (np.asarray(mask.spacing_mm) * first)).tolist()))
    return None if grid_difference(padded, like) else padded
