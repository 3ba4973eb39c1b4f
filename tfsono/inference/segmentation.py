"""Around the graph: orientation, and the postprocessing of Sec. 3.4 for exports of the release before. NumPy and SciPy.

`tfsono.inference.components` is the same postprocessing inside the graph.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from tfsono.inference.module_input import module_input
from tfsono.volumes.image import Volume, reorient, restore_orientation


def segment_volume(module: Callable, volume: Volume, orientation: str, classes: int, largest: bool = False,
                   holes: bool = False) -> np.ndarray:
    """The mask of `volume` on its own grid, [X, Y, Z] uint8.

    Args:
      module: a `HipModule`, or one from `load_exported`.
      volume: in any orientation.
      orientation: three letters, of the training volumes.
      classes: the background and the labels.
      largest, holes: as in `postprocess_mask`, for a module that does not postprocess.
    """
    reoriented = reorient(volume, orientation)
    mask = segment_array(module, reoriented.array, reoriented.spacing_mm)
    return restore_orientation(postprocess_mask(mask, classes, largest, holes), volume, orientation)


def segment_array(module: Callable, array: np.ndarray, spacing_mm) -> np.ndarray:
    """The mask of an array [X, Y, Z] in the training orientation, as in a cache; uint8."""
    return module(*module_input(array, spacing_mm))["mask"].numpy()


def postprocess_mask(mask: np.ndarray, classes: int, largest: bool = True, holes: bool = True) -> np.ndarray:
    """"Remove isolated small volumes and internal holes" (Sec. 3.4); a new mask.

    Args:
      mask: [X, Y, Z] integers, 0 is background.
      classes: the background and the labels.
      largest: keep only the largest 26-connected component of each label.
      holes: then fill the holes (`fill_holes`).
    """
    kept = mask.copy()
    if largest:
        for label in range(1, classes):
            voxels = mask == label
            kept[voxels & ~largest_component(voxels)] = 0
    return fill_holes(kept) if holes else kept


def largest_component(voxels: np.ndarray) -> np.ndarray:
    """The largest 26-connected component of a boolean [X, Y, Z]; of equal ones the first in array order."""
    components, count = ndimage.label(voxels, np.ones((3, 3, 3)))
    if count < 2:
        return voxels.copy()
    return components == 1 + np.argmax(np.bincount(components.ravel())[1:])


def fill_holes(mask: np.ndarray) -> np.ndarray:
    """Fills every hole that touches one label only with that label; a new mask.

    A hole is a 6-connected component of the background that does not reach the volume's border. One that touches two
    labels (a joint space between two bones) stays background.
    """
    holes, count = ndimage.label(mask == 0)
    lowest = np.full(count + 1, np.iinfo(np.int32).max)
    highest = np.zeros(count + 1, np.int32)
    for axis in range(3):
        ahead, behind = (slice(None),) * axis + (slice(1, None),), (slice(None),) * axis + (slice(None, -1),)
        for here, there in ((ahead, behind), (behind, ahead)):
            touching = (holes[here] > 0) & (mask[there] > 0)
            np.minimum.at(lowest, holes[here][touching], mask[there][touching])
            np.maximum.at(highest, holes[here][touching], mask[there][touching])
    owner = np.where(lowest == highest, highest, 0)
    for axis in range(3):
        owner[np.take(holes, [0, -1], axis)] = 0
    return np.where(holes > 0, owner[holes], mask).astype(mask.dtype)
