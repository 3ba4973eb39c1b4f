"""`tfsono predict`: a run or a SavedModel, and volumes of any kind -> masks and measurements.

    OUT/CASE_mask.nii.gz     in the input's own grid, with the dataset's label values
    OUT/CASE.png             three planes to look at before anything is believed
    OUT/measurements.csv     one row a case and label
"""

from __future__ import annotations

import collections
import csv
import dataclasses
import io
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfsono.errors import UserError
from tfsono.export import load_exported, load_run
from tfsono.files import make_folder, write_text
from tfsono.inference.segmentation import segment_volume
from tfsono.report.plots import preview_picture
from tfsono.volumes.image import Volume, case_name, is_volume_file, read_volume, reorient, write_volume

COLUMNS = ("case", "label", "value", "voxels", "volume_ml", "spacing_x_mm", "spacing_y_mm", "spacing_z_mm",
           "flags", "file")
# A file of many may be unreadable or too large, and a disk full; anything else is a mistake of ours.
FAILURES = (UserError, OSError, MemoryError, tf.errors.ResourceExhaustedError)


@dataclasses.dataclass(frozen=True)
class Predictor:
    """A module and what stands around it.

    Attributes:
      module: (volume, spacing_mm) -> {"mask"}.
      orientation: the orientation that it takes.
      labels: name -> value in the user's files, in the order of the classes from 1.
      largest, holes: what of the mask is cleaned.
    """

    module: Callable
    orientation: str
    labels: dict[str, int]
    largest: bool
    holes: bool


def open_source(source: str | os.PathLike, tiling: str = "") -> Predictor:
    """The predictor of a run folder or of an exported folder.

    Args:
      source: the folder.
      tiling: another tiling than the run's: `paper`, `half`, `fast` or `whole`; "" keeps it.

    Raises:
      UserError: neither of the two, a damaged one, or a tiling asked of an exported folder.
    """
    source = Path(source)
    if (source / "saved_model.pb").is_file():
        if tiling:
            raise UserError(f"--tiling {tiling}: fixed at the export of {source}; export again with it")
        module, manifest = load_exported(source)
        cleaning = manifest["cleaning"]
        return Predictor(module, manifest["input"]["volume"]["orientation"], manifest["labels"],
                         cleaning["largest_component"], cleaning["fill_holes"])
    if not (source / "config.json").is_file():
        raise UserError(f"{source}: expected a run folder (with config.json) or one of `tfsono export`")
    run, module = load_run(source, tiling)
    config = run.config
    labels = {name: run.data["labels"][name] for name in config.label_names}
    return Predictor(module, config.orientation, labels, config.largest_component, config.fill_holes)


def predict(source: str | os.PathLike, inputs: Sequence[str | os.PathLike],
            out_dir: str | os.PathLike, tiling: str = "") -> int:
    """Predicts every input; a bad one is reported in one line and the others go on.

    A folder that predictions lie in already is added to: the rows of other files stay, those of the same file
    are replaced, and an equal name from elsewhere becomes another name.

    Args:
      source: a run folder, or a folder of `tfsono export`.
      inputs: files, DICOM folders, or folders of either.
      out_dir: where the answers go.
      tiling: as in `open_source`.

    Returns:
      The exit status: 0, or 2 if any input failed.

    Raises:
      UserError: no usable source, no input, or an output folder that cannot be used.
    """
    out_dir = Path(out_dir)
    if out_dir.exists() and not out_dir.is_dir():
        raise UserError(f"--out {out_dir}: must be a folder; found a file")
    paths = find_inputs(inputs, out_dir)
    rows = read_measurements(out_dir / "measurements.csv")
    names = unique_names(paths, {row["case"]: row["file"] for row in rows})
    predictor = open_source(source, tiling)
    made = not out_dir.exists()
    make_folder(out_dir)
    failed, began = 0, time.monotonic()
    for index, (path, name) in enumerate(zip(paths, names, strict=True), start=1):
        earlier = any(row["case"] == name for row in rows)
        try:
            found, text = predict_one(predictor, path, name, out_dir, earlier)
        except FAILURES as error:
            failed += 1
            print(f"[{index}/{len(paths)}] error: {_one_line(error, path)}", file=sys.stderr)
            continue
        rows = [row for row in rows if row["case"] != name] + found
        write_measurements(out_dir / "measurements.csv", rows)
        print(f"[{index}/{len(paths)}] {text}{_time_left(began, index, len(paths))}", flush=True)
    if 0 < failed < len(paths):
        print(f"{failed} of {len(paths)} failed; the others lie in {out_dir}", file=sys.stderr)
    if made and not any(out_dir.iterdir()):
        out_dir.rmdir()
    return 2 if failed else 0


def predict_one(predictor: Predictor, path: Path, name: str, out_dir: Path,
                earlier: bool) -> tuple[list[dict], str]:
    """Segments one input, writes its mask and its picture, and returns its rows and a line to print."""
    mask_path = out_dir / f"{name}_mask.nii.gz"
    if mask_path.exists() and not earlier:
        raise UserError(f"{mask_path}: there already, and not of an earlier prediction; choose another --out")
    began = time.monotonic()
    volume = read_volume(path)
    mask = segment_volume(predictor.module, volume, predictor.orientation, len(predictor.labels) + 1,
                          predictor.largest, predictor.holes)
    rows = measure(name, path, volume, mask, predictor.labels)
    _write_picture(out_dir / f"{name}.png", volume, mask, predictor, rows)
    write_volume(mask_path, label_values(mask, predictor.labels), volume)
    amounts = [f"{row['label']} {row['volume_ml']:.2f} mL" + f" ({row['flags']})" * bool(row["flags"])
               for row in rows]
    return rows, f"{name}: {', '.join(amounts)}; {time.monotonic() - began:.1f} s"


