"""A module of `inference` -> a SavedModel with its own pre- and post-processing, and a manifest that says what it is.

The folder answers in any process that has TensorFlow; neither Keras nor this package is needed:

    answer = tf.saved_model.load(folder)(volume, spacing_mm)["mask"]        # the manifest's "input" and "output"

What every system shares stands here; what is one system's own, in `tfsono.systems`.

`manifest.json` beside it holds what the arrays mean and the SHA-256 of every file. It guards against a file
that was damaged or exchanged, not against somebody who rewrites the manifest too: a SavedModel is a program,
so run trusted ones.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import tensorflow as tf

from tfsono.errors import UserError
from tfsono.files import write_text

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
CARD = "README.md"  # a text beside the model, for people: it may be written and changed after the export
MACHINE = ("platform", "cpu_cores", "devices")  # these say nothing of the model
KEYS = ("format_version", "system", "input", "output", "files")


def export_module(module: tf.Module, out_dir: str | os.PathLike, manifest: dict) -> Path:
    """Saves a module whose `__call__` has an input signature; written beside, and renamed when whole.

    Args:
      module: its other functions with a signature are saved too.
      out_dir: a new or an empty folder.
      manifest: the `KEYS` of a manifest and more; the format, the files, the versions and the date are added here.

    Raises:
      UserError: `out_dir` is there and not empty.
    """
    from tfsono.training.run import versions  # it imports Keras, which loading an exported model must not

    out_dir = Path(out_dir)
    check_free(out_dir)
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


def check_free(out_dir: Path) -> None:
    """Raises `UserError` unless `out_dir` is a new or an empty folder."""
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
    """The SHA-256 of every file under a folder but its manifest and its card, by its path inside the folder."""
    return {path.relative_to(folder).as_posix(): sha256(path) for path in sorted(folder.rglob("*"))
            if path.is_file() and path not in (folder / MANIFEST, folder / CARD)}


def sha256(path: Path) -> str:
    """Of one file, in hexadecimal."""
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
        manifest = json.loads(path.read_text(encoding="utf-8"))
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
    check_keys(path, manifest, KEYS)
    if manifest["format_version"] != FORMAT_VERSION:
        raise UserError(f"{path}: format {manifest['format_version']}, this version reads {FORMAT_VERSION}; "
                        "export the run again")


def check_keys(path: str | os.PathLike, manifest, keys: Sequence[str]) -> None:
    """Raises `UserError` where the manifest at `path` lacks one of `keys`, or is no JSON object."""
    missing = [key for key in keys if key not in manifest] if isinstance(manifest, dict) else list(keys)
    if missing:
        raise UserError(f"{path}: {missing[0]} is missing; export the run again")


def load_exported(folder: str | os.PathLike) -> tuple[Callable, dict]:
    """An exported model, checked file by file before it is loaded, and its manifest.

    Returns:
      The module, whose arguments and answer the manifest's "input" and "output" describe, and the manifest.

    Raises:
      UserError: see `read_manifest`; or TensorFlow cannot load it.
    """
    manifest = read_manifest(folder)
    try:
        return tf.saved_model.load(str(folder)), manifest
    except (OSError, ValueError, tf.errors.OpError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{folder}: TensorFlow {tf.__version__} cannot load it: {reason}") from None
