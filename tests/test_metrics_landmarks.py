"""Landmark distances, also with missing points."""

from __future__ import annotations

import numpy as np
import pytest

from tfsono.metrics.landmarks import exchangeable_errors, radial_errors

REFERENCE = np.array([[0.0, 0], [10, 0], [5, -4], [5, 4]])


def test_radial_errors_by_hand():
    prediction = REFERENCE + [[3, 4], [0, 0], [0, 1], [np.nan, 0]]
    np.testing.assert_allclose(radial_errors(prediction, REFERENCE), [5, 0, 1, np.nan])
    np.testing.assert_allclose(radial_errors(prediction, REFERENCE, 0.2), [1, 0, 0.2, np.nan])
    three = radial_errors(np.array([[[1.0, 2, 2]]]), np.zeros((1, 1, 3)))
    assert three.tolist() == [[3]]


def test_exchangeable_errors():
    exchanged = REFERENCE[[1, 0, 2, 3]] + [[0, 1], [0, 1], [0, 2], [0, 0]]
    assert radial_errors(exchanged, REFERENCE)[0] > 10
    np.testing.assert_allclose(exchangeable_errors(exchanged, REFERENCE), [1, 1, 2, 0])
    np.testing.assert_allclose(exchangeable_errors(np.stack([exchanged, REFERENCE]), np.stack([REFERENCE] * 2)),
                               [[1, 1, 2, 0], [0, 0, 0, 0]])
    # Names are not exchangeable, and a pair with a missing end stays as it is.
    assert exchangeable_errors(REFERENCE[[2, 3, 0, 1]], REFERENCE).min() > 4
    missing = exchanged.copy()
    missing[0] = np.nan
    np.testing.assert_allclose(exchangeable_errors(missing, REFERENCE)[1], radial_errors(missing, REFERENCE)[1])
    np.testing.assert_array_equal(exchanged[0], [10, 1])


def test_exchange_is_decided_by_the_pair_and_never_makes_it_worse():
    generator = np.random.default_rng(0)
    prediction, reference = generator.normal(size=(2, 200, 4, 2))
    plain, free = radial_errors(prediction, reference), exchangeable_errors(prediction, reference)
    for pair in ([0, 1], [2, 3]):
        best = np.minimum(plain[:, pair].sum(axis=1),
                          np.linalg.norm(prediction[:, pair[::-1]] - reference[:, pair], axis=-1).sum(axis=1))
        np.testing.assert_allclose(free[:, pair].sum(axis=1), best)


def test_what_does_not_match():
    with pytest.raises(ValueError, match="must both be"):
        radial_errors(np.zeros((4, 2)), np.zeros((3, 2)))
    for size in (0, -1, np.nan):
        with pytest.raises(ValueError, match="unit_size must be above 0"):
            radial_errors(REFERENCE, REFERENCE, size)
