"""Networks of `face`: the numbers of the specification, the order of the anchors, and every row's outputs."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from test_models_pose import multiplications, trainable
from tfsono.config import choose
from tfsono.configs.face import FACE, LANDMARKS
from tfsono.geometry.anchors import anchors as anchors_of
from tfsono.layers.proposals import SECOND_STAGE
from tfsono.models.face import build
from train.face import compiled
from zero_kernels import zero_kernels

ROOT = Path(__file__).resolve().parents[1]
SMALL = {"box_sides": (9.0,), "widths": (2, 3, 4), "head_width": 4, "roi_width": 5, "roi_side": 2, "proposals": 6,
         "proposal_pool": 40, "anchor_sides": (5.0, 8.0), "precision": "float32"}


def config(variant="ig_rpn", preset="paper", landmarks=LANDMARKS, **values):
    return dataclasses.replace(choose(FACE, preset, variant).config, landmark_names=landmarks, **values)


def small(variant="ig_rpn", **values):
    return config(variant, "quick", **SMALL | values)


@zero_kernels()
def test_numbers_of_the_specification():
    network = build(config())
    assert trainable(network) == 8_136_160 and network.count_params() == 8_139_104
    assert multiplications(network, (1, 128, 128, 128, 1)) / 1e9 == pytest.approx(287.3, abs=0.1)
    shapes = network.compute_output_shape((1, 128, 128, 128, 1))
    assert shapes["classes"][:2] in ((1, 2_097_152), (1, None)) and shapes["classes"][2] == 6
    for name in ("classes", "offsets"):
        assert network.get_layer(f"head1_{name}").output.shape[-1] == 384
    assert network.get_layer("head1").compute_output_shape((1, 32, 32, 32, 256)) == (1, 32, 32, 32, 256)


@zero_kernels()
def test_the_other_rows_have_the_same_backbone():
    """SSD's second pair of heads and the two stages, by hand from the widths; IoU-balance changes no weight."""
    rpn, ssd, faster, heatmap = (build(config(variant)) for variant in ("rpn", "ig_ssd", "faster_rcnn", "heatmap"))
    pair = 256 * (384 + 384) + 768
    head = 27 * 256 * 256 + 2 * 256
    assert trainable(ssd) == trainable(rpn) + head + pair
    full = 7 ** 3 * 256 * 512 + 512 + 512 * 512 + 512 + 512 * 12 + 12
    assert trainable(faster) == trainable(rpn) - 256 * 256 - 256 + full  # 2 in place of 6 scores of an anchor
    up = 27 * (256 + 64) * 64 + 2 * 64 + 27 * (64 + 32) * 32 + 2 * 32 + 32 * 5 + 5
    assert trainable(heatmap) == trainable(rpn) - head - pair + up


@pytest.mark.parametrize("variant, cells", [("ig_rpn", 4 * 6 * 2), ("ssd", 4 * 6 * 2 + 2 * 3 * 1)])
def test_every_anchor_has_its_scores_and_offsets(variant, cells):
    prediction = build(small(variant))(np.zeros((1, 8, 12, 4, 1), "float32"))
    assert set(prediction) == {"classes", "offsets"}
    assert prediction["classes"].shape == (1, 8 * cells, 6) and prediction["offsets"].shape == (1, 8 * cells, 6)


def test_rows_are_in_the_order_of_the_anchors():
    """Each cell and each of its anchors is marked through the kernels, and found where the geometry has it."""
    settings = small(landmarks=("a",))
    network = build(settings)
    image = np.random.default_rng(0).normal(size=(1, 8, 12, 4, 1)).astype("float32")
    layer = network.get_layer("head1_offsets")
    layer.kernel.assign(np.zeros(layer.kernel.shape))
    layer.bias.assign(np.arange(8 * 6))
    offsets = keras.ops.convert_to_numpy(network(image)["offsets"])[0]
    np.testing.assert_array_equal(offsets.reshape(-1, 8, 6)[3], np.arange(48).reshape(8, 6))
    cells = keras.Model(network.input, network.get_layer("head1_classes").output)(image)
    rows = keras.ops.convert_to_numpy(network(image)["classes"])[0]
    anchors = anchors_of((4, 6, 2), 2, (5.0, 8.0))
    place = np.ravel_multi_index((2, 3, 1, 5), (4, 6, 2, 8))
    np.testing.assert_allclose(rows[place], keras.ops.convert_to_numpy(cells)[0, 2, 3, 1].reshape(8, 2)[5], rtol=1e-6)
    np.testing.assert_allclose(anchors[place], np.add([4.5, 6.5, 2.5] * 2, [-4, -2.5, -4, 4, 2.5, 4]))  # 8, 5 and 8


def test_two_stages_predict_for_their_proposals():
    network = build(small("faster_rcnn"))
    prediction = network(np.random.default_rng(0).normal(size=(1, 8, 12, 4, 1)).astype("float32"))
    assert {name: value.shape for name, value in prediction.items()} == {
        "objectness": (1, 384, 2), "offsets": (1, 384, 6), "proposals": (1, 6, 6), "classes": (1, 6, 6),
        "proposal_offsets": (1, 6, 6), "features": (1, 4, 6, 2, 4)}
    assert all(value.dtype == "float32" for value in prediction.values())


