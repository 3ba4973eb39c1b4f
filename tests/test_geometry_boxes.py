"""Boxes: overlap and offsets solved by hand, suppression against brute force, arrays and tensors, unknown sizes."""

import math
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from scipy.optimize import brentq

from tfsono.geometry.boxes import (
    box_centres,
    box_sides,
    centred_boxes,
    clipped,
    decode,
    encode,
    iou,
    keep_best,
    pairwise_iou,
)

ROOT = Path(__file__).resolve().parents[1]
TENSORS = [np.asarray, keras.ops.convert_to_tensor]


def array(value):
    return keras.ops.convert_to_numpy(value)


def some_boxes(seed, count, spread=(70.0, 50.0, 60.0)):
    random = np.random.default_rng(seed)
    return centred_boxes(random.uniform(0, spread, (count, 3)), random.uniform(5, 28, (count, 3))).astype(np.float32)


def slow_iou(one, other):
    """By the definition: of a box with one other or many."""
    low, high = np.maximum(one[..., :3], other[..., :3]), np.minimum(one[..., 3:], other[..., 3:])
    common = np.prod(np.clip(high - low, 0, None), axis=-1)
    volumes = [np.prod(boxes[..., 3:] - boxes[..., :3], axis=-1) for boxes in (one, other)]
    return common / (sum(volumes) - common)


def slow_suppression(boxes, scores, threshold, most=None):
    """The best of what is left, until nothing is."""
    left = [n for n in range(len(boxes)) if np.isfinite(boxes[n]).all() and scores[n] > -np.inf]
    kept = []
    while left and (most is None or len(kept) < most):
        best = max(left, key=lambda n: (scores[n], -n))
        kept.append(best)
        above = slow_iou(boxes[left], boxes[best]) > threshold
        left = [n for n, gone in zip(left, above, strict=True) if not gone and n != best]
    return kept


# --- boxes


def test_a_box_around_a_point():
    assert centred_boxes([10, 20, 30.5], 14).tolist() == [3, 13, 23.5, 17, 27, 37.5]
    assert centred_boxes([10, 20, 30.5], [2, 4, 6]).tolist() == [9, 18, 27.5, 11, 22, 33.5]
    points = np.array([[[1.0, 2, 3], [np.nan, 5, 6]]] * 4)
    boxes = centred_boxes(points, [2, 24])  # a side for each landmark
    assert boxes.shape == (4, 2, 6) and boxes[3, 0].tolist() == [0, 1, 2, 2, 3, 4]
    np.testing.assert_array_equal(boxes[0, 1], [np.nan, -7, -6, np.nan, 17, 18])
    with pytest.raises(ValueError, match=r"\[\.\.\., 3\]; found \(2, 2\)"):
        centred_boxes(np.zeros((2, 2)), 14)


@pytest.mark.parametrize("kind", TENSORS)
def test_centres_and_sides_of_boxes(kind):
    boxes = kind(np.array([[3.0, 13, 23, 17, 29, 41]], np.float32))
    assert array(box_centres(boxes)).tolist() == [[10, 21, 32]]
    assert array(box_sides(boxes)).tolist() == [[14, 16, 18]]


@pytest.mark.parametrize("kind", TENSORS)
@pytest.mark.parametrize("size", [(8, 5, 11), np.array([8, 5, 11])])
def test_boxes_are_cut_to_the_volumes_faces(kind, size):
    boxes = np.array([[-4, 1, 2, 3, 9, 10.5], [20, 0, 0, 30, 2, 2]], np.float32)
    cut = array(clipped(kind(boxes), size))
    assert cut.tolist() == [[-0.5, 1, 2, 3, 4.5, 10.5], [7.5, 0, 0, 7.5, 2, 2]]


# --- overlap


@pytest.mark.parametrize("kind", TENSORS)
def test_overlaps_by_hand(kind):
    box = np.array([0, 0, 0, 4, 4, 4], np.float32)
    others = np.array([[0, 0, 0, 4, 4, 4], [2, 0, 0, 6, 4, 4], [1, 1, 1, 3, 3, 3], [4, 0, 0, 8, 4, 4],
                       [9, 9, 9, 10, 10, 10], [1, 1, 1, 1, 3, 3], [3, 3, 3, 1, 1, 1], [np.nan, 0, 0, 4, 4, 4]],
                      np.float32)
    expected = [1, 1 / 3, 8 / 64, 0, 0, 0, 0, 0]
    assert array(iou(kind(box), kind(others))) == pytest.approx(expected, abs=1e-7)
    assert array(iou(kind(others), kind(box))) == pytest.approx(expected, abs=1e-7)
    assert array(iou(kind(others[5]), kind(others[5]))) == 0  # an empty box, with itself


