"""From a raw volume to landmarks with boxes on its own grid, with networks of known outputs."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfsono.geometry.anchors import anchors
from tfsono.geometry.body_frame import BodyFrame
from tfsono.geometry.boxes import centred_boxes, pairwise_iou
from tfsono.geometry.graph import GraphPrior, Ratio
from tfsono.geometry.heatmaps import gaussian_maps
from tfsono.inference.face import FaceModule, FaceReader, FramedFaceReader
from tfsono.inference.face_prior import FacePrior

ONE = np.ones(3, np.float32)
STRIDE, SIDES = 4, (6.0, 9.0)
NAN = float("nan")


class Scores(keras.layers.Layer):
    """Logits and offsets of all anchors of a map of known cells, whatever the volume."""

    def __init__(self, logits, offsets):
        super().__init__()
        self.logits, self.offsets = (np.asarray(values, "float32")[None] for values in (logits, offsets))

    def call(self, image):
        # makes them functions of the image for Keras
        nothing = 0 * keras.ops.sum(image)
        return {"classes": self.logits + nothing, "offsets": self.offsets + nothing}

    def compute_output_spec(self, image):
        return {"classes": keras.KerasTensor(self.logits.shape), "offsets": keras.KerasTensor(self.offsets.shape)}


def network_of(logits, offsets=None):
    image = keras.Input((None, None, None, 1))
    return keras.Model(image, Scores(logits, np.zeros((len(logits), 6)) if offsets is None else offsets)(image))


def reader(network, **values):
    plain = FaceReader(network, 4, (), 2, (STRIDE,), SIDES, (1.0, 1.0), 0.3, 4, 2, 0.05)  # suppression at an IoU of 0.3
    return dataclasses.replace(plain, **values)


def scene(size=(23, 17, 19)):
    """The anchors of a volume of this size, and logits by which all are background."""
    cells = tuple(-(-n // STRIDE) for n in size)
    boxes = anchors(cells, STRIDE, SIDES)
    volume = np.random.default_rng(0).normal(100, 20, size).astype("float32")
    return volume, boxes, np.tile([8.0, 0, 0], (len(boxes), 1))


def nearest(boxes, centre, sides):
    return int(pairwise_iou(boxes, centred_boxes(np.array([centre]), np.array([sides])))[:, 0].argmax())


def test_the_best_box_and_the_second_after_suppression():
    volume, boxes, logits = scene()
    middle = (5.5, 9.5, 13.5)
    first, neighbour, second = (nearest(boxes, centre, sides) for centre, sides in
                             ((middle, (6, 6, 6)), (middle, (6, 9, 6)), ((17.5, 1.5, 5.5), (9, 6, 6))))
    for place, logit in ((first, 12.0), (neighbour, 11.0), (second, 10.0)):
        logits[place, 1] = logit
    prediction = {key: value.numpy() for key, value in FaceModule(reader(network_of(logits)))(volume, ONE).items()}
    np.testing.assert_allclose(prediction["boxes_vox"][0], boxes[first], atol=1e-4)
    np.testing.assert_allclose(prediction["points_vox"][0], (5.5, 9.5, 13.5), atol=1e-4)
    np.testing.assert_allclose(prediction["candidate_boxes_vox"][0, 1], boxes[second], atol=1e-4)
    sure = np.exp([12.0, 10.0]) / (np.exp([12.0, 10.0]) + np.exp(8) + 1)
    np.testing.assert_allclose(prediction["candidate_scores"][0], [*sure, 0, 0], rtol=1e-5)
    assert np.isnan(prediction["candidate_boxes_vox"][0, 2:]).all() and prediction["chosen"].tolist() == [0, 0]


def test_a_candidate_is_the_mean_of_the_boxes_that_overlap_it():
    """By their scores; not those below the lowest one, nor those that overlap it less, nor of another landmark."""
    volume, boxes, logits = scene()
    middle = (5.5, 9.5, 13.5)
    first, other, low, far = (nearest(boxes, centre, sides) for centre, sides in (
        (middle, (6, 6, 6)), (middle, (6, 9, 6)), (middle, (9, 6, 6)), ((9.5, 9.5, 13.5), (6, 6, 6))))
    for place, logit in ((first, 12.0), (other, 11.0), (low, 4.0), (far, 11.5)):
        logits[place, 1] = logit
    logits[other, 2] = 10.5
    module = FaceModule(reader(network_of(logits), merged_above=0.5))
    prediction = {key: value.numpy() for key, value in module(volume, ONE).items()}
    scores = np.exp(logits[[first, other]]) / np.exp(logits[[first, other]]).sum(axis=1, keepdims=True)
    expected = (scores[:, 1:2] * boxes[[first, other]]).sum(axis=0) / scores[:, 1].sum()
    np.testing.assert_allclose(prediction["boxes_vox"][0], expected, atol=1e-4)
    np.testing.assert_allclose(prediction["boxes_vox"][1], boxes[other], atol=1e-4)
    np.testing.assert_allclose(prediction["scores"], [scores[0, 1], scores[1, 2]], rtol=1e-5)


def test_a_landmark_without_a_candidate_is_missing():
    volume, _, logits = scene()
    logits[7, 1] = 9
    prediction = FaceModule(reader(network_of(logits)))(volume, ONE)
    assert np.isfinite(prediction["points_vox"][0]).all() and np.isnan(prediction["points_vox"][1]).all()
    assert float(prediction["scores"][1]) == 0 and np.isnan(prediction["candidate_boxes_vox"][1]).all()
    nothing = FaceModule(reader(network_of(scene()[2])))(volume, ONE)
    assert np.isnan(nothing["points_vox"]).all() and not np.any(nothing["candidate_scores"])


@pytest.mark.parametrize("lowest", [0.0, 0.05, 0.4, 0.6])
def test_candidates_are_those_above_the_lowest_score(lowest):
    """Whatever the logits' level, and with more than one class that is likely."""
    volume, boxes, logits = scene()
    random = np.random.default_rng(2)
    logits = random.normal(0, 1.5, (len(logits), 3)) + random.normal(0, 30, (len(logits), 1))
    prediction = FaceModule(reader(network_of(logits), lowest_score=lowest, highest_iou=1.0, top_k=len(boxes)))
    found = prediction(volume, ONE)["candidate_scores"].numpy()
    sure = np.exp(logits - logits.max(axis=1, keepdims=True))
    sure = (sure / sure.sum(axis=1, keepdims=True))[:, 1:]
    inside = (((boxes[:, :3] + boxes[:, 3:]) / 2) < np.array(volume.shape) - 0.5).all(axis=1)
    sure = np.where(inside[:, None] & (sure >= lowest), sure, 0)
    np.testing.assert_allclose(found, -np.sort(-sure, axis=0).T, atol=1e-4)