def test_the_second_stage_reads_any_boxes_in_full_precision():
    network = build(small("faster_rcnn", precision="mixed_bfloat16"))
    prediction = network(np.random.default_rng(0).normal(size=(1, 8, 12, 4, 1)).astype("float32"))
    second = network.get_layer(SECOND_STAGE)
    again = second([prediction["features"], prediction["proposals"][:, :2]])
    np.testing.assert_array_equal(again["classes"], prediction["classes"][:, :2])
    regions = keras.Model(second.input, second.get_layer("regions").output)
    box = np.array([[[1.0, 1.0, 0.0, 6.0, 9.0, 3.0]]], np.float32)
    near = box + np.float32(1 / 512)  # of bfloat16's eight digits the same
    features = np.random.default_rng(1).normal(size=(1, 4, 6, 2, 4)) * 100
    assert np.any(regions([features, box]) != regions([features, near]))


def test_training_gives_the_second_stage_the_reference_boxes():
    settings = small("faster_rcnn", landmarks=("a",))
    trainer = compiled(build(settings), settings)
    trainer.get_layer(SECOND_STAGE).get_layer("proposal_offsets").bias.assign(np.ones(6))
    image = np.random.default_rng(0).normal(size=(1, 8, 12, 4, 1)).astype("float32")
    reference = {"boxes": np.array([[[3.5, 5.5, 1.5, 4.5, 6.5, 2.5]]], np.float32),  # too small for any proposal
                 "labels": np.zeros((1, 384), np.int8), "positives": np.full((1, 4), -1, np.int32),
                 "negatives": np.full((1, 12), -1, np.int32)}
    for there, boxes in ((True, reference["boxes"]), (False, reference["boxes"] * np.nan)):
        found = trainer.train_on_batch(image, reference | {"boxes": boxes}, return_dict=True)
        trainer.reset_metrics()
        assert np.isfinite(found["loss"]) and (found["proposal_regression"] > 0) == there


@pytest.mark.parametrize("variant", ["ig_rpn", "ssd", "faster_rcnn", "heatmap"])
def test_jax_gives_the_same_outputs(variant, tmp_path):
    pytest.importorskip("jax")
    network = build(small(variant))
    network.save_weights(tmp_path / "n.weights.h5")
    image = np.random.default_rng(0).normal(size=(1, 8, 12, 16, 1)).astype("float32")
    np.save(tmp_path / "image.npy", image)
    values = SMALL | {"landmark_names": LANDMARKS}
    code = ("import sys, dataclasses, numpy as np; sys.path.insert(0, sys.argv[2]); import keras\n"
            "from tfsono.config import choose; from tfsono.configs.face import FACE\n"
            "from tfsono.models.face import build\n"
            "assert keras.backend.backend() == 'jax'\n"
            f"config = dataclasses.replace(choose(FACE, 'quick', {variant!r}).config, **{values!r})\n"
            "network = build(config); network.load_weights(sys.argv[1] + '/n.weights.h5')\n"
            "output = network(np.load(sys.argv[1] + '/image.npy'))\n"
            "np.savez(sys.argv[1] + '/output.npz', **{k: np.asarray(v) for k, v in output.items()})\n"
            "assert 'tensorflow' not in sys.modules")
    subprocess.run([sys.executable, "-c", code, tmp_path, ROOT], check=True, env={**os.environ, "KERAS_BACKEND": "jax"})
    with np.load(tmp_path / "output.npz") as prediction:
        for name, value in network(image).items():
            np.testing.assert_allclose(prediction[name], keras.ops.convert_to_numpy(value), atol=1e-4)


def test_heatmaps_have_the_inputs_size():
    for widths in ((2, 3, 4), (2, 3, 4, 5)):
        network = build(small("heatmap", widths=widths))
        prediction = network(np.zeros((1, 8, 24, 16, 1), "float32"))
        assert {name: value.shape for name, value in prediction.items()} == {"heatmaps": (1, 8, 24, 16, 5)}


def test_the_receptive_field_of_the_specification():
    """92 voxels at the fused map's head: which input voxels move one cell, all paths open."""
    network = build(config(landmarks=("a",), widths=(1, 1, 1, 1), head_width=1, box_sides=(14.0,),
                           anchor_sides=(13.0,), norm_at_test="moving"))  # own statistics see all of the volume
    for variable in network.trainable_variables:
        value = {"kernel": 0.1, "gamma": 1.0}.get(variable.path.split("/")[-1], 0.0)
        variable.assign(np.full(variable.shape, value, np.float32))
    head = keras.Model(network.input, network.get_layer("head1_norm").output)
    side, thick = 160, 16
    zero = keras.ops.convert_to_numpy(head(np.zeros((1, side, thick, thick, 1), np.float32)))
    moved = []
    for first in range(0, side, 16):
        raised = np.zeros((16, side, thick, thick, 1), np.float32)
        raised[np.arange(16), first + np.arange(16)] = 1e6
        prediction = keras.ops.convert_to_numpy(head(raised, training=False))
        moved.append(np.abs(prediction - zero)[:, :, 1, 1, 0] > 0)
    extent = np.concatenate(moved).sum(axis=0)  # input places that move each cell
    assert extent[15:25].max() == 92
