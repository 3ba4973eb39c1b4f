"""docs/savedmodels.md: its table is that of the built modules, and every snippet of it runs; parity of five systems."""

from __future__ import annotations

import contextlib
import csv
import ctypes
import functools
import http.server
import importlib
import importlib.util
import io
import json
import re
import runpy
import sys
import tarfile
import threading
import types
from collections import defaultdict
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf

from tfsono.config import choose
from tfsono.export import read_manifest
from tfsono.geometry.ellipse import head_of_mask
from tfsono.inference.segmentation import postprocess_mask
from tfsono.models import head, hip
from tfsono.predict.sources import Options
from tfsono.systems import NAMES, system
from tfsono.systems.commands import export_run, predict
from tfsono.training.run import open_run, read_run
from tfsono.training.record import record_files
from tfsono.volumes.image import Volume, read_volume, write_volume
from tfsono.volumes.landmarks import read_landmarks
from wiring import opened_once

pytestmark = pytest.mark.usefixtures("blank_figures")

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "savedmodels.md").read_text(encoding="utf-8")
SNIPPETS = dict(re.findall(r"```python\n# (\w+\.py)(.*?)```", PAGE, re.DOTALL))
ROWS = [tuple(cell.strip() for cell in line.strip("| ").split("|"))
        for line in re.findall(r"^\| \w+ \| (?:in|out)put \|.*", PAGE, re.MULTILINE)]
SPACING_MM = np.float32([0.8, 1.0, 1.1])


def snippet(name: str, folder: Path) -> Path:
    path = folder / name
    path.write_text(f"# {name}{SNIPPETS[name]}", encoding="utf-8")
    return path


def run_snippet(name: str, folder: Path, *arguments) -> str:
    """Runs a snippet as a script of these arguments, and returns what it prints."""
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(snippet(name, folder)), run_name="__main__")
    return printed.getvalue()


def imported(name: str, folder: Path) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(f"page_{name[:-3]}", snippet(name, folder))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of each system; of head, of a mask and of landmarks."""
    place = tmp_path_factory.mktemp("runs")
    for name in NAMES:
        with tarfile.open(ROOT / "tests" / "stored" / f"{name}.tar.xz") as archive:
            archive.extractall(place / name, filter="data")
    found = {name: place / name / "run" for name in NAMES}
    found["head_landmarks"] = found["head"]
    (found["pose"] / "confidence.json").write_text(json.dumps(
        {"limit_mm": 5.0, "intercept": 0.5, "peak": 9.0, "second_peak": -3.0, "second_peak_far": -2.0, "cases": 5,
         "landmarks": 80, "right": 60}), encoding="utf-8")
    record_files(found["pose"])
    found["head"] = random_run(place / "segmentation", "head", "unet", head.build, {
        "input_size": (64, 96), "unet_widths": (4, 6, 8), "monte_carlo_samples": 0})
    found["hip"] = random_run(place / "debris", "hip", "paper", hip.build, {
        "label_names": ("femur", "pelvis"), "patch": (16, 16, 16), "widths": (4, 4, 4, 4), "lower_widths": (4, 3),
        "middle_widths": (3,)})
    return found


def random_run(folder, name, variant, build, values):
    """A run of random weights, whose masks have many parts."""
    settings = choose(system(name).CHOICES, "quick", variant).replaced("test", **values)
    labels = {label: 3 * number for number, label in enumerate(values.get("label_names", ("head",)), 1)}
    run = open_run(folder, settings, {"train": ["a"], "validation": [], "test": ["b"]},
                   {"dataset": "phantom", "cases": ["a", "b"], "labels": labels})
    keras.utils.set_random_seed(0)
    network, random = build(run.config), np.random.default_rng(1)
    network.set_weights([weight if weight.ndim < 2 else weight + random.normal(0, 0.2, weight.shape)
                         for weight in network.get_weights()])
    if name == "head":  # half of the pixels above the threshold
        image = cv2.GaussianBlur(random.normal(size=values["input_size"]), (0, 0), 4)[None, ..., None] * 4
        *others, bias = network.get_weights()
        network.set_weights([*others, bias - np.median(network(image, training=False)["mask"])])
    network.save_weights(run.folder / "last.weights.h5")
    record_files(run.folder)
    return run.folder


@pytest.fixture(scope="module")
def models(runs, open_model, tmp_path_factory):
    place = tmp_path_factory.mktemp("models")
    return {name: export_run(run, place / name, Options(tiling="half" if name == "hip" else ""))
            for name, run in runs.items()}


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """An input of each kind: a volume with its x axis to posterior, y to inferior and z to the right; an image."""
    place, random = tmp_path_factory.mktemp("given"), np.random.default_rng(7)
    array = random.normal(100, 30, (27, 23, 25)).astype(np.float32)
    array[8:17, 6:14, 5:15] += 90
    volume = Volume(array, tuple(map(float, SPACING_MM)), (10.0, -20.0, 5.5), (0.0, 0, -1, 1, 0, 0, 0, -1, 0))
    write_volume(place / "case.nii.gz", array, volume)
    noise = cv2.GaussianBlur(random.normal(size=(61, 85)), (0, 0), 4)
    cv2.imwrite(str(place / "case.png"), np.uint8(np.interp(noise, (noise.min(), noise.max()), (0, 255))))
    return place


@pytest.fixture(scope="module", autouse=True)
def open_model():
    """Source, options -> `Model`: all is loaded and traced once, for exports, `predict` and the page's lines."""
    with opened_once() as opened:
        yield opened


