"""The probability that a landmark is right, by the peak and the second peak of its heatmap; and whether it is true.

A logistic model of three features, each of which may only count in one direction: the higher the peak the likelier, the
higher the second peak (as a share of the first) the less likely, and the less likely the farther away it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_expit

LOW_PEAK = 0.3
"""Without a model: heatmaps are trained to a peak of 1; a landmark with a lower peak than this is a guess."""
WEIGHTS = ("intercept", "peak", "second_peak", "second_peak_far")
FAR_MM = 50.0
"""A second peak at this distance counts as far away, one nearer in proportion."""
RIDGE = 1e-3  # so that features which are all equal have one solution
BOUNDS = ((None, None), (0, None), (None, 0), (None, 0))
BINS = 10
DEVIATIONS = 1.959964  # of a 95 % interval


class Bin(NamedTuple):
    """The predictions between two probabilities.

    Attributes:
        count: how many.
        predicted: their mean probability.
        observed: the share of them that are right.
        low, high: Wilson's 95 % interval of that share, as if they were independent.
    """

    count: int
    predicted: float
    observed: float
    low: float
    high: float


def features(peaks, second_peaks, second_peak_mm) -> np.ndarray:
    """[..., 4]: 1, the peak, the second peak's share of it, and that share times its distance; each from 0 to 1."""
    peaks, second, apart = (np.asarray(values, np.float64) for values in (peaks, second_peaks, second_peak_mm))
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(peaks > 0, np.clip(second / peaks, 0, 1), 1.0)  # a map without a peak has two equal ones
    share = np.where(np.isfinite(peaks) & np.isfinite(second), share, np.nan)
    return np.stack([np.ones_like(peaks), np.clip(peaks, 0, 1), share, share * np.clip(apart / FAR_MM, 0, 1)], -1)


def fitted(values: np.ndarray, right: np.ndarray) -> dict[str, float]:
    """The weights of the model: maximum likelihood with Platt's targets, which are not quite 0 and 1.

    So a sample without an error gives no certainty: of n right ones (n + 1) / (n + 2).

    Args:
        values: [N, 4] of `features`, finite.
        right: [N] bool.
    """
    right = np.asarray(right, bool)
    yes, no = np.count_nonzero(right), np.count_nonzero(~right)
    targets = np.where(right, (yes + 1) / (yes + 2), 1 / (no + 2))

    def loss(weights):
        logits = values @ weights
        value = -(targets * log_expit(logits) + (1 - targets) * log_expit(-logits)).sum()
        slope = values.T @ (expit(logits) - targets)
        return value + RIDGE / 2 * weights @ weights, slope + RIDGE * weights

    found = minimize(loss, np.zeros(len(WEIGHTS)), jac=True, method="L-BFGS-B", bounds=BOUNDS,
                     options={"ftol": 1e-12, "gtol": 1e-8, "maxiter": 1000})
    return dict(zip(WEIGHTS, found.x.tolist(), strict=True))


def probabilities(models: Sequence[Mapping[str, float]], peaks, second_peaks, second_peak_mm) -> np.ndarray:
    """[...] of an error below the models' limit: their mean; NaN for a map of NaN, or without any model."""
    values = features(peaks, second_peaks, second_peak_mm)
    each = [expit(values @ np.array([model[name] for name in WEIGHTS])) for model in models]
    return np.mean(each, axis=0) if each else np.full(values.shape[:-1], np.nan)


def brier_score(predicted: np.ndarray, right: np.ndarray) -> float:
    """The mean squared difference of probability and outcome: 0 is perfect, 0.25 what 50 % for all gives."""
    return float(np.mean((predicted - right) ** 2)) if len(predicted) else float("nan")


def reliability(predicted: np.ndarray, right: np.ndarray, bins: int = BINS) -> list[Bin]:
    """The predictions [N] in bins of equal width, without the empty ones; 1 is in the last bin."""
    places = np.minimum((np.asarray(predicted) * bins).astype(int), bins - 1)
    found = []
    for place in np.unique(places):
        inside = places == place
        count, share = int(inside.sum()), float(right[inside].mean())
        found.append(Bin(count, float(predicted[inside].mean()), share, *wilson_interval(share, count)))
    return found


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of `count` independent trials."""
    z = DEVIATIONS**2 / count
    middle, half = share + z / 2, np.sqrt(z * share * (1 - share) + z**2 / 4)
    return float(max((middle - half) / (1 + z), 0)), float(min((middle + half) / (1 + z), 1))


def expected_calibration_error(bins: Sequence[Bin]) -> float:
    """The mean of |observed - predicted| over the predictions, each taken as its bin."""
    total = sum(one.count for one in bins)
    return sum(one.count * abs(one.observed - one.predicted) for one in bins) / total if total else float("nan")
