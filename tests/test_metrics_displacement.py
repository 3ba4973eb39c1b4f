"""A shift that was made is found, by hand and against a search with NumPy's roll."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tfsono.metrics.displacement import displacement
from tfsono.evaluation.displaced import SHIFT, displaced_table


def two_boxes(shape=(17, 13, 11)) -> np.ndarray:
    mask = np.zeros(shape, np.uint8)
    mask[5:9, 4:8, 3:7] = 1
    mask[9:12, 4:8, 3:7] = 2
    return mask


@pytest.mark.parametrize("shift", [(0, 0, 0), (1, 0, -2), (-2, 2, 1)])
def test_a_shift_is_found_and_where_it_leads(shift):
    reference = two_boxes()
    prediction = np.roll(reference, shift, (0, 1, 2))
    found = displacement(prediction, reference)
    assert found.shift_vox == shift and found.shifted_dice == 1


def test_solved_by_hand():
    reference, prediction = (np.zeros((7, 5, 3), np.uint8) for _ in range(2))
    reference[1:5, 2, 1] = 3
    prediction[2:6, 2, 1] = 3
    assert displacement(prediction, reference) == ((1, 0, 0), 0.75, 1.0)  # 3 of 4 voxels shared as they are


def test_the_best_of_all_shifts():
    random = np.random.default_rng(0)
    reference = np.zeros((19, 15, 13), np.uint8)
    reference[4:-4, 4:-4, 4:-4] = random.integers(0, 3, (11, 7, 5))
    prediction = np.where(random.random(reference.shape) < 0.7, np.roll(reference, (0, 1, -1), (0, 1, 2)), reference)

    def dice(shifted):
        pairs = [(prediction == k, shifted == k) for k in (1, 2)]
        return np.mean([2 * (one & other).sum() / (one.sum() + other.sum()) for one, other in pairs])

    scores = {s: dice(np.roll(reference, s, (0, 1, 2))) for s in itertools.product((-2, -1, 0, 1, 2), repeat=3)}
    found = displacement(prediction, reference)
    assert found.shift_vox == max(scores, key=scores.get) == (0, 1, -1)
    assert found.shifted_dice == pytest.approx(max(scores.values()))
    assert found.dice == pytest.approx(scores[0, 0, 0])


def test_what_leaves_the_volume_and_what_is_absent():
    reference, prediction = (np.zeros((6, 5, 3), np.uint8) for _ in range(2))
    reference[:2, 2, 1] = 1
    prediction[:1, 2, 1] = 1
    assert displacement(prediction, reference) == ((0, 0, 0), 2 / 3, 2 / 3)  # shifted by -1 half of it would be outside
    prediction[:1, 2, 1] = 2
    assert displacement(prediction, reference) == ((0, 0, 0), 0, 0)  # no label in common
    with pytest.raises(ValueError, match="one shape"):
        displacement(prediction, reference[:5])


def test_the_table_lists_what_the_runs_agree_on():
    def row(case, run, dice, shifted, shift):
        return {"case": case, "run": run, "case_dice": dice, "shifted_dice": shifted,
                **dict(zip(SHIFT, shift, strict=True))}

    rows = [row("a", "one", 0.80, 0.90, (-1, 1, 1)), row("a", "two", 0.78, 0.91, (-1, 2, 1)),
            row("b", "one", 0.90, 0.97, (1, 0, 0)), row("b", "two", 0.95, 0.95, (0, 0, 0)),
            row("c", "one", 0.90, 0.93, (0, 0, 1)), row("c", "two", 0.90, 0.92, (0, 0, 1))]
    table = displaced_table(rows)
    assert table.rows == (("a", -1, 2, 1, 0.78, 0.91), ("b", 1, 0, 0, 0.90, 0.97))
    assert displaced_table(rows[4:]) is None
