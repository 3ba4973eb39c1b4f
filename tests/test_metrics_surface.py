"""Boundaries and distances: solved by hand, by brute force, and against SimpleITK, SciPy and MONAI."""

from __future__ import annotations

import math

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from tfsono.metrics.overlap import overlap_metrics, volume_metrics
from tfsono.metrics.surface import (
    boundary,
    diagonal_mm,
    segmentation_metrics,
    surface_dice,
    surface_distances,
    surface_metrics,
)

SHAPE = (7, 5, 3)
SPACING_MM = (0.5, 2.0, 3.0)


def measured(prediction, reference, spacing_mm) -> dict[str, float]:
    return surface_metrics(surface_distances(prediction, reference, spacing_mm),
                           diagonal_mm(prediction.shape, spacing_mm))


def blob_pair(seed: int, shape: tuple[int, ...] = (13, 11, 9)) -> tuple[np.ndarray, np.ndarray]:
    """Two smooth random masks, which have an inside, several parts, holes, and touch the border."""
    random = np.random.default_rng(seed)
    fields = [ndimage.gaussian_filter(random.standard_normal(shape), 1.2) for _ in range(2)]
    return fields[0] > -0.05, fields[0] + 0.7 * fields[1] > 0.02


def brute_boundary(mask: np.ndarray) -> np.ndarray:
    """The neighbours of each foreground voxel one by one; outside of the array is background."""
    found = np.zeros_like(mask)
    for voxel in np.argwhere(mask):
        for axis in range(mask.ndim):
            for step in (-1, 1):
                neighbour = voxel.copy()
                neighbour[axis] += step
                outside = not 0 <= neighbour[axis] < mask.shape[axis]
                if outside or not mask[tuple(neighbour)]:
                    found[tuple(voxel)] = True
    return found


def brute_directed(edge: np.ndarray, other: np.ndarray, spacing_mm: tuple[float, ...]) -> list[float]:
    """The nearest of all pairs, in Python's own arithmetic."""
    to_mm = [[index * side for index, side in zip(v, spacing_mm, strict=True)] for v in np.argwhere(other)]
    return [
        min(math.dist([index * side for index, side in zip(v, spacing_mm, strict=True)], p) for p in to_mm)
        for v in np.argwhere(edge)
    ]


def sitk_mask(mask: np.ndarray, spacing_mm: tuple[float, ...]) -> sitk.Image:
    image = sitk.GetImageFromArray(mask.T.astype(np.uint8))
    image.SetSpacing(spacing_mm)
    return image


# --- the boundary -------------------------------------------------------------------------------------------


def test_boundary_of_a_box_is_its_shell() -> None:
    mask = np.zeros((9, 7, 5), bool)
    mask[2:7, 1:6, 1:4] = True
    expected = mask.copy()
    expected[3:6, 2:5, 2] = False
    assert np.array_equal(boundary(mask), expected)
    assert boundary(mask).sum() == 5 * 5 * 3 - 3 * 3 * 1


def test_volume_border_is_boundary() -> None:
    found = boundary(np.ones((5, 3, 7), bool))
    assert found.sum() == 5 * 3 * 7 - 3 * 1 * 5
    assert not found[1:4, 1, 1:6].any()


def test_diagonal_neighbours_do_not_make_a_boundary() -> None:
    mask = np.ones((5, 5, 5), bool)
    mask[1, 1, 2] = False  # touches (2, 2, 2) along an edge only
    assert not boundary(mask)[2, 2, 2]
    assert boundary(mask)[2, 1, 2]


@pytest.mark.parametrize("shape", [(13, 11, 9), (1, 7, 5), (3, 2, 1), (11, 6)])
def test_boundary_agrees_with_brute_force_and_erosion(shape: tuple[int, ...]) -> None:
    for mask in blob_pair(3, shape):
        before = mask.copy()
        assert np.array_equal(boundary(mask), brute_boundary(mask))
        assert np.array_equal(boundary(mask), mask & ~ndimage.binary_erosion(mask))
        assert np.array_equal(mask, before)


