"""Landmark distances, their summary, and what becomes of missing points."""

from __future__ import annotations

import numpy as np
import pytest

from tfsono.metrics.landmarks import exchangeable_errors, landmark_summaries, landmark_summary, radial_errors

TRUTH = np.array([[0.0, 0], [10, 0], [5, -4], [5, 4]])


def test_radial_errors_by_hand():
    prediction = TRUTH + [[3, 4], [0, 0], [0, 1], [np.nan, 0]]
    np.testing.assert_allclose(radial_errors(prediction, TRUTH), [5, 0, 1, np.nan])
    np.testing.assert_allclose(radial_errors(prediction, TRUTH, 0.2), [1, 0, 0.2, np.nan])
    three = radial_errors(np.array([[[1.0, 2, 2]]]), np.zeros((1, 1, 3)))
    assert three.tolist() == [[3]]


def test_exchangeable_errors():
    exchanged = TRUTH[[1, 0, 2, 3]] + [[0, 1], [0, 1], [0, 2], [0, 0]]
    assert radial_errors(exchanged, TRUTH)[0] > 10
    np.testing.assert_allclose(exchangeable_errors(exchanged, TRUTH), [1, 1, 2, 0])
    np.testing.assert_allclose(exchangeable_errors(np.stack([exchanged, TRUTH]), np.stack([TRUTH] * 2), 0.5),
                               [[0.5, 0.5, 1, 0], [0, 0, 0, 0]])
    # Names are not exchangeable, and a pair with a missing end stays as it is.
    assert exchangeable_errors(TRUTH[[2, 3, 0, 1]], TRUTH).min() > 4
    missing = exchanged.copy()
    missing[0] = np.nan
    np.testing.assert_allclose(exchangeable_errors(missing, TRUTH)[1], radial_errors(missing, TRUTH)[1])
    np.testing.assert_array_equal(exchanged[0], [10, 1])


def test_exchange_is_decided_by_the_pair_and_never_makes_it_worse():
    generator = np.random.default_rng(0)
    prediction, truth = generator.normal(size=(2, 200, 4, 2))
    plain, free = radial_errors(prediction, truth), exchangeable_errors(prediction, truth)
    for pair in ([0, 1], [2, 3]):
        best = np.minimum(plain[:, pair].sum(axis=1),
                          np.linalg.norm(prediction[:, pair[::-1]] - truth[:, pair], axis=-1).sum(axis=1))
        np.testing.assert_allclose(free[:, pair].sum(axis=1), best)


def test_summary_by_hand():
    errors = np.array([[1.0, 2.0], [2.5, np.nan], [4.0, 9.0]])
    summary = landmark_summary(errors)
    assert summary["mean"] == pytest.approx(3.7) and summary["median"] == 2.5
    assert summary["std"] == pytest.approx(np.std([1, 2, 2.5, 4, 9], ddof=1))
    # At a threshold counts as within it; the undefined point is not detected.
    assert summary["sdr_2"] == pytest.approx(100 * 2 / 6) and summary["sdr_2.5"] == pytest.approx(50)
    assert summary["sdr_3"] == pytest.approx(50) and summary["sdr_4"] == pytest.approx(100 * 4 / 6)
    assert (summary["points"], summary["undefined"]) == (6, 1)


def test_unknown_truth_is_no_failure():
    errors = np.array([[1.0, np.nan], [3.0, np.nan]])
    summary = landmark_summary(errors, known=np.array([[True, False], [True, True]]), thresholds=(2,))
    assert summary == {"mean": 2, "std": pytest.approx(2**0.5), "median": 2, "sdr_2": pytest.approx(100 / 3),
                       "points": 3, "undefined": 1}


def test_summary_of_nothing():
    summary = landmark_summary(np.zeros((0, 4)))
    assert summary["points"] == 0 and all(np.isnan(summary[name]) for name in ("mean", "std", "median", "sdr_2"))
    lost = landmark_summary(np.full(3, np.nan))
    assert np.isnan(lost["mean"]) and lost["sdr_4"] == 0 and lost["undefined"] == 3
    assert "sdr_2" not in landmark_summary(np.zeros(3), thresholds=())


def test_each_landmark_alone():
    errors = np.array([[1.0, 5.0], [3.0, np.nan]])
    tables = landmark_summaries(errors, ("tip", "end"), known=np.isfinite(errors))
    assert list(tables) == ["all", "tip", "end"]
    assert tables["all"]["mean"] == 3 and tables["tip"]["mean"] == 2 and tables["end"]["points"] == 1
    assert landmark_summaries(errors, ("tip", "end"))["end"]["undefined"] == 1


def test_what_does_not_match():
    with pytest.raises(ValueError, match="must both be"):
        radial_errors(np.zeros((4, 2)), np.zeros((3, 2)))
    for size in (0, -1, np.nan):
        with pytest.raises(ValueError, match="unit_size must be above 0"):
            radial_errors(TRUTH, TRUTH, size)
    with pytest.raises(ValueError, match="same shape"):
        landmark_summary(np.zeros((2, 3)), np.ones((3, 2), bool))
    with pytest.raises(ValueError, match="a column for each"):
        landmark_summaries(np.zeros((2, 3)), ("a", "b"))
