"""Every public format of C3D, written here by other means than the reader's, and files to refuse."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from scipy.signal import convolve, correlate

from tfsono.c3d import LAYERS, read_c3d
from tfsono.errors import UserError

WIDTHS = (4, 6, 10, 14)
CAFFE_NAMES = ("conv1a", "conv2a", "conv3a", "conv3b", "conv4a", "conv4b")


def make_kernels(channels=3, widths=WIDTHS, seed=0):
    """Layer -> [T, H, W, input, output]; random, so that every wrong transpose or flip shows."""
    random = np.random.default_rng(seed)
    first, second, third, fourth = widths
    pairs = ((channels, first), (first, second), (second, third), (third, third), (third, fourth),
             (fourth, fourth))
    return {name: random.standard_normal((3, 3, 3, *pair)).astype("f4")
            for name, pair in zip(LAYERS, pairs, strict=True)}


def bias_of(kernel):
    return np.arange(kernel.shape[4], dtype="f4")


def output_first(kernel):
    """[T, H, W, input, output] -> [output, input, T, H, W], as Caffe, Theano and PyTorch keep it."""
    return np.ascontiguousarray(np.einsum("thwio->oithw", kernel))


def assert_read(path, kernels, channels=3, biases=True, **options):
    weights = read_c3d(path, widths=WIDTHS, **options)
    assert weights.path == str(path) and list(weights.kernels) == list(LAYERS)
    assert weights.input_channels == channels
    for name in LAYERS:
        assert weights.kernels[name].dtype == np.float32
        np.testing.assert_array_equal(weights.kernels[name], kernels[name])
    expected = {name: kernel.shape[4] for name, kernel in kernels.items()} if biases else {}
    assert weights.bias_counts == expected
    return weights


# Caffe ---------------------------------------------------------------------------------------------

INT32, INT64, FLOAT, DOUBLE, STRING, MESSAGE = 5, 3, 2, 1, 9, 11


def caffe_classes(package, messages):
    """Google's message classes for {message: [(name, number, type, repeated, packed, message type)]}."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto2")
    for message, fields in messages.items():
        described = file.message_type.add(name=message)
        for name, number, kind, repeated, packed, type_name in fields:
            field = described.field.add(name=name, number=number, type=kind, label=3 if repeated else 1)
            if packed:
                field.options.packed = True
            if type_name:
                field.type_name = f".{package}.{type_name}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
            for name in messages}


def sides(*names):
    return [(name, number, INT32, False, False, "") for number, name in enumerate(names, 1)]


LAYER_V1 = [("bottom", 2, STRING, True, False, ""), ("name", 4, STRING, False, False, ""),
            ("blobs", 6, MESSAGE, True, False, "BlobProto"), ("blobs_lr", 7, FLOAT, True, False, "")]


def original_net(packed=True):
    """C3D-v1.0, in which the released weights are."""
    blob = sides("num", "channels", "length", "height", "width") + [("data", 6, FLOAT, True, packed, "")]
    net = [("name", 1, STRING, False, False, ""), ("layers", 2, MESSAGE, True, False, "LayerParameter")]
    return caffe_classes("first", {"BlobProto": blob, "LayerParameter": LAYER_V1, "NetParameter": net})


def later_net():
    """C3D-v1.1 and Caffe's own."""
    blob = sides("num", "channels", "height", "width") + [
        ("data", 5, FLOAT, True, True, ""), ("shape", 7, MESSAGE, False, False, "BlobShape"),
        ("double_data", 8, DOUBLE, True, True, "")]
    layer = [("name", 1, STRING, False, False, ""), ("type", 2, STRING, False, False, ""),
             ("blobs", 7, MESSAGE, True, False, "BlobProto")]
    net = [("name", 1, STRING, False, False, ""), ("layers", 2, MESSAGE, True, False, "V1LayerParameter"),
           ("layer", 100, MESSAGE, True, False, "LayerParameter")]
    return caffe_classes("second", {"BlobShape": [("dim", 1, INT64, True, True, "")], "BlobProto": blob,
                                    "LayerParameter": layer, "V1LayerParameter": LAYER_V1,
                                    "NetParameter": net})


