"""Anchors and their assignment, against brute force on small maps, and the specification's table of the stride."""

import keras
import numpy as np
import pytest

from tfsono.geometry.anchors import anchor_sides, anchors, anchors_at, assign, cell_centres, centres_inside
from tfsono.geometry.boxes import centred_boxes, pairwise_iou

PAPER = (13, 16, 20, 28)


def array(value):
    return keras.ops.convert_to_numpy(value)


def slow_labels(boxes, levels, base_sizes, size, positive=0.5, negative=0.25):
    """Each anchor with each target; the rule of the paper one anchor at a time."""
    every = np.concatenate([anchors(cells, stride, base_sizes) for cells, stride in levels]).astype(np.float64)
    middles = (every[:, :3] + every[:, 3:]) / 2
    inside = (middles < np.array(size) - 0.5).all(-1)
    known = [k for k in range(len(boxes)) if np.isfinite(boxes[k]).all()]
    ious = pairwise_iou(every, np.asarray(boxes, np.float64))
    labels = np.full(len(every), -1)
    highest = {k: ious[inside, k].max() for k in known}
    for place in np.flatnonzero(inside):
        row = {k: ious[place, k] for k in known}
        forced = {k: v for k, v in row.items() if v > 0 and v >= highest[k] - 1e-9}
        above = {k: v for k, v in row.items() if v > positive}
        chosen = forced or above
        if chosen:
            labels[place] = 1 + max(chosen, key=lambda k: (chosen[k], -k))
        elif all(v < negative for v in row.values()):
            labels[place] = 0
    return labels, [highest.get(k, np.nan) for k in range(len(boxes))]


def agree(boxes, levels, base_sizes, size, *limits):
    """The labels, checked against brute force."""
    found = assign(boxes, levels, base_sizes, size, *limits)
    labels, highest = slow_labels(boxes, levels, base_sizes, size, *limits)
    assert found.labels.dtype == np.int8 and found.labels.shape == labels.shape
    np.testing.assert_array_equal(found.labels, labels)
    np.testing.assert_allclose(found.best_iou, highest, atol=1e-12)
    assert found.positives.tolist() == [(labels == k + 1).sum() for k in range(len(boxes))]
    return found.labels


# --- anchors


def test_sides_are_the_product_with_x_slowest():
    sides = anchor_sides(PAPER)
    assert sides.shape == (64, 3) and sides.dtype == np.float32
    expected = [(w, h, d) for w in PAPER for h in PAPER for d in PAPER]
    assert sides.tolist() == [list(each) for each in expected]


def test_cells_cover_the_volume():
    x, y, z = cell_centres((2, 1, 3), 4)
    assert x.tolist() == [1.5, 5.5] and y.tolist() == [1.5] and z.tolist() == [1.5, 5.5, 9.5]
    assert cell_centres((2, 1, 1), 1)[0].tolist() == [0, 1]


