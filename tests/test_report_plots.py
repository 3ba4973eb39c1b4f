"""The figures: read back as pixels. Millimetres must be equal along both sides whatever the spacing."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from tfsono.metrics.surface import surface_distances
from tfsono.report import plots

SPACING = (0.6, 0.9, 1.7)
SHAPE = (71, 45, 29)
NAN = float("nan")


def ball(centre_mm, radius_mm):
    grid = [np.arange(side) * step for side, step in zip(SHAPE, SPACING, strict=True)]
    axes = np.meshgrid(*grid, indexing="ij")
    return sum((a - c) ** 2 for a, c in zip(axes, centre_mm, strict=True)) <= radius_mm**2


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).normal(100, 10, SHAPE).astype(np.float32)


def pixels(path):
    figure = imread(path)[..., :3]
    assert figure.reshape(-1, 3).std(axis=0).max() > 0.02, "the figure is blank"
    return figure


def where(figure, colour, tolerance=0.08):
    """Rows and columns of the pixels of a colour."""
    return np.nonzero(np.abs(figure - np.array(to_rgb(colour))).max(axis=2) < tolerance)


def clusters(values, gap=12):
    """The (low, high) of groups of values with larger gaps between them."""
    values = np.unique(values)
    parts = np.split(values, np.flatnonzero(np.diff(values) > gap) + 1)
    return [(int(part[0]), int(part[-1])) for part in parts]


# --- slices


def test_a_ball_is_round_in_every_slice(tmp_path, image):
    reference = ball((20.0, 19.0, 24.0), 12.0)
    plots.slices_figure(tmp_path / "s.png", image, reference, None, SPACING, "title", ("ball",))
    figure = pixels(tmp_path / "s.png")
    rows, columns = where(figure, plots.REFERENCE_COLOUR)
    (left, right), (left_2, right_2) = clusters(columns)[:2]
    upper_left = rows[(columns <= right) & (rows < figure.shape[0] / 2)]
    below = rows[(columns <= right) & (rows > figure.shape[0] / 2)]
    heights = [np.ptp(upper_left), np.ptp(below)]
    for length in (right - left, *heights):
        assert length == pytest.approx(right - left, rel=0.08)


def test_slices_follow_the_radiological_convention(tmp_path, image):
    """The left posterior superior octant of a ball is right above and, in the axial slice, right below."""
    body = ball((21.0, 20.0, 24.0), 13.0).astype(np.uint8)
    octant = np.array(np.nonzero(body)).T
    octant = octant[(octant * SPACING > (20.0, 19.0, 22.0)).all(axis=1)]
    body[tuple(octant.T)] = 2
    plots.slices_figure(tmp_path / "s.png", image, None, body, SPACING)
    figure = pixels(tmp_path / "s.png")
    size, boxes, _ = plots._slices_layout(SHAPE, SPACING, 0, 2)
    for name, lower in (("coronal", False), ("sagittal", False), ("axial", True)):
        left, bottom, width, height = (int(inches * plots.DOTS_PER_INCH) for inches in boxes[name])
        top = int(size[1] * plots.DOTS_PER_INCH) - bottom - height
        part = figure[top : top + height, left : left + width]
        rows, columns = where(part, plots.label_colour(2))
        other_rows, other_columns = where(part, plots.label_colour(1))
        assert columns.mean() > other_columns.mean() + 10
        assert (rows.mean() > other_rows.mean() + 10) if lower else (rows.mean() < other_rows.mean() - 10)


def test_reference_and_prediction_have_their_colours(tmp_path, image):
    reference, prediction = ball((20.0, 19.0, 24.0), 12.0), ball((20.0, 19.0, 24.0), 8.0)
    plots.slices_figure(tmp_path / "s.png", image, reference, prediction, SPACING)
    figure = pixels(tmp_path / "s.png")
    outer, inner = where(figure, plots.REFERENCE_COLOUR)[0], where(figure, plots.PREDICTION_COLOUR)[0]
    assert len(outer) > 200 and len(inner) > 100
    size, boxes, _ = plots._slices_layout(SHAPE, SPACING, 0, 2)
    low = (size[1] - boxes["coronal"][1]) * plots.DOTS_PER_INCH
    outer, inner = outer[outer < low], inner[inner < low]
    assert np.ptp(inner) / np.ptp(outer) == pytest.approx(8 / 12, rel=0.12)


@pytest.mark.parametrize(
    ("reference", "prediction", "orientation"), [(0, 0, "LPS"), (None, None, ""), (0, None, "RAI"), (0, 1, "LPS")]
)
def test_slices_of_empty_masks(tmp_path, image, reference, prediction, orientation):
    masks = [None if value is None else np.full(SHAPE, value, np.uint8) for value in (reference, prediction)]
    plots.slices_figure(tmp_path / "s.png", image, *masks, SPACING, "$x_", orientation=orientation)
    pixels(tmp_path / "s.png")


def test_the_middle_voxel():
    mask = np.zeros((9, 7, 5), bool)
    assert plots.middle_voxel(mask, mask.shape) == (4, 3, 2)
    assert plots.middle_voxel(None, (11, 4, 3)) == (5, 2, 1)
    mask[1:4, 6, 0:2] = True
    mask[2, 6, 0] = False
    assert plots.middle_voxel(mask, mask.shape) == (2, 6, 1)


def test_axis_texts():
    assert plots._axis_text(0, "LPS") == "x (mm), to the patient's left"
    assert plots._axis_text(1, "RAI") == "y (mm), to anterior"
    assert plots._axis_text(2, "") == "z (mm)"


def test_slices_of_a_constant_or_flat_volume(tmp_path):
    plots.slices_figure(
        tmp_path / "flat.png", np.zeros((31, 17, 1)), None, np.ones((31, 17, 1)), (0.5, 0.5, 5.0)
    )
    pixels(tmp_path / "flat.png")


# --- preview


def test_preview_is_round_and_shows_every_label(tmp_path, image):
    mask = np.zeros(SHAPE, np.uint8)
    mask[ball((21.0, 19.0, 24.0), 13.0)] = 1
    mask[ball((21.0, 19.0, 24.0), 6.0)] = 2
    plots.preview_figure(tmp_path / "p.png", image, mask, SPACING, ("shell", "core", "none"), "case $1$")
    figure = pixels(tmp_path / "p.png")
    size, boxes, _ = plots._preview_layout(SHAPE, SPACING, True, 3)
    assert figure.shape[:2] == (int(size[1] * plots.DOTS_PER_INCH), int(size[0] * plots.DOTS_PER_INCH))
    for label, radius in ((1, 13.0), (2, 6.0)):
        rows, columns = where(figure, plots.label_colour(label))
        for left, bottom, width, height in boxes.values():
            pixel_mm = SHAPE[0] * SPACING[0] / (boxes["axial"][2] * plots.DOTS_PER_INCH)
            inside = (columns > left * plots.DOTS_PER_INCH) & (columns < (left + width) * plots.DOTS_PER_INCH)
            inside &= rows < (size[1] - bottom) * plots.DOTS_PER_INCH
            inside &= rows > (size[1] - bottom - height) * plots.DOTS_PER_INCH
            for found in (rows[inside], columns[inside]):
                assert np.ptp(found) * pixel_mm == pytest.approx(2 * radius, abs=2.2)


def test_the_patient_lies_in_a_preview_as_in_radiology(tmp_path):
    """Anterior and superior are at the top, the patient's left is on the right, also under a mask and points."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[10:14, 10:14, 10:14] = 1
    sides = {"L": (0, slice(-6, None)), "A": (1, slice(0, 6)), "S": (2, slice(-6, None))}
    expected = {"coronal": {"L": "right", "S": "top"}, "sagittal": {"A": "left", "S": "top"},
                "axial": {"L": "right", "A": "top"}}
    size, boxes, _ = plots._preview_layout(SHAPE, SPACING, False, 1)
    for letter, (axis, part) in sides.items():
        array = np.zeros(SHAPE, np.float32)
        array[tuple(part if each == axis else slice(None) for each in range(3))] = 1
        plots.preview_figure(tmp_path / "p.png", array, mask, SPACING, points_vox=np.array([[3.0, 4, 5], [9, 8, 7]]))
        grey = pixels(tmp_path / "p.png").mean(axis=2)
        for plane, places in expected.items():
            left, bottom, width, height = (plots.DOTS_PER_INCH * side for side in boxes[plane])
            piece = grey[int(len(grey) - bottom - height):int(len(grey) - bottom), int(left):int(left + width)]
            edges = {"left": piece[:, 3], "right": piece[:, -4], "top": piece[3], "bottom": piece[-4]}
            bright = {place for place, edge in edges.items() if edge.mean() > 0.8}
            assert bright == ({places[letter]} if letter in places else set()), (letter, plane)


