"""What the tests of the scripts' wiring share: files with known contents, batches as a network gets them, measures.

Volumes hold blocks of constant brightness, one a landmark or label, so that the image shows which landmark a
point is. Files are written and read by SimpleITK and json alone: tilted, in another orientation than the caches',
away from the origin, of unequal spacing.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import importlib.util
import inspect
import itertools
import json
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import SimpleITK as sitk
import tensorflow as tf
from matplotlib.figure import Figure
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from tfsono.training.memory import Needs

ROOT = Path(__file__).resolve().parents[1]
FREE = Needs(held_gib=0.0, step_gib=0.0, free_gib=1.0, step_s=0.0, steps=0, where="")
ORIENTATION = "PIR"
ORIGIN_MM = np.array([-31.0, 12.5, 47.0])
TILT = Rotation.from_euler("xyz", (4, -6, 8), degrees=True).as_matrix()
"""Columns are the directions of x, y and z; the nearest orientation is LPS."""


@contextlib.contextmanager
def eagerly():
    """Runs every tf.function as Python, in half of the time where each runs a few times; also decorates functions."""
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


def script(folder: str, system: str = "hip", graphs: bool = False, announced: bool = False):
    """A script as a module, imported anew. `graphs`: as users run it, at least once for each system.

    `announced`: a training counts its memory and measures its time before it starts.
    """
    spec = importlib.util.spec_from_file_location(f"{folder}_{system}", ROOT / folder / f"{system}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not graphs:
        module.main = eagerly()(module.main)
    if folder == "train" and not announced:
        module.main = unannounced(module.main)
    if folder == "evaluate":
        module.main = in_few_pixels(module.main)
    return module


def unannounced(main):
    """A training's `main` that does not count its memory, which takes longer than a few steps of it."""
    def trained(arguments):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tfsono.training.start.needs_of", lambda network, shape, steps: FREE)
            return main(arguments)

    return trained


def in_few_pixels(main):
    """An evaluation's `main` that draws small figures."""
    def drawn(arguments):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tfsono.report.plots.DOTS_PER_INCH", 15)
            main(arguments)

    return drawn


@contextlib.contextmanager
def blank_figures():
    """Figures are drawn up to their pixels, which take most of the time: every file has one; also decorates functions.

    They are drawn to the end in test_wiring_*.py, test_surroundings.py and the tests of their modules.
    """
    pixel = cv2.imencode(".png", np.zeros((1, 1), np.uint8))[1].tobytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", lambda figure, path, **_: Path(path).write_bytes(pixel))
        patch.setattr(Figure, "tight_layout", lambda figure, **_: None)
        yield


def key_of(folders, options) -> tuple:
    """All that the module of some folders depends on."""
    return *map(str, folders), options.tiling, options.memory_gb, options.precision, options.refine, options.set


def loaded_once(load_runs):
    """A system's `load_runs` that loads the same runs once."""
    from tfsono.predict.sources import Options

    held = {}

    def once(folders, which="auto", options=Options()):
        key = which, *key_of(folders, options)
        if key not in held:
            held[key] = load_runs(folders, which, options)
        return held[key]

    return once


@contextlib.contextmanager
def networks_once():
    """The network of a run is built and gets its weights once, for all modules that read it."""
    from tfsono.systems import NAMES, runs, system

    load, held = runs.networks_of, {}

    def once(members, build, which="auto", fold=False, startable=False):
        found = []
        for number, run in enumerate(members):
            weights = run.weights(which)
            again = [each.folder for each in members[:number]].count(run.folder)  # a model has no network twice
            key = weights, weights.stat().st_mtime_ns, run.config, fold, startable, again
            if key not in held:
                (held[key],) = load([run], build, which, fold, startable)
            found.append(held[key])
        return found

    with pytest.MonkeyPatch.context() as patch:
        for name in NAMES:
            patch.setattr(system(name), "networks_of", once)
        yield


MODULE_OF = {"hip": "module_of", "femur": "_module_of", "pose": "_module_of", "face": "measured_module",
             "head": "module_of"}
"""What builds the module of runs, for all that evaluates, predicts and exports."""


@contextlib.contextmanager
def modules_once():
    """The module of the same runs is built and traced once, to evaluate, to predict and to export."""
    from tfsono.systems import system

    with pytest.MonkeyPatch.context() as patch:
        for name, maker in MODULE_OF.items():
            patch.setattr(system(name), maker, built_once(getattr(system(name), maker)))
        yield


def built_once(module_of):
    """A system's `module_of` that builds the module of the same runs and options once."""
    held, signature = {}, inspect.signature(module_of)

    def once(*given, **named):
        bound = signature.bind(*given, **named)
        bound.apply_defaults()
        runs, *options = bound.arguments.values()
        key = *options, *((run.folder, run.config) for run in runs)
        if key not in held:
            held[key] = module_of(*given, **named)
        return held[key]

    return once