def write_original_caffe(path, kernels, packed=True):
    net = original_net(packed)["NetParameter"](name="DeepConv3DNet_Sport1M_Val")
    net.layers.add(name="data")
    for name, kernel in zip(CAFFE_NAMES, kernels.values(), strict=True):
        layer = net.layers.add(name=name, bottom=["data"], blobs_lr=[1, 2])
        for values in (output_first(kernel), bias_of(kernel).reshape(1, 1, 1, 1, -1)):
            shape = dict(zip(("num", "channels", "length", "height", "width"), values.shape, strict=True))
            layer.blobs.add(data=values.ravel(), **shape)
    dense = net.layers.add(name="fc6-1")
    dense.blobs.add(num=1, channels=1, length=1, height=7, width=5, data=np.ones(35))
    path.write_bytes(net.SerializeToString())


@pytest.mark.parametrize("packed", [True, False])
def test_original_caffe(tmp_path, packed):
    kernels = make_kernels()
    write_original_caffe(tmp_path / "conv3d_deepnetA", kernels, packed)
    weights = assert_read(tmp_path / "conv3d_deepnetA", kernels)
    assert weights.format == "Caffe model" and weights.names["conv2"] == "conv2a/0"
    assert weights.excluded == ("fc6-1/0",)


@pytest.mark.parametrize(("field", "data"), [("layer", "data"), ("layers", "data"), ("layer", "double_data")])
def test_later_caffe(tmp_path, field, data):
    kernels, net = make_kernels(seed=1), later_net()["NetParameter"](name="c3d")
    for name, kernel in zip(CAFFE_NAMES, kernels.values(), strict=True):
        layer = getattr(net, field).add(name=name)
        for values in (output_first(kernel), bias_of(kernel)):
            layer.blobs.add(**{data: values.ravel()}).shape.dim.extend(values.shape)
    (tmp_path / "c3d.caffemodel").write_bytes(net.SerializeToString())
    assert_read(tmp_path / "c3d.caffemodel", kernels)


# Keras ---------------------------------------------------------------------------------------------

def write_keras_2(path, kernels, whole_model=False, backend="tensorflow"):
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights") if whole_model else file
        root.attrs["backend"] = np.bytes_(backend)
        for name, kernel in kernels.items():
            root[f"{name}/{name}/kernel:0"] = kernel
            root[f"{name}/{name}/bias:0"] = bias_of(kernel)
        root["fc6/fc6/kernel:0"] = np.ones((7, 5), "f4")
        if whole_model:
            file["optimizer_weights/conv1/kernel/momentum:0"] = kernels["conv1"]


def write_keras_theano(path, kernels):
    """Keras 1: own names in each group; Theano convolves, so what correlates is flipped in the file."""
    with h5py.File(path, "w") as file:
        for name, kernel in kernels.items():
            file[f"{name}/{name}_W"] = output_first(kernel)[:, :, ::-1, ::-1, ::-1]
            file[f"{name}/{name}_b"] = bias_of(kernel)


@pytest.mark.parametrize("whole_model", [False, True])
def test_keras_tensorflow(tmp_path, whole_model):
    kernels = make_kernels()
    write_keras_2(tmp_path / "weights.bin", kernels, whole_model)
    weights = assert_read(tmp_path / "weights.bin", kernels)
    assert weights.format == "Keras HDF5, TensorFlow"
    assert weights.excluded == (("/model_weights" if whole_model else "") + "/fc6/fc6/kernel:0",)


def test_keras_theano(tmp_path):
    kernels = make_kernels(channels=1)
    write_keras_theano(tmp_path / "weights_th.h5", kernels)
    weights = assert_read(tmp_path / "weights_th.h5", kernels, channels=1)
    assert weights.format == "Keras HDF5, Theano, flipped"


def test_keras_2_under_theano(tmp_path):
    kernels = make_kernels()
    flipped = {name: kernel[::-1, ::-1, ::-1] for name, kernel in kernels.items()}
    write_keras_2(tmp_path / "weights.h5", flipped, backend="theano")
    assert_read(tmp_path / "weights.h5", kernels)


def test_theano_convolution_is_our_correlation(tmp_path):
    """What Theano computes with the file's numbers, Keras computes with ours."""
    clip = np.random.default_rng(2).standard_normal((5, 7, 9, 6)).astype("f4")
    kernels = make_kernels()
    write_keras_theano(tmp_path / "th.h5", kernels)
    with h5py.File(tmp_path / "th.h5") as file:
        stored = file["conv3a/conv3a_W"][()]
    read = read_c3d(tmp_path / "th.h5", WIDTHS).kernels["conv3a"]
    for output in (0, 9):
        theano = sum(convolve(clip[..., c], stored[output, c], "valid") for c in range(6))
        ours = sum(correlate(clip[..., c], read[..., c, output], "valid") for c in range(6))
        np.testing.assert_allclose(ours, theano, atol=1e-4)