def test_without_suppression_the_second_is_a_neighbour_of_the_first():
    volume, boxes, logits = scene()
    random = np.random.default_rng(1)
    logits[:, 1] = random.uniform(4, 12, len(logits))
    literal = FaceModule(reader(network_of(logits), highest_iou=1.0))(volume, ONE)
    inside = (((boxes[:, :3] + boxes[:, 3:]) / 2) < np.array(volume.shape) - 0.5).all(axis=1)
    order = np.argsort(np.where(inside, -logits[:, 1], np.inf))[:4]
    np.testing.assert_allclose(literal["candidate_boxes_vox"][0], boxes[order], atol=1e-4)
    suppressed = FaceModule(reader(network_of(logits)))(volume, ONE)
    kept = []
    for place in np.argsort(-logits[:, 1]):
        if inside[place] and (pairwise_iou(boxes[[place]], boxes[kept]) <= 0.3).all():
            kept.append(place)
    np.testing.assert_allclose(suppressed["candidate_boxes_vox"][0], boxes[kept[:4]], atol=1e-4)


def test_anchors_in_the_padding_are_no_candidates():
    volume, boxes, logits = scene((17, 17, 17))  # padded to 20: the last cell's centre is at 17.5
    outside = nearest(boxes, (17.5, 9.5, 9.5), (6, 6, 6))
    logits[outside, 1] = 15
    assert np.isnan(FaceModule(reader(network_of(logits)))(volume, ONE)["points_vox"]).all()


def test_boxes_are_clipped_at_the_border_only_on_request():
    volume, boxes, logits = scene()
    place = nearest(boxes, (1.5, 9.5, 17.5), (9, 6, 6))
    logits[place, 1] = 15
    as_it_is, cut = (FaceModule(reader(network_of(logits), clip_boxes=wanted))(volume, ONE)["boxes_vox"][0].numpy()
                     for wanted in (False, True))
    np.testing.assert_allclose(as_it_is, (-3, 6.5, 14.5, 6, 12.5, 20.5), atol=1e-4)
    np.testing.assert_allclose(cut, (-0.5, 6.5, 14.5, 6, 12.5, 18.5), atol=1e-4)