# --- distances ----------------------------------------------------------------------------------------------


def hand_pair() -> tuple[np.ndarray, np.ndarray]:
    prediction, reference = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    prediction[1, 1, 1] = prediction[2, 1, 1] = prediction[2, 2, 1] = True
    reference[1, 1, 1] = reference[5, 1, 1] = True
    return prediction, reference


def test_hand_solved_distances() -> None:
    """Spacing 0.5, 2, 3: (2,1,1) is 0.5 mm from (1,1,1); (2,2,1) is 0.5 and 2 mm away; (5,1,1) 3 steps."""
    oblique = math.sqrt(0.5**2 + 2**2)
    there, back, predicted, expected = surface_distances(*hand_pair(), SPACING_MM)
    assert there == pytest.approx([0, 0.5, oblique])
    assert back == pytest.approx([0, 1.5])
    assert predicted.tolist() == [[1, 1, 1], [2, 1, 1], [2, 2, 1]]
    assert expected.tolist() == [[1, 1, 1], [5, 1, 1]]

    pooled = [0, 0.5, oblique, 0, 1.5]
    mean = sum(pooled) / 5
    assert measured(*hand_pair(), SPACING_MM) == pytest.approx(
        {
            "assd_mm": ((0.5 + oblique) / 3 + 1.5 / 2) / 2,
            "surface_mean_pooled_mm": mean,
            "assd_std_mm": math.sqrt(sum((value - mean) ** 2 for value in pooled) / 5),
            "hausdorff_mm": oblique,
            # Linear interpolation: 1.9 of the 2 steps through three values, 0.95 of the one through two.
            "hausdorff95_mm": max(0.5 + 0.9 * (oblique - 0.5), 0.95 * 1.5),
        }
    )


@pytest.mark.parametrize("axis", range(3))
def test_one_plane_moved_along_an_axis(axis: int) -> None:
    """Every voxel of a plane two steps away is exactly two spacings of that axis away."""
    shape, sides = (9, 7, 5), (0.7, 1.3, 2.9)
    prediction, reference = np.zeros(shape, bool), np.zeros(shape, bool)
    np.moveaxis(prediction, axis, 0)[1] = True
    np.moveaxis(reference, axis, 0)[3] = True
    values = measured(prediction, reference, sides)
    assert values.pop("assd_std_mm") == pytest.approx(0, abs=1e-12)
    assert list(values.values()) == pytest.approx([2 * sides[axis]] * 4)


@pytest.mark.parametrize("seed", range(5))
def test_distances_agree_with_brute_force(seed: int) -> None:
    prediction, reference = blob_pair(seed, (9, 7, 5))
    edges = [brute_boundary(mask) for mask in (prediction, reference)]
    there = brute_directed(edges[0], edges[1], SPACING_MM)
    back = brute_directed(edges[1], edges[0], SPACING_MM)
    found = surface_distances(prediction, reference, SPACING_MM)
    assert found.prediction_to_reference_mm == pytest.approx(there)
    assert found.reference_to_prediction_mm == pytest.approx(back)
    assert np.array_equal(found.prediction_points_vox, np.argwhere(edges[0]))
    assert np.array_equal(found.reference_points_vox, np.argwhere(edges[1]))
    ours = measured(prediction, reference, SPACING_MM)
    assert ours["assd_mm"] == pytest.approx((np.mean(there) + np.mean(back)) / 2)
    assert ours["assd_std_mm"] == pytest.approx(np.std(there + back))
    assert ours["hausdorff_mm"] == pytest.approx(max(there + back))