def test_a_mask_at_the_border_does_not_shrink_the_figure(tmp_path, image):
    full = np.ones(SHAPE, bool)
    plots.preview_figure(tmp_path / "p.png", image, full, SPACING)
    plots.slices_figure(tmp_path / "s.png", image, full, None, SPACING)
    preview, slices = (
        plots._preview_layout(SHAPE, SPACING, False, 1),
        plots._slices_layout(SHAPE, SPACING, 0, 1),
    )
    for name, (_, boxes, _), empty in (("p", preview, 0.0), ("s", slices, 1.0)):
        figure = pixels(tmp_path / f"{name}.png")
        for left, bottom, width, height in np.array(list(boxes.values())) * plots.DOTS_PER_INCH:
            top = figure.shape[0] - bottom - height
            for row in (int(top) + 3, int(top + height) - 3):
                line = figure[row, int(left) + 3 : int(left + width) - 3]
                assert (np.abs(line - empty).max(axis=1) > 0.1).mean() > 0.9


def test_preview_of_nothing(tmp_path, image):
    empty = np.zeros(SHAPE, np.int32)
    assert plots._volume_lines(empty, SPACING, ()) == [("#bbbbbb", "nothing found")]
    plots.preview_figure(tmp_path / "p.png", image, empty, SPACING)
    pixels(tmp_path / "p.png")


