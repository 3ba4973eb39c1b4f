"""Landmark distances, and what becomes of missing points."""

from __future__ import annotations

import numpy as np
import pytest

from tfsono.metrics.landmarks import exchangeable_errors, radial_errors

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


def test_what_does_not_match():
    with pytest.raises(ValueError, match="must both be"):
        radial_errors(np.zeros((4, 2)), np.zeros((3, 2)))
    for size in (0, -1, np.nan):
        with pytest.raises(ValueError, match="unit_size must be above 0"):
            radial_errors(TRUTH, TRUTH, size)