@contextlib.contextmanager
def opened_once():
    """Every model is opened and traced once, to export it, to predict and to evaluate; every SavedModel is loaded once.

    Gives a function that opens one: source, options -> `Model`.
    """
    from tfsono.predict.sources import Options
    from tfsono.systems import NAMES, commands, system

    opened, load, held = commands._opened, tf.saved_model.load, {}

    def once(one, folders, options):
        key = key_of(folders, options)
        if key not in held:
            held[key] = opened(one, folders, options)
        return held[key]

    with networks_once(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(commands, "_opened", once)
        patch.setattr(tf.saved_model, "load", functools.cache(lambda folder: load(folder)))
        for name in NAMES:
            patch.setattr(system(name), "load_runs", loaded_once(system(name).load_runs))
        yield lambda source, options=Options(): once(system(commands.system_of(source)), [source], options)


def batches_of(system: str, steps: int, *arguments) -> list:
    """The first batches (image, targets) that a training of these arguments gives its network; nothing is trained."""
    kept = []

    def fit(run, network, batches, *schedule):
        kept.extend(batches(range(steps)).as_numpy_iterator())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tfsono.training.fit.fit", fit)
        unannounced(script("train", system, graphs=True).main)([str(argument) for argument in arguments])
    assert len(kept) == steps
    return kept


def train(system: str, *arguments, eagerly: bool = True) -> None:
    """A training; of a few steps, which are done eagerly before TensorFlow would have traced one."""
    script("train", system, graphs=not eagerly).main([str(argument) for argument in arguments])


def evaluate(system: str, *arguments) -> list[dict[str, str]]:
    """An evaluation; the rows of its cases.csv."""
    script("evaluate", system, graphs=True).main([str(argument) for argument in arguments])
    with open(Path(arguments[arguments.index("--out") + 1]) / "cases.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# ------------------------------------------------------------------------------------------------ files


def blocks(size, centres, brightness, half) -> np.ndarray:
    """int16 [X, Y, Z]: 20, and around each centre [K, 3] a block of its own brightness of 2 half + 1 voxels a side."""
    image = np.full(size, 20, np.int16)
    for centre, value in zip(np.asarray(centres), brightness, strict=True):
        image[tuple(slice(n - h, n + h + 1) for n, h in zip(centre, np.broadcast_to(half, 3), strict=True))] = value
    return image


def write_volume(path: Path, array: np.ndarray, spacing_mm) -> None:
    """An array [X, Y, Z] whose axes are the columns of `TILT`, written with its axes as `ORIENTATION` names them."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose(2, 1, 0)))
    image.SetSpacing([float(value) for value in spacing_mm])
    image.SetOrigin(ORIGIN_MM.tolist())
    image.SetDirection(TILT.ravel().tolist())
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.DICOMOrient(image, ORIENTATION), str(path))


def write_points(path: Path, points_vox, spacing_mm, names) -> None:
    """3D Slicer's markups of points [K, 3] in such an array."""
    points_mm = ORIGIN_MM + (np.asarray(points_vox) * spacing_mm) @ TILT.T
    points = [{"label": name, "position": point, "positionStatus": "defined"}
              for name, point in zip(names, points_mm.tolist(), strict=True)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"markups": [{"type": "Fiducial", "coordinateSystem": "LPS",
                                             "controlPoints": points}]}))


def read_points(path: Path) -> dict[str, np.ndarray]:
    """Name -> LPS millimetres, of the first list of markups."""
    markup = next(held for held in json.loads(path.read_text())["markups"] if held["type"] == "Fiducial")
    assert markup["coordinateSystem"] == "LPS"
    return {point["label"]: np.array(point["position"]) for point in markup["controlPoints"]}


