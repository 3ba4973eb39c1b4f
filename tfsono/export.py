"""A run -> a SavedModel with its own pre- and post-processing, and a manifest that says what it is.

The folder answers in any process that has TensorFlow; neither Keras nor this package is needed:

    answer = tf.saved_model.load(folder)(volume, spacing_mm)["mask"]

`manifest.json` beside it holds what the arrays mean and the SHA-256 of every file. It guards against a file
that was damaged or exchanged, not against somebody who rewrites the manifest too: a SavedModel is a program,
so run trusted ones.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

from tfsono.configs.hip import HIP
from tfsono.errors import UserError
from tfsono.files import write_text
from tfsono.inference.hip import HipSegmenter
from tfsono.models import hip
from tfsono.training.run import Run, load_weights, read_run, versions

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
MACHINE = ("platform", "cpu_cores", "devices")  # these say nothing of the model
KEYS = ("format_version", "system", "input", "output", "labels", "cleaning", "files")
USE = ("Research use only, not a medical device: no diagnosis. Trained on one kind of image; other scanners, "
       "protocols, sexes, ages and diseases are untested, and the mask gives no sign of its own failure.")


def load_run(run_dir: str | os.PathLike, tiling: str = "") -> tuple[Run, HipSegmenter]:
    """A run and its module, with the weights that it is tested with.

    Args:
      run_dir: the run folder.
      tiling: another tiling than the run's: `paper`, `half`, `fast` or `whole`; "" keeps it.

    Raises:
      UserError: not a run folder, a run without weights, or no such tiling.
    """
    run = read_run(run_dir, HIP)
    if tiling:
        settings = run.settings.replaced("asked for at prediction", tiling=tiling)
        run = dataclasses.replace(run, settings=settings)
    network = hip.build(run.config)
    load_weights(run, network)
    return run, HipSegmenter.build(hip.main_network(network), run.config)


def export_run(run_dir: str | os.PathLike, out_dir: str | os.PathLike, tiling: str = "") -> Path:
    """Writes a run's SavedModel and manifest and says where; `tiling` as in `load_run`.

    Raises:
      UserError: not a run folder, a run without weights, or `out_dir` is not empty.
    """
    _check_free(Path(out_dir))  # before minutes are spent
    run, module = load_run(run_dir, tiling)
    return export_module(module, out_dir, manifest_of(run))


def manifest_of(run: Run) -> dict:
    """What the SavedModel of a run expects and answers; `export_module` adds files, versions and the date."""
    config = run.config
    return {
        "system": run.settings.system,
        "use": USE,
        "source": {"run": run.folder.resolve().name, "preset": run.settings.preset,
                   "variant": run.settings.variant, "weights": run.weights().name,
                   "dataset": run.data.get("dataset", ""), "training_cases": len(run.split.get("train", ()))},
        "input": {
            "volume": {"dtype": "float32", "shape": ["X", "Y", "Z"], "axes": "x,y,z",
                       "orientation": config.orientation, "values": "raw intensities; any size"},
            "spacing_mm": {"dtype": "float32", "shape": [3], "axes": "x,y,z",
                           "values": "of the volume, millimetres"},
        },
        "output": {
            "mask": {"dtype": "uint8", "shape": ["X", "Y", "Z"], "axes": "x,y,z",
                     "values": "0 background, k the k-th of `labels`; on the volume's own grid, not cleaned"},
        },
        "labels": {name: int(run.data["labels"][name]) for name in config.label_names},
        "cleaning": {"largest_component": config.largest_component, "fill_holes": config.fill_holes},
        "network": {"spacing_mm": list(config.spacing_mm), "patch": list(config.patch),
                    "tiling": config.tiling, "tile_weighting": config.tile_weighting,
                    "tile_batch": config.tile_batch, "precision": config.precision},
    }


def export_module(module: tf.Module, out_dir: str | os.PathLike, manifest: dict) -> Path:
    """Saves a module whose `__call__` has an input signature; written beside, and renamed when whole.

    Raises:
      UserError: `out_dir` is there and not empty.
    """
    out_dir = Path(out_dir)
    _check_free(out_dir)
    partial = out_dir.with_name(out_dir.name + ".partial")
    _remove_leftover(partial)
    tf.saved_model.save(module, str(partial), signatures={"serving_default": module.__call__})
    software = {name: text for name, text in versions().items() if name not in MACHINE}
    manifest = {"format_version": FORMAT_VERSION, **manifest, "versions": software,
                "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
                "files": file_checksums(partial)}
    write_text(partial / MANIFEST, json.dumps(manifest, indent=2) + "\n")
    if out_dir.exists():
        out_dir.rmdir()
    os.replace(partial, out_dir)
    return out_dir


def _check_free(out_dir: Path) -> None:
    if out_dir.exists() and (not out_dir.is_dir() or any(out_dir.iterdir())):
        raise UserError(f"{out_dir}: must be a new or an empty folder; choose another one")


def _remove_leftover(partial: Path) -> None:
    """Removes what a killed export left; nothing else that bears the name."""
    if not partial.exists():
        return
    strange = [path.name for path in partial.iterdir()
               if path.name not in ("assets", "variables", "saved_model.pb", "fingerprint.pb", MANIFEST)]
    if strange:
        raise UserError(f"{partial}: needed for the time of the export, and holds {strange[0]}; move it away")
    shutil.rmtree(partial)


def file_checksums(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file under a folder but its manifest, by its path inside the folder."""
    return {path.relative_to(folder).as_posix(): _sha256(path) for path in sorted(folder.rglob("*"))
            if path.is_file() and path != folder / MANIFEST}


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_manifest(folder: str | os.PathLike) -> dict:
    """The manifest of an exported folder, once every file is the one that it lists.

    Raises:
      UserError: no manifest or an unknown one; a file changed, missing or added.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise UserError(f"{folder}: no {MANIFEST}; expected a folder that `tfsono export` wrote")
    try:
        manifest = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path}: must be JSON; {error}; export the run again") from None
    _check_manifest(path, manifest)
    found = file_checksums(Path(folder))
    listed = manifest["files"]
    for name in sorted({*found, *listed}):
        if found.get(name) != listed.get(name):
            state = ("not in the manifest" if name not in listed else "missing" if name not in found else
                     "not the file that was exported (its SHA-256 differs)")
            raise UserError(f"{Path(folder) / name}: {state}; export the run or fetch the folder again")
    return manifest


def _check_manifest(path: Path, manifest) -> None:
    missing = [key for key in KEYS if key not in manifest] if isinstance(manifest, dict) else list(KEYS)
    if missing:
        raise UserError(f"{path}: {missing[0]} is missing; export the run again")
    if manifest["format_version"] != FORMAT_VERSION:
        raise UserError(f"{path}: format {manifest['format_version']}, this version reads {FORMAT_VERSION}; "
                        "export the run again")


def load_exported(folder: str | os.PathLike) -> tuple[Callable, dict]:
    """An exported model, checked file by file before it is loaded, and its manifest.

    Returns:
      (volume [X, Y, Z] float32, spacing_mm [3] float32) -> {"mask": [X, Y, Z] uint8}, and the manifest.

    Raises:
      UserError: see `read_manifest`; or TensorFlow cannot load it.
    """
    manifest = read_manifest(folder)
    try:
        return tf.saved_model.load(str(folder)), manifest
    except (OSError, ValueError, tf.errors.OpError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{folder}: TensorFlow {tf.__version__} cannot load it: {reason}") from None