# PyTorch -------------------------------------------------------------------------------------------

NAMINGS = {"davidea": ("{}.{}", LAYERS), "jfzhang95": ("features.{}.{}", (0, 3, 6, 8, 11, 13)),
           "mmaction2": ("{}.conv.{}", CAFFE_NAMES), "data parallel": ("module.{}.{}", LAYERS)}


def state_dict(kernels, names="{}.{}", layers=LAYERS):
    saved = {}
    for layer, kernel in zip(layers, kernels.values(), strict=True):
        saved[names.format(layer, "weight")] = output_first(kernel)
        saved[names.format(layer, "bias")] = bias_of(kernel)
    return saved | {"fc6.weight": np.ones((7, 5), "f4"), "steps": np.array([3, 4])}


def write_npz(path, kernels):
    with open(path, "wb") as file:
        np.savez(file, **state_dict(kernels))


@pytest.mark.parametrize("naming", NAMINGS)
def test_npz(tmp_path, naming):
    kernels = make_kernels()
    np.savez(tmp_path / "c3d.npz", **state_dict(kernels, *NAMINGS[naming]))
    weights = assert_read(tmp_path / "c3d.npz", kernels)
    assert weights.format == "NumPy archive of PyTorch weights" and weights.excluded == ("fc6.weight", "steps")
    assert weights.names["conv4a"] == NAMINGS[naming][0].format(NAMINGS[naming][1][4], "weight")


def test_npz_compressed_and_with_other_floats_and_orders(tmp_path):
    kernels = {name: kernel.astype("f2").astype("f4") for name, kernel in make_kernels(channels=1).items()}
    saved = state_dict(kernels)
    saved["conv1.weight"] = saved["conv1.weight"].astype(">f8")
    saved["conv2.weight"] = np.asfortranarray(saved["conv2.weight"])
    saved["conv3a.weight"] = saved["conv3a.weight"].astype("f2")
    np.savez_compressed(tmp_path / "c3d.npz", **saved)
    assert_read(tmp_path / "c3d.npz", kernels, channels=1)


def test_the_conversion_that_the_readme_gives(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not needed; with it, its own files are converted")
    kernels = make_kernels()
    torch.save({name: torch.tensor(values) for name, values in state_dict(kernels).items()}, tmp_path / "c3d.pickle")
    readme = (Path(__file__).parent.parent / "pretrained" / "README.md").read_text(encoding="utf-8")
    code = readme.partition("```python\n")[2].partition("```")[0]
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=120)
    assert_read(tmp_path / "c3d.npz", kernels)


