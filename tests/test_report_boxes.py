"""Boxes over slices: where the slices cut by hand, and figures read back as pixels."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from tfsono.geometry.boxes import centred_boxes
from tfsono.report.boxes import FOUND_COLOUR, REFERENCE_COLOUR, BoxPanel, best_place, boxes_figure, face_preview
from tfsono.report.plots import label_colour

NAMES = ("left_eye", "mid_eyebrow", "right_eye")
SIZE, SPACING = (41, 57, 35), (1.3, 0.9, 1.6)
POINTS = np.array([[12.0, 20, 22], [20, 16, 24], [28, 21, 21]])
BOXES = centred_boxes(POINTS, np.array([8.0, 12, 8]))
NONE = np.full((3, 6), np.nan)


def pixels(path):
    figure = imread(path)[..., :3]
    assert figure.reshape(-1, 3).std(axis=0).max() > 0.02, "the figure is blank"
    return figure


def count(figure, colour, tolerance=0.08):
    return int((np.abs(figure - np.array(to_rgb(colour))).max(axis=2) < tolerance).sum())


def noise():
    return np.random.default_rng(0).normal(60, 10, SIZE).astype(np.float32)


# --- where the slices cut


def test_the_best_slice_passes_through_the_middles():
    assert best_place(BOXES, POINTS, 0, 41) == 20  # the eyes lie on both sides and are not cut there
    assert best_place(BOXES[[0, 2]], POINTS[[0, 2]], 1, 57) == 20  # as good at 21; the mean is 20.5
    boxes = centred_boxes(np.array([[5.0, 5, 5], [6.0, 5, 5], [30.0, 5, 5]]), 8.0)
    assert best_place(boxes, POINTS, 0, 41) in (5, 6)  # two of them rather than the third
    assert best_place(NONE, POINTS, 0, 41) == 20 and best_place(NONE, np.full((3, 3), np.nan), 0, 41) == 20
    lost = BOXES.copy()
    lost[1] = np.nan
    assert best_place(lost, POINTS, 0, 41) in (12, 28)


# --- Fig. 4


def test_reference_boxes_are_red_predictions_blue_and_a_missing_one_is_not_drawn(tmp_path):
    def figure(found, references):
        panel = BoxPanel("(a) RPN", noise(), SPACING, POINTS[1], found, references)
        boxes_figure(tmp_path / "f.png", [panel], "Fig. 4", NAMES)
        return pixels(tmp_path / "f.png")

    both = figure(BOXES + 1.5, BOXES)
    assert count(both, REFERENCE_COLOUR) > 500 and count(both, FOUND_COLOUR) > 500
    assert count(figure(NONE, BOXES), FOUND_COLOUR) == 0 and count(figure(BOXES, NONE), REFERENCE_COLOUR) == 0
    boxes_figure(tmp_path / "two.png", [BoxPanel(word, noise(), SPACING, POINTS[1], BOXES, BOXES)
                                        for word in ("(a) RPN", "(b) IG-RPN")])
    two = pixels(tmp_path / "two.png")
    assert two.shape[1] == both.shape[1] and two.shape[0] > both.shape[0] + 300
    assert count(two[:450], FOUND_COLOUR) > 300 < count(two[-500:], FOUND_COLOUR)


def test_a_box_is_where_its_voxels_are(tmp_path):
    """A bright block on black, and its box: in each of the three slices the line runs along the block's edge."""
    image = np.zeros(SIZE, np.float32)
    image[8:15, 30:50, 20:29] = 1  # no two ends alike, on no axis in the middle
    box = np.array([[7.5, 29.5, 19.5, 14.5, 49.5, 28.5]])
    panel = BoxPanel("", image, SPACING, (11, 40, 24), box + 1000, box)
    boxes_figure(tmp_path / "b.png", [panel])
    figure = pixels(tmp_path / "b.png")
    red = np.abs(figure - np.array(to_rgb(REFERENCE_COLOUR))).max(axis=2) < 0.15
    columns = np.unique(np.nonzero(red)[1])
    slices = np.split(columns, np.flatnonzero(np.diff(columns) > 30) + 1)
    assert len(slices) == 3
    middles = []
    for left, right in ((part[0], part[-1]) for part in slices):
        rows = np.nonzero(red[:, left:right + 1])[0]
        top, bottom = rows.min(), rows.max()
        middles.append((top + bottom) / 2)
        inside = figure[top + 4:bottom - 3, left + 4:right - 3]
        marked = np.abs(inside - np.array(to_rgb(REFERENCE_COLOUR))).max(axis=2) < 0.6  # the cross of its centre
        assert marked.any() and (inside.min(axis=2) > 0.5)[~marked].mean() > 0.99  # bright up to the line
        around = [figure[top - 6:top - 2, left:right], figure[bottom + 3:bottom + 7, left:right],
                  figure[top:bottom, left - 6:left - 2], figure[top:bottom, right + 3:right + 7]]
        assert all((part < 0.5).mean() > 0.99 for part in around)  # and dark outside of it
    # Below the upper edge that the slices share: z up, (34.5 - 24) * 1.6 mm, and in the axial one y down, 40 * 0.9 mm.
    scale = (slices[0][-1] - slices[0][0] - 3) / (7 * 1.3)  # from the middle of a line to that of the other
    assert middles[0] == pytest.approx(middles[1], abs=2)
    assert middles[2] - middles[0] == pytest.approx((36 - 16.8) * scale, abs=3)