@pytest.fixture(scope="module")
def opened(runs, models, open_model):
    """(kind, system) -> the module of a run or of its SavedModel."""
    return lambda kind, name: open_model({"run": runs, "model": models}[kind][name], options_of(kind, name)).module


def options_of(kind, name):
    return Options(tiling="half") if (kind, name) == ("run", "hip") else Options()


@pytest.fixture(scope="module")
def predicted(opened, runs, models, given, tmp_path_factory):
    """(kind, system) -> the folder of what `tfsono predict` writes with a run or its SavedModel."""
    place = tmp_path_factory.mktemp("predicted")

    @functools.cache
    def predicted(kind, name):
        suffix, source = "png" if name.startswith("head") else "nii.gz", {"run": runs, "model": models}[kind][name]
        out = place / f"{kind}_{name}"
        assert predict(source, [given / f"case.{suffix}"], out, options_of(kind, name)) == 0
        return out

    return predicted


# --- the table and the manifests


def row_of(name, kind, array, described):
    """The page's row of an array, which must be as the manifest describes it, and the letters of its sides."""
    (row,) = [row for row in ROWS if row[:3] == (name, kind, array)]
    assert row[3] == described["dtype"] and row[5] == described["unit"]
    letters = [side for side in row[4].split(", ") if side]
    assert len(letters) == len(described["shape"])
    for letter, side in zip(letters, described["shape"], strict=True):
        assert str(side) == letter or letter in "KLM" and isinstance(side, int)
    return row, letters


def test_the_table_is_that_of_the_modules(runs, models, opened):
    found = set()
    for key, folder in models.items():
        name = key.split("_")[0]
        signature = opened("model", key).signatures["serving_default"]
        manifest = read_manifest(folder)
        specs = {"input": signature.structured_input_signature[1], "output": signature.structured_outputs}
        for kind, of_kind in specs.items():
            assert set(of_kind) == set(manifest[kind])
            for array, spec in of_kind.items():
                described = manifest[kind][array]
                row, letters = row_of(name, kind, array, described)
                assert row[3] == spec.dtype.name
                for letter, side, size in zip(letters, described["shape"], spec.shape or [None] * 9, strict=False):
                    assert size in (None, side) or letter == side
                found.add(row)
    for name in ("femur", "pose"):  # and of ensembles, whose exports test_systems.py compares with their manifests
        one, run = system(name), read_run(runs[name], system(name).CHOICES)
        for array, described in one.manifest_of([run, run])["output"].items():
            found.add(row_of(name, "output", array, described)[0])
    assert found == set(ROWS)


def test_a_network_is_saved_without_its_own_call(opened):
    """Keras would add it, traced once more, and nothing calls it."""
    assert not hasattr(opened("model", "hip").network, "_default_save_signature")


KEYS = {"format_version", "system", "use", "source", "together_with", "trained_on", "input", "output", "functions",
        "labels", "landmarks", "postprocessing", "network", "sha256", "versions",
        "date", "files"}


