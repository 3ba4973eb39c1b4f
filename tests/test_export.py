"""A SavedModel that predicts without Keras and this package, and a manifest that detects changes."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest

from test_inference_head import image_of, module_of
from tfsono import export
from tfsono.errors import UserError
from tfsono.export import MANIFEST, check_free, export_module, file_checksums, load_exported
from tfsono.inference.hip import HipModule
from tfsono.locks import locked_file
from tfsono.inference.sliding_window import Tiling

ALONE = """
import sys

for name in ("keras", "tf_keras", "tfsono"):
    sys.modules[name] = None  # any import of it raises

import numpy as np
import tensorflow as tf

folder, of_images = sys.argv[1:]
given = np.load("given.npz")
mask = tf.saved_model.load(folder)(given["volume"], given["spacing_mm"])["mask"]
signature = tf.saved_model.load(folder).signatures["serving_default"]
served = signature(volume=tf.constant(given["volume"]), spacing_mm=tf.constant(given["spacing_mm"]))["mask"]
assert (served.numpy() == mask.numpy()).all()

image, module = given["image"], tf.saved_model.load(of_images)
plain, one, again, other = [next(iter(found.values())).numpy() for found in (
    module(image), module.sample(image, 5), module.sample(image, 5), module.sample(image, 6))]
served = module.signatures["serving_default"](image=tf.constant(image))
assert (next(iter(served.values())).numpy() == plain).all()
assert (one == again).all() and (one != other).any()
assert not [name for name, held in sys.modules.items() if name.split(".")[0] in ("keras", "tfsono") and held]
np.savez("out.npz", mask=mask.numpy(), plain=plain, sample=one)
"""
DESCRIPTION = {"system": "hip", "input": {"volume": {"orientation": "LPS"}}, "output": {},
               "labels": {"femur": 1}, "cleaning": {"largest_component": True, "fill_holes": True}}


@pytest.fixture(scope="module")
def module():
    keras.utils.set_random_seed(0)
    image = keras.Input((None, None, None, 1))
    x = keras.layers.Conv3D(4, 3, padding="same", use_bias=False, kernel_initializer="he_normal")(image)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    y = keras.layers.MaxPooling3D()(x)
    y = keras.layers.Conv3DTranspose(4, 4, 2, "same", kernel_initializer="he_normal")(y)
    x = keras.layers.Conv3D(3, 1, kernel_initializer="he_normal")(keras.layers.Concatenate()([x, y]))
    network = keras.Model(image, keras.layers.Softmax(dtype="float32")(x))
    return HipModule(network, Tiling((8, 8, 16), "fast", "gaussian", batch=2), 3, (1.0, 0.5, 0.75))


@pytest.fixture(scope="module")
def exported(module, tmp_path_factory):
    return export_module(module, tmp_path_factory.mktemp("export") / "model", DESCRIPTION)


@pytest.mark.usefixtures("optimised_graphs")  # as in the other process
@pytest.mark.parametrize("variant", ["unet", pytest.param("heatmap", marks=pytest.mark.slow)])
def test_the_same_prediction_without_keras_and_this_package(variant, module, exported, tmp_path):
    """Of volumes, and of images with dropout's samples; one process, as TensorFlow takes seconds to load."""
    volume = np.random.default_rng(0).normal(300, 80, (21, 17, 13)).astype(np.float32)
    spacing_mm, image = np.array([0.8, 0.6, 1.3], np.float32), image_of((57, 83))
    np.savez(tmp_path / "given.npz", volume=volume, spacing_mm=spacing_mm, image=image)
    of_images = module_of(variant, dropout=0.5)
    folder = export_module(of_images, tmp_path / "model", {"system": "head", "input": {}, "output": {}})
    # -I: ignores the working directory and PYTHONPATH.
    subprocess.run([sys.executable, "-I", "-c", ALONE, str(exported), str(folder)], check=True, cwd=tmp_path,
                   timeout=240)
    expected = module(volume, spacing_mm)["mask"].numpy()
    assert len(np.unique(expected)) > 1
    with np.load(tmp_path / "out.npz") as found:
        assert found["mask"].dtype == np.uint8 and (found["mask"] == expected).all()
        np.testing.assert_array_equal(found["plain"], next(iter(of_images(image).values())))
        np.testing.assert_array_equal(found["sample"], next(iter(of_images.sample(image, 5).values())))


