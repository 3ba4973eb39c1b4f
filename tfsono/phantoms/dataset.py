"""Phantoms written in the dataset layout; a run that was stopped goes on where it was."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from tfsono.errors import UserError
from tfsono.files import replacing, write_text
from tfsono.phantoms.hip import hip_phantom
from tfsono.phantoms.shapes import SHAPES, shapes_phantom

# To be raised when a seed gives another volume than before, so that no folder is filled half with each.
DRAWING_VERSION = 1

CaseVolumes = tuple[str, np.ndarray, np.ndarray, tuple[float, float, float]]
Progress = Callable[[str], None]


def write_hip_dataset(
    root: str | Path, cases: int, seed: int, size, spacing_mm, progress: Progress = print
) -> Path:
    """Writes hips hip_001, hip_002, ... with the label "femur", each from its own seed, drawn from `seed`.

    Raises:
        UserError: `cases` is not positive, or the folder holds something else (other settings, more cases).
    """
    settings = _settings("hip", seed, size, spacing_mm)

    def draw(case_seed: int) -> tuple[np.ndarray, np.ndarray]:
        return hip_phantom(case_seed, tuple(size), tuple(spacing_mm))[:2]

    volumes = _missing_cases(Path(root), "hip", cases, settings, draw, progress)
    return write_dataset(root, "hip phantoms", "T1w MR (synthetic)", {"femur": 1}, volumes, phantom=settings)


def write_shapes_dataset(
    root: str | Path, cases: int, seed: int, size, spacing_mm, progress: Progress = print, *, classes: int = 4
) -> Path:
    """Writes shapes_001, ...: simple bodies, our own stand-in for C3D's videos, to pre-train an encoder on.

    Raises:
        UserError: `cases` is not positive, or the folder holds something else (other settings, more cases).
    """
    settings = _settings("shapes", seed, size, spacing_mm) | {"classes": classes}
    labels = {name: value for value, name in enumerate(SHAPES[: classes - 1], start=1)}

    def draw(case_seed: int) -> tuple[np.ndarray, np.ndarray]:
        return shapes_phantom(case_seed, tuple(size), tuple(spacing_mm), classes)

    volumes = _missing_cases(Path(root), "shapes", cases, settings, draw, progress)
    return write_dataset(root, "shapes phantoms", "synthetic", labels, volumes, phantom=settings)


def write_dataset(
    root: str | Path,
    name: str,
    modality: str,
    label_names: dict[str, int],
    volumes: Iterable[CaseVolumes],
    split: dict | None = None,
    *,
    phantom: dict | None = None,
) -> Path:
    """Writes every (case, image [X, Y, Z], label [X, Y, Z], spacing_mm) of `volumes`.

    Each file is written beside its place and renamed, so that it is there whole or not at all; what
    `volumes` does not name is left alone. Images of whole numbers are stored as int16, others as float32;
    the direction is the identity (LPS).

    Args:
        phantom: the settings that made the volumes, for dataset.json; a folder made with others is refused.

    Returns:
        The folder.

    Raises:
        UserError: the folder's dataset.json is not of these settings, or is not JSON.
    """
    root = Path(root)
    entry = {"name": name, "modality": modality, "labels": dict(label_names), "landmarks": [], "units": "mm"}
    entry |= {"split": split} if split else {}
    entry |= {"phantom": phantom} if phantom else {}
    _claim(root, entry)
    for case, image, label, spacing_mm in volumes:
        _write_case(root, case, image, label, spacing_mm)
    return root


def _settings(kind: str, seed: int, size, spacing_mm) -> dict:
    return {
        "kind": kind,
        "version": DRAWING_VERSION,
        "seed": int(seed),
        "size": [int(side) for side in size],
        "spacing_mm": [float(side) for side in spacing_mm],
    }


def _claim(root: Path, entry: dict) -> None:
    """Makes the folder this data set's, or finds that it is already."""
    path = root / "dataset.json"
    found = _read_entry(path)
    if found is None:
        _make_folders(root)
        write_text(path, json.dumps(entry, indent=2) + "\n")
    elif found != json.loads(json.dumps(entry)):
        raise UserError(
            f"{path}: made with other settings ({_difference(found, entry)}); choose another folder"
        )