def test_every_manifest_has_the_same_entries_and_the_page_names_them(models, opened):
    for key, folder in models.items():
        manifest = read_manifest(folder)
        some = {"measuring", "labels_used", "outline_margin_px", "poses", "confidence", "folded"}
        assert KEYS <= set(manifest) and set(manifest) - KEYS <= some, key
        assert "in_graph" in manifest["postprocessing"]
        for arrays in (manifest["input"], manifest["output"]):
            for array in arrays.values():
                assert {"dtype", "shape", "unit", "axes", "values"} <= set(array)
        points = manifest["output"].get("points_vox", manifest["output"].get("points_px", {"shape": [0]}))
        assert len(manifest["landmarks"]) == points["shape"][0]
        functions = set(manifest["functions"])
        assert functions - {"serving_default"} == {name for name in ("probabilities", "predict_in", "sample")
                                                   if hasattr(opened("model", key), name)}
    assert read_manifest(models["femur"])["network"]["first_stage"]
    table = set(re.findall(r"`(\w+)`", PAGE.split("## The manifest")[1].split("`tfsono predict`")[0]))
    assert KEYS - {"format_version"} | {"confidence", "folded"} <= table


# --- parity: the run, its SavedModel, the lines of the page


@pytest.mark.parametrize("name", ["hip", "femur"])
def test_masks_are_the_same_bit_for_bit(name, predicted, models, given, tmp_path):
    masks = [read_volume(predicted(kind, name) / "case_mask.nii.gz") for kind in ("run", "model")]
    run_snippet("mask.py", tmp_path, models[name], given / "case.nii.gz", tmp_path / "page.nii.gz")
    masks.append(read_volume(tmp_path / "page.nii.gz"))
    assert len(np.unique(masks[0].array)) > 1
    for mask in masks[1:]:
        assert np.array_equal(mask.array, masks[0].array)
        np.testing.assert_allclose(mask.direction, masks[0].direction, atol=1e-6)
        np.testing.assert_allclose(mask.origin_mm, masks[0].origin_mm, atol=1e-4)


@pytest.mark.parametrize("name", ["hip", "femur"])
def test_the_mask_is_the_postprocessed_arg_max(name, opened, monkeypatch):
    """What `evaluate` scored before the graph did this: SciPy on the module's mask without postprocessing."""
    module = opened("run", name)
    volume = np.random.default_rng(7).normal(100, 30, (27, 23, 25)).astype(np.float32)
    found = module(volume, SPACING_MM)["mask"].numpy()
    settings = module.postprocessing
    monkeypatch.setattr(module, "postprocessing", None)
    again = type(module).__call__.python_function  # traced anew, without it
    raw = again(module, tf.constant(volume), tf.constant(SPACING_MM))["mask"].numpy()
    assert (raw != found).any()
    assert np.array_equal(found, postprocess_mask(raw, settings.classes, settings.largest, settings.holes))


@pytest.mark.parametrize("name", ["femur", "pose", "face"])
def test_points_are_the_same(name, predicted, opened, models, given, tmp_path, monkeypatch):
    files = [predicted(kind, name) / "case.mrk.json" for kind in ("run", "model")]
    assert files[0].read_bytes() == files[1].read_bytes()
    for table in system(name).outputs().tables:
        assert (files[0].parent / table).read_bytes() == (files[1].parent / table).read_bytes(), table
    page = json.loads(run_snippet("points.py", tmp_path, models[name], given / "case.nii.gz"))
    expected = read_landmarks(files[0])
    assert page and set(page) <= set(expected)
    for landmark, point in page.items():
        np.testing.assert_allclose(point, expected[landmark], atol=1e-3, err_msg=landmark)
    volume = np.random.default_rng(7).normal(100, 30, (27, 23, 25)).astype(np.float32)
    of_run, of_model = (opened(kind, name)(volume, SPACING_MM) for kind in ("run", "model"))
    for output, value in of_run.items():
        assert np.array_equal(value.numpy(), of_model[output].numpy(), equal_nan=True), output
    if name == "pose":
        check_confidence(models[name], opened("model", name), files[1].with_name("landmarks.csv"), given, tmp_path,
                         monkeypatch)


