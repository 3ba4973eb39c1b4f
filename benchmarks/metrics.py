"""How long all metrics of one case take, compared with independent implementations of the same definitions.

`python benchmarks/metrics.py` makes a volume of 300 x 200 x 100 voxels with a proximal femur of a ball and a
shaft (about a tenth of the voxels) and three predictions: a good one, a displaced one, and noise, as an
untrained network gives. It prints the median seconds of 20 calls on one thread, and the largest difference
between the values. MONAI is measured where it is installed.
"""

from __future__ import annotations

import importlib.util
import os
import statistics
import time
from collections.abc import Callable

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from tfsono.metrics.surface import segmentation_metrics

SIZE = (300, 200, 100)
SPACING_MM = (0.9, 0.5, 1.1)
CALLS = 20
Metrics = dict[str, float]


def main() -> None:
    """Prints one table per prediction."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    reference = make_reference()
    print(f"{os.cpu_count()} cores, one thread used; {SIZE} voxels, {reference.mean():.1%} femur, {CALLS} calls")
    for name, prediction in make_predictions(reference).items():
        print(f"{name} prediction")
        ours = segmentation_metrics(prediction, reference, SPACING_MM)
        for label, measure in implementations().items():
            seconds, values = median_seconds(measure, prediction, reference)
            apart = max(abs(values[key] - ours[key]) for key in values)
            print(f"  {label:26s} {seconds:8.4f} s  {len(values):2d} values, largest difference {apart:.0e}")


def implementations() -> dict[str, Callable[[np.ndarray, np.ndarray], Metrics]]:
    """The implementations, in the order of printing."""
    found = {
        "tfsono": lambda prediction, reference: segmentation_metrics(prediction, reference, SPACING_MM),
        "SciPy distance transform": measure_with_scipy,
        "SimpleITK": measure_with_simpleitk,
    }
    if importlib.util.find_spec("monai"):
        found["MONAI"] = measure_with_monai
    return found


def median_seconds(
    measure: Callable[[np.ndarray, np.ndarray], Metrics], prediction: np.ndarray, reference: np.ndarray
) -> tuple[float, Metrics]:
    """The median of the calls, fewer of them where one takes more than a second, and the values."""
    seconds: list[float] = []
    values: Metrics = {}
    while len(seconds) < CALLS and (len(seconds) < 3 or sum(seconds) < CALLS):
        start = time.perf_counter()
        values = measure(prediction, reference)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), values


def make_reference() -> np.ndarray:
    """A head of 40 voxels radius on a shaft of 26, boolean [300, 200, 100]."""
    x, y, z = np.ogrid[: SIZE[0], : SIZE[1], : SIZE[2]]
    head = (x - 70) ** 2 + (y - 90) ** 2 + (z - 50) ** 2 < 40**2
    shaft = ((y - 100) ** 2 + (z - 50) ** 2 < 26**2) & (x > 70) & (x < 280)
    return head | shaft


def make_predictions(reference: np.ndarray) -> dict[str, np.ndarray]:
    """The reference moved by a smooth field (0.8 voxels a standard deviation), displaced, and noise."""
    random = np.random.default_rng(0)
    field = ndimage.gaussian_filter(random.standard_normal(reference.shape), 4)
    depth = ndimage.distance_transform_edt(reference) - ndimage.distance_transform_edt(~reference)
    return {
        "good": depth + 0.8 * field / field.std() > 0,
        "displaced": np.roll(reference, (7, 5, 3), (0, 1, 2)),
        "noise": random.random(reference.shape) < 0.05,
    }


def measure_with_scipy(prediction: np.ndarray, reference: np.ndarray) -> Metrics:
    """Erosion and two exact distance transforms of the whole volume."""
    edges = [mask & ~ndimage.binary_erosion(mask) for mask in (prediction, reference)]
    there = ndimage.distance_transform_edt(~edges[1], sampling=SPACING_MM)[edges[0]]
    back = ndimage.distance_transform_edt(~edges[0], sampling=SPACING_MM)[edges[1]]
    pooled = np.concatenate([there, back])
    return {
        "dice": 2 * np.sum(prediction & reference) / (prediction.sum() + reference.sum()),
        "assd_mm": (there.mean() + back.mean()) / 2,
        "surface_mean_pooled_mm": pooled.mean(),
        "assd_std_mm": pooled.std(),
        "hausdorff_mm": pooled.max(),
        "hausdorff95_mm": max(np.percentile(there, 95), np.percentile(back, 95)),
    }


def measure_with_simpleitk(prediction: np.ndarray, reference: np.ndarray) -> Metrics:
    """The label overlap filter on the masks, and the Hausdorff filter on their contours."""
    images = [sitk_image(mask) for mask in (prediction, reference)]
    edges = [sitk.BinaryContour(sitk.ConstantPad(image, [1] * 3, [1] * 3), False) for image in images]
    hausdorff = sitk.HausdorffDistanceImageFilter()
    hausdorff.Execute(*edges)
    overlap = sitk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(*images)
    return {
        "dice": overlap.GetDiceCoefficient(1),
        "jaccard": overlap.GetJaccardCoefficient(1),
        "assd_mm": hausdorff.GetAverageHausdorffDistance(),
        "hausdorff_mm": hausdorff.GetHausdorffDistance(),
    }


def sitk_image(mask: np.ndarray) -> sitk.Image:
    """SimpleITK's image of an array [X, Y, Z], which it counts [z, y, x]."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(mask.T).astype(np.uint8))
    image.SetSpacing(SPACING_MM)
    return image


def measure_with_monai(prediction: np.ndarray, reference: np.ndarray) -> Metrics:
    """MONAI's distances and its Dice, on the CPU, one thread, in single precision."""
    import monai.metrics as monai
    import torch

    torch.set_num_threads(1)
    pair = [torch.from_numpy(mask[None, None].astype(np.float32)) for mask in (prediction, reference)]
    options = {"include_background": True, "spacing": list(SPACING_MM)}
    return {
        "dice": float(monai.compute_dice(*pair, include_background=True)),
        "surface_mean_pooled_mm": float(
            monai.compute_average_surface_distance(*pair, symmetric=True, **options)
        ),
        "hausdorff_mm": float(monai.compute_hausdorff_distance(*pair, **options)),
        "hausdorff95_mm": float(monai.compute_hausdorff_distance(*pair, percentile=95, **options)),
    }


if __name__ == "__main__":
    main()
