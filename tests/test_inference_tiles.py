"""The positions of tiles, and the average of their probabilities."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfsono.inference import sliding_window as sliding_window_module
from tfsono.inference.sliding_window import (
    Tiling,
    fast_tile,
    sliding_window,
    tile_and_starts,
    tile_weights,
)


@tf.function(input_signature=[tf.TensorSpec([], tf.int32)] * 3)
def tiles_in_a_graph(size, patch, stride):
    return sliding_window_module.paper_starts(size, patch), sliding_window_module.strided_starts(size, patch, stride)


def paper_starts(size, patch):
    return tiles_in_a_graph(size, patch, 1)[0].numpy().tolist()


def strided_starts(size, patch, stride):
    return tiles_in_a_graph(size, patch, stride)[1].numpy().tolist()


def covered(starts, size, patch):
    """How many tiles hold each voxel of an axis."""
    counts = np.zeros(max(size, patch), int)
    for start in starts:
        assert 0 <= start <= max(size, patch) - patch
        counts[start:start + patch] += 1
    return counts


def test_paper_tiles_of_the_paper():
    starts = [paper_starts(size, 64) for size in (300, 200, 100)]
    assert [len(each) for each in starts] == [9, 8, 6]
    assert np.prod([len(each) for each in starts]) == 432
    assert [each[1] - each[0] for each in starts] == [30, 22, 7]
    assert starts[2] == [0, 7, 14, 21, 28, 36]  # the co-author's own last start, 35, misses voxel 99


def test_paper_tiles_worked_by_hand():
    assert paper_starts(64, 64) == paper_starts(11, 64) == [0]
    assert paper_starts(66, 64) == [0, 2]  # the rule's step is 0 here, its overlap a whole patch
    # 48 with 16: fold 7, overlap ceil(64 / 6) = 11, step 5, fold ceil((48 + 66) / 16) = 8; 35 goes back to 32
    assert paper_starts(48, 16) == [0, 5, 10, 15, 20, 25, 30, 32]


def test_strided_tiles_worked_by_hand():
    assert strided_starts(300, 64, 32) == [0, 32, 64, 96, 128, 160, 192, 224, 236]
    assert strided_starts(128, 64, 32) == [0, 32, 64]
    assert strided_starts(63, 64, 32) == [0]


@pytest.mark.parametrize("patch", [8, 24, 64, 96])
def test_tiles_cover_every_voxel_and_rise(patch):
    for size in range(1, 12 * patch):
        for starts in (paper_starts(size, patch), strided_starts(size, patch, patch // 2)):
            assert covered(starts, size, patch).min() >= 1, (size, starts)
            assert starts == sorted(set(starts))


def test_tiles_by_kind():
    size = tf.constant((300, 200, 100))
    counts = {}
    for kind in ("paper", "half", "fast", "whole"):
        tile, starts = tile_and_starts(Tiling((64, 64, 64), kind), size)
        counts[kind] = (tile.numpy().tolist(), [len(each) for each in starts])
    assert counts["paper"] == ([64, 64, 64], [9, 8, 6])
    assert counts["half"] == ([64, 64, 64], [9, 6, 3])
    assert counts["fast"] == counts["whole"] == ([304, 200, 104], [1, 1, 1])
    tile, starts = tile_and_starts(Tiling((64, 64, 64), "fast", tile_voxels=2**20), size)
    assert (tile.numpy().tolist(), [len(each) for each in starts]) == ([120, 80, 104], [4, 4, 1])  # 1/7 of `paper`


def test_fast_tile_is_the_cheapest_within_its_memory():
    size = (61, 33, 17)

    def cost(tile):
        counts = [len(strided_starts(size[axis], tile[axis], tile[axis] // 2)) for axis in range(3)]
        return np.prod(counts) * np.prod(tile)

    for most in (1, 9000, 20000, 10**6):
        allowed = [(x, y, z) for x in range(16, 65, 8) for y in range(16, 41, 8) for z in (16, 24)
                   if x * y * z <= max(most, 16**3)]
        chosen = tuple(fast_tile(Tiling((16, 16, 16), "fast", multiple=8, tile_voxels=most), tf.constant(size)).numpy())
        assert chosen in allowed
        assert cost(chosen) == min(cost(tile) for tile in allowed)


@pytest.mark.parametrize("most", [1, 60_000, 10**6])
def test_tiles_with_a_margin_give_every_voxel_once_and_far_from_their_faces(most):
    tiling = Tiling((16, 16, 16), "fast", margin=16, tile_voxels=most)
    for size in ((16, 16, 16), (48, 56, 104), (120, 32, 64)):
        tile, starts = tile_and_starts(tiling, tf.constant(size))
        assert np.prod(tile) <= max(most, 40**3) and not any((start.numpy() % 8).any() for start in starts)

        def predict(tiles, valid):  # 1 where a voxel is farther than the margin from a face inside the volume
            near = np.zeros(tiles.shape, np.float32)
            for axis, side in enumerate(tile.numpy()):
                place = np.arange(side)
                first, last = (int(start) for start in (starts[axis][0], starts[axis][-1]))
                here = int(tiles[0, 0, 0, 0, 0]) // 200**(2 - axis) % 200
                ends = ((place < 16) & (here > first)) | ((place >= side - 16) & (here < last))
                near += ends.reshape([-1 if other == axis + 1 else 1 for other in range(5)])
            return tf.constant(near)

        x, y, z = np.meshgrid(*(np.arange(side) for side in size), indexing="ij")
        found = sliding_window(predict, np.float32(x * 200**2 + y * 200 + z), tile, starts, 1, margin=16)
        assert not found.numpy().any()
        ones = sliding_window(lambda tiles, valid: tf.ones_like(tiles), np.zeros(size, np.float32), tile, starts, 1,
                              margin=16)
        assert (ones.numpy() == 1).all()


def test_gaussian_weights():
    weights = tile_weights(16, "gaussian").numpy()
    np.testing.assert_allclose(weights, weights[::-1])
    np.testing.assert_allclose(weights[0] / weights[3], np.exp(-(7.5**2 - 4.5**2) / 8), rtol=1e-5)
    assert weights.min() > 0 and weights.argmax() in (7, 8)


def position_dependent(tiles, valid):
    """Two `probabilities` that depend on the voxel, its place in the tile, and the tile's sum."""
    ramp = tf.reshape(tf.range(tf.size(tiles[0]), dtype=tf.float32), tf.shape(tiles)[1:])[None] / 1000
    axes = (1, 2, 3, 4)
    mean = tf.reduce_sum(tiles, axes, keepdims=True) / tf.reduce_sum(valid, axes, keepdims=True)
    first = tiles * ramp + mean
    return tf.concat([first, 1 - first], -1)


