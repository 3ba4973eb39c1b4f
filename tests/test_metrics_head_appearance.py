"""How a head looks along its ellipse: at every zoom the same, and unlike a disc."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tfsono.errors import UserError
from tfsono.geometry.ellipse import Ellipse
from tfsono.manifest import check_ranges
from tfsono.metrics.head_appearance import appearance, appearance_distance, learned_appearance
from tfsono.predict.ranges import UNLIKE, Ranges

ELLIPSE = Ellipse((210.0, 150.0), 120.0, 92.0, 0.2)


def head(seed, skull=140.0, around=60.0, inside=40.0):
    """A ring in speckle."""
    rng = np.random.default_rng(seed)
    speckle = np.hypot(*(cv2.GaussianBlur(rng.normal(size=(300, 400)), (0, 0), 2) for _ in range(2)))
    inner = ELLIPSE.grown(-9).mask(speckle.shape)
    level = np.where(inner, inside, np.where(ELLIPSE.mask(speckle.shape), skull, around)) * rng.uniform(0.8, 1.2)
    return np.clip(level * speckle / speckle.mean(), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def learned():
    return learned_appearance([appearance(head(seed), ELLIPSE) for seed in range(40)])


def far(image, learned, ellipse=ELLIPSE):
    return appearance_distance(appearance(image, ellipse), learned) / learned["limit"]


def test_another_head_is_like_the_training_and_other_things_are_not(learned):
    assert far(head(99), learned) < 1
    y, x = np.mgrid[:300, :400]
    assert far(np.where(ELLIPSE.mask((300, 400)), 200, 0).astype(np.uint8), learned) > 1  # a disc
    assert far(head(99, skull=40.0), learned) > 1  # no skull
    assert far(255 - head(99), learned) > 1
    assert far(np.where(ELLIPSE.mask((300, 400)), head(99), 0).astype(np.uint8), learned) > 1  # nothing around it
    assert far((x / 2 + 20).astype(np.uint8), learned) > 1


@pytest.mark.parametrize("zoom", [0.5, 2.0])
def test_the_size_of_a_pixel_does_not_matter(zoom):
    scaled = Ellipse(tuple((np.array(ELLIPSE.center_px) + 0.5) * zoom - 0.5), 120.0 * zoom, 92.0 * zoom, 0.2)
    image = cv2.resize(head(5), None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR)
    off = np.abs(appearance(image, scaled) - appearance(head(5), ELLIPSE))
    assert (off < [0.12, 0.12, 0.01, 0.3]).all()  # half the pixels have less grain


def test_too_few_or_equal_heads_give_no_distribution():
    value = np.array([1.0, 1.0, 0.1, -2.0])
    assert learned_appearance([value] * 100) is None and learned_appearance([None] * 100) is None
    assert learned_appearance([value + seed for seed in range(29)]) is None


def test_an_ellipse_beyond_the_image():
    far_off = Ellipse((5000.0, 150.0), 120.0, 92.0, 0.2)
    assert appearance(head(1), far_off) is None
    assert appearance(head(1), Ellipse((200.0, 150.0), 5000.0, 4000.0, 0.0)) is None
    ranges = Ranges({"appearance": {"mean": [0.0] * 4, "precision": np.eye(4).tolist(), "limit": 4.0}})
    assert ranges.of_appearance(head(1), far_off) == [UNLIKE] and ranges.of_appearance(head(1), None) == []
    assert Ranges().of_appearance(head(1), far_off) == []


@pytest.mark.parametrize("change", [{"mean": [1.0]}, {"precision": [[1.0] * 4] * 3}, {"precision": "x"}, {"limit": 0.0},
                                    {"limit": None}])
def test_a_record_of_another_structure_is_refused(learned, change):
    record = {"size": {"min": [1, 1], "median": [1, 1], "max": [1, 1]}, "appearance": {**learned, **change}}
    with pytest.raises(UserError, match="trained_on.appearance"):
        check_ranges("manifest.json", record, False, "export again")
    check_ranges("manifest.json", {**record, "appearance": learned}, False, "export again")
