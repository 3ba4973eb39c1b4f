"""Hit rates and average precision: by hand, against pycocotools, and against plain loops."""

from __future__ import annotations

import numpy as np
import pytest

from tfsono.geometry.boxes import centred_boxes, iou
from tfsono.metrics.detection import (
    IOU_THRESHOLDS, CaseDetections, average_precision, class_mean_iou, class_precision, hit_rate,
    suppressed,
)

NAN = float("nan")


# --- the final boxes


def test_hit_rate_by_hand():
    ious = np.array([[0.5, 0.74, NAN], [0.35, 1.0, 0.2]])
    np.testing.assert_allclose(hit_rate(ious), [4 / 5, 3 / 5, 1 / 5])
    np.testing.assert_allclose(hit_rate(ious, (0.1,)), [1])
    assert np.isnan(hit_rate(np.full((2, 5), NAN))).all() and hit_rate(np.zeros((0, 5))).shape == (3,)


def test_the_papers_columns_are_multiples_of_one_in_160_and_its_mean_is_impossible():
    """IG-RPN: 95.00, 82.50 and 27.50 % are 152, 132 and 44 of 32 x 5 boxes; the best that fits averages 55 %."""
    ious = np.zeros(160)
    ious[:152], ious[:132], ious[:44] = 0.49, 0.74, 1.0
    np.testing.assert_allclose(100 * hit_rate(ious.reshape(32, 5)), [95, 82.5, 27.5])
    assert IOU_THRESHOLDS == (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
    assert 100 * hit_rate(ious, IOU_THRESHOLDS).mean() == pytest.approx(55)


def test_mean_iou_is_the_mean_over_the_classes():
    ious = np.array([[0.2, 0.9, NAN], [0.4, NAN, NAN]])
    assert class_mean_iou(ious) == pytest.approx((0.3 + 0.9) / 2)
    assert np.isnan(class_mean_iou(ious[:, 2:]))
    with pytest.raises(ValueError, match=r"\[N, K\]"):
        class_mean_iou(ious[0])


# --- by hand


def cube(place: float, side: float = 10.0) -> np.ndarray:
    return centred_boxes(np.full(3, place), side)


def one_class(*volumes) -> list[CaseDetections]:
    """Of each volume the candidates [(score, box)] and the reference boxes."""
    cases = []
    for found, references in volumes:
        boxes = np.array([box for _, box in found]).reshape(1, -1, 6)
        cases.append(CaseDetections(boxes, np.array([score for score, _ in found]).reshape(1, -1),
                                    np.array(references).reshape(1, -1, 6)))
    return cases


def test_neighbours_of_a_better_candidate_do_not_count():
    """Of five the second and the fourth are neighbours of the first; the last is one of the fourth alone."""
    found = [(0.9, cube(0)), (0.8, cube(1)), (0.7, cube(40)), (0.8, cube(-2)), (0.6, cube(-4.5)), (NAN, cube(90))]
    (case,) = one_class((found, [cube(0)]))
    kept = suppressed(case, 0.3)
    np.testing.assert_array_equal(kept.scores, [[0.9, NAN, 0.7, NAN, 0.6, NAN]])
    np.testing.assert_array_equal(kept.boxes, case.boxes)
    np.testing.assert_array_equal(suppressed(kept, 0.3).scores, kept.scores)
    np.testing.assert_array_equal(suppressed(case, 1.0).scores, case.scores)


def test_average_precision_by_hand():
    """Right, wrong, right of three references: precision 1 up to a recall of 1/3, then 2/3 up to 2/3, then 0."""
    cases = one_class(([(0.9, cube(20))], [cube(20)]), ([(0.8, cube(60))], [cube(20)]), ([(0.7, cube(20))], [cube(20)]))
    assert average_precision(cases, (0.5,), "voc") == pytest.approx([1 / 3 + 1 / 3 * 2 / 3])
    # recalls 0.00 to 0.33 are 34 of 101, 0.34 to 0.66 are 33
    assert average_precision(cases, (0.5,), "coco") == pytest.approx([(34 + 33 * 2 / 3) / 101])
    best = one_class(*[([(0.5, cube(20))], [cube(20)])] * 3)
    for style in ("coco", "voc"):
        np.testing.assert_allclose(average_precision(best, style=style), np.ones(10))
        np.testing.assert_allclose(average_precision(one_class(([], [cube(20)])), style=style), np.zeros(10))


def test_a_second_box_on_one_reference_is_wrong():
    twice = one_class(([(0.9, cube(20)), (0.8, cube(21))], [cube(20)]), ([(0.7, cube(20))], [cube(20)]))
    for style in ("coco", "voc"):
        assert class_precision(twice, (0.5,), style)[0, 0] == pytest.approx(
            {"coco": (51 + 50 * 2 / 3) / 101, "voc": 0.5 + 0.5 * 2 / 3}[style])


def test_coco_matches_the_remaining_reference_and_voc_does_not():
    near = one_class(([(0.9, cube(20)), (0.8, cube(20.2))], [cube(20), cube(21)]))
    assert average_precision(near, (0.5,), "coco") == pytest.approx([1])
    assert average_precision(near, (0.5,), "voc") == pytest.approx([0.5])


def test_a_threshold_that_is_met_is_a_match():
    half = centred_boxes(np.array([20.0, 20, 20]), np.array([10.0, 10, 5]))
    assert iou(half, cube(20)) == 0.5
    for style in ("coco", "voc"):
        np.testing.assert_array_equal(average_precision(one_class(([(1.0, half)], [cube(20)])), (0.5, 0.51), style),
                                      [1, 0])
    exact = one_class(([(1.0, cube(20))], [cube(20)]))
    assert average_precision(exact, (1.0,)) == 1


def test_coco_counts_a_hundred_of_a_volume_and_voc_all():
    many = [(1 - number / 1000, cube(100 + 20 * number)) for number in range(100)]
    late = one_class(([*many, (0.1, cube(20))], [cube(20)]))
    assert average_precision(late, (0.5,), "coco") == 0
    assert average_precision(late, (0.5,), "voc") == pytest.approx([1 / 101])


def test_padding_with_nan_changes_nothing_and_neither_does_the_order():
    generator = np.random.default_rng(2)
    cases = [random_case(generator, 3, 4, 1, continuous=True) for _ in range(6)]
    for style in ("coco", "voc"):
        plain = class_precision(cases, style=style)
        padded, flat = [], []
        for boxes, scores, references in cases:
            order = generator.permutation(7)
            wide, more = np.full((3, 7, 6), NAN), np.full((3, 7), 0.99)
            wide[:, order[:4]], more[:, order[:4]] = boxes, scores
            padded.append(CaseDetections(wide, more, np.concatenate([np.full((3, 2, 6), NAN), references], 1)))
            flat.append(CaseDetections(boxes, scores, references[:, 0]))
        np.testing.assert_allclose(class_precision(padded, style=style), plain)
        np.testing.assert_allclose(class_precision(flat, style=style), plain)


def test_a_class_without_a_reference_is_no_part_of_the_mean():
    case = CaseDetections(np.stack([cube(20), cube(20)])[:, None], np.full((2, 1), 0.9),
                          np.stack([cube(20), np.full(6, NAN)]))
    for style in ("coco", "voc"):
        values = class_precision([case], (0.5, 0.75), style)
        assert values[:, 0].tolist() == [1, 1] and np.isnan(values[:, 1]).all()
        assert average_precision([case], (0.5,), style) == 1
    nothing = CaseDetections(case.boxes, case.scores, np.full((2, 6), NAN))
    assert np.isnan(average_precision([nothing])).all()


# --- against others' code


def random_case(generator, classes: int, found: int, references: int, continuous: bool) -> CaseDetections:
    """Boxes of depth 1 in one layer, near one another; with whole corners IoUs and scores are often equal."""
    def corners(count, near=None):
        low = generator.uniform(0, 12, (classes, count, 2))
        low = low if near is None else near + generator.normal(0, 2, near.shape)
        sides = generator.uniform(4, 9, low.shape)
        low, sides = (low, sides) if continuous else (np.round(low), np.round(sides))
        layer = np.zeros((*low.shape[:2], 1))
        return np.concatenate([low, layer, low + sides, layer + 1], axis=-1)

    expected = corners(references)
    boxes = corners(found, np.repeat(expected[..., :2], -(-found // references), axis=1)[:, :found])
    scores = generator.random((classes, found)) if continuous else generator.integers(1, 6, (classes, found)) / 8
    boxes[generator.random((classes, found)) < 0.1] = NAN
    expected[generator.random((classes, references)) < 0.2] = NAN
    return CaseDetections(boxes, scores, expected)


def coco_precision(cases, thresholds) -> np.ndarray:
    """[T, K] of pycocotools, the boxes given as rectangles; -1 for a class without a reference."""
    coco, cocoeval = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    references, found = [], []
    for image, case in enumerate(cases, 1):
        for category in range(len(case.scores)):
            for box in case.references[category]:
                if np.isfinite(box).all():
                    sides = box[3:5] - box[:2]
                    references.append({"id": len(references) + 1, "image_id": image, "category_id": category + 1,
                                       "iscrowd": 0, "bbox": [*box[:2], *sides], "area": float(sides.prod())})
            for box, score in zip(case.boxes[category], case.scores[category], strict=True):
                if np.isfinite(box).all():
                    found.append({"image_id": image, "category_id": category + 1, "score": float(score),
                                  "bbox": [*box[:2], *(box[3:5] - box[:2])]})
    expected = coco.COCO()
    expected.dataset = {"info": {}, "images": [{"id": image} for image in range(1, len(cases) + 1)],
                        "annotations": references,
                        "categories": [{"id": category + 1} for category in range(len(cases[0].scores))]}
    expected.createIndex()
    evaluation = cocoeval.COCOeval(expected, expected.loadRes(found), "bbox")
    evaluation.params.iouThrs = np.asarray(thresholds)
    evaluation.evaluate()
    evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, 2]  # all areas, 100 of an image
    return precision.mean(axis=1)


@pytest.mark.parametrize("continuous", [True, False], ids=["continuous", "ties"])
@pytest.mark.parametrize("references", [1, 3])
def test_coco_as_pycocotools(continuous, references):
    generator = np.random.default_rng(10 * references + continuous)
    cases = [random_case(generator, 3, 7, references, continuous) for _ in range(13)]
    cases[4] = random_case(generator, 3, 130, references, continuous)  # more than counts
    for case in cases:
        case.references[2] = NAN  # a class that has candidates and no reference
    cases[7].boxes[0], cases[8].references[0] = NAN, NAN
    thresholds = (*IOU_THRESHOLDS, 0.35)
    theirs, ours = coco_precision(cases, thresholds), class_precision(cases, thresholds)
    assert (theirs[:, 2] == -1).all() and np.isnan(ours[:, 2]).all()
    np.testing.assert_allclose(ours[:, :2], theirs[:, :2], atol=1e-12)
    np.testing.assert_allclose(average_precision(cases, thresholds), theirs[:, :2].mean(axis=1), atol=1e-12)
    assert 0.03 < ours[0, :2].min() and ours[0, :2].max() < 0.95 and np.ptp(ours[:, 0]) > 0.03  # no trivial ones


def test_equal_overlaps_and_a_threshold_of_one_as_pycocotools():
    def box(left, right=None):
        return np.array([left, 0.0, 0, left + 10 if right is None else right, 10, 1])

    # The better candidate overlaps both references alike and matches the last, so that none is left for the other one.
    cases = one_class(([(0.9, box(20)), (0.8, box(22))], [box(19), box(21)]))
    for precision in (class_precision, coco_precision):
        assert float(precision(cases, (0.6,))[0, 0]) == pytest.approx(51 / 101)
    cases = one_class(([(0.9, box(0))], [box(0, 10 + 1e-11)]))  # all but equal
    for precision in (class_precision, coco_precision):
        assert float(precision(cases, (1.0,))[0, 0]) == pytest.approx(1)


def voc_precision(cases, category: int, threshold: float) -> float:
    """The devkit's loop over all candidates, one after the other, and the area under its curve as rectangles."""
    ranked = [(score, image, box) for image, case in enumerate(cases)
              for box, score in zip(case.boxes[category], case.scores[category], strict=True) if np.isfinite(box).all()]
    ranked.sort(key=lambda item: -item[0])
    references = [[box for box in case.references[category] if np.isfinite(box).all()] for case in cases]
    used, right, curve = set(), 0, []
    for rank, (_, image, box) in enumerate(ranked, 1):
        overlaps = [float(iou(box, reference)) for reference in references[image]]
        best = overlaps.index(max(overlaps)) if overlaps else -1
        if overlaps and overlaps[best] >= threshold and (image, best) not in used:
            used.add((image, best))
            right += 1
        curve.append((right / sum(map(len, references)), right / rank))
    area, before = 0.0, 0.0
    for place, (recall, _) in enumerate(curve):
        area += (recall - before) * max(precision for _, precision in curve[place:])
        before = recall
    return area


@pytest.mark.parametrize("continuous", [True, False], ids=["continuous", "ties"])
def test_voc_as_a_plain_loop(continuous):
    generator = np.random.default_rng(int(continuous))
    cases = [random_case(generator, 2, 6, 2, continuous) for _ in range(9)]
    found = class_precision(cases, (0.35, 0.5, 0.75), "voc")
    for row, threshold in zip(found, (0.35, 0.5, 0.75), strict=True):
        np.testing.assert_allclose(row, [voc_precision(cases, category, threshold) for category in range(2)])
    assert np.ptp(found) > 0.1


@pytest.mark.parametrize("change, words", [
    ({"style": "pascal"}, "coco, voc; found 'pascal'"),
    ({"cases": []}, "one volume or more"),
    ({"cases": [CaseDetections(np.zeros((2, 3, 6)), np.zeros((2, 4)), np.zeros((2, 6)))]}, r"must be \[2, N, 6\]"),
    ({"cases": [CaseDetections(np.zeros((2, 3, 6)), np.zeros((2, 3)), np.zeros((3, 6)))]}, r"references \[2, 6\]"),
    ({"cases": [CaseDetections(np.zeros((2, 3, 6)), np.zeros((2, 3)), np.zeros(6))]}, r"references \[2, 6\]"),
])
def test_bad_input(change, words):
    with pytest.raises(ValueError, match=words):
        class_precision(**{"cases": one_class(([], [cube(20)]))} | change)