def test_offsets_move_and_stretch_a_box():
    volume, boxes, logits = scene()
    place = nearest(boxes, (9.5, 9.5, 9.5), (6, 9, 6))
    logits[place, 2] = 12
    offsets = np.zeros((len(boxes), 6))
    offsets[place] = [0.5, -0.2, 0.1, np.log(1.5), 0, np.log(0.5)]
    prediction = FaceModule(reader(network_of(logits, offsets)))(volume, ONE)
    np.testing.assert_allclose(prediction["points_vox"][1], (9.5 + 3, 9.5 - 1.8, 9.5 + 0.6), atol=1e-3)
    box = prediction["boxes_vox"][1].numpy()
    np.testing.assert_allclose(box[3:] - box[:3], (9, 9, 3), atol=1e-3)


def test_a_volume_of_another_spacing_gives_its_own_voxels():
    volume, boxes, logits = scene((24, 20, 16))
    place = nearest(boxes, (9.5, 5.5, 13.5), (6, 6, 6))
    logits[place, 1] = 12
    module = FaceModule(reader(network_of(logits), spacing_mm=(1.0, 1.0, 1.0)))
    own = np.random.default_rng(0).normal(size=(12, 40, 8)).astype("float32")  # of 2, 0.5 and 2 mm: 24, 20, 16 voxels
    prediction = module(own, np.float32([2, 0.5, 2]))
    expected = (np.array([9.5, 5.5, 13.5]) + 0.5) * [0.5, 2, 0.5] - 0.5
    np.testing.assert_allclose(prediction["points_vox"][0], expected, atol=1e-4)
    box = prediction["boxes_vox"][0].numpy()
    np.testing.assert_allclose(box[3:] - box[:3], (3, 12, 3), atol=1e-4)


def test_the_prior_chooses_the_plausible_face():
    """Three landmarks on a line: the best box of the last one is on the wrong side, the second is right."""
    volume, boxes, logits = scene((31, 17, 19))
    logits = np.hstack([logits, np.zeros((len(logits), 1))])
    places = [nearest(boxes, centre, (6, 6, 6)) for centre in
              ((5.5, 9.5, 9.5), (13.5, 9.5, 9.5), (5.5, 1.5, 9.5), (21.5, 9.5, 9.5))]
    for place, landmark, logit in zip(places, (1, 2, 3, 3), (12, 12, 13, 11)):
        logits[place, landmark] = logit
    graph = (Ratio("asymmetric", (1, 2), (0, 1)), Ratio("asymmetric", (0, 2), (0, 1)))
    fitted = GraphPrior(np.array([1.0, 2.0]), np.array([0.1, 0.1]), np.array([20, 20]))
    prior = FacePrior(("a", "b", "c"), graph, fitted)
    given = reader(network_of(logits), landmarks=3)
    plain, chosen = FaceModule(given)(volume, ONE), FaceModule(given, prior)(volume, ONE)
    np.testing.assert_allclose(plain["points_vox"][2], (5.5, 1.5, 9.5), atol=1e-4)
    np.testing.assert_allclose(chosen["points_vox"][2], (21.5, 9.5, 9.5), atol=1e-4)
    assert chosen["chosen"].numpy().tolist() == [0, 0, 1]
    assert float(chosen["scores"][2]) == pytest.approx(float(plain["candidate_scores"][2, 1]))
    np.testing.assert_array_equal(plain["points_vox"][:2], chosen["points_vox"][:2])
    # ratios of sqrt(2) and 1 in place of 1 and 2 are a misfit of 58.6; the scores' logarithms differ by 0.042
    scores = chosen["candidate_scores"].numpy()[2]
    assert np.log(scores[0] / scores[1]) / 58.6 == pytest.approx(0.00072, abs=1e-5)
    for weight, expected in ((0.0007, 0), (0.00075, 1)):
        weighed = FaceModule(given, prior, weight)(volume, ONE)
        assert weighed["chosen"].numpy().tolist() == [0, 0, expected]