def check_confidence(folder, loaded, written, given, tmp_path, monkeypatch):
    """The page's lines against the probabilities that `predict` wrote, and against members solved by hand."""
    page = json.loads(run_snippet("confidence.py", tmp_path, folder, given / "case.nii.gz"))
    with open(written, newline="", encoding="utf-8") as file:
        expected = [float(row["probability"]) for row in csv.DictReader(file)]
    np.testing.assert_allclose(page["probability"], expected, atol=2e-4)
    assert set(page) == {"probability"} and 0 < min(expected) < max(expected) < 1
    members = {"spread_mm": tf.constant([1.0, 2.0]),  # 10 and 12 voxels along LPS x, which are the file's z of 1.1 mm
               "member_points_vox": tf.constant([[[0.0, 0, 0], [10, 0, 0]], [[2, 0, 0], [14, 0, 0]]])}
    monkeypatch.setattr(tf.saved_model, "load", lambda folder: lambda *given: {**loaded(*given), **members})
    page = json.loads(run_snippet("confidence.py", tmp_path, folder, given / "case.nii.gz"))
    assert page["spread_mm"] == [1, 2] and page["length_spread_mm"] == pytest.approx(2.2 / 2**0.5, abs=1e-4)


def test_masks_of_heads_are_the_same_bit_for_bit(predicted, models, given, tmp_path):
    masks = [cv2.imread(str(predicted(kind, "head") / "case_mask.png"), -1) for kind in ("run", "model")]
    run_snippet("head.py", tmp_path, models["head"], given / "case.png", tmp_path / "page.png")
    masks.append(cv2.imread(str(tmp_path / "page.png"), -1))
    assert len(np.unique(masks[0])) == 2
    assert np.array_equal(masks[0], masks[1]) and np.array_equal(masks[0], masks[2])


def test_the_points_of_heads_are_the_same(predicted):
    tables = [predicted(kind, "head_landmarks") / "landmarks.csv" for kind in ("run", "model")]
    assert tables[0].read_bytes() == tables[1].read_bytes()


def test_the_heads_lines_are_head_of_mask(tmp_path, monkeypatch):
    """On masks with pieces, pieces in holes, and holes, for a SavedModel that gives them as they are."""
    lines = SNIPPETS["head.py"].split(".numpy()\n")[1].split("cv2.imwrite")[0]
    for seed in range(40):
        random = np.random.default_rng(seed)
        field = cv2.GaussianBlur(random.normal(size=(37, 29)), (0, 0), random.uniform(0.6, 3))
        names = {"probability": field.astype(np.float32), "threshold": float(np.quantile(field, random.uniform(0, 1))),
                 "np": np, "ndimage": importlib.import_module("scipy.ndimage")}
        exec(lines, names)
        mask = field.astype(np.float32) >= names["threshold"]
        parts = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)[2][1:, cv2.CC_STAT_AREA]
        if len(parts) < 2 or np.sort(parts)[-1] > np.sort(parts)[-2]:
            assert np.array_equal(names["mask"], head_of_mask(mask, 0)), seed


def test_the_scipy_lines_are_the_postprocessing(tmp_path):
    page = imported("postprocessing.py", tmp_path)
    for seed in range(40):
        random = np.random.default_rng(seed)
        shape, classes = random.integers(1, 14, 3), int(random.integers(2, 5))
        mask = (random.random(shape) < random.uniform(0.05, 0.95)) * random.integers(1, classes, shape)
        mask = mask.astype(np.uint8)
        for largest, holes in ((True, True), (True, False), (False, True)):
            assert np.array_equal(page.postprocessed(mask, classes, largest, holes),
                                  postprocess_mask(mask, classes, largest, holes)), seed


# --- servers


def small_volume():
    return np.random.default_rng(1).normal(100, 30, (21, 19, 17)).astype(np.float32)


def stub_of_serving(monkeypatch):
    """Stand-ins of tensorflow-serving-api with what the client takes of it."""
    class PredictRequest:
        def __init__(self):
            self.model_spec, self.inputs = types.SimpleNamespace(), defaultdict(type(tf.make_tensor_proto(0)))

    names = {"predict_pb2": {"PredictRequest": PredictRequest}, "prediction_service_pb2_grpc": {}}
    for name, values in names.items():
        module = types.ModuleType(f"tensorflow_serving.apis.{name}")
        vars(module).update(values)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    for name in ("tensorflow_serving", "tensorflow_serving.apis"):
        module = types.ModuleType(name)
        module.__path__ = []
        vars(module).update((each, sys.modules[f"{name}.{each}"]) for each in names if "apis" in name)
        monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.parametrize("kind", ["real", "stub"])
