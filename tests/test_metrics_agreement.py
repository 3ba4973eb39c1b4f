"""Statistics over cases: solved by hand, by enumeration, and against SciPy's own bootstrap."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from tfsono.metrics.agreement import bland_altman, bootstrap_interval, mean_std, paired_wilcoxon

# Mean surface distance and Hausdorff distance in mm of the ten patients, hip paper, Table 1.
PAPER_MEAN_MM = (0.17, 0.27, 0.19, 0.23, 0.12, 0.14, 0.41, 0.39, 0.12, 0.15)
PAPER_HAUSDORFF_MM = (3.8, 5.3, 4.1, 13.0, 4.3, 4.5, 7.0, 5.2, 11.0, 5.3)


def test_mean_and_sample_deviation() -> None:
    mean, std = mean_std([1, 2, 3, 6])
    assert (mean, std) == pytest.approx((3, math.sqrt((4 + 1 + 0 + 9) / 3)))
    assert mean_std([5.0])[0] == 5.0
    assert math.isnan(mean_std([5.0])[1])
    assert all(math.isnan(value) for value in mean_std([]))


def test_paper_averages() -> None:
    assert mean_std(PAPER_MEAN_MM)[0] == pytest.approx(0.219)
    assert mean_std(PAPER_HAUSDORFF_MM)[0] == pytest.approx(6.35)


# --- bootstrap ----------------------------------------------------------------------------------------------


def test_bootstrap_is_seeded() -> None:
    assert bootstrap_interval(PAPER_MEAN_MM, seed=7) == bootstrap_interval(PAPER_MEAN_MM, seed=7)
    assert bootstrap_interval(PAPER_MEAN_MM, seed=7) != bootstrap_interval(PAPER_MEAN_MM, seed=8)


@pytest.mark.parametrize("confidence", [0.5, 0.95])
def test_bootstrap_agrees_with_scipy(confidence: float) -> None:
    low, high = bootstrap_interval(PAPER_HAUSDORFF_MM, 1, confidence)
    other = stats.bootstrap(
        (PAPER_HAUSDORFF_MM,), np.mean, confidence_level=confidence, method="percentile", rng=2
    ).confidence_interval
    assert (low, high) == pytest.approx(tuple(other), rel=0.02)
    assert low < np.mean(PAPER_HAUSDORFF_MM) < high


def test_bootstrap_of_two_cases_is_enumerated() -> None:
    """Of two cases the means are 0, 1, 1, 2 a quarter each: the middle 40 % are 1, 95 % reach 0 and 2."""
    assert bootstrap_interval([0.0, 2.0], 0, confidence=0.4) == (1.0, 1.0)
    assert bootstrap_interval([0.0, 2.0], 0) == (0.0, 2.0)


def test_bootstrap_edges() -> None:
    assert all(math.isnan(end) for end in bootstrap_interval([3.0], 0))
    assert all(math.isnan(end) for end in bootstrap_interval([], 0))
    assert bootstrap_interval([2.5] * 7, 0) == (2.5, 2.5)
    for confidence in (0, 1, 95):
        with pytest.raises(ValueError, match="confidence"):
            bootstrap_interval([1.0, 2.0], 0, confidence)


# --- Wilcoxon -----------------------------------------------------------------------------------------------


def enumerated_p(differences: list[float]) -> float:
    """The two-sided p over all 2^n signs, for differences without ties or zeros."""
    ranks = stats.rankdata(np.abs(differences))
    centre = ranks.sum() / 2
    seen = abs(ranks[np.array(differences) > 0].sum() - centre)
    sums = [np.dot(ranks, signs) for signs in itertools.product((0, 1), repeat=len(ranks))]
    return float(np.mean(np.abs(np.array(sums) - centre) >= seen - 1e-9))


def test_wilcoxon_agrees_with_enumeration() -> None:
    base = np.arange(8.0)
    for differences in ([1, 2, 3, 4, 5, 6, 7, 8], [1, -2, 3, 4, -5, 6, 7, 8], [-1, 2, -3, 4, -5, 6, -7, 8]):
        assert paired_wilcoxon(base + differences, base) == pytest.approx(enumerated_p(differences))


def test_wilcoxon_of_five_cases_is_at_least_a_sixteenth() -> None:
    assert paired_wilcoxon([2, 4, 6, 8, 10], [1, 2, 3, 4, 5]) == pytest.approx(2 / 32)
    assert paired_wilcoxon([1, 2, 3, 4, 5], [2, 4, 6, 8, 10]) == pytest.approx(2 / 32)


def test_wilcoxon_edges() -> None:
    assert math.isnan(paired_wilcoxon([1, 2, 3], [1, 2, 3]))
    assert math.isnan(paired_wilcoxon([1], [2]))
    assert math.isnan(paired_wilcoxon([], []))


# --- Bland and Altman ---------------------------------------------------------------------------------------


def test_bland_altman_solved_by_hand() -> None:
    a, b = [10.0, 20.0, 30.0, 40.0], [9.0, 21.0, 27.0, 39.0]
    found = bland_altman(a, b)
    std = math.sqrt((0 + 4 + 4 + 0) / 3)  # differences 1, -1, 3, 1 around their mean 1
    assert found["mean"].tolist() == [9.5, 20.5, 28.5, 39.5]
    assert found["difference"].tolist() == [1, -1, 3, 1]
    assert (found["bias"], found["std"]) == pytest.approx((1, std))
    assert (found["lower"], found["upper"]) == pytest.approx((1 - 1.96 * std, 1 + 1.96 * std))
    assert (found["share_inside"], found["cases"]) == (1.0, 4)


def test_bland_altman_counts_the_outlier() -> None:
    found = bland_altman([0.0] * 19 + [10.0], [0.0] * 20)
    assert found["share_inside"] == pytest.approx(19 / 20)
    assert bland_altman([0.0] * 20, [0.0] * 19 + [10.0])["bias"] == pytest.approx(-0.5)


def test_bland_altman_edges() -> None:
    constant = bland_altman([3.0, 4.0, 5.0], [1.0, 2.0, 3.0])
    assert (constant["lower"], constant["upper"], constant["share_inside"]) == (2.0, 2.0, 1.0)
    single = bland_altman([3.0], [1.0])
    assert single["bias"] == 2.0
    assert all(math.isnan(single[name]) for name in ("std", "lower", "upper", "share_inside"))


@pytest.mark.parametrize("wrong", [[1.0, math.nan], [1.0, math.inf], [[1.0], [2.0]]])
def test_values_that_are_no_list_of_numbers_are_refused(wrong: list) -> None:
    for measure in (mean_std, lambda values: bootstrap_interval(values, 0)):
        with pytest.raises(ValueError, match="values must be"):
            measure(wrong)
    for compare in (paired_wilcoxon, bland_altman):
        with pytest.raises(ValueError, match="b must be"):
            compare([1.0, 2.0], wrong)


def test_lists_of_different_length_are_refused() -> None:
    for compare in (paired_wilcoxon, bland_altman):
        with pytest.raises(ValueError, match="same cases"):
            compare([1.0, 2.0], [1.0, 2.0, 3.0])