def test_preview_volumes():
    mask = np.zeros((11, 10, 10), np.uint8)
    mask[:5] = 3
    lines = [text for _, text in plots._volume_lines(mask, (2.0, 1.0, 5.0), ("a", "b"))]
    assert lines == ["a  nothing found", "b  nothing found", "label 3  5.0 mL"]


# --- surface


def test_surface_colours_grow_with_the_distance(tmp_path):
    reference, prediction = ball((20.0, 19.0, 24.0), 11.0), ball((23.0, 19.0, 24.0), 11.0)
    found = surface_distances(prediction, reference, SPACING)
    path = tmp_path / "surface.png"
    plots.surface_distance_figure(
        path, prediction, found.prediction_points_vox, found.prediction_to_reference_mm, SPACING, "title"
    )
    figure = pixels(path)
    # The displaced sides are left and right; the views from there show them in full.
    colourful = figure.max(axis=2) - figure.min(axis=2) > 0.6
    assert colourful.sum() > 1000
    same = surface_distances(reference, reference, SPACING)
    plots.surface_distance_figure(path, reference, same.reference_points_vox, same.reference_to_prediction_mm, SPACING)
    figure = pixels(path)
    bar = int(0.85 * figure.shape[1])
    assert (figure.max(axis=2) - figure.min(axis=2))[:, :bar].max() < 0.3


def test_surface_of_an_empty_mask(tmp_path):
    path = tmp_path / "surface.png"
    plots.surface_distance_figure(
        path, np.zeros(SHAPE, bool), np.zeros((0, 3), int), np.zeros(0), SPACING, "t"
    )
    pixels(path)


# --- history and cases


def test_history(tmp_path):
    rows = [
        {"step": s, "loss": 1 / s, "learning_rate": 1e-3, "validation_dice": 0.5 if s % 3 == 0 else NAN}
        for s in range(1, 400)
    ]
    plots.history_figure(tmp_path / "h.png", rows, title="a run")
    three = pixels(tmp_path / "h.png").shape[0]
    plots.history_figure(
        tmp_path / "one.png", [{"step": 1, "loss": 0.0}, {"step": "2", "loss": "", "other": None}]
    )
    assert pixels(tmp_path / "one.png").shape[0] < three / 2
    plots.history_figure(tmp_path / "none.png", [], title="a run")
    pixels(tmp_path / "none.png")


def test_curves_leave_gaps_out():
    rows = [
        {"step": 1.0, "a": 2.0},
        {"step": 2.0, "a": NAN},
        {"step": 3.0, "a": ""},
        {"step": 4.0},
        {"step": 5, "a": "7"},
    ]
    x, y = plots._curve(rows, "a")
    assert x.tolist() == [1.0, 5.0] and y.tolist() == [2.0, 7.0]
    assert [array.size for array in plots._curve(rows, "b")] == [0, 0]


def test_cases(tmp_path):
    ours = {
        "without transfer": [{"case": str(i), "dice": 0.5 + i / 20, "hd": NAN} for i in range(5)],
        "with_$transfer$": [{"case": "0", "dice": 0.9, "hd": 3.0}],
        "none": [],
    }
    plots.cases_figure(tmp_path / "c.png", ours, [("dice", "Dice", 3), ("hd", "HD (mm)", 1)])
    two = pixels(tmp_path / "c.png")
    assert all(len(where(two, plots.label_colour(number))[0]) > 50 for number in (1, 2))
    plots.cases_figure(tmp_path / "d.png", ours, [("dice", "Dice", 3)])
    assert pixels(tmp_path / "d.png").shape[1] < two.shape[1]


def test_figures_leave_matplotlib_as_it_was(tmp_path):
    import matplotlib
    from matplotlib import _pylab_helpers

    before = dict(matplotlib.rcParams)
    plots.history_figure(tmp_path / "deep" / "h.png", [{"step": 1, "loss": 1.0}])
    assert dict(matplotlib.rcParams) == before and not _pylab_helpers.Gcf.figs