def test_the_grpc_client_builds_a_request_of_the_signature(kind, opened, tmp_path, monkeypatch):
    pytest.importorskip("grpc", reason="grpcio is not installed")
    if kind == "real":
        pytest.importorskip("tensorflow_serving.apis.predict_pb2", reason="tensorflow-serving-api is not installed")
    else:
        stub_of_serving(monkeypatch)
    page = imported("grpc_client.py", tmp_path)
    model = opened("model", "hip")
    served = model.signatures["serving_default"]

    class Stub:
        def __init__(self, channel):
            pass

        def Predict(self, request, timeout):
            assert (request.model_spec.name, request.model_spec.signature_name) == ("hip", "serving_default")
            inputs = {name: tf.constant(tf.make_ndarray(value)) for name, value in request.inputs.items()}
            found = {name: tf.make_tensor_proto(value) for name, value in served(**inputs).items()}
            return types.SimpleNamespace(outputs=found)

    monkeypatch.setattr(page.prediction_service_pb2_grpc, "PredictionServiceStub", Stub, raising=False)
    found = page.predict("localhost:1", "hip", small_volume(), SPACING_MM)
    expected = model(small_volume(), SPACING_MM)["mask"].numpy()
    assert list(found) == ["mask"] and np.array_equal(found["mask"], expected)


def test_over_the_wire_more_than_4_mb_need_the_clients_limit(tmp_path):
    """A real gRPC server with the real service, whose mask is as large as the volume."""
    reason = "tensorflow-serving-api is not installed"
    grpc = pytest.importorskip("grpc", reason=reason)
    service = pytest.importorskip("tensorflow_serving.apis.prediction_service_pb2_grpc", reason=reason)
    predict_pb2 = pytest.importorskip("tensorflow_serving.apis.predict_pb2", reason=reason)
    from concurrent.futures import ThreadPoolExecutor

    class Server(service.PredictionServiceServicer):
        def Predict(self, request, context):
            response = predict_pb2.PredictResponse()
            volume = tf.make_ndarray(request.inputs["volume"])
            response.outputs["mask"].CopyFrom(tf.make_tensor_proto((volume > 0).astype(np.uint8)))
            return response

    page = imported("grpc_client.py", tmp_path)
    server = grpc.server(ThreadPoolExecutor(1), options=page.NO_LIMIT)
    service.add_PredictionServiceServicer_to_server(Server(), server)
    address = f"localhost:{server.add_insecure_port('localhost:0')}"
    server.start()
    try:
        volume = np.random.default_rng(0).normal(size=(200, 200, 110)).astype(np.float32)
        assert np.array_equal(page.predict(address, "hip", volume, SPACING_MM)["mask"], volume > 0)
        page.NO_LIMIT.clear()
        with pytest.raises(grpc.RpcError, match="RESOURCE_EXHAUSTED"):
            page.predict(address, "hip", volume, SPACING_MM)
    finally:
        server.stop(None)


@pytest.mark.parametrize("name", ["hip", "pose"])
def test_the_rest_client_uses_the_column_form(name, opened, tmp_path):
    served, seen = opened("model", name).signatures["serving_default"], []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append((self.path, set(body)))
            found = served(**{key: tf.constant(value, tf.float32) for key, value in body["inputs"].items()})
            found = {key: value.numpy().tolist() for key, value in found.items()}
            reply = json.dumps({"outputs": found if len(found) > 1 else next(iter(found.values()))}).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("localhost", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        found = imported("rest_client.py", tmp_path).predict(
            f"localhost:{server.server_port}", name, small_volume(), SPACING_MM)
    finally:
        server.shutdown()
        server.server_close()
    assert seen == [(f"/v1/models/{name}:predict", {"signature_name", "inputs"})]
    expected = opened("model", name)(small_volume(), SPACING_MM)
    found = {"mask": found} if name == "hip" else found
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value.numpy(), rtol=1e-5)


