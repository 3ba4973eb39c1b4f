"""What a system of heatmaps also says of its landmarks, inside the graph: their peaks, and its members' own points."""

from __future__ import annotations

import tensorflow as tf

from tfsono.geometry.heatmaps import second_peaks

APART = 3.0  # deviations of the Gaussian targets, where they have 1 % of their height: farther away is another peak


def peak_outputs(maps, voxel_mm, sigma_mm) -> dict:
    """"peaks", "second_peaks" and "second_peak_mm", [K] float32 each.

    Args:
      maps: [1, X, Y, Z, K].
      voxel_mm: [3].
      sigma_mm: of the Gaussian targets of training.
    """
    heights, distances = second_peaks(maps, voxel_mm, APART * sigma_mm)
    return {"peaks": tf.reduce_max(maps, axis=(0, 1, 2, 3)), "second_peaks": heights[0], "second_peak_mm": distances[0]}


def member_outputs(points_vox, spacing_mm) -> dict:
    """The points [M, K, 3] of 2 or more members, and [K] their standard deviation (M - 1) around their mean."""
    away = (points_vox - tf.reduce_mean(points_vox, 0)) * spacing_mm
    variance = tf.reduce_sum(tf.square(away), axis=(0, 2)) / (points_vox.shape[0] - 1)
    return {"member_points_vox": points_vox, "spread_mm": tf.sqrt(variance)}