def test_cropping_moves_neither_points_nor_distances() -> None:
    small = blob_pair(2)
    large = [np.pad(mask & inner(mask.shape), ((5, 8), (3, 2), (7, 1))) for mask in small]
    cropped = surface_distances(*[mask & inner(mask.shape) for mask in small], SPACING_MM)
    padded = surface_distances(*large, SPACING_MM)
    assert padded.prediction_to_reference_mm == pytest.approx(cropped.prediction_to_reference_mm)
    assert np.array_equal(padded.reference_points_vox, cropped.reference_points_vox + [5, 3, 7])
    assert boundary(large[0])[tuple(padded.prediction_points_vox.T)].all()


def inner(shape: tuple[int, ...]) -> np.ndarray:
    """All voxels but those of the border, where padding would change the boundary."""
    found = np.zeros(shape, bool)
    found[1:-1, 1:-1, 1:-1] = True
    return found


@pytest.mark.parametrize("seed", range(4))
def test_hausdorff_and_mean_agree_with_simpleitk(seed: int) -> None:
    prediction, reference = blob_pair(seed)
    hausdorff = sitk.HausdorffDistanceImageFilter()
    hausdorff.Execute(*(sitk_mask(brute_boundary(mask), SPACING_MM) for mask in (prediction, reference)))
    ours = measured(prediction, reference, SPACING_MM)
    assert ours["hausdorff_mm"] == pytest.approx(hausdorff.GetHausdorffDistance(), rel=1e-6)
    assert ours["assd_mm"] == pytest.approx(hausdorff.GetAverageHausdorffDistance(), rel=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_every_distance_agrees_with_simpleitk_distance_map(seed: int) -> None:
    prediction, reference = blob_pair(seed)
    found = surface_distances(prediction, reference, SPACING_MM)
    image = sitk_mask(brute_boundary(reference), SPACING_MM)
    distance_map = sitk.SignedMaurerDistanceMap(image, squaredDistance=False, useImageSpacing=True)
    # Negative inside; a clump of boundary voxels has an inside of its own, at distance 0 from itself.
    values = np.maximum(sitk.GetArrayFromImage(distance_map).T, 0)
    expected = values[tuple(found.prediction_points_vox.T)]
    assert found.prediction_to_reference_mm == pytest.approx(expected, abs=1e-5)


def test_hand_solved_surface_dice() -> None:
    """Of the five boundary voxels of the pair above, 0, 0.5, 2.06 and 0, 1.5 mm away, some are within a tolerance."""
    distances = surface_distances(*hand_pair(), SPACING_MM)
    assert [surface_dice(distances, limit) for limit in (0.1, 0.5, 1.0, 1.5, 2.0, 2.1)] == pytest.approx(
        [2 / 5, 3 / 5, 3 / 5, 4 / 5, 4 / 5, 1])
    far = np.zeros((9, 3, 3), bool), np.zeros((9, 3, 3), bool)
    far[0][1, 1, 1] = far[1][4, 1, 1] = True
    assert surface_dice(surface_distances(*far, (0.7, 1, 1)), 2.1) == 1, "three voxels of 0.7 mm, whatever the rounding"


@pytest.mark.parametrize("tolerance_mm", [0.4, 0.5, 2.0])
def test_surface_dice_agrees_with_the_distance_transform(tolerance_mm: float) -> None:
    """SciPy's distance of every voxel to the other boundary, and this package's names."""
    prediction, reference = blob_pair(6)
    edges = [brute_boundary(mask) for mask in (prediction, reference)]
    away = [ndimage.distance_transform_edt(~edge, sampling=SPACING_MM) for edge in edges]
    within = sum((away[1 - place][edge] <= tolerance_mm + 1e-9).sum() for place, edge in enumerate(edges))
    values = segmentation_metrics(prediction, reference, SPACING_MM, nsd_mm=tolerance_mm)
    assert values[f"nsd_{tolerance_mm:g}mm"] == pytest.approx(within / sum(edge.sum() for edge in edges))
    assert 0.2 < values[f"nsd_{tolerance_mm:g}mm"] < 1


def test_all_distances_agree_with_monai() -> None:
    monai = pytest.importorskip("monai.metrics", reason="MONAI is not installed; it is an optional check")
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    for seed in range(4):
        pair = blob_pair(seed)
        tensors = [torch.from_numpy(mask[None, None].astype(np.float32)) for mask in pair]
        options = {"include_background": True, "spacing": list(SPACING_MM)}
        ours = measured(*pair, SPACING_MM)
        whole = monai.compute_hausdorff_distance(*tensors, **options)
        most = monai.compute_hausdorff_distance(*tensors, percentile=95, **options)
        mean = monai.compute_average_surface_distance(*tensors, symmetric=True, **options)
        assert ours["hausdorff_mm"] == pytest.approx(float(whole), rel=1e-5)
        assert ours["hausdorff95_mm"] == pytest.approx(float(most), rel=1e-5)
        assert ours["surface_mean_pooled_mm"] == pytest.approx(float(mean), rel=1e-5)


# --- what must and must not matter --------------------------------------------------------------------------


def test_surfaces_weigh_the_same_in_either_order() -> None:
    prediction, reference = blob_pair(1)
    one = measured(prediction, reference, SPACING_MM)
    other = measured(reference, prediction, SPACING_MM)
    assert one == pytest.approx(other)
    assert one["assd_mm"] != pytest.approx(one["surface_mean_pooled_mm"], rel=1e-3)
    assert one["hausdorff95_mm"] <= one["hausdorff_mm"]


def test_axes_and_memory_order_do_not_matter() -> None:
    prediction, reference = blob_pair(4)
    expected = segmentation_metrics(prediction, reference, SPACING_MM)
    permuted = [mask.transpose(2, 0, 1) for mask in (prediction, reference)]
    assert segmentation_metrics(*permuted, (3.0, 0.5, 2.0)) == pytest.approx(expected)
    mixed = np.asfortranarray(prediction), reference[::-1].copy()[::-1]
    assert segmentation_metrics(*mixed, SPACING_MM) == pytest.approx(expected)
    assert segmentation_metrics(*permuted, SPACING_MM) != pytest.approx(expected)


def test_spacing_scales_distances_and_volumes() -> None:
    prediction, reference = blob_pair(5)
    one = segmentation_metrics(prediction, reference, SPACING_MM)
    double = segmentation_metrics(prediction, reference, tuple(2 * side for side in SPACING_MM))
    assert double["hausdorff95_mm"] == pytest.approx(2 * one["hausdorff95_mm"])
    assert double["assd_std_mm"] == pytest.approx(2 * one["assd_std_mm"])
    assert double["volume_error_ml"] == pytest.approx(8 * one["volume_error_ml"])
    assert double["dice"] == one["dice"]


def test_equal_masks_are_at_distance_zero() -> None:
    prediction, _ = blob_pair(0)
    assert set(measured(prediction, prediction.copy(), SPACING_MM).values()) == {0.0}


def test_two_axes() -> None:
    """In 2D two columns of pixels three steps of 0.4 apart."""
    prediction, reference = np.zeros((9, 5), bool), np.zeros((9, 5), bool)
    prediction[2], reference[5] = True, True
    assert measured(prediction, reference, (0.4, 1.1))["hausdorff_mm"] == pytest.approx(1.2)
    assert surface_distances(prediction, reference, (0.4, 1.1)).reference_points_vox.shape == (5, 2)


def test_everything_at_once_is_its_parts() -> None:
    prediction, reference = blob_pair(6)
    parts = overlap_metrics(prediction, reference)
    parts |= measured(prediction, reference, SPACING_MM) | volume_metrics(prediction, reference, SPACING_MM)
    parts["nsd_2mm"] = surface_dice(surface_distances(prediction, reference, SPACING_MM), 2.0)
    together = segmentation_metrics(prediction, reference, SPACING_MM)
    assert together == {**parts, "undefined": 0, "absent": 0}
    assert all(type(value) in (int, float) for value in together.values())  # as JSON and CSV take them


# --- empty masks and mistakes -------------------------------------------------------------------------------

DIAGONAL_MM = math.sqrt(3.5**2 + 10**2 + 9**2)  # 7, 5, 3 voxels of 0.5, 2, 3 mm
DISTANCES = [
    "assd_mm", "surface_mean_pooled_mm", "assd_std_mm", "hausdorff_mm", "hausdorff95_mm",
]


def test_both_empty_is_no_number_and_flagged() -> None:
    empty = np.zeros(SHAPE, bool)
    values = segmentation_metrics(empty, empty, SPACING_MM)
    flags = {"volume_ml": 0.0, "reference_volume_ml": 0.0, "undefined": 0, "absent": 1}
    assert {name: value for name, value in values.items() if not math.isnan(value)} == flags
    assert set(DISTANCES) <= values.keys()
    assert [len(found) for found in surface_distances(empty, empty, SPACING_MM)] == [0] * 4


def test_both_empty_is_perfect_agreement_on_demand() -> None:
    empty = np.zeros(SHAPE, bool)
    values = segmentation_metrics(empty, empty, SPACING_MM, empty_is="perfect")
    overlap = {"dice", "jaccard", "precision", "recall", "nsd_2mm"}
    assert values == {name: float(name in overlap) for name in values} | {"absent": 1}
    full = np.ones(SHAPE, bool)
    for pair in ((empty, full), (full, empty), (full, full)):  # the option concerns no other pair
        assert segmentation_metrics(*pair, SPACING_MM, "perfect") == segmentation_metrics(*pair, SPACING_MM)


@pytest.mark.parametrize("swapped", [False, True])
def test_one_empty_is_the_worst_value_and_flagged(swapped: bool) -> None:
    pair = [np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)]
    pair[0][2:4, 1, 1] = True
    if swapped:
        pair.reverse()
    values = segmentation_metrics(*pair, SPACING_MM)
    assert [values[name] for name in DISTANCES] == pytest.approx([DIAGONAL_MM] * 5)
    assert (values["dice"], values["jaccard"], values["precision"], values["recall"]) == (0, 0, 0, 0)
    assert values["undefined"] == 1 and values["absent"] == 0
    assert segmentation_metrics(*pair, SPACING_MM, nsd_mm=2 * DIAGONAL_MM)[f"nsd_{2 * DIAGONAL_MM:g}mm"] == 0
    assert values["volume_error_ml"] == pytest.approx(0.006)
    found = surface_distances(*pair, SPACING_MM)
    assert found[int(swapped)] == pytest.approx([DIAGONAL_MM] * 2)
    assert found[1 - int(swapped)].size == 0


def test_no_measured_distance_exceeds_the_diagonal() -> None:
    prediction, reference = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    prediction[0, 0, 0] = reference[-1, -1, -1] = True
    assert diagonal_mm(SHAPE, SPACING_MM) == pytest.approx(DIAGONAL_MM)
    assert measured(prediction, reference, SPACING_MM)["hausdorff_mm"] < DIAGONAL_MM


@pytest.mark.parametrize("measure", [surface_distances, segmentation_metrics])
def test_wrong_arguments_are_refused(measure) -> None:
    mask = np.ones(SHAPE, bool)
    with pytest.raises(ValueError, match="one shape"):
        measure(mask, mask[:, :, :1], SPACING_MM)
    with pytest.raises(ValueError, match="boolean"):
        measure(mask.astype(np.uint8), mask, SPACING_MM)
    for spacing in [(1, 1), (1, 1, 0), (1, 1, -1), (1, np.inf, 1), 1.0]:
        with pytest.raises(ValueError, match="spacing_mm"):
            measure(mask, mask, spacing)
    with pytest.raises(ValueError, match="boolean"):
        boundary(mask.astype(int))