def test_the_triton_backend_predicts_the_mask(runs, models, opened, tmp_path, monkeypatch):
    """On a stand-in of Triton's module; the network is TensorFlow's here, as the ONNX file is compared at export."""
    assert read_run(runs["hip"], system("hip").CHOICES).config.spacing_mm == ()
    network = system("hip").bare_networks(opened("run", "hip"))["network"]

    class Tensor:
        def __init__(self, name, array):
            self.name, self.array = name, array

        def as_numpy(self):
            return self.array

    class Response:
        def __init__(self, tensors):
            self.tensors = {tensor.name: tensor for tensor in tensors}

        def has_error(self):
            return False

    class InferenceRequest(Response):
        def __init__(self, model_name, requested_output_names, inputs):
            assert (model_name, requested_output_names) == ("hip_network", ["output"])
            super().__init__(inputs)

        def exec(self):
            image = self.tensors["image"].as_numpy()
            assert image.dtype == np.float32 and image.ndim == 5
            return Response([Tensor("output", network(image, training=False).numpy())])

    backend = types.ModuleType("triton_python_backend_utils")
    by_name = {"Tensor": Tensor, "InferenceRequest": InferenceRequest, "InferenceResponse": Response,
               "get_input_tensor_by_name": lambda request, name: request.tensors[name],
               "get_output_tensor_by_name": lambda response, name: response.tensors[name]}
    vars(backend).update(by_name)
    monkeypatch.setitem(sys.modules, backend.__name__, backend)
    monkeypatch.setattr(sys, "path", [*sys.path])
    version = tmp_path / "hip" / "1"
    version.mkdir(parents=True)
    (version / "manifest.json").write_bytes((models["hip"] / "manifest.json").read_bytes())
    snippet("postprocessing.py", version)
    model = imported("model.py", version).TritonPythonModel()
    model.initialize({"model_repository": str(tmp_path / "hip"), "model_version": "1"})
    for shape in ((37, 29, 21), (16, 40, 12)):
        volume = np.random.default_rng(2).normal(100, 30, shape).astype(np.float32)
        (response,) = model.execute([Response([Tensor("volume", volume)])])
        expected = opened("model", "hip")(volume, np.ones(3, np.float32))["mask"].numpy()
        assert response.tensors["mask"].as_numpy().dtype == np.uint8 and len(np.unique(expected)) > 1
        assert (response.tensors["mask"].as_numpy() == expected).mean() > 0.999


def test_the_files_for_triton_and_kserve_name_what_the_snippets_do(models):
    configs = re.findall(r"```\n# models/(\w+)/config.pbtxt\n(.*?)```", PAGE, re.DOTALL)
    names = {model: re.findall(r'name: "(\w+)"', text) for model, text in configs}
    assert names == {"hip_network": ["image", "output"], "hip": ["volume", "mask"]}
    assert "max_batch_size: 0" in configs[0][1] and "max_batch_size: 0" in configs[1][1]
    (kserve,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert "modelFormat:\n        name: tensorflow\n" in kserve and "\t" not in kserve


@pytest.mark.parametrize("name", NAMES)
def test_the_names_of_the_c_api_exist(name, models, tmp_path):
    """The C API itself, from TensorFlow's own library, opens the SavedModel and finds every operation."""
    listed = dict(line.split() for line in run_snippet("names.py", tmp_path, models[name]).splitlines())
    manifest = read_manifest(models[name])
    assert set(listed) == {*manifest["input"], *manifest["output"]}
    for key in manifest["input"]:
        assert listed[key] == f"serving_default_{key}:0"
    outputs = [listed[key] for key in sorted(manifest["output"])]
    assert len({each.split(":")[0] for each in outputs}) == 1
    assert [int(each.split(":")[1]) for each in outputs] == list(range(len(outputs)))
    library = ctypes.CDLL(str(Path(tf.sysconfig.get_lib()) / "libtensorflow_cc.so.2"))
    for function in ("TF_NewStatus", "TF_NewGraph", "TF_NewSessionOptions", "TF_LoadSessionFromSavedModel",
                     "TF_GraphOperationByName"):
        getattr(library, function).restype = ctypes.c_void_p
    status, graph, options = (ctypes.c_void_p(make()) for make in (
        library.TF_NewStatus, library.TF_NewGraph, library.TF_NewSessionOptions))
    tags = (ctypes.c_char_p * 1)(b"serve")
    session = library.TF_LoadSessionFromSavedModel(options, None, str(models[name]).encode(), tags, 1, graph, None,
                                                   status)
    assert library.TF_GetCode(status) == 0 and session
    for place in listed.values():
        assert library.TF_GraphOperationByName(graph, place.split(":")[0].encode()), place


def test_every_snippet_is_run_here():
    source = Path(__file__).read_text(encoding="utf-8")
    assert len(SNIPPETS) == PAGE.count("```python")
    for name in SNIPPETS:
        assert source.count(f'"{name}"') >= 1, name