@pytest.mark.parametrize("kind", TENSORS)
def test_pairs_are_the_definition(kind):
    one, other = some_boxes(0, 37, (30, 20, 25)), some_boxes(1, 23, (30, 20, 25))
    found = array(pairwise_iou(kind(one), kind(other)))
    expected = np.array([[slow_iou(a, b) for b in other.astype(float)] for a in one.astype(float)])
    assert found.shape == (37, 23) and 0.3 < (expected > 0).mean() < 0.95
    np.testing.assert_allclose(found, expected, atol=2e-6)
    np.testing.assert_allclose(array(iou(kind(one[:23]), kind(other))), np.diag(expected[:23]), atol=2e-6)


def test_arrays_stay_arrays_and_keep_their_precision():
    boxes = some_boxes(2, 3).astype(np.float64)
    assert isinstance(iou(boxes, boxes), np.ndarray) and iou(boxes, boxes).dtype == np.float64
    assert decode(encode(boxes, boxes[::-1]), boxes[::-1]) == pytest.approx(boxes, abs=1e-12)
    assert keras.ops.is_tensor(iou(keras.ops.convert_to_tensor(boxes), boxes))


def test_arrays_alone_do_not_load_keras():
    code = ("import sys; sys.path.insert(0, sys.argv[1])\nimport numpy as np\n"
            "from tfsono.geometry.anchors import assign\n"
            "from tfsono.geometry.boxes import centred_boxes, pairwise_iou\n"
            "boxes = centred_boxes(np.zeros((2, 3)), 14)\npairwise_iou(boxes, boxes)\n"
            "assign(boxes, [((3, 3, 3), 4)], (13, 16), (12, 12, 12))\n"
            "assert not {'keras', 'tensorflow'} & set(sys.modules)")
    subprocess.run([sys.executable, "-c", code, ROOT], check=True)


@pytest.mark.parametrize("side, wanted, shift, shift_mm", [
    (14, 0.5, 3.07, 3.99), (24, 0.5, 5.26, 6.83), (14, 0.75, 1.58 / 1.3, 1.58), (24, 0.75, 2.71 / 1.3, 2.71)])
def test_how_far_off_a_box_may_be(side, wanted, shift, shift_mm):
    """The specification's lengths of a shift along the diagonal that leaves so much IoU; voxels of 1.3 mm."""
    box = centred_boxes([50.0, 50, 50], side)
    reached = brentq(lambda distance: float(iou(box, box + distance / math.sqrt(3))) - wanted, 0, side)
    assert reached == pytest.approx(shift, abs=0.01) and 1.3 * reached == pytest.approx(shift_mm, abs=0.01)


# --- offsets


@pytest.mark.parametrize("kind", TENSORS)
def test_offsets_by_hand(kind):
    anchor = np.array([10, 20, 30, 20, 30, 50], np.float32)  # sides 10, 10, 20 at (15, 25, 40)
    box = np.array([12, 15, 35, 32, 25, 45], np.float32)  # sides 20, 10, 10 at (22, 20, 40)
    expected = np.array([0.7, -0.5, 0, math.log(2), 0, -math.log(2)])
    assert array(encode(kind(box), kind(anchor))) == pytest.approx(expected, abs=1e-6)
    scaled = array(encode(kind(box), kind(anchor), (0.15, 0.3)))
    assert scaled == pytest.approx(expected / np.repeat([0.15, 0.3], 3), abs=1e-5)
    assert array(decode(kind(expected.astype(np.float32)), kind(anchor))) == pytest.approx(box, abs=1e-5)
    assert array(decode(kind(scaled), kind(anchor), (0.15, 0.3))) == pytest.approx(box, abs=1e-5)


def test_decoding_undoes_encoding_and_broadcasts():
    boxes, anchors = some_boxes(3, 50), some_boxes(4, 50)
    batch = keras.ops.convert_to_tensor(np.stack([boxes, boxes[::-1]]))
    offsets = encode(batch, anchors, (0.2, 0.4))
    assert tuple(offsets.shape) == (2, 50, 6)
    np.testing.assert_allclose(array(decode(offsets, anchors, (0.2, 0.4))), array(batch), atol=2e-4)


@pytest.mark.parametrize("kind", TENSORS)
def test_no_side_grows_without_bound(kind):
    anchor = np.array([0, 0, 0, 16, 16, 16], np.float32)
    box = array(decode(kind(np.array([0, 0, 0, 80, 300, -300], np.float32)), kind(anchor), (1.0, 0.5)))
    assert box[3:] - box[:3] == pytest.approx([1000, 1000, 0], rel=1e-5)


