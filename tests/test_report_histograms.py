"""Histograms with fitted curves: the bins by hand, and figures read back as pixels."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from scipy.stats import norm

from tfsono.report.histograms import NORMAL_COLOUR, edges_of, label_of, ratio_histograms
from tfsono.report.plots import label_colour

QUANTILES = norm.ppf((np.arange(2000) + 0.5) / 2000)


def pixels(path):
    image = imread(path)[..., :3]
    assert image.reshape(-1, 3).std(axis=0).max() > 0.02, "the figure is blank"
    return image


def where(image, colour, tolerance=0.06):
    """Rows and columns of the pixels of a colour."""
    return np.nonzero(np.abs(image - np.array(to_rgb(colour))).max(axis=2) < tolerance)


def bars_and_curve(path):
    """Rows and columns of the bars and of the curve of a figure with one panel, without its legend and its digits."""
    image = pixels(path)
    bars, curve = where(image, label_colour(1)), where(image, NORMAL_COLOUR)
    low, high = bars[0].max() + 3, bars[0].min() - 30
    inside = (curve[0] < low) & (curve[0] > high)
    return bars, tuple(places[inside] for places in curve)


def test_the_bins_are_halves_of_a_deviation_and_reach_as_far_as_the_values():
    np.testing.assert_allclose(edges_of(np.array([1.0, 1.1]), 1.0, 0.2), 1 + 0.1 * np.arange(-7, 8))
    assert edges_of(np.array([]), 0.0, 1.0)[[0, -1]].tolist() == [-3.5, 3.5]
    assert edges_of(np.array([-4.2, 0]), 0.0, 1.0)[[0, -1]].tolist() == [-4.5, 4.5]
    assert edges_of(np.array([0, 700.0]), 0.0, 1.0)[[0, -1]].tolist() == [-6, 6]


def test_the_curve_is_as_high_as_the_bars_of_normal_values(tmp_path):
    ratio_histograms(tmp_path / "h.png", {"a": 0.3 + 0.1 * QUANTILES}, {"a": (0.3, 0.1)})
    (rows, columns), (curve_rows, curve_columns) = bars_and_curve(tmp_path / "h.png")
    height = rows.max() - rows.min()
    assert curve_rows.max() - curve_rows.min() == pytest.approx(height, rel=0.06)
    assert curve_columns.mean() == pytest.approx(columns.mean(), abs=0.03 * np.ptp(curve_columns))
    upper = curve_columns[curve_rows < rows.max() - 0.5 * height]
    # the curve is 2 * 1.1774 deviations wide at half its height, and 7 at its foot
    assert np.ptp(upper) / np.ptp(curve_columns) == pytest.approx(2.355 / 7, rel=0.06)


def test_values_off_the_fitted_mean_are_seen_to_be(tmp_path):
    ratio_histograms(tmp_path / "h.png", {"a": 0.5 + 0.1 * QUANTILES}, {"a": (0.3, 0.1)})
    (_, columns), (rows, curve_columns) = bars_and_curve(tmp_path / "h.png")
    top = curve_columns[rows < rows.min() + 5]
    # 2 deviations of the 11 to 12 that the axis has
    assert 0.14 < (columns.mean() - top.mean()) / np.ptp(curve_columns) < 0.22


def test_a_panel_for_each_ratio_with_its_counts(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr("matplotlib.axes.Axes.set_title", lambda axes, text, **look: told.append(text))
    random = np.random.default_rng(0)
    values = {f"d(left_eye - point_{k}) / d($x - nose_tip)": random.normal(1, 0.1, 20) for k in range(5)}
    names = list(values)
    values[names[1]] = np.append(values[names[1]], [np.nan, np.inf, 9.0])
    values[names[2]] = np.full(4, np.nan)
    ratio_histograms(tmp_path / "h.png", values, dict.fromkeys(names, (1.0, 0.125)), "title $1$")
    assert told == ["n = 20", "1.000 ± 0.125", "n = 21, 2 undefined, 1 beyond 6 SD", "1.000 ± 0.125",
                    "n = 0, 4 undefined", "1.000 ± 0.125"] + ["n = 20", "1.000 ± 0.125"] * 2
    image = pixels(tmp_path / "h.png")
    _, columns = where(image[: image.shape[0] // 2], label_colour(1))
    third = image.shape[1] / 3
    shares = [np.mean((columns >= k * third) & (columns < (k + 1) * third)) for k in range(3)]
    assert shares[0] > 0.2 and shares[1] > 0.2 and shares[2] == 0  # the third ratio has no value


def test_labels_break_between_edges():
    found = label_of("(a - b) / (a + b) of a = d(left_eye - mid_eyebrow), b = d(right_eye - mid_eyebrow)")
    assert found.replace("\N{NO-BREAK SPACE}", " ").splitlines() == [
        "(a - b) / (a + b) of", "a = d(left eye - mid eyebrow),",
        "b = d(right eye - mid eyebrow)"]


def test_a_ratio_without_a_distribution_is_refused(tmp_path):
    for values in ({}, {"a": np.ones(3), "b": np.ones(3)}):
        with pytest.raises(ValueError, match="each with a mean"):
            ratio_histograms(tmp_path / "h.png", values, {"a": (1.0, 0.1)})
    assert not list(tmp_path.iterdir())
