"""The graph prior against Eq. 4 written out in loops, cases solved by hand, and what must not overflow or be chosen."""

import itertools
import math

import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from scipy.spatial.transform import Rotation

from tfsono.geometry.graph import (
    GraphPrior,
    Ratio,
    choose_by_scores,
    choose_combination,
    combinations,
    fit_prior,
    ratio_values,
    ratios,
)

LEFT, BROW, RIGHT, NOSE, CHIN = range(5)
GRAPH = (
    Ratio("symmetric", (LEFT, BROW), (RIGHT, BROW)),
    Ratio("symmetric", (LEFT, NOSE), (RIGHT, NOSE)),
    Ratio("symmetric", (LEFT, CHIN), (RIGHT, CHIN)),
    Ratio("asymmetric", (BROW, NOSE), (LEFT, RIGHT)),
    Ratio("asymmetric", (NOSE, CHIN), (LEFT, RIGHT)),
    Ratio("asymmetric", (NOSE, CHIN), (BROW, NOSE)),
)
# x to the left, y forwards, z up; mm
FACE = np.array([[13, 0, 0], [0, 7, 6], [-13, 0, 0], [0, 13, -10], [0, 7, -28]], np.float64)


def faces(count, seed=0, jitter=1.0):
    """[N, 5, 3]: rotated, scaled, moved and jittered."""
    random = np.random.default_rng(seed)
    turns = Rotation.random(count, rng=random).as_matrix()
    shapes = (FACE + random.normal(0, jitter, (count, 5, 3))) * random.uniform(0.7, 1.3, (count, 1, 1))
    return shapes @ np.swapaxes(turns, 1, 2) + random.uniform(-40, 120, (count, 1, 3))


@pytest.fixture(scope="module")
def prior():
    return fit_prior(faces(120), GRAPH)


def array(value):
    return ops.convert_to_numpy(value)


def log_penalty(points, graph, prior):
    """The logarithm of Eq. 4 of a face: that of the only combination there is, of one candidate a landmark."""
    return array(choose_combination(points[:, None], np.ones((len(points), 1), bool), graph, prior)[1])


def penalty_by_hand(points, prior, graph=GRAPH):
    """Eq. 4 in Python's floats; a ratio with a missing landmark is not summed."""
    total = 0.0
    for ratio, mean, deviation in zip(graph, prior.mean, prior.deviation, strict=True):
        one, other = (math.dist(points[a], points[b]) for a, b in (ratio.first, ratio.second))
        if math.isnan(one) or math.isnan(other):
            continue
        value = (one - other) / (one + other) if ratio.kind == "symmetric" else one / other
        total += deviation * math.exp((value - mean) ** 2 / (2 * deviation ** 2))
    return total


def search(candidates, present, prior, graph=GRAPH):
    """The lowest penalty of the combinations that are allowed, and those that double precision cannot tell from it."""
    found = {}
    for chosen in itertools.product(range(candidates.shape[1]), repeat=len(candidates)):
        if all(present[k, c] or (c == 0 and not present[k].any()) for k, c in enumerate(chosen)):
            points = [candidates[k, c] if present[k, c] else [math.nan] * 3 for k, c in enumerate(chosen)]
            found[chosen] = penalty_by_hand(points, prior, graph)
    least = min(found.values())
    return least, {chosen for chosen, penalty in found.items() if penalty <= least * (1 + 1e-12)}


# --- ratios


def test_ratios_by_hand():
    points = np.array([[0, 0, 0], [3, 4, 0], [0, 0, 12], [3, 4, 12]], np.float32)  # edges 0-1: 5, 0-2: 12, 0-3: 13
    graph = (Ratio("asymmetric", (0, 1), (0, 2)), Ratio("asymmetric", (3, 0), (0, 1)),
             Ratio("symmetric", (0, 2), (1, 0)), Ratio("symmetric", (0, 1), (2, 0)))
    assert array(ratios(points, graph)) == pytest.approx([5 / 12, 13 / 5, 7 / 17, -7 / 17])
    assert array(ratios(np.stack([points, 2 * points])[None], graph)).shape == (1, 2, 4)
    assert array(ratios(points.astype(int), graph)) == pytest.approx([5 / 12, 13 / 5, 7 / 17, -7 / 17])


