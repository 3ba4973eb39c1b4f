"""Tables and figures of `head`: means over folds and cases by hand, undefined cases counted, figures read back."""

from __future__ import annotations

import math

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from tfsono.geometry.ellipse import Ellipse
from tfsono.metrics.head_case import HeadOutline, head_metrics
from tfsono.report.agreement import agreement, agreement_figure, agreement_table, agreements_of
from tfsono.report.head_plots import comparison_figure
from tfsono.report.head_tables import (
    fold_summary, fold_table, head_tables, measurements_of, outline_metrics, uncertainty_table, unit_of,
)
from tfsono.report import overlay
from tfsono.report.plots import PREDICTION_COLOUR, REFERENCE_COLOUR
from tfsono.report.tables import Metric, to_markdown

NAN = math.nan
SIZE = (121, 161)
VALUE = Metric("value", "Value", 2)


def prediction(case, run="a", method="unet", value=0.0, **more):
    return {"case": case, "run": run, "method": method, "value": value, "undefined": 0.0, **more}


def measured(case, run, method, longer=0.0, pixel_size_mm=0.5, found=True, spread=1.0):
    """A row as an evaluation makes it, for a prediction whose semi-axes are `longer` pixels too long."""
    expected, ellipse = (Ellipse((80.0, 60.0), 50.0 + more, 40.0 + more, 0.2) for more in (0.0, longer))
    outline = HeadOutline(ellipse, ellipse.end_points(), ellipse.mask(SIZE)) if found else HeadOutline(None, None)
    row = head_metrics(outline, HeadOutline(expected, expected.end_points(), expected.mask(SIZE)), SIZE, pixel_size_mm)
    spreads = {f"{key}_sd_{kind}_{unit}": spread if kind == "dropout" else NAN
               for key in ("bpd", "ofd", "hc") for kind in ("dropout", "members") for unit in ("px", "mm")}
    return {"case": case, "run": run, "method": method, **row, **spreads}


def test_the_mean_of_folds_and_their_deviation():
    rows = [prediction("x", "a", value=1.0), prediction("y", "a", value=3.0), prediction("x", "b", value=2.0),
            prediction("y", "b", value=6.0)]
    found = fold_summary(rows, VALUE)
    assert (found.mean, found.std) == pytest.approx((3.0, np.std([2.0, 4.0], ddof=1)))
    assert (found.low, found.high) == pytest.approx((1.5, 4.5))  # of two cases, 1.5 and 4.5
    assert (found.count, found.undefined) == (4, 0)
    alone = fold_summary(rows[:2], VALUE)
    assert alone.mean == 2 and math.isnan(alone.std) and (alone.low, alone.high) == (1, 3)


def test_an_undefined_prediction_is_counted_and_in_no_mean():
    rows = [prediction(case, run, value=value)
            for case, run, value in (("x", "a", 1.0), ("y", "a", NAN), ("x", "b", NAN), ("y", "b", NAN))]
    found = fold_summary(rows, VALUE)
    assert (found.mean, found.count, found.undefined) == (1.0, 1, 3)
    assert math.isnan(found.std)
    nothing = fold_summary(rows[2:], VALUE)
    assert math.isnan(nothing.mean) and nothing.undefined == 2


def every(methods):
    return [{**row, "method": name} for name, rows in methods.items() for row in rows]


def test_a_row_a_method_with_runs_cases_and_undefined():
    methods = {"unet": [measured("x", "a", "unet", 1.0), measured("y", "a", "unet", found=False),
                        measured("x", "b", "unet", 3.0), measured("y", "b", "unet", 3.0)],
               "heatmap": [measured("x", "c", "heatmap", 2.0)]}
    table = fold_table("t", methods, outline_metrics("mm"))
    assert [row[:4] for row in table.rows] == [("unet", 2, 2, 1), ("heatmap", 1, 1, 0)]
    hd = table.columns.index("HD mm")
    assert table.rows[1][hd].mean == pytest.approx(1.0, abs=0.01)  # 2 px
    diagonal = math.hypot(*SIZE) / 2
    assert table.rows[0][hd].mean == pytest.approx(((0.5 + diagonal) / 2 + 1.5) / 2, abs=0.01)
    df = table.rows[0][table.columns.index("DF mm")]
    assert df.count == 3 and df.undefined == 0  # once, in the row's own column
    assert "1 undefined" not in to_markdown(table)


