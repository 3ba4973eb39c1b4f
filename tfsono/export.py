"""A module of `inference` -> a SavedModel with its own pre- and postprocessing, and a manifest that describes it.

The SavedModel needs TensorFlow, but neither Keras nor this package:

    mask = tf.saved_model.load(folder)(volume, spacing_mm)["mask"]        # the manifest's "input" and "output"

`tfsono.systems` has the part that is specific to a system.

`manifest.json` in the folder describes the arrays and has the SHA-256 of every file, and of its own description. It
detects damaged or exchanged files, but not an attacker who rewrites the manifest too: a SavedModel is a program, so run
trusted ones only.
"""

from __future__ import annotations

import contextlib
import datetime
import gc
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from tfsono.errors import UserError
from tfsono.files import read_json, write_text
from tfsono.locks import locked_file
from tfsono.manifest import DIGEST, check_manifest, digest_of

if TYPE_CHECKING:
    import tensorflow as tf

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
CARD = "README.md"  # of the model, for readers: may be written and changed after the export
OTHER_KERAS = "TF_USE_LEGACY_KERAS"  # TensorFlow loads the package tf_keras in place of Keras, if it is installed
MACHINE = ("platform", "cpu_cores", "devices")  # not properties of the model
# In a SavedModel, complete or half written, besides the partial file of its manifest.
OWN = re.compile(r"(?:assets(?:\.extra)?|variables|saved_model\.pb|fingerprint\.pb|manifest\.json)(?:\.tmp.*)?"
                 r"|\w+\.onnx|\.partial_.*manifest\.json")
KEYS = ("format_version", "system", "input", "output", "files")


def export_module(module: tf.Module, out_dir: str | os.PathLike, manifest: dict,
                  write_more: Callable[[Path], dict] = lambda folder: {}) -> Path:
    """Saves a module whose `__call__` has an input signature, atomically.

    Args:
      module: its other functions with a signature are saved too.
      out_dir: a new or an empty folder.
      manifest: the other entries; the format, the files, the versions and the date are added here.
      write_more: writes more files into the folder before it gets its name, and returns entries that describe them.

    Raises:
      UserError: `out_dir` is not empty, or another process writes it.
    """
    from tfsono.training.run import versions  # imports Keras, which is not needed to load an exported model

    out_dir = Path(out_dir)
    with locked_file(out_dir):
        return _export(module, out_dir, manifest, versions(), write_more)


def _export(module: tf.Module, out_dir: Path, manifest: dict, held: dict[str, str], write_more: Callable) -> Path:
    import tensorflow as tf

    check_free(out_dir)
    partial = out_dir.with_name(out_dir.name + ".partial")
    _remove_leftover(partial)
    software = {name: text for name, text in held.items() if name not in MACHINE}
    try:
        with _networks_without_signatures():
            tf.saved_model.save(module, str(partial), signatures={"serving_default": module.__call__})
        manifest = {**manifest, **write_more(partial)}
        manifest = {"format_version": FORMAT_VERSION, **manifest, DIGEST: digest_of(manifest), "versions": software,
                    "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
                    "files": file_checksums(partial)}
        write_text(partial / MANIFEST, json.dumps(manifest, indent=2) + "\n")
        if out_dir.exists():
            out_dir.rmdir()
        os.replace(partial, out_dir)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return out_dir


@contextlib.contextmanager
def _networks_without_signatures() -> Iterator[None]:
    """Keras models inside a module are saved without their own call, which nothing calls: it is traced once more."""
    import keras

    keras.Model._default_save_signature = None  # hides that of its base class
    try:
        yield
    finally:
        del keras.Model._default_save_signature


def check_free(out_dir: Path) -> None:
    """Raises `UserError` unless `out_dir` is a new or an empty folder, and no link."""
    if out_dir.is_symlink() or out_dir.exists() and (not out_dir.is_dir() or any(out_dir.iterdir())):
        found = "a link" if out_dir.is_symlink() else "a folder with files" if out_dir.is_dir() else "a file"
        raise UserError(f"{out_dir}: must be a new or an empty folder; found {found}; choose another one")