def test_loading_gives_the_module_and_its_manifest(module, exported):
    prediction, manifest = load_exported(exported)
    volume = np.random.default_rng(1).normal(size=(9, 23, 11)).astype(np.float32)
    spacing_mm = np.array([1, 0.5, 0.75], np.float32)
    assert (prediction(volume, spacing_mm)["mask"].numpy() == module(volume, spacing_mm)["mask"].numpy()).all()
    assert manifest["labels"] == {"femur": 1} and manifest["system"] == "hip"
    assert {"tensorflow", "keras", "tfsono"} <= set(manifest["versions"])
    assert manifest["files"] == file_checksums(exported) and "saved_model.pb" in manifest["files"]
    assert not (exported.parent / "model.partial").exists()


def test_weights_are_saved_in_32_bits(exported):
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(exported / "variables" / "variables"))
    kinds = {kind for name, kind in reader.get_variable_to_dtype_map().items() if "VARIABLE_VALUE" in name}
    assert kinds == {tf.float32}


def test_nothing_of_this_machine_is_written(exported):
    home = str(exported.parent.parent).encode()
    for path in exported.rglob("*"):
        if path.is_file():
            assert home not in path.read_bytes() and str(sys.prefix).encode() not in path.read_bytes()


def _flip_a_byte(folder):
    path = folder / "variables" / "variables.data-00000-of-00001"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _other_version(folder):
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    (folder / MANIFEST).write_text(json.dumps({**manifest, "format_version": 99}))


@pytest.mark.parametrize("change, message", [
    (_flip_a_byte, "SHA-256 differs"),
    (lambda folder: (folder / "variables" / "variables.index").unlink(), "missing"),
    (lambda folder: (folder / "assets" / "added.txt").write_text("x"), "not in the manifest"),
    (lambda folder: (folder / MANIFEST).unlink(), "no manifest.json"),
    (lambda folder: (folder / MANIFEST).write_text("{"), "must be JSON"),
    (lambda folder: (folder / MANIFEST).write_text("[]"), "is missing"),
    (_other_version, "format 99"),
])
def test_a_changed_folder_is_refused(exported, tmp_path, change, message):
    folder = shutil.copytree(exported, tmp_path / "model")
    change(folder)
    with pytest.raises(UserError, match=message):
        load_exported(folder)


def test_a_full_folder_is_refused_and_a_leftover_removed(module, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note.txt").write_text("mine")
    with pytest.raises(UserError, match="empty"):
        export_module(module, tmp_path / "full", DESCRIPTION)
    (tmp_path / "model.partial" / "variables").mkdir(parents=True)
    (tmp_path / "model").mkdir()
    assert (export_module(module, tmp_path / "model", DESCRIPTION) / MANIFEST).is_file()
    with locked_file(tmp_path / "model_2"), pytest.raises(UserError, match="is being written by process"):
        export_module(module, tmp_path / "model_2", DESCRIPTION)
    (tmp_path / "other.partial").mkdir()
    (tmp_path / "other.partial" / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match="thesis.tex"):
        export_module(module, tmp_path / "other", DESCRIPTION)
    assert (tmp_path / "other.partial" / "thesis.tex").is_file()


def test_its_own_leftover_of_a_full_disk_is_removed_and_a_failure_leaves_none(module, tmp_path, monkeypatch):
    partial = tmp_path / "model.partial"
    (partial / "variables").mkdir(parents=True)
    for name in ("saved_model.pb.tmp4d1c9b8ef4f94a0d", "fingerprint.pb", ".partial_1_abcd_manifest.json"):
        (partial / name).write_text("half")
    assert (export_module(module, tmp_path / "model", DESCRIPTION) / MANIFEST).is_file()

    def full(*words):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(export, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        export_module(module, tmp_path / "model_2", DESCRIPTION)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


@pytest.mark.parametrize("name", ["model", "model.partial"])
def test_a_link_is_refused_before_the_work(name, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / name).symlink_to(tmp_path / "other")
    with pytest.raises(UserError, match="link"):
        export_module(None, tmp_path / "model", DESCRIPTION)
    if name == "model":
        with pytest.raises(UserError, match="link"):
            check_free(tmp_path / "model")
    (tmp_path / "other").rmdir()  # a link to nothing
    with pytest.raises(UserError, match="link"):
        export_module(None, tmp_path / "model", DESCRIPTION)