class Hostile:
    """Runs a command when it is unpickled by an ordinary unpickler."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize(("place", "words"), [("zip", "converted"), ("first", "converted"),
                                              ("ascii", "converted"), ("array", "conv1.weight")])
def test_hostile_pickle_is_refused_and_not_run(tmp_path, place, words):
    marker, path = tmp_path / "was_run", tmp_path / "c3d.pickle"
    hostile = Hostile(f"touch {marker}")
    saved = pickle.dumps(hostile, protocol=0 if place == "ascii" else 4)
    path.write_bytes(saved)
    if place == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", saved)
    if place == "array":
        with open(path, "wb") as file:
            np.savez(file, **state_dict(make_kernels()) | {"conv1.weight": np.full((4, 3, 3, 3, 3), hostile)})
    with pytest.raises(UserError, match=words) as caught:
        read_c3d(path, WIDTHS)
    assert not marker.exists() and "\n" not in str(caught.value)
    if place == "ascii":  # the file would have run, had it been unpickled
        pickle.loads(path.read_bytes())
        assert marker.exists()


# TensorFlow ----------------------------------------------------------------------------------------

CHECKPOINT_NAMES = {"lineage": ("{}/kernel", "{}/bias"), "hx173149": ("var_name/wc{}", "var_name/bc{}")}


def write_checkpoint(prefix, kernels, naming, version=2):
    tf = pytest.importorskip("tensorflow")
    values = {"var_name/wd1": np.ones((7, 5), "f4"), "global_step": np.array(3)}
    for layer, kernel in kernels.items():
        word = layer[4:] if naming == "hx173149" else layer
        for name, value in zip(CHECKPOINT_NAMES[naming], (kernel, bias_of(kernel)), strict=True):
            values[name.format(word)] = value
    if version == 2:
        tf.raw_ops.SaveV2(prefix=str(prefix), tensor_names=list(values), tensors=list(values.values()),
                          shape_and_slices=[""] * len(values))
    else:
        tf.raw_ops.SaveSlices(filename=str(prefix), tensor_names=list(values), data=list(values.values()),
                              shapes_and_slices=[""] * len(values))


@pytest.mark.parametrize(("naming", "channels"), [("lineage", 1), ("hx173149", 3)])
def test_checkpoint_of_version_2(tmp_path, naming, channels):
    kernels, prefix = make_kernels(channels), tmp_path / "C3D.one"
    write_checkpoint(prefix, kernels, naming)
    for path in (prefix, tmp_path / "C3D.one.index", tmp_path / "C3D.one.data-00000-of-00001"):
        weights = assert_read(path, kernels, channels)
    assert weights.format == "TensorFlow checkpoint, version 2"
    assert set(weights.excluded) == {"global_step", "var_name/wd1"}


def test_checkpoint_of_version_1(tmp_path):
    kernels = make_kernels()
    write_checkpoint(tmp_path / "sports1m.model", kernels, "hx173149", version=1)
    weights = assert_read(tmp_path / "sports1m.model", kernels)
    assert weights.format == "TensorFlow checkpoint, version 1" and weights.names["conv3b"] == "var_name/wc3b"


def test_checkpoint_without_its_data(tmp_path):
    write_checkpoint(tmp_path / "c3d", make_kernels(), "lineage")
    data = tmp_path / "c3d.data-00000-of-00001"
    whole = data.read_bytes()
    for damaged in (whole[:-4000], whole[:9000] + bytes(9) + whole[9009:]):
        data.write_bytes(damaged)
        with pytest.raises(UserError, match=f"{tmp_path / 'c3d'}: .*damaged") as caught:
            read_c3d(tmp_path / "c3d", WIDTHS)
        assert "\n" not in str(caught.value)
    data.unlink()
    with pytest.raises(UserError, match="incomplete.*data-00000-of-00001"):
        read_c3d(tmp_path / "c3d.index", WIDTHS)


def test_checkpoint_of_whole_numbers(tmp_path):
    kernels = {name: kernel.astype("i4") for name, kernel in make_kernels().items()}
    write_checkpoint(tmp_path / "c3d", kernels, "lineage")
    with pytest.raises(UserError, match=r"conv1 .* float"):
        read_c3d(tmp_path / "c3d", WIDTHS)


# The whole of C3D ----------------------------------------------------------------------------------

def test_full_size(tmp_path):
    """C3D's own widths and counts. Datasets without values take no room in the file."""
    pairs = ((3, 64), (64, 128), (128, 256), (256, 256), (256, 512), (512, 512), (512, 512), (512, 512))
    counts = (5248, 221312, 884992, 1769728, 3539456, 7078400, 7078400, 7078400)
    assert tuple(27 * a * b + b for a, b in pairs) == counts
    with h5py.File(tmp_path / "c3d.h5", "w") as file:
        for name, pair in zip((*LAYERS, "conv5a", "conv5b"), pairs, strict=True):
            file.create_dataset(f"{name}/{name}/kernel:0", (3, 3, 3, *pair), "f4", chunks=True)
            file.create_dataset(f"{name}/{name}/bias:0", pair[1:], "f4")
        file.create_dataset("fc6/fc6/kernel:0", (8192, 4096), "f4", chunks=True)
    weights = read_c3d(tmp_path / "c3d.h5")
    assert tuple(weights.kernels[name].size + weights.bias_counts[name] for name in LAYERS) == counts[:6]
    assert len(weights.excluded) == 5
    assert sum(kernel.size for kernel in weights.kernels.values()) - 2 * 27 * 64 == 13_493_952


# What is refused -----------------------------------------------------------------------------------

WRITERS = {"caffe": write_original_caffe, "keras": write_keras_2, "theano": write_keras_theano,
           "npz": write_npz,
           "version 1": lambda path, kernels: write_checkpoint(path, kernels, "lineage", 1)}


