"""Whether a mask lies beside its image: the shift of the reference by whole voxels that agrees best with a prediction."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
from scipy import ndimage


class Displacement(NamedTuple):
    """A shift of the reference and what it is worth.

    Attributes:
      shift_vox: (x, y, z), whole voxels; zeros where the reference agrees best as it is.
      dice: mean over the labels that both masks have, as it is.
      moved_dice: the same with the reference moved by the shift.
    """

    shift_vox: tuple[int, int, int]
    dice: float
    moved_dice: float


def displacement(prediction: np.ndarray, reference: np.ndarray, reach: int = 2) -> Displacement:
    """The shift of `reference` within `reach` voxels along each axis that has the highest mean Dice.

    A network that learned from many masks agrees with all but a few of them where they lie. One that agrees far
    better when it is moved was most likely saved beside its image; where many are so, in one direction, it is the
    network, or how its volumes were resampled. A part that a shift moves out of the volume still counts in its size.
    Of equal shifts the shortest is given. Price: (2 reach + 1)^3 comparisons within the box around both masks.

    Args:
      prediction: integers [X, Y, Z], 0 is background.
      reference: the same shape. Labels that either of the two lacks are left out; with none left nothing is moved.
      reach: voxels.

    Raises:
      ValueError: other shapes, or not three axes.
    """
    if prediction.shape != reference.shape or reference.ndim != 3:
        raise ValueError(f"prediction and reference must be [X, Y, Z] of one shape; found {prediction.shape}, "
                         f"{reference.shape}")
    labels = np.intersect1d(prediction[prediction > 0], reference[reference > 0])
    if not len(labels):
        return Displacement((0, 0, 0), 0.0, 0.0)
    box = ndimage.find_objects((np.isin(prediction, labels) | np.isin(reference, labels)).astype(np.uint8))[0]
    prediction, reference = prediction[box], reference[box]
    pairs = [(np.pad(prediction == label, reach), reference == label) for label in labels]
    sizes = [np.count_nonzero(found) + np.count_nonzero(true) for found, true in pairs]
    shifts = sorted(itertools.product(range(-reach, reach + 1), repeat=3), key=lambda s: sum(n * n for n in s))

    def dice(shift) -> float:
        window = tuple(slice(reach + step, reach + step + n) for step, n in zip(shift, reference.shape, strict=True))
        shared = (np.count_nonzero(found[window] & true) for found, true in pairs)
        return float(np.mean([2 * one / size for one, size in zip(shared, sizes, strict=True)]))

    scores = [dice(shift) for shift in shifts]  # the first is that of no shift
    best = int(np.argmax(scores))
    return Displacement(shifts[best], scores[0], scores[best])