def test_ratios_stay_when_a_face_is_moved_rotated_and_scaled_and_change_sign_when_the_sides_are_exchanged():
    face = faces(1, seed=4)[0]
    found = ratio_values(face[None], GRAPH)[0]
    turn = Rotation.random(rng=np.random.default_rng(7)).as_matrix()
    for other in (face + [30, -70, 11], face * 2.6, face @ turn.T, face * [-1, 1, 1]):
        np.testing.assert_allclose(ratio_values(other[None], GRAPH)[0], found, rtol=1e-9)
    exchanged = ratio_values(face[None, [RIGHT, BROW, LEFT, NOSE, CHIN]], GRAPH)[0]
    np.testing.assert_allclose(exchanged, found * [-1, -1, -1, 1, 1, 1], rtol=1e-9)
    assert np.abs(found[:3]).min() > 1e-3  # else a sign says nothing
    np.testing.assert_allclose(ratio_values(FACE[None], GRAPH)[0, :3], 0, atol=1e-12)
    # unequal spacings are no scale: points must be millimetres
    assert np.abs(ratio_values(face[None] * [1, 1, 2], GRAPH)[0] - found).max() > 0.1


def test_a_missing_landmark_omits_its_ratios_and_two_in_one_place_are_no_face():
    face = FACE.copy()
    face[CHIN, 1] = np.nan
    assert np.isnan(ratio_values(face[None], GRAPH)[0]).tolist() == [False, False, True, False, True, True]
    face = FACE.copy()
    face[NOSE] = face[CHIN]
    assert np.isposinf(ratio_values(face[None], GRAPH)[0]).tolist() == [False] * 4 + [True, True]
    face[LEFT] = np.inf  # as good as missing, and that comes before the place
    assert np.isnan(ratio_values(face[None], GRAPH)[0]).tolist() == [True] * 5 + [False]


@pytest.mark.parametrize("wrong", [
    lambda: Ratio("equal", (0, 1), (1, 2)), lambda: Ratio("symmetric", (1, 1), (1, 2)),
    lambda: Ratio("symmetric", (0, 1), (-1, 2)), lambda: Ratio("symmetric", (0, 1, 2), (1, 2)),
    lambda: ratios(FACE, ()), lambda: ratios(FACE[:4], GRAPH), lambda: ratios(FACE[:, :2], GRAPH),
    lambda: ratio_values(FACE, GRAPH), lambda: combinations(17, 2), lambda: combinations(8, 5),
    lambda: choose_combination(FACE, np.ones((5, 3), bool), GRAPH, None)])
def test_what_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError, match="found"):
        wrong()


# --- fitting


def test_the_fit_is_mean_and_standard_deviation():
    points = faces(57, seed=3)
    found = fit_prior(points, GRAPH)
    values = np.array([[math.dist(face[BROW], face[NOSE]) / math.dist(face[LEFT], face[RIGHT])] for face in points])
    assert found.mean[3] == pytest.approx(values.mean(), rel=1e-6)
    assert found.deviation[3] == pytest.approx(values.std(ddof=1), rel=1e-5)
    assert found.count.tolist() == [57] * 6 and found.mean.shape == found.deviation.shape == (6,)


def test_a_face_with_a_gap_is_excluded_from_its_ratios_only():
    points = faces(30, seed=3)
    points[:4, CHIN] = np.nan
    points[4, BROW] = points[4, LEFT]
    found = fit_prior(points, GRAPH)
    assert found.count.tolist() == [29, 30, 26, 30, 26, 26]
    assert found.mean[4] == pytest.approx(fit_prior(points[4:], GRAPH).mean[4])
    assert found.mean[0] == pytest.approx(fit_prior(np.delete(points, 4, axis=0), GRAPH).mean[0])
    assert np.isfinite([found.mean, found.deviation]).all()


def test_equal_faces_get_the_floor_and_nine_are_too_few():
    found = fit_prior(np.repeat(FACE[None], 10, axis=0), GRAPH)
    assert found.deviation.tolist() == [1e-3] * 6
    assert fit_prior(faces(10), GRAPH, floor=0.5).deviation.tolist() == [0.5] * 6
    points = faces(12)
    points[:3, NOSE] = np.nan
    for few in (faces(9), points, np.zeros((0, 5, 3))):
        with pytest.raises(ValueError, match="at least 10 faces; found [09] for Ratio"):
            fit_prior(few, GRAPH)
    assert fit_prior(points, GRAPH, fewest=9).count.tolist() == [12, 9, 12, 9, 9, 9]


# --- Eq. 4