def test_heatmaps_predict_points():
    image = keras.Input((None, None, None, 1))
    layer = keras.layers.Conv3D(2, 1)
    network = keras.Model(image, {"heatmaps": layer(image)})
    layer.set_weights([np.array([1.0, -1.0]).reshape(1, 1, 1, 1, 2), np.zeros(2)])
    volume = np.random.default_rng(0).normal(100, 1, (21, 17, 19)).astype("float32")
    volume[4, 11, 15], volume[19, 2, 7] = 180, 20
    prediction = FaceModule(reader(network, lowest_score=0.0))(volume, ONE)
    np.testing.assert_array_equal(prediction["points_vox"], [[4, 11, 15], [19, 2, 7]])
    assert prediction["candidate_boxes_vox"].shape == (2, 4, 6) and (prediction["scores"].numpy() > 5).all()
    assert np.isnan(prediction["candidate_boxes_vox"][:, 1:]).all()


def test_boxes_are_rotated_back_from_the_frame():
    """The finder sees the midline at three points whatever the volume; one anchor of the frame is a landmark."""
    size, spacing = (41, 36, 33), np.float32([1.0, 1.2, 0.9])
    midline = np.array([[9, 8, 20], [18, 19, 24], [27, 14, 12.0]])
    image = keras.Input((None, None, None, 1))
    maps = gaussian_maps(midline[None].astype(np.float32), size, 2.0)
    finder = reader(keras.Model(image, {"heatmaps": image[:, :size[0], :size[1], :size[2]] * 0 + maps}), landmarks=3,
                    stride=1, decode="centroid", lowest_score=0.0)
    frame = BodyFrame((0, 1, 2), np.array([[-9, 0, 3], [-1, 9, 2], [9, -4, 0.0]]), np.array([36.0, 33, 30]))
    voxel_mm = float(spacing.mean())
    sides, padded = frame.size(voxel_mm, STRIDE)
    boxes = anchors([side // STRIDE for side in padded], STRIDE, SIDES)
    logits = np.tile([8.0, 0, 0], (len(boxes), 1))
    place = nearest(boxes, (13.5, 17.5, 9.5), (6, 9, 6))
    logits[place, 1] = 12
    module = FaceModule(FramedFaceReader(reader(network_of(logits)), finder, frame))
    prediction = module(np.random.default_rng(0).normal(100, 20, size).astype("float32"), spacing)
    rotation, shift = frame.fit(midline * spacing)
    in_frame_mm = ((boxes[place, :3] + boxes[place, 3:]) / 2 - (np.array(sides) - 1) / 2) * voxel_mm
    expected = (in_frame_mm - shift) @ rotation / spacing
    np.testing.assert_allclose(prediction["points_vox"][0], expected, atol=0.05)
    box = prediction["boxes_vox"].numpy()[0]
    np.testing.assert_allclose((box[3:] - box[:3]) * spacing, (6 * 9 * 6) ** (1 / 3) * voxel_mm, rtol=1e-3)
    assert np.isnan(prediction["points_vox"][1]).all()


def test_a_prediction_of_two_stages():
    """Proposals are boxes with their own scores; NaN for a missing one."""
    proposals = np.array([[[3, 3, 3, 9, 9, 9], [10, 3, 3, 16, 9, 9], [NAN] * 6]], "float32")

    class Stages(keras.layers.Layer):
        def call(self, image):
            nothing = 0 * keras.ops.sum(image)
            return {"proposals": proposals + nothing, "proposal_offsets": np.zeros((1, 3, 6), "float32") + nothing,
                    "classes": np.array([[[0, 3, 0], [0, 0, 3], [0, 9, 9]]], "float32") + nothing}

        def compute_output_spec(self, image):
            return {"proposals": keras.KerasTensor((1, 3, 6)), "proposal_offsets": keras.KerasTensor((1, 3, 6)),
                    "classes": keras.KerasTensor((1, 3, 3))}

    image = keras.Input((None, None, None, 1))
    volume = np.random.default_rng(0).normal(size=(20, 16, 16)).astype("float32")
    prediction = FaceModule(reader(keras.Model(image, Stages()(image))))(volume, ONE)
    np.testing.assert_allclose(prediction["boxes_vox"], proposals[0, :2], atol=1e-5)
    np.testing.assert_allclose(prediction["scores"], np.exp(3) / (np.exp(3) + 2), rtol=1e-5)


@pytest.mark.parametrize("size", [(1, 1, 2), (5, 3, 4), (33, 2, 16)])
def test_any_size_is_predicted(size):
    cells = int(np.prod([-(-n // STRIDE) for n in size]))
    network = network_of(np.tile([0.0, 1, 1], (8 * cells, 1)))
    prediction = FaceModule(reader(network))(np.random.default_rng(0).normal(size=size).astype("float32"), ONE)
    assert prediction["points_vox"].shape == (2, 3)
    assert tf.reduce_all(prediction["chosen"] == 0)