def _make_folders(root: Path) -> None:
    """images/ and labels/, unless they hold somebody's files already."""
    for folder in (root / "images", root / "labels"):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{folder}: must be a folder that can be made, but {error.strerror}") from error
        if any(folder.iterdir()):
            raise UserError(
                f"{folder}: holds files but no dataset.json stands beside it; choose another folder"
            )


def _read_entry(path: Path) -> dict | None:
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: must be JSON, but {error}; delete it or choose another folder") from error
    return found if isinstance(found, dict) else {}


def _difference(found: dict, wanted: dict) -> str:
    """The first setting in which two dataset.json differ, in words."""
    flat_found, flat_wanted = (entry | (entry.get("phantom") or {}) for entry in (found, wanted))
    for key in [*(wanted.get("phantom") or {}), *wanted]:
        if flat_found.get(key) != flat_wanted[key]:
            return f"{key} {flat_found.get(key)!r} there, {flat_wanted[key]!r} asked"
    return "it has entries of its own"


def _missing_cases(
    root: Path, prefix: str, cases: int, settings: dict, draw, progress: Progress
) -> Iterator[CaseVolumes]:
    """Draws the cases that are not there yet; checks at once, not only when the first is asked for."""
    if cases < 1:
        raise UserError(f"--cases: must be at least 1; found {cases}")
    names = [f"{prefix}_{number:03d}" for number in range(1, cases + 1)]
    size = tuple(settings["size"])
    present = [path.name[: -len(".nii.gz")] for path in root.glob(f"images/{prefix}_*.nii.gz")]
    extra = [name for name in present if name not in names]
    if extra:
        raise UserError(
            f"{root}: {cases} cases asked, but it holds more ({min(extra)}); choose another folder"
        )
    missing = [number for number, name in enumerate(names) if not _is_whole(root, name, size)]
    if len(missing) < cases:
        progress(f"{root}: {cases - len(missing)} of {cases} cases are there already")
    return _draw_cases(names, missing, settings, draw, progress)


def _draw_cases(
    names: list[str], missing: list[int], settings: dict, draw, progress: Progress
) -> Iterator[CaseVolumes]:
    started = time.monotonic()
    for done, number in enumerate(missing, start=1):
        case_seed = int(np.random.SeedSequence([settings["seed"], number]).generate_state(1)[0])
        image, label = draw(case_seed)
        yield names[number], image, label, tuple(settings["spacing_mm"])
        left = (time.monotonic() - started) / done * (len(missing) - done)
        progress(f"{names[number]} written, {len(missing) - done} to go, about {left:.0f} s left")


def _is_whole(root: Path, case: str, size: tuple[int, ...]) -> bool:
    """Whether image and label are there with this size; a name appears only when its file is whole."""
    for folder in ("images", "labels"):
        path = root / folder / f"{case}.nii.gz"
        if not path.is_file() or _size_in_file(path) != size:
            return False
    return True


def _size_in_file(path: Path) -> tuple[int, ...] | None:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return None
    return tuple(reader.GetSize())


def _write_case(root: Path, case: str, image: np.ndarray, label: np.ndarray, spacing_mm) -> None:
    if image.shape != label.shape or image.ndim != 3:
        raise ValueError(f"{case}: image {image.shape} and label {label.shape} must be one 3D shape")
    origin_mm = _origin_mm(case, image.shape, spacing_mm)
    for folder, array in (("images", _as_stored(image)), ("labels", label.astype(np.uint8))):
        volume = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
        volume.SetSpacing([float(side) for side in spacing_mm])
        volume.SetOrigin(origin_mm)
        with replacing(root / folder / f"{case}.nii.gz") as partial:
            sitk.WriteImage(volume, str(partial), True)


def _as_stored(image: np.ndarray) -> np.ndarray:
    whole = np.array_equal(image, np.rint(image)) and np.abs(image).max() < 2**15
    return image.astype(np.int16 if whole else np.float32)


def _origin_mm(case: str, size, spacing_mm) -> tuple[float, ...]:
    """An origin as in a scanner: the volume around its middle, off by centimetres that the name decides."""
    shift = np.random.default_rng(zlib.crc32(case.encode())).uniform(-60, 60, 3).round(1)
    return tuple(
        float(move - (count - 1) / 2 * step)
        for move, count, step in zip(shift, size, spacing_mm, strict=True)
    )