@pytest.mark.parametrize("kind", TENSORS)
def test_offsets_of_empty_and_of_missing_boxes(kind):
    box, nothing = np.array([4, 4, 4, 8, 8, 8], np.float32), np.array([4, 4, 4, 4, 8, 8], np.float32)
    assert np.isfinite(array(encode(kind(nothing), kind(box)))).all()
    assert np.isfinite(array(encode(kind(box), kind(nothing)))).all()
    assert np.isnan(array(encode(kind(np.full(6, np.nan, np.float32)), kind(box)))).all()


def test_offsets_of_half_precision_are_decoded_in_full():
    anchor = np.array([[100, 100, 100, 113, 116, 120]], np.float32)
    boxes = decode(keras.ops.zeros((1, 6), "bfloat16"), anchor)
    assert array(boxes).dtype == np.float32 and array(boxes).tolist() == anchor.tolist()


# --- the best of many


def best_of(boxes, scores, threshold, count):
    """What `keep_best` keeps, as a list; the places behind it are 0."""
    found, there = map(array, keep_best(boxes, scores, threshold, count))
    assert found.shape == there.shape == (count,) and found.dtype == np.int32 and there.dtype == bool
    kept = there.sum()
    assert there[:kept].all() and not found[kept:].any()
    return found[:kept].tolist()


def test_suppression_by_hand():
    # in a row, each with the next IoU 1/3, with the next but one 0
    boxes = np.array([[x, 0, 0, x + 4, 4, 4] for x in (0, 2, 4, 6, 20)], np.float32)
    scores = np.array([0.5, 0.9, 0.6, 0.4, 0.1], np.float32)
    assert best_of(boxes, scores, 0.3, 9) == [1, 3, 4]
    assert best_of(boxes, scores, 0.34, 9) == [1, 2, 0, 3, 4]
    assert best_of(boxes, scores, 0.3, 2) == [1, 3]
    assert best_of(boxes, scores, None, 9) == [1, 2, 0, 3, 4]
    assert best_of(boxes, scores, None, 2) == [1, 2]
    assert best_of(boxes, scores, 0.3, 1) == [1]


def test_a_box_stays_whose_overlap_is_the_threshold():
    boxes = np.array([[0, 0, 0, 4, 4, 4], [0, 0, 0, 4, 4, 2]], np.float32)
    assert best_of(boxes, np.array([1, 2], np.float32), 0.5, 2) == [1, 0]
    assert best_of(boxes, np.array([1, 2], np.float32), 0.49, 2) == [1]


def test_of_equal_scores_the_first_is_taken():
    boxes = np.tile(np.array([[0, 0, 0, 4, 4, 4]], np.float32), (300, 1))
    boxes[150:, :] += 50
    assert best_of(boxes, np.ones(300, np.float32), 0.5, 5) == [0, 150]
    assert best_of(boxes, np.ones(300, np.float32), 1.0, 4) == [0, 1, 2, 3]
    assert best_of(boxes, np.ones(300, np.float32), None, 4) == [0, 1, 2, 3]


@pytest.mark.parametrize("threshold", [0.3, None])
def test_what_is_never_taken(threshold):
    boxes = np.array([[20 * n, 0, 0, 20 * n + 4, 4, 4] for n in range(7)], np.float32)
    boxes[5, 2] = np.nan
    boxes[6, 4] = np.inf
    scores = np.array([np.nan, -np.inf, -3, np.inf, np.nan, 9, 9], np.float32)
    assert best_of(boxes, scores, threshold, 7) == [3, 2]
    assert best_of(boxes, np.full(7, np.nan, np.float32), threshold, 2) == []


def test_a_threshold_below_nothing_is_refused():
    boxes = np.array([[0, 0, 0, 4, 4, 4]], np.float32)
    for broken in (-0.1, math.nan):
        with pytest.raises(ValueError, match="0 or more"):
            keep_best(boxes, np.ones(1), broken, 1)


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.3, 0.7])
@pytest.mark.parametrize("spread", [(9.0, 5.0, 7.0), (40.0, 90.0, 60.0)])
def test_suppression_is_brute_force(threshold, spread):
    """Scores of two digits, so that many are equal."""
    boxes = some_boxes(5, 700, spread)
    scores = np.random.default_rng(6).uniform(-1, 1, 700).round(2).astype(np.float32)
    assert best_of(boxes, scores, threshold, 12) == slow_suppression(boxes.astype(float), scores, threshold, 12)


def test_the_best_in_a_graph_that_knows_no_number():
    tf = pytest.importorskip("tensorflow")
    traced = []

    @tf.function(input_signature=[tf.TensorSpec([None, 6]), tf.TensorSpec([None])])
    def best(boxes, scores):
        traced.append(1)
        return [keep_best(boxes, scores, threshold, 40) for threshold in (0.3, None)]

    for count in (1, 7, 500):
        boxes = some_boxes(count, count)
        scores = np.random.default_rng(count).uniform(0, 1, count).round(1).astype(np.float32)
        (kept, there), (top, all_there) = best(boxes, scores)
        assert kept.shape == there.shape == (40,)
        assert kept.numpy()[there].tolist() == slow_suppression(boxes.astype(float), scores, 0.3, 40)
        assert top.numpy()[all_there].tolist() == np.argsort(-scores, kind="stable")[:40].tolist()
    assert len(traced) == 1


