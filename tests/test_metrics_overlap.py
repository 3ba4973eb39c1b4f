"""Overlap and volume: solved by hand, against SimpleITK, and the identities in the hip paper's Table 1."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from tfsono.metrics.agreement import mean_std
from tfsono.metrics.overlap import overlap_metrics, volume_metrics

SHAPE = (7, 5, 3)
SPACING_MM = (0.5, 2.0, 3.0)

# DICE, Jaccard, precision and recall of the ten patients, hip paper, Table 1.
PAPER_ROWS = {
    "Pat01": (0.989, 0.978, 0.992, 0.985),
    "Pat02": (0.986, 0.973, 0.985, 0.987),
    "Pat03": (0.987, 0.975, 0.995, 0.979),
    "Pat04": (0.987, 0.974, 0.992, 0.982),
    "Pat05": (0.989, 0.979, 0.991, 0.988),
    "Pat06": (0.990, 0.980, 0.995, 0.985),
    "Pat07": (0.978, 0.958, 0.984, 0.973),
    "Pat08": (0.981, 0.963, 0.994, 0.968),
    "Pat09": (0.990, 0.981, 0.990, 0.990),
    "Pat10": (0.988, 0.976, 0.991, 0.984),
}


def random_pair(seed: int, shape: tuple[int, ...] = SHAPE) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.random(shape) < 0.4, random.random(shape) < 0.6


def test_hand_solved_overlap() -> None:
    prediction, reference = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    prediction[0:4, 2, 1] = True  # 4 voxels
    reference[3:6, 2, 1] = True  # 3 voxels, of which index 3 is shared
    assert overlap_metrics(prediction, reference) == pytest.approx(
        {"dice": 2 / 7, "jaccard": 1 / 6, "precision": 1 / 4, "recall": 1 / 3}
    )


def test_hand_solved_volumes() -> None:
    prediction, reference = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    prediction[0:4, 2, 1] = True
    reference[1:7, 0:2, 1] = True
    expected = {
        "volume_ml": 0.012,  # 4 voxels of 3 mm^3
        "reference_volume_ml": 0.036,
        "volume_error_ml": 0.024,
        "volume_difference_ml": -0.024,
    }
    assert volume_metrics(prediction, reference, SPACING_MM) == pytest.approx(expected)
    swapped = volume_metrics(reference, prediction, SPACING_MM)
    assert swapped["volume_difference_ml"] == pytest.approx(0.024)
    assert swapped["volume_error_ml"] == pytest.approx(0.024)


@pytest.mark.parametrize("seed", range(5))
def test_overlap_agrees_with_simpleitk(seed: int) -> None:
    prediction, reference = random_pair(seed)
    measures = sitk.LabelOverlapMeasuresImageFilter()
    measures.Execute(*(sitk.GetImageFromArray(mask.T.astype(np.uint8)) for mask in (prediction, reference)))
    ours = overlap_metrics(prediction, reference)
    assert ours["dice"] == pytest.approx(measures.GetDiceCoefficient(1))
    assert ours["jaccard"] == pytest.approx(measures.GetJaccardCoefficient(1))
    assert 1 - ours["precision"] == pytest.approx(measures.GetFalseDiscoveryRate(1))
    assert 1 - ours["recall"] == pytest.approx(measures.GetFalseNegativeError(1))


@pytest.mark.parametrize("seed", range(5))
def test_identities_hold_in_every_case(seed: int) -> None:
    prediction, reference = random_pair(seed)
    dice, jaccard, precision, recall = overlap_metrics(prediction, reference).values()
    assert dice == pytest.approx(2 * precision * recall / (precision + recall))
    assert jaccard == pytest.approx(dice / (2 - dice))
    swapped = overlap_metrics(reference, prediction)
    assert (swapped["precision"], swapped["recall"]) == (recall, precision)


@pytest.mark.parametrize("patient", PAPER_ROWS)
def test_paper_rows_follow_from_their_precision_and_recall(patient: str) -> None:
    """Masks with the row's precision and recall have the row's Dice and Jaccard, but for the third decimal.

    Half a unit in the last place of P and R moves Dice by at most 0.0005, and Jaccard by twice that; the
    printed value adds half a unit of its own.
    """
    dice, jaccard, precision, recall = PAPER_ROWS[patient]
    prediction, reference = masks_with(round(1000 * precision), round(1000 * recall))
    ours = overlap_metrics(prediction, reference)
    assert (ours["precision"], ours["recall"]) == pytest.approx((precision, recall), abs=1e-9)
    assert ours["dice"] == pytest.approx(dice, abs=0.0010)
    assert ours["jaccard"] == pytest.approx(jaccard, abs=0.0015)
    assert jaccard == pytest.approx(dice / (2 - dice), abs=0.0015)


def masks_with(precision: int, recall: int) -> tuple[np.ndarray, np.ndarray]:
    """Two masks with these thousandths exactly: P*R voxels shared, 1000 R predicted, 1000 P true."""
    shape = (113, 95, 97)
    prediction, reference = np.zeros(shape, bool), np.zeros(shape, bool)
    prediction.flat[: 1000 * recall] = True
    start = 1000 * recall - precision * recall
    reference.flat[start : start + 1000 * precision] = True
    return prediction, reference


def test_paper_averages_are_the_means_of_its_rows() -> None:
    means = [mean_std(column)[0] for column in zip(*PAPER_ROWS.values(), strict=True)]
    assert means == pytest.approx([0.9865, 0.9737, 0.9909, 0.9821], abs=1e-9)


@pytest.mark.parametrize("shape", [(9, 11, 13), (5, 9)])
def test_empty_masks(shape: tuple[int, ...]) -> None:
    empty, full = np.zeros(shape, bool), np.ones(shape, bool)
    assert np.isnan(list(overlap_metrics(empty, empty).values())).all()
    assert set(overlap_metrics(empty, full).values()) == {0.0}
    assert set(overlap_metrics(full, empty).values()) == {0.0}
    assert set(overlap_metrics(full, full).values()) == {1.0}


def test_disjoint_masks_share_nothing() -> None:
    mask = np.zeros(SHAPE, bool)
    mask[:3] = True
    assert set(overlap_metrics(mask, ~mask).values()) == {0.0}


@pytest.mark.parametrize(
    ("prediction", "message"),
    [
        (np.zeros((7, 5, 1), bool), "one shape"),  # would broadcast
        (np.zeros((5, 7, 3), bool), "one shape"),
        (np.zeros(SHAPE, np.uint8), "boolean"),
        (np.zeros(SHAPE, np.float32), "boolean"),
        (np.zeros((1, *SHAPE), bool), "2 or 3 axes"),
        (np.zeros((7, 0, 3), bool), "2 or 3 axes"),
        ([[True, False]], "boolean"),
    ],
)
def test_wrong_masks_are_refused(prediction: object, message: str) -> None:
    reference = np.ones(SHAPE, bool)
    with pytest.raises(ValueError, match=message):
        overlap_metrics(prediction, reference)
    with pytest.raises(ValueError, match=message):
        volume_metrics(prediction, reference, SPACING_MM)
    with pytest.raises(ValueError, match="one shape|reference must"):
        overlap_metrics(reference, prediction)


@pytest.mark.parametrize("spacing", [(1, 1), (1, 1, 1, 1), (1, 0, 1), (1, -2, 1), (1, np.nan, 1), 2.0])
def test_wrong_spacings_are_refused(spacing: object) -> None:
    mask = np.ones(SHAPE, bool)
    with pytest.raises(ValueError, match="spacing_mm"):
        volume_metrics(mask, mask, spacing)


def test_a_volume_needs_three_axes() -> None:
    mask = np.ones((7, 5), bool)
    with pytest.raises(ValueError, match="3 axes"):
        volume_metrics(mask, mask, (1, 1))