def test_every_table_of_two_methods():
    methods = {name: [measured(case, name, name, longer, spread=longer)
                      for case, longer in zip("wxyz", values, strict=True)]
               for name, values in (("one", (1, 2, 3, 4)), ("two", (-1, 0.5, 2, -3)))}
    tables = head_tables(every(methods), {"ellipse": [0.5, -1.5]})
    assert list(tables) == ["segmentation", "landmarks", "measurements", "measurements_percent", "trimesters", "sizes",
                            "agreement", "uncertainty", "differences", "label_floor"]
    lengths = tables["measurements"]
    at = lengths.columns.index("BPD signed mm")
    assert lengths.rows[0][at].mean == pytest.approx(2.5)  # twice the mean of the semi-axes' errors, half mm a pixel
    assert lengths.rows[1][at].mean == pytest.approx(-0.375)
    assert lengths.rows[1][lengths.columns.index("BPD absolute mm")].mean == pytest.approx(6.5 / 4)
    percent = tables["measurements_percent"]
    assert percent.rows[0][percent.columns.index("BPD signed %")].mean == pytest.approx(100 * 2.5 / 40)
    assert tables["label_floor"].rows[0][1:] == (2, -0.5, 1.0, 1.5)
    difference = next(row for row in tables["differences"].rows if row[1] == "BPD absolute mm")
    assert difference[0] == "two minus one" and difference[3].mean == pytest.approx(6.5 / 4 - 2.5)


def test_agreement_and_uncertainty_are_those_of_the_cases():
    rows = [measured(case, run, "one", longer, spread=abs(longer))
            for run, shift in (("a", 0), ("b", 2)) for case, longer in (("x", 1 + shift), ("y", 3 + shift))]
    found = agreement(rows, measurements_of("mm")[1])
    np.testing.assert_allclose(found["difference"], [2.0, 4.0])  # the folds' mean predictions, not four points
    assert found["bias"] == pytest.approx(3.0) and found["std"] == pytest.approx(math.sqrt(2))
    table = uncertainty_table({"one": rows}, "mm")
    assert {row[2] for row in table.rows} == {"dropout"}
    assert table.rows[0][7] == pytest.approx(1.0)  # the ranks of spread and error are the same
    none = [{**row, **{key: NAN for key in row if "_sd_" in key}} for row in rows]
    assert uncertainty_table({"one": none}, "mm") is None


def test_without_pixel_sizes_pixels_and_no_rates():
    methods = {"one": [measured(case, "a", "one", 2.0, pixel_size_mm=None) for case in "xyz"]}
    assert unit_of(methods["one"]) == "px"
    tables = head_tables(every(methods), {})
    assert "trimesters" not in tables and "label_floor" not in tables
    assert not any("mm" in heading for table in tables.values() for heading in table.columns)
    assert tables["measurements"].rows[0][4].mean == pytest.approx(4.0)
    assert "No case has a pixel size" in tables["landmarks"].note
    mixed = {"one": [*methods["one"], measured("w", "a", "one", 2.0)]}
    table = head_tables(every(mixed), {})["measurements"]
    assert "3 of 4 cases have no pixel size" in table.note
    assert (table.rows[0][4].mean, table.rows[0][4].undefined) == (pytest.approx(2.0), 3)


def coloured(image, colour):
    return np.argwhere(np.abs(image - np.array(to_rgb(colour))).max(axis=2) < 0.1)


def test_a_figure_shows_reference_and_prediction_where_they_are(tmp_path):
    expected, found = Ellipse((80.0, 60.0), 50.0, 40.0, 0.0), Ellipse((80.0, 60.0), 25.0, 20.0, 0.0)
    outlines = [HeadOutline(one, one.end_points(), one.mask(SIZE)) for one in (expected, found)]
    comparison_figure(tmp_path / "a.png", np.zeros(SIZE, np.uint8), *outlines, "$title_", ["BPD 1 mm"])
    image = imread(tmp_path / "a.png")[..., :3]
    middle = slice(int(0.12 * len(image)), int(0.88 * len(image)))  # without title and legend
    left = [coloured(image[middle], colour)[:, 1].min() for colour in (REFERENCE_COLOUR, PREDICTION_COLOUR)]
    pixel = image.shape[1] / SIZE[1]
    # The markers at the ends are some ten printed pixels wide to either side.
    assert left[0] == pytest.approx(30.5 * pixel, abs=15) and left[1] == pytest.approx(55.5 * pixel, abs=15)
    comparison_figure(tmp_path / "b.png", np.zeros(SIZE, np.uint8), outlines[0], HeadOutline(None, None))
    assert len(coloured(imread(tmp_path / "b.png")[middle, :, :3], PREDICTION_COLOUR)) == 0


def test_agreement_is_drawn_for_every_method_also_without_a_case(tmp_path):
    rows = [measured(case, "a", "one", longer) for case, longer in zip("xyz", (1, 2, 3), strict=True)]
    none = [measured("x", "b", "two", found=False)]
    agreements = agreements_of({"one": rows, "two": none}, measurements_of("mm"))
    assert agreements["two"][measurements_of("mm")[2]]["cases"] == 0
    table = agreement_table(agreements)
    assert [row[:4] for row in table.rows[:3]] == [("one", name, "mm", 3) for name in ("BPD", "OFD", "HC")]
    assert table.rows[1][4] == pytest.approx(agreements["one"][measurements_of("mm")[1]]["bias"])
    agreement_figure(tmp_path / "a.png", agreements, "title")
    assert imread(tmp_path / "a.png")[..., :3].std() > 0.02


