"""Growth charts against the published tables of INTERGROWTH-21st (z-scores -3, 0 and 3, millimetres)."""

from __future__ import annotations

import pytest

from tfsono.errors import UserError
from tfsono.metrics.growth import bpd_z_score, centile, hc_z_score, read_gestational_age, weeks_and_days

# Weeks -> the tables' values at -3, 0 and 3 standard deviations; ISUOG's and the study's tables have one decimal.
HC = {14: (81.1, 97.9, 114.6), 17: (115.7, 135.4, 155.2), 20: (150.2, 172.5, 194.8), 24: (194.2, 219.1, 244.0),
      28: (233.5, 260.4, 287.2), 32: (265.5, 294.4, 323.2), 36: (287.1, 319.4, 351.7), 40: (295.2, 333.9, 372.7)}
BPD = {14: (24.4, 29.6, 34.8), 17: (32.7, 38.8, 44.8), 20: (41.5, 48.4, 55.3), 24: (53.4, 61.4, 69.3),
       28: (64.6, 73.5, 82.3), 32: (74.2, 83.8, 93.3), 36: (80.8, 91.2, 101.6), 40: (83.1, 94.9, 106.7)}


@pytest.mark.parametrize("table, score", [(HC, hc_z_score), (BPD, bpd_z_score)])
def test_the_published_tables(table, score):
    for weeks, values in table.items():
        one = values[2] - values[1]
        for z, value in zip((-3, 0, 3), values, strict=True):
            assert score(value, 7 * weeks) == pytest.approx(z, abs=3 * 0.08 / one)  # rounded to 0.1 mm


def test_centiles_of_the_normal_distribution():
    assert [round(centile(z), 1) for z in (-1.880794, -1.281552, 0, 1.281552, 1.880794)] == [3, 10, 50, 90, 97]


@pytest.mark.parametrize("text, days", [("20w3d", 143), ("20w", 140), ("20+3", 143), (" 20W3D ", 143), ("14w0d", 98),
                                        ("20 weeks 3 days", 143), ("40w", 280), ("", None)])
def test_reading_an_age(text, days):
    assert read_gestational_age(text) == days


@pytest.mark.parametrize("text, words", [("20", "such as 20w3d"), ("20w7d", "days from 0 to 6"), ("13w6d", "14w0d to"),
                                         ("40w1d", "to 40w0d"), ("soon\n", "such as"), ("9" * 300, "such as")])
def test_a_wrong_age_is_one_line(text, words):
    with pytest.raises(UserError, match=words) as error:
        read_gestational_age(text)
    assert "\n" not in str(error.value) and len(str(error.value)) < 250


def test_weeks_and_days():
    assert [weeks_and_days(weeks) for weeks in (20.43, 19.99, 14.0, 0.3)] == ["20w3d", "20w0d", "14w0d", "0w2d"]