def test_the_penalty_is_the_formula_and_that_of_the_mean_face_is_the_sum_of_the_deviations(prior):
    points = faces(40, seed=9, jitter=2.0)
    expected = [math.log(penalty_by_hand(face, prior)) for face in points]
    np.testing.assert_allclose([log_penalty(face, GRAPH, prior) for face in points], expected, rtol=1e-9)
    single = [log_penalty(face.astype(np.float32), GRAPH, prior) for face in points]
    assert single[0].dtype == np.float32
    np.testing.assert_allclose(single, expected, rtol=1e-3)
    mean = GraphPrior(ratio_values(FACE[None], GRAPH)[0], prior.deviation, prior.count)
    least = math.log(prior.deviation.sum())
    assert log_penalty(FACE, GRAPH, mean) == pytest.approx(least, abs=1e-9)
    assert np.log(prior.deviation.sum()) < min(expected)
    assert log_penalty(3 * FACE + 50, GRAPH, mean) == pytest.approx(least, abs=1e-9)


def test_a_million_standard_deviations_do_not_overflow():
    graph = (Ratio("asymmetric", (0, 1), (0, 2)), Ratio("symmetric", (0, 1), (0, 2)))
    prior = GraphPrior(np.array([1.0, 0.0]), np.array([1e-3, 1e-3]), np.array([10, 10]))
    points = np.array([[0, 0, 0], [1001, 0, 0], [0, 1, 0]], np.float32)
    found = log_penalty(points, graph, prior)  # z = 1e6 in the first, 998 in the second
    assert found.dtype == np.float32 and found == pytest.approx(5e11 + math.log(1e-3), rel=1e-5)


def test_two_in_one_place_cost_infinitely_and_missing_ones_nothing(prior):
    face = faces(1, seed=2)[0].astype(np.float32)
    for a, b in ((NOSE, CHIN), (LEFT, RIGHT), (BROW, NOSE), (RIGHT, BROW)):
        same = face.copy()
        same[a] = same[b]
        assert np.isposinf(log_penalty(same, GRAPH, prior))
    gap = face.copy()
    gap[CHIN] = np.nan
    expected = math.log(penalty_by_hand(gap, prior))
    assert log_penalty(gap, GRAPH, prior) == pytest.approx(expected, rel=1e-4)
    assert np.isneginf(log_penalty(np.full((5, 3), np.nan), GRAPH, prior))


# --- choosing


def test_the_combinations_are_all_and_those_of_better_scores_come_first():
    found = combinations(5, 2)
    assert found.shape == (32, 5) and len({tuple(row) for row in found}) == 32
    assert found[:7].tolist() == [[0] * 5, [0, 0, 0, 0, 1], [0, 0, 0, 1, 0], [0, 0, 1, 0, 0], [0, 1, 0, 0, 0],
                                  [1, 0, 0, 0, 0], [0, 0, 0, 1, 1]]
    assert (np.diff(combinations(5, 3).sum(axis=1)) >= 0).all() and combinations(5, 3).shape == (243, 5)
    assert combinations(3, 1).tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("number, jitter", [(1, 1.0), (2, 1.5), (2, 5.0), (3, 3.0)])
def test_the_choice_is_that_of_a_search(prior, number, jitter):
    """Eq. 4 in double precision, term by term, where it does not overflow; a fifth of the candidates is absent."""
    random = np.random.default_rng(number)
    run = tf.function(lambda candidates, present: choose_combination(candidates, present, GRAPH, prior))
    compared, others, single = 0, 0, 0
    for face in faces(30 if number < 3 else 12, seed=11):
        candidates = face[:, None] + random.normal(0, jitter, (5, number, 3))
        present = random.random((5, number)) < 0.8
        try:
            penalty, best = search(candidates, present, prior)
        except OverflowError:
            continue
        found, log = run(tf.constant(candidates, tf.float32), tf.constant(present))
        assert tuple(found.numpy()) in best and found.dtype == tf.int32
        if penalty:
            assert log.numpy() == pytest.approx(math.log(penalty), rel=1e-3, abs=1e-3)
        compared, others, single = compared + 1, others + any(found.numpy()), single + (len(best) == 1)
    assert compared >= 5 and single >= 4 and (others >= 3 or number == 1)


