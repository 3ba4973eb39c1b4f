"""BPD, OFD, HC: errors, HC18's measures, gestational age."""

from __future__ import annotations

import csv
import math

import cv2
import numpy as np
import pytest
from scipy.spatial.distance import directed_hausdorff

from tfsono.geometry.ellipse import Ellipse, ellipse_of_mask
from tfsono.metrics.biometry import (
    MEASUREMENTS,
    UNDEFINED,
    Biometry,
    biometry_of_ellipse,
    gestational_age,
    gestational_age_by_bpd,
    gestational_age_by_hc,
    hc18_metrics,
    measurement_errors,
    outline_distance_px,
    trimester,
)

HEAD = Ellipse((100, 80), 55, 42, 0.3)


def test_biometry_of_an_ellipse():
    found = biometry_of_ellipse(HEAD, 0.5)
    assert (found.bpd, found.ofd, found.hc) == pytest.approx((42, 55, 306.1044 / 2), abs=1e-4)
    assert biometry_of_ellipse(None, 0.5) is UNDEFINED


def test_errors_are_signed_and_absolute():
    errors = measurement_errors(Biometry(48, 62, 170), Biometry(50, 60, 170))
    expected = {"bpd_error": -2, "bpd_abs_error": 2, "bpd_error_percent": -4, "bpd_abs_error_percent": 4,
                "ofd_error": 2, "ofd_abs_error": 2, "ofd_error_percent": 100 / 30, "hc_error": 0,
                "hc_abs_error_percent": 0, "undefined": 0}
    assert {name: errors[name] for name in expected} == pytest.approx(expected)
    assert len(errors) == 4 * len(MEASUREMENTS) + 1


def test_an_undefined_measurement_is_no_number():
    errors = measurement_errors(UNDEFINED, Biometry(50, 60, 170))
    assert errors.pop("undefined") == 1 and all(math.isnan(value) for value in errors.values())
    no_reference = measurement_errors(Biometry(50, 60, 170), UNDEFINED)
    assert no_reference.pop("undefined") == 0 and all(math.isnan(value) for value in no_reference.values())


def test_hc18_by_hand():
    """Concentric circles of 30 and 33 pixels at 0.2 mm: 3 pixels apart, area ratio (30 / 33)^2."""
    inner, outer = Ellipse((60, 50), 30, 30, 0), Ellipse((60, 50), 33, 33, 0)
    found = hc18_metrics(inner, outer, 0.2, (101, 121))
    assert found["df_mm"] == pytest.approx(-2 * math.pi * 3 * 0.2) and found["adf_mm"] == -found["df_mm"]
    assert found["hd_mm"] == pytest.approx(0.6, abs=1e-3)
    assert found["dsc_percent"] == pytest.approx(100 * 2 * 900 / (900 + 1089), abs=0.3)
    assert found["undefined"] == 0


def test_hc18_of_the_same_and_of_none():
    same = hc18_metrics(HEAD, HEAD, 0.1, (161, 203))
    assert same == {"df_mm": 0, "adf_mm": 0, "hd_mm": 0, "dsc_percent": 100, "undefined": 0}
    none = hc18_metrics(None, HEAD, 0.1, (300, 400))
    assert none["undefined"] == 1 and none["dsc_percent"] == 0 and none["hd_mm"] == pytest.approx(50)
    assert math.isnan(none["df_mm"]) and math.isnan(none["adf_mm"])


def test_outline_distance_against_scipy():
    generator = np.random.default_rng(0)
    for _ in range(5):
        a, b = (Ellipse(generator.uniform(90, 110, 2), generator.uniform(50, 60), generator.uniform(35, 50),
                        generator.uniform(-1.5, 1.5)) for _ in range(2))
        outlines = a.contour(1500), b.contour(1500)
        expected = max(directed_hausdorff(*outlines)[0], directed_hausdorff(*outlines[::-1])[0])
        assert outline_distance_px(a, b) == pytest.approx(expected, abs=0.01) == outline_distance_px(b, a)


@pytest.mark.parametrize("size", [0, -0.1, math.nan, math.inf])
def test_no_pixel_size(size):
    with pytest.raises(ValueError, match="a number above 0"):
        biometry_of_ellipse(HEAD, size)
    with pytest.raises(ValueError, match="a number above 0"):
        hc18_metrics(HEAD, HEAD, size, (100, 100))


# --- gestational age


def test_hadlock_by_hand():
    """BPD 50 mm, HC 180 mm."""
    assert gestational_age_by_bpd(50) == pytest.approx(9.54 + 7.41 + 4.19)
    assert gestational_age_by_hc(180) == pytest.approx(8.96 + 9.72 + 1.7496)
    assert gestational_age(50, 180) == pytest.approx(10.32 + 2.916 + 6.6 + 0.69984)


def test_hadlock_agrees_with_itself():
    """For heads of usual proportions at about 20 and 30 weeks the three formulas say about the same."""
    for bpd, hc in ((46, 175), (75, 277)):
        ages = gestational_age_by_bpd(bpd), gestational_age_by_hc(hc), gestational_age(bpd, hc)
        assert max(ages) - min(ages) < 0.7


def test_no_age_outside_14_to_42_weeks():
    assert gestational_age_by_hc(89) is None and gestational_age_by_hc(90) == pytest.approx(14.04, abs=0.01)
    assert gestational_age_by_hc(358) is None and gestational_age_by_hc(357) == pytest.approx(41.9, abs=0.1)
    assert gestational_age_by_bpd(23) is None and gestational_age_by_bpd(102) is None
    assert gestational_age(15, 60) is None
    assert gestational_age(math.nan, 180) is None and gestational_age_by_bpd(math.nan) is None


def test_trimesters():
    assert [trimester(hc) for hc in (50, 89.3, 89.4, 257.6, 257.7, 330)] == [1, 1, 2, 2, 3, 3]
    assert trimester(math.nan) is None and trimester(0) is None


# --- HC18


def test_the_margin_gives_the_official_circumference(shared_data):
    """Without 1.355 pixels off HC is 1 mm too large; with them it is the table's to hundredths of a millimetre."""
    folder, errors = shared_data / "hc18", []
    with open(folder / "pixel_size_and_hc.csv", encoding="utf-8") as file:
        for row in list(csv.DictReader(file))[3::10]:
            name = row["image_name"].replace(".png", "_mask.png")
            ellipse = ellipse_of_mask(cv2.imread(str(folder / "masks" / name), cv2.IMREAD_GRAYSCALE))
            size, official = float(row["pixel_size_mm"]), float(row["head_circumference_mm"])
            errors.append([biometry_of_ellipse(way, size).hc - official
                           for way in (ellipse, ellipse.grown(-1.355))])
    plain, corrected = np.array(errors).T
    assert len(errors) == 49 and plain.min() > 0.4 and np.mean(plain) == pytest.approx(0.98, abs=0.1)
    assert np.abs(corrected).mean() < 0.03 and np.abs(corrected).max() < 0.15
