"""Losses: plain functions of (y_true, y_pred) that give one number per sample, [B]; `keras.ops` alone.

    voxels      volumes with one label a voxel
    masks       images with one logit a pixel
    landmarks   points and 2D heatmaps
    joint       a mask and the heatmaps of landmarks in one volume
    heatmaps    other losses of heatmaps in volumes
    detection   anchors and proposals
"""

from tfsono.losses.voxels import cross_entropy, cross_entropy_dice, dice_loss

__all__ = ["cross_entropy", "cross_entropy_dice", "dice_loss"]