def brute_force(volume, patch, starts, weighting):
    """Loops over tiles and voxels' sums in float64 NumPy."""
    full = np.maximum(volume.shape, patch)
    total, weight_sum = np.zeros((*full, 2)), np.zeros((*full, 1))
    weights = [tile_weights(side, weighting).numpy().astype(float) for side in patch]
    weight = np.einsum("x,y,z->xyz", *weights)[..., None]
    ramp = np.arange(np.prod(patch)).reshape(patch) / 1000
    for corner in np.stack(np.meshgrid(*starts, indexing="ij"), -1).reshape(-1, 3):
        where = tuple(slice(first, first + side) for first, side in zip(corner, patch, strict=True))
        inside = volume[where]
        tile = np.zeros(patch)
        tile[tuple(slice(0, side) for side in inside.shape)] = inside
        first = tile * ramp + inside.mean()
        total[where] += weight * np.stack([first, 1 - first], -1)
        weight_sum[where] += weight
    return (total / weight_sum)[tuple(slice(0, side) for side in volume.shape)]


@pytest.mark.parametrize("weighting", ["uniform", "gaussian"])
@pytest.mark.parametrize("size, batch", [((17, 9, 23), 1), ((17, 9, 23), 4), ((5, 21, 7), 3), ((3, 4, 5), 2)])
def test_average_equals_brute_force(size, batch, weighting):
    patch = (8, 8, 16)
    volume = np.random.default_rng(3).normal(2, 1, size).astype(np.float32)
    starts = [paper_starts(side, length) for side, length in zip(size, patch, strict=True)]

    @tf.function(input_signature=[tf.TensorSpec([None, None, None], tf.float32)])
    def average(volume):
        return sliding_window(position_dependent, volume, patch, starts, 2, weighting, batch)

    prediction = average(volume).numpy()
    assert prediction.shape == (*size, 2)
    np.testing.assert_allclose(prediction, brute_force(volume, patch, starts, weighting), rtol=2e-5, atol=2e-5)
    assert (average(volume).numpy() == prediction).all()


@pytest.mark.parametrize("kind", ["paper", "half", "fast", "whole"])
def test_constant_and_identity_networks(kind):
    tiling = Tiling((8, 8, 8), kind, "gaussian", batch=3)
    volume = np.random.default_rng(1).normal(size=(21, 13, 6)).astype(np.float32)
    tile, starts = tile_and_starts(tiling, tf.constant(volume.shape))

    def predict(tiles, valid):
        return tf.concat([tf.fill(tf.shape(tiles), 0.25), tiles], -1)

    prediction = sliding_window(predict, volume, tile, starts, 2, tiling.weighting, tiling.batch).numpy()
    np.testing.assert_allclose(prediction[..., 0], 0.25, rtol=1e-5)
    np.testing.assert_allclose(prediction[..., 1], volume, rtol=1e-5, atol=1e-6)


def test_half_precision_network_is_averaged_in_32_bits():
    volume = np.full((9, 11, 8), 3, np.float32)
    starts = [strided_starts(side, 8, 1) for side in volume.shape]

    def predict(tiles, valid):
        return tf.cast(tf.concat([tiles, tiles], -1), tf.bfloat16) / 7

    prediction = sliding_window(predict, volume, (8, 8, 8), starts, 2)
    assert prediction.dtype == tf.float32
    np.testing.assert_allclose(prediction, float(tf.cast(3, tf.bfloat16) / 7), rtol=1e-6)


@pytest.mark.parametrize("change", [{"kind": "third"}, {"weighting": "hann"}, {"patch": (64, 64, 60)},
                                    {"batch": 0}, {"margin": 8}, {"kind": "fast", "margin": 12}])
def test_impossible_tilings_are_refused(change):
    with pytest.raises(ValueError, match=[*change][-1]):
        Tiling(**{"patch": (64, 64, 64), **change})