def test_anchors_are_in_the_order_of_the_networks_output():
    cells, sizes = (3, 5, 2), (13, 20)
    every = anchors(cells, 4, sizes)
    assert every.shape == (3 * 5 * 2 * 8, 6) and every.dtype == np.float32
    for i, j, k, a in [(0, 0, 0, 0), (1, 4, 0, 3), (2, 3, 1, 6), (2, 4, 1, 7)]:
        centre = [(n + 0.5) * 4 - 0.5 for n in (i, j, k)]
        sides = [sizes[a // 4], sizes[a // 2 % 2], sizes[a % 2]]
        expected = [c - s / 2 for c, s in zip(centre, sides)] + [c + s / 2 for c, s in zip(centre, sides)]
        assert every[((i * 5 + j) * 2 + k) * 8 + a].tolist() == expected


def test_the_papers_volume_has_two_million_anchors():
    every = anchors((32, 32, 32), 4, PAPER)
    assert every.shape == (2_097_152, 6)
    assert every[0].tolist() == [1.5 - 6.5] * 3 + [1.5 + 6.5] * 3
    assert every[-1].tolist() == [125.5 - 14] * 3 + [125.5 + 14] * 3
    assert len(assign(np.full((5, 6), np.nan), [((32, 32, 32), 4)], PAPER, (128, 128, 128)).labels) == 2_097_152


@pytest.mark.parametrize("stride", [2, 4, np.int64(8)])
def test_tensors_are_the_same_anchors(stride):
    for cells in ((3, 1, 5), np.array([3, 1, 5]), keras.ops.convert_to_tensor([3, 1, 5])):
        found = anchors_at(np.arange(3 * 5 * 8), [(cells, stride)], (6.5, 14))
        assert keras.ops.is_tensor(found) and array(found).dtype == np.float32
        np.testing.assert_array_equal(array(found), anchors((3, 1, 5), stride, (6.5, 14)))


def test_which_centres_are_inside():
    # centres 1.5, 5.5, 9.5; a volume of 10 voxels ends at 9.5, which is no longer inside
    inside = array(centres_inside((3, 2, 1), 4, (10, 8, 3)))
    assert inside.dtype == bool and inside.tolist() == [True, True, True, True, False, False]
    inside = array(centres_inside((3, 2, 1), 4, (11, 6, 3), 8))
    assert inside.shape == (48,) and (inside.reshape(3, 2, 8) == np.array([True, False])[:, None]).all()
    assert not array(centres_inside((3, 2, 1), 4, (11, 6, 2), 8)).any()


def test_some_anchors_are_those_of_all_maps():
    levels, sides = [((5, 3, 7), 4), ((2, 1, 3), 8), ((1, 4, 2), 16)], (6.5, 9, 14)
    every = np.concatenate([anchors(cells, stride, sides) for cells, stride in levels])
    places = np.random.default_rng(0).permutation(len(every))[:500]
    np.testing.assert_allclose(anchors_at(places, levels, sides), every[places], atol=1e-5)
    assert anchors_at(np.zeros(0, np.int64), levels, sides).shape == (0, 6)


def test_anchors_of_a_graph_that_knows_no_size():
    tf = pytest.importorskip("tensorflow")

    @tf.function(input_signature=[tf.TensorSpec([None, None, None]), tf.TensorSpec([3], tf.int32)])
    def of(volume, size):
        cells = tf.shape(volume) // 4
        parts = keras.ops.shape(volume[::4, ::4, ::4])
        every = tf.range(8 * tf.reduce_prod(cells))
        return (anchors_at(every, [(cells, 4)], (13, 16)), anchors_at(every, [(parts, 4)], (13, 16)),
                centres_inside(cells, 4, size, 8))

    for cells in ((3, 5, 2), (4, 1, 7)):
        size = tuple(4 * n - n % 4 for n in cells)
        one, other, inside = of(np.zeros([4 * n for n in cells], np.float32), size)
        np.testing.assert_array_equal(one, anchors(cells, 4, (13, 16)))
        np.testing.assert_array_equal(other, one)
        middles = (one.numpy()[:, :3] + one.numpy()[:, 3:]) / 2
        np.testing.assert_array_equal(inside, (middles < np.array(size) - 0.5).all(-1))


# --- assignment


def test_an_assignment_by_hand():
    """Cells of 4 voxels in a row, anchors of 4^3 there; a target on one of them, and half a cell away."""
    levels, size = [((5, 1, 1), 4)], (20, 4, 4)
    on = centred_boxes([[9.5, 1.5, 1.5]], [4])
    assert assign(on, levels, (4,), size).labels.tolist() == [0, 0, 1, 0, 0]
    between = centred_boxes([[7.5, 1.5, 1.5]], [4])  # IoU 1/3 with two anchors: both are best
    found = assign(between, levels, (4,), size)
    assert found.labels.tolist() == [0, 1, 1, 0, 0]
    assert found.best_iou == pytest.approx([1 / 3]) and found.positives.tolist() == [2]
    beside = centred_boxes([[8.0, 1.5, 1.5]], [4])  # shares 2.5 and 1.5 of 4: IoU 2.5/5.5 and 1.5/6.5
    found = assign(beside, levels, (4,), size, 0.4, 0.2)
    assert found.labels.tolist() == [0, -1, 1, 0, 0] and found.best_iou == pytest.approx([2.5 / 5.5])
    two = centred_boxes([[8.0, 1.5, 1.5], [9.0, 1.5, 1.5]], [4, 4])  # both best with the third anchor: the nearer one
    assert assign(two, levels, (4,), size).labels.tolist() == [0, 0, 2, 0, 0]
    assert assign(two[[0, 0]], levels, (4,), size).labels.tolist() == [0, 0, 1, 0, 0]  # the first of equals


def test_an_iou_on_the_limit():
    """Of exactly 0.5 it is not above, of exactly 0.25 it is not below: neither counts."""
    for high, expected in ((3.5, 0.5), (7.5, 0.25)):
        target = np.array([[3.5, -0.5, -0.5, 7.5, high, 7.5]])  # 4 x 4 x 8 voxels, and 4 x 8 x 8
        labels = agree(target, [((3, 2, 2), 4)], (4, 8), (12, 8, 8)).reshape(3, 2, 2, 8)
        ious = pairwise_iou(target, anchors((3, 2, 2), 4, (4, 8)))[0].reshape(labels.shape)
        assert ious[1, 0, 0, 0] == expected and labels[1, 0, 0, 0] == -1


def test_of_two_targets_in_one_place_the_first_takes_all():
    boxes = centred_boxes([[10.2, 9.9, 11.3]] * 2, [14, 14])
    found = assign(boxes, [((6, 5, 6), 4)], PAPER, (24, 20, 24))
    assert found.positives[0] > 5 and found.positives[1] == 0
    assert agree(boxes, [((6, 5, 6), 4)], PAPER, (24, 20, 24)).max() == 1


@pytest.mark.parametrize("side", [4.1, 4.3, 4.7, 5.3])
def test_what_symmetry_makes_equal_shares_whatever_the_rounding(side):
    """A target between two cells of a long row, at places where binary fractions end differently."""
    for stride in (0.7, 1.1, 3.3):
        levels, size = [((40, 1, 1), stride)], (400, 400, 400)
        x = cell_centres((40, 1, 1), stride)[0]
        for cell in range(8, 30):
            boxes = centred_boxes([[(x[cell] + x[cell + 1]) / 2, stride / 2 - 0.5, stride / 2 - 0.5]], [side])
            found = assign(boxes, levels, (side,), size, 0.9999, 0.1)
            assert np.flatnonzero(found.labels == 1).tolist() == [cell, cell + 1]


def test_an_anchor_that_is_best_for_one_is_taken_from_another():
    """A small target inside a large one: its best anchor lies above 0.5 with the large one, and is the small one's."""
    boxes = centred_boxes([[9.5, 9.5, 9.5], [10.0, 9.5, 9.5]], [20, 8])
    levels = [((5, 5, 5), 4)]
    labels = agree(boxes, levels, (16, 20), (20, 20, 20))
    middle = ((2 * 5 + 2) * 5 + 2) * 8
    assert labels[middle] == 2 and labels[middle + 7] == 1  # of 16^3, IoU 0.512 with the large one; of 20^3
    assert pairwise_iou(anchors((5, 5, 5), 4, (16, 20))[middle:middle + 1], boxes[:1])[0, 0] > 0.5


@pytest.mark.parametrize("stride", [2, 4])
def test_random_targets_are_those_of_brute_force(stride):
    random = np.random.default_rng(stride)
    for trial in range(12):
        cells = tuple(random.integers(3, 8, 3))
        size = tuple(int(n) * stride - int(random.integers(0, stride)) for n in cells)
        points = random.uniform(-3, np.array(size) + 3, (4, 3))
        points[3] = points[2] + random.uniform(-2, 2, 3)  # two close ones
        if trial % 3 == 0:
            points = np.round(points * 2) / 2  # many equal IoUs
        if trial % 4 == 0:
            points[random.integers(4)] = np.nan
        boxes = centred_boxes(points, random.choice([7, 12, 14, 24], 4))
        labels = agree(boxes, [(cells, stride)], (6.5, 8, 14), size)
        assert set(np.unique(labels)) >= {0}


def test_two_maps_have_one_best_anchor_between_them():
    random = np.random.default_rng(9)
    levels, size = [((7, 5, 6), 4), ((4, 3, 3), 8)], (27, 20, 22)
    for _ in range(6):
        boxes = centred_boxes(random.uniform(2, np.array(size) - 2, (3, 3)), (5, 14, 24))
        labels = agree(boxes, levels, (7, 13), size)
        assert len(labels) == (7 * 5 * 6 + 4 * 3 * 3) * 8
    coarse = centred_boxes([[11.5, 11.5, 3.5]], [7])  # a cell's centre of the coarse map
    labels = agree(coarse, levels, (7, 13), size, 0.9, 0.2)
    assert np.flatnonzero(labels == 1).tolist() == [7 * 5 * 6 * 8 + ((1 * 3 + 1) * 3 + 0) * 8]


def test_what_no_anchor_overlaps_enough_takes_its_best_all_the_same():
    boxes = centred_boxes([[3.0, 4.0, 5.0]], [1.5])  # IoU below 0.01 with all
    labels = agree(boxes, [((3, 3, 3), 4)], (13, 16), (12, 11, 12))
    assert (labels == 1).sum() > 1  # all of 13^3 that hold it


def test_targets_at_the_border_beyond_it_and_missing():
    levels, size = [((6, 5, 4), 4)], (23, 18, 15)
    points = [[-0.5, 9, 7], [23.5, 18, 15], [np.nan, 4, 4], [200, 9, 7], [12, -9, 7]]
    boxes = centred_boxes(points, [14, 24, 14, 24, 14])
    labels = agree(boxes[[0, 1, 2, 4]], levels, (13, 16), size)
    assert {1, 2} <= set(labels) and 3 not in labels
    found = assign(boxes, levels, (13, 16), size)
    assert found.positives[3] == 0 and found.best_iou[3] == 0  # nothing reaches it
    assert found.positives[2] == 0 and np.isnan(found.best_iou[2])
    nothing = assign(boxes[2:3], levels, (13, 16), size)
    assert set(nothing.labels) == {0, -1} and nothing.positives.tolist() == [0]


def test_centres_in_the_padding_do_not_count_even_if_they_are_best():
    levels = [((4, 4, 4), 4)]
    boxes = centred_boxes([[13.5, 13.5, 13.5]], [13])  # on the last cell's centre
    labels = assign(boxes, levels, (13,), (16, 16, 16)).labels
    assert labels[-1] == 1
    labels = agree(boxes, levels, (13,), (13, 16, 16)).reshape(4, 4, 4)
    assert (labels[3] == -1).all() and labels[2, 3, 3] == 1 and (labels[:3] >= 0).any()


@pytest.mark.parametrize("boxes", [np.zeros(6), np.zeros((2, 3)), np.zeros((128, 6))])
def test_boxes_of_another_shape_are_refused(boxes):
    with pytest.raises(ValueError, match="at most 127; found"):
        assign(boxes, [((2, 2, 2), 4)], (13,), (8, 8, 8))


# --- the specification's table: 300 random centres, anchors of the paper


def of_random_targets(stride, side, count=300):
    """The best IoU, positives and ignored anchors of each of many targets, which no border reaches: 26 voxels off."""
    random, levels = np.random.default_rng(0), [((64 // stride,) * 3, stride)]
    rows = []
    for point in random.uniform(28, 36, (count, 3)):
        found = assign(centred_boxes(point[None], side), levels, PAPER, (64,) * 3)
        rows.append((found.best_iou[0], found.positives[0], (found.labels == -1).sum()))
    return np.array(rows).T


@pytest.mark.parametrize("stride, side, best, missed, positives, ignored", [
    (2, 14, (0.709, 0.766, 0.801), 0, (305, None, None), 8275),
    (4, 14, (0.501, 0.664, 0.801), 0, (37.8, 3, 53), 1034),
    (4, 24, (0.641, 0.641, 0.641), 0, (106.5, 75, 146), 3140),
    (8, 14, (0.295, 0.496, 0.789), 0.54, (4.9, None, None), 130),
    (8, 24, (0.458, 0.580, 0.641), 0.05, (13.3, None, None), 391),
])
def test_the_table_of_the_stride(stride, side, best, missed, positives, ignored):
    """Our centres are others than the table's: means agree as closely as 300 random centres tell."""
    ious, found, between = of_random_targets(stride, side)
    assert ious.mean() == pytest.approx(best[1], abs=0.012)
    assert best[0] - 0.03 < ious.min() < best[0] + 0.03 and best[2] - 0.012 < ious.max() < best[2] + 0.015
    assert (ious < 0.5).mean() == pytest.approx(missed, abs=0.08 if missed else 0)
    assert found.mean() == pytest.approx(positives[0], rel=0.06)
    assert between.mean() == pytest.approx(ignored, rel=0.02)
    if positives[1] is not None:
        assert found.min() == pytest.approx(positives[1], abs=4) and found.max() == pytest.approx(positives[2], abs=10)


def test_the_worst_place_of_a_small_target_is_between_the_cells():
    """There its best anchors are below 0.5 also at stride 4, which the table's 300 centres did not meet: 2 in 1000 do.

    Two voxels off along each axis, 13 of the 14 voxels of a side lie in a side of 16: 13^3 / (14^3 + 16^3 - 13^3).
    """
    corner = centred_boxes([[31.5, 31.5, 31.5]], [14])
    found = assign(corner, [((16, 16, 16), 4)], PAPER, (64, 64, 64))
    assert found.best_iou[0] == pytest.approx(13 ** 3 / (14 ** 3 + 16 ** 3 - 13 ** 3)) and found.best_iou[0] < 0.474
    labels = found.labels.reshape(16, 16, 16, 64)
    assert found.positives[0] == 8 and (labels[7:9, 7:9, 7:9, 21] == 1).all()  # 21: of 16^3; all that are equal