@pytest.mark.parametrize("writer", WRITERS)
def test_truncated(tmp_path, writer):
    path = tmp_path / "c3d"
    WRITERS[writer](path, make_kernels())
    whole = path.read_bytes()
    for share in (0.01, 0.3, 0.9, 0.999):
        path.write_bytes(whole[:int(len(whole) * share)])
        with pytest.raises(UserError, match="cannot be read") as caught:
            read_c3d(path, WIDTHS)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("writer", ["caffe", "version 1", "npz"])
def test_damaged_is_refused_or_read_but_never_a_traceback(tmp_path, writer):
    path, random = tmp_path / "c3d", np.random.default_rng(3)
    widths = (1, 2, 1, 2)  # small, so that many of the damaged bytes are structure, not values
    WRITERS[writer](path, make_kernels(1, widths))
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    refused = 0
    for _ in range(60):
        damaged = whole.copy()
        damaged[random.integers(0, whole.size, 4)] = random.integers(0, 256, 4)
        path.write_bytes(damaged.tobytes())
        try:
            read_c3d(path, widths)
        except UserError:
            refused += 1
    assert refused > 5


@pytest.mark.parametrize(("content", "words"), [
    (b"", "is empty"), (b"a text of a user\n" * 9, "is unknown"), (bytes(1000), "is unknown"),
    (pickle.dumps({"conv1.weight": [1.0]}), "be converted")])
def test_unknown_files(tmp_path, content, words):
    (tmp_path / "weights.h5").write_bytes(content)
    with pytest.raises(UserError, match=words) as caught:
        read_c3d(tmp_path / "weights.h5")
    assert "formats" in str(caught.value) and "weights.h5" in str(caught.value)


def test_missing_file_folder_and_foreign_archive(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_c3d(tmp_path / "none.h5")
    with pytest.raises(UserError, match="is a folder"):
        read_c3d(tmp_path)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("model.weights.h5", "")
    with pytest.raises(UserError, match="numpy.savez"):
        read_c3d(tmp_path / "a.zip")


def test_other_widths_are_named(tmp_path):
    write_keras_2(tmp_path / "c3d.h5", make_kernels())
    with pytest.raises(UserError, match=r"conv1 .* 3x3x3x3x64 .* 3x3x3x3x4"):
        read_c3d(tmp_path / "c3d.h5")


def test_missing_layer_and_wrong_bias(tmp_path):
    kernels = make_kernels()
    write_keras_2(tmp_path / "c3d.h5", kernels)
    with h5py.File(tmp_path / "c3d.h5", "a") as file:
        del file["conv4a/conv4a/bias:0"]
        file["conv4a/conv4a/bias:0"] = np.ones(13, "f4")
    with pytest.raises(UserError, match="bias of conv4a .* 14"):
        read_c3d(tmp_path / "c3d.h5", WIDTHS)
    with h5py.File(tmp_path / "c3d.h5", "a") as file:
        del file["conv4a"], file["conv4b"]
    with pytest.raises(UserError, match="conv4a, conv4b"):
        read_c3d(tmp_path / "c3d.h5", WIDTHS)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite(tmp_path, bad):
    kernels = make_kernels()
    kernels["conv3b"][1, 2, 0, 3, 4] = bad
    write_original_caffe(tmp_path / "c3d", kernels)
    with pytest.raises(UserError, match=r"conv3b .* 1 values .* NaN"):
        read_c3d(tmp_path / "c3d", WIDTHS)


def test_two_input_channels_are_refused(tmp_path):
    write_npz(tmp_path / "flow.npz", make_kernels(channels=2))
    with pytest.raises(UserError, match="conv1 .* channels.* 2"):
        read_c3d(tmp_path / "flow.npz", WIDTHS)


def test_data_in_another_file_is_not_read(tmp_path):
    (tmp_path / "secret").write_bytes(bytes(4 * 3 * 27 * 4))
    write_keras_2(tmp_path / "c3d.h5", make_kernels())
    with h5py.File(tmp_path / "c3d.h5", "a") as file:
        del file["conv1/conv1/kernel:0"]
        file.create_dataset("conv1/conv1/kernel:0", (3, 3, 3, 3, 4), "f4",
                            external=[(str(tmp_path / "secret"), 0, h5py.h5f.UNLIMITED)])
    with pytest.raises(UserError, match="another file"):
        read_c3d(tmp_path / "c3d.h5", WIDTHS)