def test_a_box_that_the_slice_does_not_cut_is_pale(tmp_path):
    def figure(place):
        panel = BoxPanel("", np.zeros(SIZE), SPACING, place, BOXES[:1], np.full((1, 6), np.nan))
        boxes_figure(tmp_path / "p.png", [panel])
        return pixels(tmp_path / "p.png")

    assert count(figure(POINTS[0]), FOUND_COLOUR) > 500
    away = figure(POINTS[0] + 9)
    assert count(away, FOUND_COLOUR) == 0 and count(away[50:], "black") < away[50:, :, 0].size


def test_places_outside_of_the_volume_are_drawn_at_its_border(tmp_path):
    panel = BoxPanel("", noise(), SPACING, (-5, 70, 12.4), BOXES, BOXES)
    boxes_figure(tmp_path / "o.png", [panel])
    pixels(tmp_path / "o.png")


# --- a prediction


def test_each_landmark_has_its_colour_and_others_are_dashed(tmp_path):
    face_preview(tmp_path / "p.png", noise(), POINTS, BOXES, SPACING, NAMES, "case_1   low confidence: $x")
    plain = pixels(tmp_path / "p.png")
    assert all(count(plain, label_colour(number)) > 300 for number in (1, 2, 3))
    candidates = np.stack([BOXES, BOXES + 9, NONE], axis=1)
    candidates[1, 1] = np.nan
    face_preview(tmp_path / "c.png", noise(), POINTS, BOXES, SPACING, NAMES, "case_1   low confidence: $x", candidates)
    more = pixels(tmp_path / "c.png")
    assert count(more, label_colour(1)) > count(plain, label_colour(1)) + 100
    assert count(more, label_colour(2)) < count(plain, label_colour(2)) + 60  # the key alone may have moved


def test_heatmaps_and_nothing_at_all(tmp_path):
    for boxes in (None, np.tile(POINTS, 2)):
        face_preview(tmp_path / "h.png", noise(), POINTS, boxes, SPACING, NAMES, candidates=np.tile(POINTS, 2)[:, None])
        figure = pixels(tmp_path / "h.png")
        assert 30 < count(figure, label_colour(2)) < 1500  # crosses and its name
    face_preview(tmp_path / "n.png", np.zeros(SIZE), np.full((3, 3), np.nan), NONE, SPACING, NAMES)
    assert count(pixels(tmp_path / "n.png"), label_colour(2)) > 30  # "mid eyebrow: not found"


@pytest.mark.parametrize("size", [(17, 90, 33), (64, 64, 64)])
def test_any_size_and_spacing_fits(tmp_path, size):
    face_preview(tmp_path / "s.png", np.random.default_rng(1).normal(size=size), POINTS / 2, BOXES / 2, (2.6, 0.4, 1.1),
                 NAMES, "x" * 300)
    figure = pixels(tmp_path / "s.png")
    assert figure.shape[1] < 1400 and figure.shape[0] < 700
