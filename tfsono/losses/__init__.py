"""Losses: plain functions of (y_true, y_pred) that give one number per sample, [B]; `keras.ops` alone.

`voxels` for volumes with one label a voxel, `masks` for pictures with one logit a pixel, `landmarks` for points,
`joint` for a mask and the heatmaps of landmarks in one volume.
"""

from tfsono.losses.voxels import cross_entropy, cross_entropy_dice, dice_loss

__all__ = ["cross_entropy", "cross_entropy_dice", "dice_loss"]
