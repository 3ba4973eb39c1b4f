"""Whether a mask is misaligned with its image: the shift of the reference that agrees best with a prediction."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
from scipy import ndimage


class Displacement(NamedTuple):
    """A shift of the reference and the Dice before and after.

    Attributes:
      shift_vox: (x, y, z), whole voxels; zeros where the reference agrees best as it is.
      dice: mean over the labels that both masks have, as it is.
      shifted_dice: the same with the reference shifted.
    """

    shift_vox: tuple[int, int, int]
    dice: float
    shifted_dice: float


def displacement(prediction: np.ndarray, reference: np.ndarray, reach: int = 2) -> Displacement:
    """The shift of `reference` within `reach` voxels along each axis that has the highest mean Dice.

    A mask that agrees far better with the prediction when shifted is probably misaligned with its image. If most
    masks are shifted in one direction, suspect the network or the resampling instead. A part that a shift moves out
    of the volume still counts in the mask's size. Of equal shifts the shortest is given. Cost: (2 reach + 1)^3
    comparisons within the box around both masks.

    Args:
      prediction: integers [X, Y, Z], 0 is background.
      reference: the same shape. Labels that either of the two lacks are excluded; with none left there is no shift.
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
    sizes = [np.count_nonzero(found) + np.count_nonzero(expected) for found, expected in pairs]
    shifts = sorted(itertools.product(range(-reach, reach + 1), repeat=3), key=lambda s: sum(n * n for n in s))

    def dice(shift) -> float:
        window = tuple(slice(reach + step, reach + step + n) for step, n in zip(shift, reference.shape, strict=True))
        shared = (np.count_nonzero(found[window] & expected) for found, expected in pairs)
        return float(np.mean([2 * one / size for one, size in zip(shared, sizes, strict=True)]))

    scores = [dice(shift) for shift in shifts]  # the first is that of no shift
    best = int(np.argmax(scores))
    return Displacement(shifts[best], scores[0], scores[best])
