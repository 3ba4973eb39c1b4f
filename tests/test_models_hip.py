"""Networks of `hip`: the numbers of the specification, receptive fields, and the same output on another backend."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from tfsono.config import choose
from tfsono.configs.hip import HIP
from tfsono.models.hip import TRANSFERRED, build, losses, main_network
from zero_kernels import zero_kernels

ROOT = Path(__file__).resolve().parents[1]


def config(variant="paper", preset="paper", labels=("femur",), **values):
    return dataclasses.replace(choose(HIP, preset, variant).config, label_names=labels, **values)


def narrow(**values):
    return config(preset="quick", widths=(4, 6, 8, 10), lower_widths=(5, 3), middle_widths=(3,), **values)


@pytest.mark.parametrize("variant, trainable, total, heads", [
    ("paper", 32_919_750, 32_926_150, {"lower", "middle", "upper"}),
    ("lineage4", 59_343_176, 59_351_560, {"lower", "middle", "near", "upper"}),
])
@zero_kernels()
def test_parameters_of_the_specification(variant, trainable, total, heads):
    network = build(config(variant))
    assert sum(int(np.prod(v.shape)) for v in network.trainable_variables) == trainable
    assert network.count_params() == total
    assert set(network.output) == heads == set(config(variant).heads) == set(losses(config(variant)))


@zero_kernels()
def test_transferred_kernels_have_the_shapes_of_c3d():
    network = build(config())
    shapes = [tuple(network.get_layer(name).kernel.shape) for name in TRANSFERRED]
    assert shapes == [(3, 3, 3, 1, 64), (3, 3, 3, 64, 128), (3, 3, 3, 128, 256), (3, 3, 3, 256, 256),
                      (3, 3, 3, 256, 512), (3, 3, 3, 512, 512)]
    assert sum(int(np.prod(shape)) for shape in shapes) == 13_493_952


def test_outputs_have_the_input_size():
    network = build(narrow(labels=("a", "b")))
    prediction = network(np.zeros((2, 16, 8, 24, 1), np.float32))
    assert {name: tuple(value.shape) for name, value in prediction.items()} == {
        head: (2, 16, 8, 24, 3) for head in ("upper", "lower", "middle")}


def test_without_deep_supervision_the_main_path_stays():
    network = build(narrow(variant="no_deep_supervision"))
    assert set(network.output) == {"upper"}
    names = {layer.name for layer in network.layers}
    assert "dec3b" in names and not any(name.startswith(("lower", "middle")) for name in names)


def test_receptive_fields_of_the_specification():
    """A slab of one x is raised at a time; which outputs move? All paths are open: positive weights, no dead ReLU."""
    side, thick = 128, 8
    network = build(narrow(norm_at_test="moving"))  # a tile's statistics see all of it
    for variable in network.trainable_variables:
        value = {"kernel": 0.02, "gamma": 1.0}.get(variable.path.split("/")[-1], 0.0)
        variable.assign(np.full(variable.shape, value, np.float32))
    outputs = {"bottom": network.get_layer("conv4b_norm").output, **network.output}
    network = keras.Model(network.input, outputs)
    zero = network(np.zeros((1, side, thick, thick, 1), np.float32))
    moved = {name: [] for name in outputs}
    for first in range(0, side, 16):
        raised = np.zeros((16, side, thick, thick, 1), np.float32)
        raised[np.arange(16), np.arange(first, first + 16)] = 1e3
        for name, value in network(raised).items():
            moved[name] += list(keras.ops.convert_to_numpy(value - zero[name]).max((2, 3, 4)) > 0)
    measured = {}
    for name, rows in moved.items():
        inputs = np.array(rows)  # [side of the input, side of the output]
        middle = inputs[:, inputs.shape[1] * 3 // 8:inputs.shape[1] * 5 // 8]
        sides = [int(np.ptp(np.flatnonzero(column))) + 1 for column in middle.T]
        measured[name] = (min(sides), max(sides))
    assert measured == {"bottom": (62, 62), "lower": (86, 94), "middle": (94, 102), "upper": (99, 110)}
    # The specification counts a deconvolution as one more input step; where exactly depends on the output's place.
    for name, specified in {"bottom": 62, "lower": 92, "middle": 100, "upper": 104}.items():
        assert measured[name][0] <= specified <= measured[name][1]


def test_probabilities_add_up_in_float32_whatever_the_precision():
    for precision in ("float32", "mixed_bfloat16"):
        main = main_network(build(narrow(precision=precision)))
        prediction = main(np.random.default_rng(0).normal(size=(1, 8, 16, 24, 1)).astype("float32"))
        assert str(prediction.dtype).endswith("float32'>") or "float32" in str(prediction.dtype)
        assert keras.ops.convert_to_numpy(prediction).sum(-1) == pytest.approx(1, abs=1e-5)
    assert keras.config.dtype_policy().name == "float32"


def test_regularisation_is_on_kernels_alone():
    network = build(narrow())
    assert len(network.losses) == sum("kernel" in v.path for v in network.trainable_variables)


def test_jax_gives_the_same_output(tmp_path):
    pytest.importorskip("jax")
    network = build(narrow())
    network.save_weights(tmp_path / "n.weights.h5")
    image = np.random.default_rng(0).normal(size=(1, 16, 24, 8, 1)).astype("float32")
    np.save(tmp_path / "image.npy", image)
    code = ("import sys, numpy as np; sys.path[:0] = [sys.argv[2], sys.argv[3]]\n"
            "from test_models_hip import narrow; from tfsono.models.hip import build; import keras\n"
            "assert keras.backend.backend() == 'jax'\n"
            "network = build(narrow()); network.load_weights(sys.argv[1] + '/n.weights.h5')\n"
            "output = network(np.load(sys.argv[1] + '/image.npy'))\n"
            "np.savez(sys.argv[1] + '/output.npz', **{k: np.asarray(v) for k, v in output.items()})\n"
            "assert 'tensorflow' not in sys.modules")
    subprocess.run([sys.executable, "-c", code, tmp_path, ROOT, ROOT / "tests"], check=True,
                   env={**os.environ, "KERAS_BACKEND": "jax"})
    with np.load(tmp_path / "output.npz") as prediction:
        for head, value in network(image).items():
            np.testing.assert_allclose(prediction[head], keras.ops.convert_to_numpy(value), atol=2e-5)
