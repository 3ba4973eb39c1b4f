"""The border of a screen capture is cut off, and nothing else."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tfsono.volumes.sector import sector_of

IMAGE = np.random.default_rng(0).integers(20, 200, (300, 400)).astype(np.uint8)
WHOLE = (slice(0, 300), slice(0, 400))


def part(sector):
    return tuple((side.start, side.stop) for side in sector)


@pytest.mark.parametrize("level", [0, 5, 30, 255])
@pytest.mark.parametrize("border", [((150, 200), (250, 100)), ((0, 0), (200, 200)), ((200, 0), (0, 250))])
def test_a_border_of_any_grey_level(level, border):
    image = cv2.GaussianBlur(IMAGE, (0, 0), 2) if level < 20 else (IMAGE // 4 + 80 if level == 30 else IMAGE)
    screen = np.pad(image, border, constant_values=level)
    assert part(sector_of(screen)) == tuple((first, first + side) for (first, _), side in zip(border, image.shape,
                                                                                              strict=True))


def test_text_a_scale_and_a_logo_in_the_border_are_not_content():
    screen = np.pad(IMAGE, ((150, 150), (300, 300)))
    cv2.putText(screen, "HOSPITAL 12:30 GA=20w3d", (30, 60), 0, 1.2, color=200, thickness=2)
    screen[200:400, 20:35] = np.linspace(255, 0, 200)[:, None]
    screen[560:590, 900:960] = 120
    assert part(sector_of(screen)) == ((150, 450), (300, 700))


def test_compression_of_the_border_is_not_content():
    screen = cv2.imdecode(cv2.imencode(".jpg", np.pad(IMAGE, 200), [cv2.IMWRITE_JPEG_QUALITY, 80])[1], 0)
    for (first, last), side in zip(part(sector_of(screen)), IMAGE.shape, strict=True):
        assert abs(first - 200) <= 8 and abs(last - 200 - side) <= 8


@pytest.mark.parametrize("image", [IMAGE, np.zeros((300, 400), np.uint8), np.pad(IMAGE[15:-15, 15:-15], 15),
                                   np.where(np.arange(400) < 300, IMAGE, 0).astype(np.uint8)])
def test_an_image_without_a_wide_border_is_unchanged(image):
    assert sector_of(image) == WHOLE


def test_no_image_of_hc18_is_cut(shared_data):
    """Every tenth; benchmarks/head_flags.py has them all."""
    paths = sorted(path for folder in ("hc18", "hc18_late") for path in (shared_data / folder / "images").iterdir())
    for path in paths[::10]:
        image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        assert part(sector_of(image)) == ((0, image.shape[0]), (0, image.shape[1])), path