def label_values(mask: np.ndarray, labels: dict[str, int]) -> np.ndarray:
    """Classes 0, 1, ... -> 0 and the values of the dataset's own masks; uint8 where they fit, else int32."""
    values = np.array([0, *labels.values()])
    kind = np.uint8 if values.min() >= 0 and values.max() <= 255 else np.int32
    return values.astype(kind)[mask]


def measure(name: str, path: Path, volume: Volume, mask: np.ndarray, labels: dict[str, int]) -> list[dict]:
    """One row a label: voxels, volume in mL, and flags: `empty`, or `touches border` (perhaps cut off)."""
    voxel_ml = float(np.prod(volume.spacing_mm)) / 1000
    spacing = {f"spacing_{axis}_mm": float(step) for axis, step in zip("xyz", volume.spacing_mm, strict=True)}
    rows = []
    for index, (label, value) in enumerate(labels.items(), start=1):
        voxels = mask == index
        count = int(np.count_nonzero(voxels))
        rows.append({
            "case": name, "label": label, "value": value, "voxels": count,
            "volume_ml": round(count * voxel_ml, 6),
            **spacing, "flags": "empty" if count == 0 else "touches border" if touches_border(voxels) else "",
            "file": str(Path(path).resolve()),
        })
    return rows


def touches_border(voxels: np.ndarray) -> bool:
    """Whether any voxel lies on a face of the volume."""
    return any(np.take(voxels, [0, -1], axis).any() for axis in range(3))


def _write_picture(path: Path, volume: Volume, mask: np.ndarray, predictor: Predictor,
                   rows: list[dict]) -> None:
    image = reorient(volume, "LPS")
    turned = reorient(dataclasses.replace(volume, array=mask), "LPS").array
    flags = "; ".join(f"{row['label']}: {row['flags']}" for row in rows if row["flags"])
    preview_picture(path, image.array, turned, image.spacing_mm, tuple(predictor.labels),
                    path.stem + (f"   {flags}" if flags else ""))


def find_inputs(inputs: Iterable[str | os.PathLike], out_dir: Path) -> list[Path]:
    """The volumes that are meant: files, DICOM folders, and what lies directly in folders of them; each once.

    A named file is taken as it is, so that a wrong one is reported when its turn comes.

    Raises:
      UserError: none at all, or a folder of volumes that is also the output folder.
    """
    found: dict[Path, Path] = {}
    for each in map(Path, inputs):
        members = _members(each) if each.is_dir() else [each]
        if members != [each] and each.resolve() == out_dir.resolve():
            raise UserError(f"--out {out_dir}: must not be the folder of the inputs; choose another one")
        for member in members:
            found.setdefault(member.resolve(), member)
    if not found:
        raise UserError("INPUT: no volume found; expected files, DICOM folders, or folders of them")
    return list(found.values())


def _members(folder: Path) -> list[Path]:
    """The volumes directly in a folder, else its sub-folders if there is nothing else, else itself: DICOM."""
    content = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    volumes = [path for path in content if path.is_file() and is_volume_file(path)]
    if volumes:
        return volumes
    return content if content and all(path.is_dir() for path in content) else [folder]


def unique_names(paths: Sequence[Path], taken: dict[str, str]) -> list[str]:
    """A case name for every path, none twice: equal names get the names of their folders in front.

    Args:
      paths: different files or folders.
      taken: names of earlier cases -> their files; the same file keeps its name, and no other gets it.
    """
    earlier = {file: name for name, file in taken.items()}
    used = {name.lower() for name in taken}
    wanted = collections.Counter(name.lower() for path in paths for name in set(_names_with_folders(path)))
    names = []
    for path in paths:
        free = [name for name in _names_with_folders(path)
                if wanted[name.lower()] == 1 and name.lower() not in used]
        name = earlier.get(str(path.resolve())) or (free[0] if free else _numbered(case_name(path), used))
        used.add(name.lower())
        names.append(name)
    return names


def _names_with_folders(path: Path) -> list[str]:
    """The case's name alone, with its folder in front, with two folders, and so on."""
    folders = path.resolve().parent.parts[1:]
    return ["_".join([*folders[len(folders) - depth:], case_name(path)]) for depth in range(len(folders) + 1)]


def _numbered(name: str, used: set[str]) -> str:
    """For files of one name in one folder (`a.nii.gz` and `a.mha`): the first free one of a, a_2, a_3 ..."""
    candidates = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))
    return next(candidate for candidate in candidates if candidate.lower() not in used)


def read_measurements(path: Path) -> list[dict]:
    """The rows of an earlier `measurements.csv`; none where there is no file.

    Raises:
      UserError: a file of this name with other columns.
    """
    if not path.is_file():
        return []
    with open(path, newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise UserError(f"{path}: not the measurements of an earlier prediction; choose another --out")
        return list(reader)


def write_measurements(path: Path, rows: list[dict]) -> None:
    """Writes the table whole, beside and renamed."""
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, stream.getvalue())


def _one_line(error: BaseException, path: Path) -> str:
    text = " ".join(str(error).split())[:300] or type(error).__name__
    return text if isinstance(error, UserError) else f"{path}: {text}"


def _time_left(began: float, done: int, count: int) -> str:
    if done == count:
        return ""
    seconds = (time.monotonic() - began) / done * (count - done)
    return f", {seconds:.0f} s left" if seconds < 120 else f", {seconds / 60:.0f} min left"
