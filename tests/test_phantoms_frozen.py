"""The phantoms are frozen: a seed gives the volume that it gave before, block by block.

What they show is measured by the other tests of phantoms, the slow ones of which run with `pytest -m slow`. After a
wanted change increase `DRAWING_VERSION`, run those, and write the file again: python tests/test_phantoms_frozen.py
"""

from pathlib import Path

import numpy as np
import pytest

from tfsono.phantoms.face import face_phantom
from tfsono.phantoms.femur import femur_phantom
from tfsono.phantoms.head import head_phantom
from tfsono.phantoms.hip import hip_phantom
from tfsono.phantoms.pose import fetus_phantom

STORED = Path(__file__).resolve().parent / "stored" / "phantoms.npz"
SIDE = 7  # of a block, voxels


def hip() -> dict:
    image, mask, *_ = hip_phantom(11, (61, 43, 37), (2.9, 2.7, 3.3))
    return {"image": image, "mask": 100 * mask.astype(float)}


def head() -> dict:
    image, mask, reference, _ = head_phantom(40, (135, 201), (0.2, 1.3))
    return {"image": image, "mask": 100 * mask.astype(float), "points": reference.points_px}


def femur() -> dict:
    drawn = femur_phantom(31, (59, 49, 41), (2.7, 3.2, 2.6))
    return {"image": drawn.image, "mask": 100 * drawn.mask.astype(float), "points": drawn.points_vox}


def pose() -> dict:
    drawn = fetus_phantom(3, (46, 41, 52), (2.4, 2.5, 2.5))
    return {"image": drawn.image, "points": drawn.points_vox}


def face() -> dict:
    drawn = face_phantom(3, (45, 41, 48), (2.9, 2.9, 2.8))
    return {"image": drawn.image, "points": drawn.points_vox}


DRAWN = {draw.__name__: draw for draw in (hip, head, femur, pose, face)}


def summary(name: str) -> dict[str, np.ndarray]:
    """The mean and the deviation of each block of the arrays, and the points."""
    found = {}
    for key, array in DRAWN[name]().items():
        if key == "points":
            found[f"{name}_points"] = array
            continue
        counts = [side // SIDE for side in array.shape]
        array = array[tuple(slice(count * SIDE) for count in counts)].astype(float)
        blocks = array.reshape([part for count in counts for part in (count, SIDE)])
        inside = tuple(range(1, 2 * len(counts), 2))
        found |= {f"{name}_{key}_means": blocks.mean(inside), f"{name}_{key}_deviations": blocks.std(inside)}
    return found


@pytest.mark.parametrize("name", DRAWN)
def test_a_seed_gives_the_volume_that_it_gave(name):
    with np.load(STORED, allow_pickle=False) as stored:
        for key, values in summary(name).items():
            np.testing.assert_allclose(values, stored[key], atol=0.05 if key.endswith("points") else 0.5, err_msg=key)


if __name__ == "__main__":
    np.savez_compressed(STORED, **{key: values.astype(np.float32) for name in DRAWN
                                   for key, values in summary(name).items()})