def test_an_impossible_face_of_the_best_boxes_gives_way_to_the_possible_one(prior):
    """The best chin lies on a hand behind the left eye, the best brow on the womb's wall; their seconds are right."""
    face = faces(1, seed=21, jitter=0.5)[0]
    turn = np.linalg.lstsq(FACE - FACE.mean(0), face - face.mean(0), rcond=None)[0]  # the face's own axes
    candidates = np.stack([face, face + np.array([0.6, -0.4, 0.5])], axis=1)  # seconds next to the firsts
    candidates[CHIN] = [face[LEFT] + [2, -22, 3] @ turn, face[CHIN]]
    candidates[BROW] = [face[BROW] + [5, 45, 20] @ turn, face[BROW]]
    chosen, log = choose_combination(candidates.astype(np.float32), np.ones((5, 2), bool), GRAPH, prior)
    assert array(chosen)[[BROW, CHIN]].tolist() == [1, 1]
    best = log_penalty(candidates[:, 0], GRAPH, prior)
    assert array(log) < 0 < 50 < best  # 0: one standard deviation's worth; far above: impossible
    picked = candidates[np.arange(5), array(chosen)]
    wrong = np.linalg.norm(candidates[:, 0] - face, axis=1)
    assert (wrong > 20).tolist() == [False, True, False, False, True]
    assert np.linalg.norm(picked - face, axis=1).max() < 1.0
    only = np.ones((5, 2), bool)
    only[:, 1] = False  # without a second there is nothing to choose
    assert array(choose_combination(candidates, only, GRAPH, prior)[0]).tolist() == [0] * 5


def test_an_absent_candidate_is_not_chosen_though_it_would_be_the_best(prior):
    face = faces(1, seed=5, jitter=0.2)[0]
    candidates = np.stack([face + np.random.default_rng(1).normal(0, 4, (5, 3)), face], axis=1)
    everyone = np.ones((5, 2), bool)
    assert array(choose_combination(candidates, everyone, GRAPH, prior)[0]).tolist() == [1] * 5
    present = everyone.copy()
    present[[NOSE, CHIN], 1] = False
    for wrong in (np.nan, 0.0):  # whatever stands there
        absent = np.where(present[..., None], candidates, wrong)
        assert array(choose_combination(absent, present, GRAPH, prior)[0])[[NOSE, CHIN]].tolist() == [0, 0]
    reversed_order, first = candidates[:, ::-1].copy(), everyone.copy()
    reversed_order[NOSE, 1] = face[NOSE]
    first[NOSE, 0] = False  # the best should come first, but nothing relies on it
    assert array(choose_combination(reversed_order, first, GRAPH, prior)[0]).tolist() == [0, 0, 0, 1, 0]
    broken = candidates.copy()
    broken[LEFT, 1] = np.nan  # marked as present, and is not
    assert array(choose_combination(broken, everyone, GRAPH, prior)[0])[LEFT] == 0


def test_a_landmark_without_candidates_stays_absent_and_the_others_are_chosen(prior):
    face = faces(1, seed=5, jitter=0.2)[0]
    candidates = np.stack([face + np.random.default_rng(1).normal(0, 4, (5, 3)), face], axis=1)
    candidates[CHIN], present = np.nan, np.ones((5, 2), bool)
    present[CHIN] = False
    chosen, log = choose_combination(candidates, present, GRAPH, prior)
    assert array(chosen).tolist() == [1, 1, 1, 1, 0]
    face[CHIN] = np.nan
    assert array(log) == pytest.approx(math.log(penalty_by_hand(face, prior)), rel=1e-6)
    chosen, log = choose_combination(candidates, np.zeros((5, 2), bool), GRAPH, prior)
    assert array(chosen).tolist() == [0] * 5 and np.isneginf(array(log))


def test_of_equals_the_better_scores_are_taken(prior):
    face = faces(1, seed=6)[0].astype(np.float32)
    twice = np.stack([face, face], axis=1)
    everyone = np.ones((5, 2), bool)
    assert array(choose_combination(twice, everyone, GRAPH, prior)[0]).tolist() == [0] * 5
    # a landmark in no ratio is chosen by its score
    more = np.concatenate([twice, np.random.default_rng(0).normal(0, 30, (1, 2, 3)).astype(np.float32)])
    assert array(choose_combination(more, np.ones((6, 2), bool), GRAPH, prior)[0]).tolist() == [0] * 6
    # all in one place: infinite in every combination
    point = np.ones((5, 2, 3), np.float32)
    chosen, log = choose_combination(point, everyone, GRAPH, prior)
    assert array(chosen).tolist() == [0] * 5 and np.isposinf(array(log))


