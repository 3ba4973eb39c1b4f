"""A prior over a graph of landmarks: ratios of its edges' lengths, normal by assumption (face, Sec. 2.3).

An edge is the distance of two landmarks in millimetres. A ratio compares two edges, so it does not change when all
landmarks are moved, rotated, mirrored or scaled together. Each ratio is fitted with a normal distribution on training
landmarks, and a set of landmarks is penalised by the reciprocals of the densities (Eq. 4):

    penalty = sum_i sigma_i * exp((r_i - mu_i)^2 / (2 sigma_i^2))

which overflows float32 at 13 standard deviations, so its logarithm is computed. A missing landmark is NaN, and its
ratios are omitted from the sum. Backend-agnostic; points are NumPy arrays or tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from keras import backend, ops

KINDS = ("symmetric", "asymmetric")
FLOOR = 1e-3  # of a standard deviation: 0 would make every face but the mean one impossible
FEWEST = 10  # faces for a fitted ratio
MOST_COMBINATIONS = 2 ** 16  # 2 candidates of 16 landmarks, 9 of 5


@dataclass(frozen=True)
class Ratio:
    """Two edges, compared.

    Attributes:
      kind: `symmetric` for the edges of a mirrored pair, (d1 - d2) / (d1 + d2); `asymmetric` for d1 / d2.
      first: the numbers of the two landmarks of the edge with length d1.
      second: those of d2.
    """

    kind: str
    first: tuple[int, int]
    second: tuple[int, int]

    def __post_init__(self):
        for edge in (self.first, self.second):
            if len(edge) != 2 or edge[0] == edge[1] or min(edge) < 0:
                raise ValueError(f"an edge joins two different landmarks, by their numbers from 0; found {edge}")
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {KINDS}; found {self.kind!r}")


@dataclass(frozen=True)
class GraphPrior:
    """The normal distribution of each of n ratios; NumPy.

    Attributes:
      mean: [n].
      deviation: [n] standard deviations, above 0.
      count: [n] faces for each.
    """

    mean: np.ndarray
    deviation: np.ndarray
    count: np.ndarray


def ratios(points_mm, graph: Sequence[Ratio]):
    """The ratios of sets of landmarks [..., K, 3]: [..., n], float64 where the points are, else float32.

    NaN where a landmark of a ratio is missing (not finite). Infinite where an edge of it has no length: two landmarks
    in one place are no face, and (d - 0) / (d + 0) = 1 or 0 / d = 0 would hide it.

    Raises:
      ValueError: there is no ratio, or one names a landmark that the points lack.
    """
    points = _floating(points_mm)
    _check(points, graph)
    points = ops.where(ops.isfinite(points), points, float("nan"))
    first, second = (_lengths(points, [edge(ratio) for ratio in graph])
                     for edge in (lambda ratio: ratio.first, lambda ratio: ratio.second))
    symmetric = np.array([ratio.kind == "symmetric" for ratio in graph])
    missing = ops.isnan(first + second)
    # A missing length counts as one here, so that no division is by zero or of NaN.
    first, second = (ops.where(missing, 1.0, length) for length in (first, second))
    nothing = ops.logical_or(first == 0, second == 0)
    over = ops.where(nothing, 1.0, ops.where(symmetric, first + second, second))
    found = ops.where(symmetric, first - second, first) / over
    return ops.where(missing, float("nan"), ops.where(nothing, float("inf"), found))


def fit_prior(points_mm: np.ndarray, graph: Sequence[Ratio], floor: float = FLOOR, fewest: int = FEWEST) -> GraphPrior:
    """The mean and the standard deviation (ddof 1) of each ratio over training faces (Sec. 2.3, Fig. 3 b-d).

    The paper calls sigma the variance; in Eq. 4 it is the standard deviation. A face that lacks a landmark of a ratio,
    or has two of them in one place, is excluded from that ratio only.

    Args:
      points_mm: [N, K, 3] NumPy, not augmented; NaN where missing.
      graph: n ratios.
      floor: the lowest standard deviation.
      fewest: faces that a ratio needs.

    Raises:
      ValueError: a ratio has fewer faces, or the shapes do not fit.
    """
    values = ratio_values(points_mm, graph)
    count = np.isfinite(values).sum(axis=0)
    if count.min() < max(fewest, 2):
        place = int(count.argmin())
        raise ValueError(f"each ratio needs at least {max(fewest, 2)} faces; found {count[place]} for {graph[place]}")
    values = np.where(np.isfinite(values), values, np.nan)
    return GraphPrior(np.nanmean(values, axis=0), np.maximum(np.nanstd(values, axis=0, ddof=1), floor), count)


def ratio_values(points_mm: np.ndarray, graph: Sequence[Ratio]) -> np.ndarray:
    """`ratios` of training faces [N, K, 3] as NumPy float64 [N, n]; N may be 0.

    Raises:
      ValueError: the points are not [N, K, 3].
    """
    points = np.asarray(points_mm, np.float64)
    if points.ndim != 3:
        raise ValueError(f"points must be [N, K, 3]; found shape {points.shape}")
    return np.asarray(ops.convert_to_numpy(ratios(points, graph)), np.float64)


def choose_combination(candidates_mm, present, graph: Sequence[Ratio], prior: GraphPrior):
    """The combination of candidates, one for each landmark, that Eq. 4 penalises least, of all N^K.

    Paper: the two best of five landmarks, 2^5 = 32 (the text's "25" has lost its superscript).

    Two combinations are compared without the ratios in which they are equal. That changes nothing in Eq. 4, but a ratio
    that no candidate can improve (20 standard deviations off, say) would hide all others in the rounding of the sum.
    Of equals the one with the lowest sum of candidate numbers is taken, so of better scores; of these the first.

    Args:
      candidates_mm: [K, N, 3], each landmark's best score first; K and N are known when the graph is traced.
      present: [K, N] bool, whether there is such a candidate; one that is not finite is absent. An absent one is never
        chosen for a landmark that has others. Where it has none, 0 is returned and its ratios are omitted.
      graph: n ratios.
      prior: their distributions.

    Returns:
      chosen [K] int32, and the log penalty of the combination, a scalar.

    Raises:
      ValueError: the shapes do not fit, or there are more than 65536 combinations.
    """
    every, points, allowed, _ = _combined(candidates_mm, present)
    terms = _log_terms(points, graph, prior)
    best = _lowest(terms, allowed)
    chosen = ops.take(ops.convert_to_tensor(every, "int32"), best, axis=0)
    return chosen, ops.take(_log_sum(terms), best, axis=0)


def choose_by_scores(candidates_mm, scores, graph: Sequence[Ratio], prior: GraphPrior, weight: float):
    """The combination with the highest sum of the logarithms of its scores, less its ratios' squared deviations.

        sum_k log(score_k) - weight * sum_i (r_i - mu_i)^2 / (2 sigma_i^2)

    Not the paper's: Eq. 4 has no scores, and replaces a certain candidate by one of score 0.05 that fits slightly
    better. With weight 1, independent ratios and scores that are probabilities this is the most likely combination.

    Args:
      candidates_mm: [K, N, 3], each landmark's best score first; K and N are known when the graph is traced.
      scores: [K, N], 0 where there is no such candidate.
      graph: n ratios.
      prior: their distributions.
      weight: of the ratios against the scores.

    Returns:
      chosen [K] int32, 0 for a landmark without candidates; of equals the one with the lowest sum, then the first.

    Raises:
      ValueError: the shapes do not fit, or there are more than 65536 combinations.
    """
    scores = ops.convert_to_tensor(scores)
    every, points, allowed, places = _combined(candidates_mm, scores > 0)
    squares = ops.square(_deviations(points, graph, prior))
    misfit = ops.sum(ops.where(ops.isnan(squares), 0.0, squares), axis=-1) / 2
    taken = ops.take(ops.reshape(scores, (-1,)), places, axis=0)
    sure = ops.sum(ops.log(ops.where(taken > 0, taken, 1.0)), axis=1)
    misfit = ops.cast(ops.minimum(misfit, 1e30), sure.dtype)  # finite, and so below what is not allowed
    total = ops.where(allowed, sure - weight * misfit, float("-inf"))
    return ops.take(ops.convert_to_tensor(every, "int32"), ops.argmax(total), axis=0)


def _combined(candidates_mm, present):
    """All M combinations of candidates [K, N, 3].

    Returns:
      every [M, K] candidate numbers, points [M, K, 3] with NaN where absent, allowed [M], and places [M, K] in the
      candidates as [K * N].
    """
    candidates = _floating(candidates_mm)
    landmarks, number = _sides(candidates)
    every = combinations(landmarks, number)
    places = np.arange(landmarks) * number + every
    present = ops.logical_and(ops.cast(present, "bool"), ops.all(ops.isfinite(candidates), axis=-1))
    points = ops.where(present[..., None], candidates, float("nan"))
    points = ops.take(ops.reshape(points, (landmarks * number, 3)), places, axis=0)
    there = ops.take(ops.reshape(present, (landmarks * number,)), places, axis=0)
    # Of a landmark without any, all candidates are equal, and the first is taken.
    allowed = ops.all(ops.logical_or(there, ops.logical_not(ops.any(present, axis=1))), axis=1)
    return every, points, allowed, places


def combinations(landmarks: int, candidates: int) -> np.ndarray:
    """[N^K, K] int32 candidate numbers, the lowest sum first, then in the order of the landmarks.

    Raises:
      ValueError: there are more than 65536.
    """
    if candidates ** landmarks > MOST_COMBINATIONS:
        raise ValueError(f"at most {MOST_COMBINATIONS} combinations can be tried; found {candidates} candidates of "
                         f"{landmarks} landmarks")
    every = sorted(product(range(candidates), repeat=landmarks), key=lambda chosen: (sum(chosen), chosen))
    return np.array(every, np.int32).reshape(-1, landmarks)


def _lowest(terms, allowed):
    """The index of the combination with the lowest sum, the first of equals: a scalar.

    A tournament of neighbours, which keeps their order.

    Args:
      terms: [M, n] logarithms of the summands of Eq. 4.
      allowed: [M] bool, at least one.
    """
    places = ops.arange(terms.shape[0])
    while places.shape[0] > 1:
        if places.shape[0] % 2:
            places = ops.concatenate([places, places[-1:]])  # the last is paired with itself
        one, other = places[0::2], places[1::2]
        ours, theirs = ops.take(terms, one, axis=0), ops.take(terms, other, axis=0)
        shared = ops.equal(ours, theirs)
        ours, theirs = (_log_sum(ops.where(shared, float("-inf"), mine)) for mine in (ours, theirs))
        lower = ops.logical_and(ops.take(allowed, other, axis=0), theirs < ours)
        places = ops.where(ops.logical_and(ops.take(allowed, one, axis=0), ops.logical_not(lower)), one, other)
    return places[0]


def _log_terms(points_mm, graph: Sequence[Ratio], prior: GraphPrior):
    """log sigma_i + (r_i - mu_i)^2 / (2 sigma_i^2): [..., n]; -infinite where a ratio is omitted."""
    deviations = _deviations(points_mm, graph, prior)
    terms = _constant(np.log(prior.deviation), deviations) + 0.5 * ops.square(deviations)
    return ops.where(ops.isnan(deviations), float("-inf"), terms)


def _deviations(points_mm, graph: Sequence[Ratio], prior: GraphPrior):
    """(r_i - mu_i) / sigma_i: [..., n]; NaN where a ratio is omitted."""
    values = ratios(points_mm, graph)
    return (values - _constant(prior.mean, values)) / _constant(prior.deviation, values)


def _constant(numbers, like):
    """NumPy numbers as a tensor of another one's type."""
    return ops.convert_to_tensor(np.asarray(numbers, np.float64).astype(backend.standardize_dtype(like.dtype)))


def _log_sum(terms):
    """log(sum(exp(terms))) over the last axis; infinities as in exact arithmetic, not NaN."""
    highest = ops.max(terms, axis=-1, keepdims=True)
    highest = ops.where(ops.isfinite(highest), highest, 0.0)
    return ops.log(ops.sum(ops.exp(terms - highest), axis=-1)) + highest[..., 0]


def _lengths(points, edges: Sequence[tuple[int, int]]):
    """The distances [..., n] along n edges of points [..., K, 3]."""
    one, other = (ops.take(points, [edge[end] for edge in edges], axis=-2) for end in (0, 1))
    return ops.sqrt(ops.sum(ops.square(one - other), axis=-1))


def _floating(points):
    """Points as a tensor: float64 stays, others become float32."""
    points = ops.convert_to_tensor(points)
    return points if backend.standardize_dtype(points.dtype) == "float64" else ops.cast(points, "float32")


def _check(points, graph: Sequence[Ratio]) -> None:
    """Raises `ValueError` unless points are [..., K, 3] with the landmarks of a graph that has ratios."""
    if not graph:
        raise ValueError("a graph has at least one ratio; found none")
    last = max(max(*ratio.first, *ratio.second) for ratio in graph)
    if len(points.shape) < 2 or points.shape[-1] != 3 or (points.shape[-2] or 0) <= last:
        raise ValueError(f"points must be [..., K, 3] with K above {last}; found shape {tuple(points.shape)}")


def _sides(candidates) -> tuple[int, int]:
    """K and N of candidates [K, N, 3]; raises `ValueError`."""
    shape = tuple(candidates.shape)
    if len(shape) != 3 or shape[2] != 3 or not shape[0] or not shape[1]:
        raise ValueError(f"candidates must be [K, N, 3] with K and N known; found shape {shape}")
    return shape[0], shape[1]