def _remove_leftover(partial: Path) -> None:
    """Removes the folder of a killed export, unless it has other files."""
    if partial.is_symlink() or partial.is_file():
        raise UserError(f"{partial}: needed during the export, but found a file or a link; move it away")
    if not partial.exists():
        return
    foreign = [path.name for path in partial.iterdir() if not OWN.fullmatch(path.name)]
    if foreign:
        raise UserError(f"{partial}: needed during the export, but contains {foreign[0]}; move it away")
    shutil.rmtree(partial)


def file_checksums(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file in a folder except its manifest and its card, by its path inside the folder."""
    return {path.relative_to(folder).as_posix(): sha256(path) for path in sorted(folder.rglob("*"))
            if path.is_file() and path not in (folder / MANIFEST, folder / CARD)}


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_manifest(folder: str | os.PathLike) -> dict:
    """The manifest of an exported folder, after a check of every file.

    Raises:
      UserError: the manifest is missing or of another format; a file is changed, missing or added.
    """
    path = Path(folder) / MANIFEST
    if not path.exists():
        raise UserError(f"{folder}: no {MANIFEST}; expected a folder that `tfsono export` wrote")
    manifest = read_json(path, "export the run again")
    _check_manifest(path, manifest)
    found = file_checksums(Path(folder))
    expected = manifest["files"]
    for name in sorted({*found, *expected}):
        if found.get(name) != expected.get(name):
            state = ("not in the manifest" if name not in expected else "missing" if name not in found else
                     "not the file that was exported (its SHA-256 differs)")
            raise UserError(f"{Path(folder) / name[:200]}: {state}; export the run or fetch the folder again")
    return manifest


def _check_manifest(path: Path, manifest) -> None:
    check_keys(path, manifest, KEYS)
    if manifest["format_version"] != FORMAT_VERSION:
        raise UserError(f"{path}: format {manifest['format_version']}, this version reads {FORMAT_VERSION}; "
                        "export the run again")
    check_manifest(path, manifest)


def check_keys(path: str | os.PathLike, manifest, keys: Sequence[str]) -> None:
    """Raises `UserError` where the manifest at `path` lacks one of `keys`, or is not a JSON object."""
    missing = [key for key in keys if key not in manifest] if isinstance(manifest, dict) else list(keys)
    if missing:
        raise UserError(f"{path}: {missing[0]} is missing; export the run again")


def load_exported(folder: str | os.PathLike) -> tuple[Callable, dict]:
    """An exported model, whose files are checked before it is loaded, and its manifest.

    Returns:
      The module, whose arguments and outputs the manifest's "input" and "output" describe, and the manifest.

    Raises:
      UserError: see `read_manifest`; or TensorFlow cannot load it.
    """
    manifest = read_manifest(folder)
    tf = _tensorflow()
    try:
        return tf.saved_model.load(str(folder)), manifest
    except (OSError, ValueError, tf.errors.OpError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{folder}: TensorFlow {tf.__version__} cannot load it: {reason}") from None


def _tensorflow() -> ModuleType:
    """TensorFlow, without Keras where neither is loaded yet.

    TensorFlow loads Keras, which loads matplotlib.pyplot, and a model of ours needs none of them: 0.7 of 4 seconds.
    Collecting garbage while hundreds of thousands of objects are made takes another 0.3.
    """
    known = os.environ.get(OTHER_KERAS)
    os.environ[OTHER_KERAS] = "1"
    collects = gc.isenabled()
    gc.disable()
    try:
        import tensorflow as tf
    finally:
        if collects:
            gc.enable()
        del os.environ[OTHER_KERAS]
        if known is not None:
            os.environ[OTHER_KERAS] = known
    return tf