# --- the overlay of a prediction


@pytest.mark.parametrize("step", [1, 20])  # an image that is enlarged eight times, and one that is reduced
def test_an_overlay_has_the_prediction_on_the_image_and_the_lines_below(tmp_path, step):
    pixels = np.full((90 * step, 120 * step), 50.0)
    ellipse = Ellipse((60.0 * step, 45.0 * step), 40.0 * step, 30.0 * step, 0.3)
    mask = np.zeros(pixels.shape, bool)
    mask[40 * step:50 * step, 45 * step:75 * step] = True
    overlay.head_overlay(tmp_path / "a.png", pixels, mask, ellipse, ellipse.end_points(), ["HC", "x" * 300], "$a_ü$")
    image = imread(tmp_path / "a.png")
    above, scale = overlay.LINE + 10, overlay.WIDTH / pixels.shape[1]
    assert image.shape == (above + 720 + 3 * overlay.LINE + 12, overlay.WIDTH, 3)

    def nearest(points_px, colour):
        """The largest distance in colour of a pixel near each point."""
        columns, rows = np.rint((points_px + 0.5) * scale - 0.5).astype(int).T
        near = [image[rows + above + y, columns + x] for x in (-1, 0, 1) for y in (-1, 0, 1)]
        return np.abs(np.array(near) - to_rgb(colour)).sum(axis=-1).min(axis=0).max()

    assert nearest(ellipse.contour(8)[1::2], overlay.ELLIPSE) < 0.02
    for pair, colour in ((ellipse.end_points()[:2], overlay.OFD), (ellipse.end_points()[2:], overlay.BPD)):
        assert nearest(pair, colour) < 0.02
    edges = np.array([[50 * step, 40 * step - 0.5], [50 * step, 50 * step - 0.5], [45 * step - 0.5, 45 * step]])
    assert nearest(edges, overlay.OUTLINE) < 0.3  # one pixel wide, so blended; the image is 1.3 away
    assert np.allclose(image[above + 100, 100], 50 / 255, atol=0.01)
    text = image[above + 720 + 2 * overlay.LINE:].max(axis=(0, 2))  # of the long line too, which is written smaller
    assert text[overlay.MARGIN:-2 * overlay.MARGIN].max() > 0.7 and text[-overlay.MARGIN:].max() == 0


def test_an_overlay_with_values_a_scale_and_a_doubt(tmp_path):
    pixels, ellipse = np.full((90, 120), 50.0), Ellipse((60.0, 45.0), 40.0, 30.0, 0.3)
    values = {"hc": "220.3 mm", "ofd": "80.0 ± 1.2 mm", "bpd": "60.0 mm"}
    sure, note, doubt = (overlay.Judgement(pixel_size_mm=0.5), overlay.Judgement("no pixel size"),
                         overlay.Judgement("unusual shape; " * 9, True, 0.5))
    images = []
    for number, judgement in enumerate((sure, note, doubt)):
        overlay.head_overlay(tmp_path / f"{number}.png", pixels, None, ellipse, ellipse.end_points(), ["age"], "a",
                             values=values, judgement=judgement)
        images.append(imread(tmp_path / f"{number}.png"))
    red, above = np.array(to_rgb(overlay.DOUBT)), overlay.LINE + 10
    assert [len(image) - len(images[0]) for image in images] == [0, overlay.LINE, 2 * overlay.LINE]
    assert [bool(np.allclose(image[above + 300, 1], red, atol=0.01)) for image in images] == [False, False, True]
    assert np.isclose(images[2][above + 720:], red, atol=0.01).all(axis=2).mean() > 0.3
    bar = images[0][above + 720 - overlay.MARGIN, overlay.MARGIN:]  # 10 mm are 20 pixels of the image, 160 here
    assert np.flatnonzero(bar.min(axis=1) > 0.9).max() == pytest.approx(160, abs=2)


def test_an_overlay_without_a_prediction_or_with_one_beyond_the_image(tmp_path):
    pixels, nowhere = np.zeros((30, 40), np.uint8), np.full((4, 2), np.nan)
    overlay.head_overlay(tmp_path / "none.png", pixels, None, None, nowhere)
    assert imread(tmp_path / "none.png")[overlay.LINE + 10:][:720].max() == 0
    wide = Ellipse((20.0, 15.0), 1e12, 1e9, 0.0)
    overlay.head_overlay(tmp_path / "wide.png", pixels, np.ones((30, 40), bool), wide, wide.end_points())
    assert imread(tmp_path / "wide.png").shape[1] == overlay.WIDTH