def test_a_ratio_that_nothing_can_improve_does_not_hide_the_others():
    """Its share of the sum is e^5000; in any precision the rest would be lost, and the second eye is the right one."""
    graph = (Ratio("asymmetric", (0, 1), (0, 2)), Ratio("asymmetric", (0, 3), (0, 2)))
    prior = GraphPrior(np.array([1.0, 1.0]), np.array([0.01, 0.01]), np.array([20, 20]))
    candidates = np.zeros((4, 2, 3), np.float32)
    candidates[1:, 0, 0] = [2, 1, 1.04]
    candidates[3, 1, 0] = 1.01
    present = np.array([[1, 0], [1, 0], [1, 0], [1, 1]], bool)
    chosen, log = choose_combination(candidates, present, graph, prior)
    assert array(chosen).tolist() == [0, 0, 0, 1] and array(log) == pytest.approx(5000 + math.log(0.01), rel=1e-5)
    candidates[1, 0] = candidates[0, 0]  # now without any length at all
    assert array(choose_combination(candidates, present, graph, prior)[0]).tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("weight", [0.1, 1.0, 7.0])
def test_the_choice_by_scores_is_that_of_a_search(prior, weight):
    """The sum in double precision over every combination; a fifth of the candidates is absent."""
    random = np.random.default_rng(5)
    changed = set()
    for face in faces(12, seed=13):
        candidates = face[:, None] + random.normal(0, 3, (5, 2, 3))
        scores = np.where(random.random((5, 2)) < 0.8, random.uniform(0.05, 1, (5, 2)), 0)
        sums = {}
        for chosen in itertools.product(range(2), repeat=5):
            if all(scores[k, c] or (c == 0 and not scores[k].any()) for k, c in enumerate(chosen)):
                points = np.array([candidates[k, c] if scores[k, c] else [math.nan] * 3 for k, c in enumerate(chosen)])
                away = (ratio_values(points[None], GRAPH)[0] - prior.mean) / prior.deviation
                sure = sum(math.log(scores[k, c]) for k, c in enumerate(chosen) if scores[k, c])
                sums[chosen] = sure - weight * np.nansum(away ** 2) / 2
        found = tuple(array(choose_by_scores(candidates.astype(np.float32), scores.astype(np.float32), GRAPH, prior,
                                             weight)))
        assert found == max(sums, key=sums.get)
        changed.add(found)
    assert len(changed) > 3


def test_a_sure_candidate_stays_where_an_unlikely_one_fits_a_little_better(prior):
    face = faces(1, seed=8)[0]
    beside = face + np.array([0.4, 0, 0]) * (np.arange(5) == CHIN)[:, None]
    both = sorted([face, beside], key=lambda points: -float(log_penalty(points, GRAPH, prior)))
    candidates = np.stack(both, axis=1).astype(np.float32)
    scores = np.tile(np.float32([0.9, 0.06]), (5, 1))
    scores[np.arange(5) != CHIN, 1] = 0
    assert array(choose_combination(candidates, scores > 0, GRAPH, prior)[0])[CHIN] == 1
    assert array(choose_by_scores(candidates, scores, GRAPH, prior, 0.3)).tolist() == [0] * 5
    candidates[CHIN, 0, 0] += 60  # no face has its chin there
    assert array(choose_by_scores(candidates, scores, GRAPH, prior, 0.3))[CHIN] == 1
    candidates[:] = 1.0  # all in one place: as bad in every combination
    assert array(choose_by_scores(candidates, scores, GRAPH, prior, 0.3)).tolist() == [0] * 5


def test_it_runs_in_a_graph_as_outside(prior):
    face = faces(1, seed=8)[0]
    candidates = (face[:, None] + np.random.default_rng(2).normal(0, 4, (5, 2, 3))).astype(np.float32)
    present = np.ones((5, 2), bool)
    present[NOSE] = False

    @tf.function(input_signature=[tf.TensorSpec([5, 2, 3], tf.float32), tf.TensorSpec([5, 2], tf.bool)])
    def run(candidates, present):
        return choose_combination(candidates, present, GRAPH, prior)

    for given in (candidates, np.full_like(candidates, np.nan)):
        inside, outside = run(given, present), choose_combination(given, present, GRAPH, prior)
        assert inside[0].numpy().tolist() == array(outside[0]).tolist()
        np.testing.assert_allclose(inside[1], array(outside[1]), rtol=1e-6)