def read_boxes(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Name -> middle [3], axes as columns [3, 3], and sides [3] in LPS millimetres, of the boxes of markups."""
    markups = [held for held in json.loads(path.read_text())["markups"] if held["type"] == "ROI"]
    assert all(markup["coordinateSystem"] == "LPS" for markup in markups)
    return {markup["controlPoints"][0]["label"]: (
        np.array(markup["center"]), np.array(markup["orientation"]).reshape(3, 3), np.array(markup["size"]))
        for markup in markups}


def write_split(path: Path, train, test, validation=()) -> None:
    """A split, by default without validation."""
    path.write_text(json.dumps({"train": list(train), "validation": list(validation), "test": list(test)}))


def cached(path: Path, case: str, name: str) -> np.ndarray:
    """An array of a cache."""
    with h5py.File(path) as file:
        return file[f"cases/{case}/{name}"][...]


# ------------------------------------------------------------------------------------------------ where things went


def similarity(source, target) -> tuple[float, float, bool, float]:
    """What moved points [K, 3] (or [K, 2]) to others: scale, degrees of rotation, whether mirrored, largest residual.

    Which axes were mirrored is open: of all flips with the right sign the one is taken that needs least rotation.
    """
    source, target = np.asarray(source, float), np.asarray(target, float)
    moved, fixed = target - target.mean(0), source - source.mean(0)
    left, values, right = np.linalg.svd(moved.T @ fixed)
    linear = left @ right  # the nearest rotation or mirrored one
    scale = float(values.sum() / (fixed**2).sum())
    residual = float(np.linalg.norm(moved - scale * fixed @ linear.T, axis=1).max())
    mirrored = bool(np.linalg.det(linear) < 0)
    angles = [angle_of(linear * np.array(flip)) for flip in itertools.product((1, -1), repeat=source.shape[1])
              if np.prod(flip) == (-1 if mirrored else 1)]
    return scale, min(angles), mirrored, residual


def angle_of(rotation) -> float:
    """Degrees of a rotation of the plane or of space."""
    turning = np.trace(rotation) / 2 if len(rotation) == 2 else (np.trace(rotation) - 1) / 2
    return float(np.degrees(np.arccos(np.clip(turning, -1, 1))))


def peaks(maps: np.ndarray) -> np.ndarray:
    """[K, 3]: between the voxels, where Gaussian maps [X, Y, Z, K] are highest; NaN counts as 0."""
    maps = np.nan_to_num(maps)
    grid = np.stack(np.meshgrid(*map(np.arange, maps.shape[:3]), indexing="ij"), -1).reshape(-1, 3)
    weights = np.where(maps > 0.5 * maps.max((0, 1, 2)), maps, 0).reshape(len(grid), -1)
    return weights.T @ grid / weights.sum(0)[:, None]


def centroids(labels: np.ndarray, count: int) -> np.ndarray:
    """[count, axes]: the middle of each label 1..count, NaN where it is not there."""
    found = [np.argwhere(labels == value) for value in range(1, count + 1)]
    return np.array([voxels.mean(0) if len(voxels) else np.full(labels.ndim, np.nan) for voxels in found])


def ranks(values) -> list[int]:
    """The place of each value among them all, from the smallest."""
    return np.argsort(np.argsort(values)).tolist()


# ------------------------------------------------------------------------------------------------ millimetres


def measured_masks(found: sitk.Image, reference: sitk.Image) -> dict[str, float]:
    """Overlap by SimpleITK; distances between boundary voxels from their physical points; volumes in mL."""
    overlap = sitk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(found, reference)
    one, other = boundary_mm(found), boundary_mm(reference)
    there, back = cKDTree(other).query(one)[0], cKDTree(one).query(other)[0]
    voxels = [int(sitk.GetArrayViewFromImage(mask).sum()) for mask in (found, reference)]
    return {"dice": overlap.GetDiceCoefficient(), "jaccard": overlap.GetJaccardCoefficient(),
            "mean": (there.mean() + back.mean()) / 2, "deviation": np.concatenate([there, back]).std(),
            "largest": max(there.max(), back.max()),
            "percentile_95": max(np.percentile(there, 95), np.percentile(back, 95)),
            "volume_error": abs(voxels[0] - voxels[1]) * np.prod(reference.GetSpacing()) / 1000}


def boundary_mm(mask: sitk.Image) -> np.ndarray:
    """[N, 3]: physical points of the voxels with a face to the outside."""
    inside = sitk.BinaryErode(mask, [1] * 3, sitk.sitkCross, 0.0, 1.0, False)
    indices = np.argwhere(sitk.GetArrayFromImage(mask - inside))[:, ::-1]
    return np.array([mask.TransformIndexToPhysicalPoint(index) for index in indices.tolist()])


def at_the_files_grid(mask: Path, like: sitk.Image) -> sitk.Image:
    """A written mask on the voxels of another file: they must share every voxel, in whatever order."""
    written = sitk.ReadImage(str(mask))
    assert written.GetNumberOfPixels() == like.GetNumberOfPixels()
    for corner in itertools.product(*((0, n - 1) for n in like.GetSize())):
        index = np.array(written.TransformPhysicalPointToContinuousIndex(like.TransformIndexToPhysicalPoint(corner)))
        np.testing.assert_allclose(index, np.rint(index), atol=1e-3)
        assert (np.rint(index) >= 0).all() and (np.rint(index) < written.GetSize()).all()
    return sitk.Resample(written, like, sitk.Transform(), sitk.sitkNearestNeighbor)