def test_offsets_and_overlaps_in_a_graph_that_knows_no_number():
    tf = pytest.importorskip("tensorflow")

    @tf.function(input_signature=[tf.TensorSpec(shape) for shape in ([None, None, 6], [None, 6])]
                 + [tf.TensorSpec([3], tf.int32)])
    def there_and_back(boxes, anchors, size):
        again = decode(encode(boxes, anchors), anchors)
        return iou(again, boxes), clipped(again, size), pairwise_iou(again[0], anchors)

    boxes = np.stack([some_boxes(8, 9), some_boxes(9, 9)])
    same, cut, pairs = there_and_back(boxes, boxes[1], (30, 40, 50))
    assert same.numpy() == pytest.approx(np.ones((2, 9)), abs=1e-4)
    np.testing.assert_allclose(cut, np.clip(boxes, -0.5, np.array([30, 40, 50] * 2) - 0.5), atol=1e-4)
    np.testing.assert_allclose(pairs, pairwise_iou(*boxes), atol=1e-4)


def test_jax_gives_the_same(tmp_path):
    pytest.importorskip("jax")
    boxes, scores = some_boxes(10, 60), np.random.default_rng(11).uniform(0, 1, 60).astype(np.float32)
    np.savez(tmp_path / "given.npz", boxes=boxes, scores=scores)
    code = ("import sys, jax, numpy as np; sys.path.insert(0, sys.argv[2])\nimport keras; from keras import ops\n"
            "from tfsono.geometry.anchors import anchors_at, centres_inside\n"
            "from tfsono.geometry.boxes import clipped, decode, encode, iou, keep_best\n"
            "from tfsono.geometry.roi_align import roi_align\n"
            "assert keras.backend.backend() == 'jax'\n"
            "def results(boxes, scores):\n"
            "    anchors = anchors_at(ops.arange(60), [((5, 3, 4), 4)], (13, 16))\n"
            "    kept, there = keep_best(boxes, scores, 0.3, 9)\n"
            "    top, all_there = keep_best(boxes, scores, None, 9)\n"
            "    offsets = encode(boxes, anchors, (0.2, 0.4))\n"
            "    map_ = ops.reshape(ops.arange(5 * 3 * 4 * 2, dtype='float32') % 7, (5, 3, 4, 2))\n"
            "    return dict(anchors=anchors, kept=kept, there=there, top=top, all_there=all_there, offsets=offsets,\n"
            "                decoded=clipped(decode(offsets, anchors, (0.2, 0.4)), (40, 30, 20)),\n"
            "                ious=iou(boxes, anchors), inside=centres_inside((5, 3, 4), 4, (17, 12, 9), 8),\n"
            "                cut=roi_align(map_, boxes, 4, 3))\n"
            "given = np.load(sys.argv[1] + '/given.npz')\n"
            "found = jax.jit(results)(given['boxes'], given['scores'])\n"
            "np.savez(sys.argv[1] + '/results.npz', **{k: np.asarray(v) for k, v in found.items()})\n")
    subprocess.run([sys.executable, "-c", code, tmp_path, ROOT], check=True, env={**os.environ, "KERAS_BACKEND": "jax"})
    from tfsono.geometry.anchors import anchors_at, centres_inside
    from tfsono.geometry.roi_align import roi_align

    anchors = anchors_at(np.arange(60), [((5, 3, 4), 4)], (13, 16))
    offsets = encode(boxes, anchors, (0.2, 0.4))
    map_ = (np.arange(5 * 3 * 4 * 2) % 7).reshape(5, 3, 4, 2).astype(np.float32)
    expected = {"offsets": offsets, "decoded": clipped(decode(offsets, anchors, (0.2, 0.4)), (40, 30, 20)),
                "ious": iou(boxes, anchors), "inside": centres_inside((5, 3, 4), 4, (17, 12, 9), 8),
                "cut": roi_align(map_, boxes, 4, 3), "anchors": anchors}
    expected["kept"], expected["there"] = keep_best(boxes, scores, 0.3, 9)
    expected["top"], expected["all_there"] = keep_best(boxes, scores, None, 9)
    with np.load(tmp_path / "results.npz") as prediction:
        for name, value in expected.items():
            np.testing.assert_allclose(prediction[name], array(value), atol=1e-4, err_msg=name)
