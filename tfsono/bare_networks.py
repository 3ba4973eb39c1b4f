"""The bare networks of a module: as ONNX, checked against TensorFlow (needs the extra `onnx`), and in two precisions.

Whole modules are not converted: such a file loads, and predicts something else without a word (interpolation and loops
are converted inexactly). What stands around a network is in the manifest.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tfsono.errors import UserError

if TYPE_CHECKING:
    import keras

OPSET = 17
LARGEST_DIFFERENCE = 1e-4
EXTRA = ("tf2onnx", "onnx", "onnxruntime")


def check_extra() -> None:
    """Raises `UserError` unless the packages of the extra `onnx` can be imported."""
    for name in EXTRA:
        try:
            __import__(name)
        except ImportError as error:
            raise UserError(f"--onnx: needs {name} ({str(error)[:80]}); pip install 'tfsono[onnx]'") from None


def write_onnx(networks: Mapping[str, keras.Model], folder: str | os.PathLike) -> dict[str, dict]:
    """Writes `STEM.onnx` for each network, and returns the manifest's entry of each by its file's name.

    Args:
      networks: stem of the file -> a float32 network.
      folder: exists.

    Raises:
      UserError: the extra is not installed; a network cannot be converted, or its ONNX predicts something else.
    """
    check_extra()
    return {f"{stem}.onnx": _write(network, Path(folder) / f"{stem}.onnx") for stem, network in networks.items()}


def _write(network: keras.Model, path: Path) -> dict:
    convert(network, path)
    worst, shapes = 0.0, []
    session = _session(path)
    for image in samples(network):
        shapes.append(list(image.shape))
        worst = max(worst, largest_difference(_run(session, image), outputs_of(network, image), path))
    if not worst <= LARGEST_DIFFERENCE:
        raise UserError(f"--onnx: {path.name} differs from TensorFlow by {worst:.2g} and at most {LARGEST_DIFFERENCE} "
                        "is allowed; export without --onnx")
    return {"opset": OPSET, "input": {session.get_inputs()[0].name: list(network.input.shape)},
            "output": [output.name for output in session.get_outputs()], "dtype": "float32",
            "largest_difference": worst, "checked_on": shapes}


def convert(network: keras.Model, path: Path) -> None:
    """Writes a network as ONNX with a dynamic batch and, where the network has them, dynamic sides."""
    import tensorflow as tf
    import tf2onnx

    @tf.function(input_signature=[tf.TensorSpec(network.input.shape, tf.float32, "image")])
    def predict(image):
        return {name: tf.identity(value, name) for name, value in _named(network(image, training=False)).items()}

    try:
        tf2onnx.convert.from_function(predict, predict.input_signature, opset=OPSET, output_path=str(path))
    except Exception as error:  # of many kinds, in tf2onnx, onnx and protobuf
        reason = (str(error) or type(error).__name__).splitlines()[0][:80]
        raise UserError(f"--onnx: {path.name} cannot be converted ({reason}); export without --onnx") from None


def differences(networks: Mapping[str, keras.Model], others: Mapping[str, keras.Model]) -> dict[str, dict]:
    """The largest and the mean difference of each output of two sets of networks, on `samples`."""
    found = {}
    for stem, network in networks.items():
        for image in samples(network):
            one, other = outputs_of(network, image), outputs_of(others[stem], image)
            for name, value in one.items():
                apart = np.abs(np.nan_to_num(np.asarray(value, np.float64)) - np.nan_to_num(other[name]))
                held = found.setdefault(f"{stem}: {name}", {"largest": 0.0, "mean": 0.0})
                held["largest"] = max(held["largest"], float(apart.max(initial=0)))
                held["mean"] = max(held["mean"], float(apart.mean()))
    return found


def samples(network: keras.Model) -> Iterator[np.ndarray]:
    """Standard normal images of two sizes and batches (of one size where the sides are fixed)."""
    random = np.random.default_rng(0)
    for batch, sides in ((1, (32, 64, 32)), (2, (64, 32, 32))):
        fixed = network.input.shape[1:-1]
        found = [wanted or side for wanted, side in zip(fixed, sides, strict=False)]
        yield random.normal(size=(network.input.shape[0] or batch, *found, network.input.shape[-1])).astype(np.float32)


def outputs_of(network: keras.Model, image: np.ndarray) -> dict[str, np.ndarray]:
    """A network's outputs by name, float32 where they are of another float."""
    import tensorflow as tf

    found = _named(network(image, training=False))
    return {name: tf.cast(value, tf.float32).numpy() if value.dtype.is_floating else value.numpy()
            for name, value in found.items()}


def _named(found) -> dict:
    return found if isinstance(found, dict) else {"output": found}


def _session(path: Path):
    import onnxruntime

    try:
        return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # of the classes of its C++ part, which have no common one
        reason = str(error).splitlines()[0][:80]
        raise UserError(f"--onnx: onnxruntime cannot load {path.name} ({reason}); export without --onnx") from None


def _run(session, image: np.ndarray) -> dict[str, np.ndarray]:
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {session.get_inputs()[0].name: image}), strict=True))


def largest_difference(found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray], path: Path) -> float:
    """The largest difference of any value; infinite where only one of two is finite.

    That of an output with values above 1, such as points in pixels, is divided by the largest of them.

    Raises:
      UserError: outputs of other names or shapes.
    """
    worst = 0.0
    for name, value in expected.items():
        if name not in found or found[name].shape != value.shape:
            shape = found[name].shape if name in found else "none"
            raise UserError(f"--onnx: {path.name}: output {name} is {shape} and {value.shape} in TensorFlow; export "
                            "without --onnx")
        finite = np.isfinite(value)
        if (np.isfinite(found[name]) != finite).any():
            return float("inf")
        apart, scale = (np.abs(np.where(finite, x, 0)).max(initial=0) for x in (found[name] - value, value))
        worst = max(worst, float(apart / max(scale, 1)))
    return worst
