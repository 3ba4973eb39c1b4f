"""The images, masks and landmarks of a dataset folder, and its dataset.json.

Three layouts of volumes are read as they are:

    images/CASE.nii.gz  labels/CASE.nii.gz  landmarks/CASE.mrk.json (or .fcsv, a label image, landmarks.csv)
    imagesTr/CASE[_0000].nii.gz  labelsTr/CASE.nii.gz     as of nnU-Net and the Medical Segmentation Decathlon
    volumes/CASE.nii.gz  landmark_anno/CASE_landmark.json

An image may be a folder (one DICOM series). And two of 2D images (see `volumes.image_2d`):

    images/CASE.png  labels/CASE.png (or masks/CASE_mask.png)
    010_HC.png  010_HC_Annotation.png  in one folder        the HC18 set as downloaded

with tables of pixel sizes, head circumferences and BPD/OFD points in the dataset's folder (see `image_tables`). A
dataset holds volumes or 2D images, not both. Hidden files, and files that are neither, are skipped and reported.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfsono.data.image_tables import ImageTables, find_tables, is_point_table, read_point_table
from tfsono.data.splits import check_split_names
from tfsono.errors import UserError
from tfsono.files import read_json
from tfsono.geometry.head_labels import LANDMARKS
from tfsono.volumes.dicom import is_series_folder
from tfsono.volumes.image import case_name, is_volume_file, read_volume
from tfsono.volumes.landmarks import points_to_mm, read_landmark_names, read_landmarks, read_landmarks_csv
from tfsono.volumes.image_2d import is_image_2d_file, image_2d_name

# One row per layout: images, masks, landmarks, and the end of a landmark file's stem.
FOLDERS = (
    ("images", "labels", "landmarks", ""),
    ("imagesTr", "labelsTr", "landmarksTr", ""),
    ("volumes", "labels", "landmark_anno", "_landmark"),
)
LANDMARK_SUFFIXES = (".mrk.json", ".fcsv", ".json")
DICOM_SUFFIXES = (".dcm", ".dicom", "")
OUR_KEYS = (
    "name",
    "modality",
    "labels",
    "landmarks",
    "units",
    "split",
    "subjects",
    "description",
    "reference",
    "licence",
    "phantom",
)
FOREIGN_KEYS = (
    *(
        "channel_names",
        "numTraining",
        "numTest",
        "file_ending",
        "training",
        "test",
        "tensorImageSize",
        "release",
    ),
    *("license", "dataset_name", "overwrite_image_reader_writer", "image_reader_writer", "converted_by"),
    *("citation", "dataset_release"),
)
"""What other programs write into dataset.json: ignored."""

MOST_LABEL_VALUES = 255
MASK_ENDINGS = ("_Annotation", "_mask")
"""What a mask's name may add to its image's."""

HC18_NAME = re.compile(r"(\d+)_\d*HC")
"""Number of the examination, then of the image: 010_HC, 010_2HC."""

IMAGE_LABEL = "head"
"""The label of a dataset of 2D images whose dataset.json names none."""


@dataclass(frozen=True)
class Case:
    """One image and what belongs to it; `landmarks` may be a table that several cases share.

    `pixel_size_mm` and `hc_mm` (head circumference) of a 2D image come from the tables, None where these have none; a
    DICOM file may hold its pixel size itself.
    """

    name: str
    image: Path
    label: Path | None
    landmarks: Path | None
    subject: str
    pixel_size_mm: float | None = None
    hc_mm: float | None = None

    @property
    def is_2d(self) -> bool:
        """Whether this is a 2D image, and no volume."""
        return is_image_2d_file(self.image)


@dataclass(frozen=True)
class Dataset:
    """What `open_dataset` found.

    Attributes:
        labels: name -> value in the files, foreground only, ordered by value.
        landmarks: their names, in dataset.json's order (without it: sorted, numbers by their value).
        split: {"train" | "validation" | "test": case names} as dataset.json gives it, or None.
        cases: ordered by name.
        notes: lines for the user: what was skipped, what was found in the files.
    """

    root: Path
    name: str
    modality: str
    labels: dict[str, int]
    landmarks: tuple[str, ...]
    split: dict[str, list[str]] | None
    cases: tuple[Case, ...]
    notes: tuple[str, ...] = ()

    @property
    def of_images(self) -> bool:
        """Whether the cases are 2D images."""
        return bool(self.cases) and self.cases[0].is_2d


def open_dataset(root) -> Dataset:
    """Finds the cases of the folder `root`, and the names of labels and landmarks.

    They come from dataset.json or, if it has none, from reading all masks and landmark files.

    Raises:
        UserError: no such folder, none of the layouts, no images, volumes and 2D images, two files of one case, a
            wrong dataset.json or table.
    """
    root = Path(root)
    places = _places(root)
    notes: list[str] = []
    described = _read_description(root / "dataset.json", notes)
    image_paths, are_2d = _images(places, notes)
    label_paths = _labels_of(places, image_paths, are_2d, notes)
    tables = find_tables(root, image_paths, bool(label_paths), notes) if are_2d else ImageTables()
    landmark_paths = dict.fromkeys(tables.with_points, tables.points)
    if tables.points is None:
        landmark_paths = _landmark_files(root, places, image_paths, notes)
    subjects = described.get("subjects", {})
    _check_known(subjects, image_paths, root / "dataset.json", "subjects")
    cases = tuple(
        Case(name=name, image=image_paths[name], label=label_paths.get(name), landmarks=landmark_paths.get(name),
             subject=subjects.get(name, _subject_of(name, are_2d)), pixel_size_mm=tables.pixel_sizes_mm.get(name),
             hc_mm=tables.circumferences_mm.get(name))
        for name in sorted(image_paths)
    )
    if are_2d:
        _note_unmeasured(root, cases, notes)
    if described.get("split") is not None:
        check_split_names(described["split"], image_paths, f"{root / 'dataset.json'}: split")
    found_labels = _image_labels if are_2d else _volume_labels
    return Dataset(
        root=root,
        name=described.get("name", root.resolve().name),
        modality=described.get("modality", ""),
        labels=found_labels(described.get("labels"), cases, root, notes),
        landmarks=described["landmarks"] if "landmarks" in described else _found_landmarks(cases, tables, notes),
        split=described.get("split"),
        cases=cases,
        notes=tuple(notes),
    )


def case_landmarks(case: Case, like) -> dict[str, np.ndarray]:
    """The landmarks of `case` [mm, LPS] by name; a missing one is NaN or absent.

    Those of a 2D image are its pixels times the spacing of its volume, which is 1 where the pixel size is unknown.

    Args:
        case: the case.
        like: its image, in the file's own orientation: needed for landmarks in voxel indices.

    Raises:
        UserError: the file cannot be read.
    """
    if case.landmarks is None:
        return {}
    if case.landmarks.suffix == ".csv" and is_point_table(case.landmarks):
        points_px = read_point_table(case.landmarks).get(case.name, np.empty((0, 2)))
        points_mm = points_to_mm(np.pad(points_px, ((0, 0), (0, 1))), like)
        return dict(zip(LANDMARKS, points_mm, strict=False))
    if case.landmarks.suffix == ".csv":
        return read_landmarks_csv(case.landmarks).get(case.name, {})
    return read_landmarks(case.landmarks, like)


def source_checksums(case: Case) -> dict[str, str]:
    """The sha256 of the contents of the case's "image", "label" and "landmarks"; "" where there is none.

    For a 2D image also of its "numbers" from the tables.

    Raises:
        UserError: a file cannot be read.
    """
    paths = {"image": case.image, "label": case.label, "landmarks": case.landmarks}
    checksums = {kind: "" if path is None else _checksum(path) for kind, path in paths.items()}
    if case.is_2d:
        checksums["numbers"] = hashlib.sha256(f"{case.pixel_size_mm} {case.hc_mm}".encode()).hexdigest()
    return checksums


def _checksum(path: Path) -> str:
    """Of a folder: of all its files, in the order of their names; of a header: of the voxels' file too."""
    digest = hashlib.sha256()
    for part in _parts(path):
        digest.update(os.fsencode(part.name))
        _update_with_file(digest, part)
    return digest.hexdigest()


def _update_with_file(digest, path: Path) -> None:
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read: {error.strerror}; fix its permissions or remove the case"
        ) from None


def _parts(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(part for part in path.rglob("*") if part.is_file())
    if path.suffix.lower() in (".mhd", ".nhdr"):
        header = path.read_text("latin-1")
        named = re.search(r"(?im)^(?:ElementDataFile\s*=|data ?file:)\s*(\S.*?)\s*$", header)
        data = [path.parent / named.group(1)] if named else []
    elif path.suffix.lower() in (".hdr", ".img"):
        data = [path.with_suffix(suffix) for suffix in (".hdr", ".img")]
    else:
        data = []
    return [path] + [part for part in data if part != path and part.is_file()]


@dataclass(frozen=True)
class _Places:
    """The folders of images, masks and landmarks; `ending` is the end of a landmark file's stem."""

    images: Path
    labels: Path
    landmarks: Path
    ending: str


def _places(root: Path) -> _Places:
    if not root.is_dir():
        raise UserError(
            f"{root}: a dataset is a folder; found {'a file' if root.exists() else 'nothing there'}: "
            "give the folder that holds images/"
        )
    for images, labels, landmarks, ending in FOLDERS:
        if (root / images).is_dir():
            masks = labels if (root / labels).is_dir() or not (root / "masks").is_dir() else "masks"
            return _Places(root / images, root / masks, root / landmarks, ending)
    if _is_hc18_folder(root):
        return _Places(root, root, root / "landmarks", "")
    inside = next((f"; give {path}" for path in sorted(root.iterdir()) if _is_hc18_folder(path)), ": see the README")
    raise UserError(
        f"{root}: a dataset has a folder images/, imagesTr/ or volumes/, or images named as in HC18 (010_HC.png); "
        f"found none of them{inside}"
    )


def _is_hc18_folder(path: Path) -> bool:
    return path.is_dir() and any(
        HC18_NAME.fullmatch(image_2d_name(file)) and is_image_2d_file(file) for file in path.iterdir()
    )


def _images(places: _Places, notes: list[str]) -> tuple[dict[str, Path], bool]:
    """Case name -> image, and whether these are 2D.

    nnU-Net's ending _0000 is not part of the name; further channels are not read.
    """
    folder = places.images
    if any(is_image_2d_file(path) and not path.is_dir() for path in folder.iterdir()):
        found = _images_2d(folder, notes)
        if folder == places.labels:
            found = {name: path for name, path in found.items() if not name.endswith(MASK_ENDINGS)}
        return found, True
    found = _volumes(folder, notes)
    if folder.name == "imagesTr":
        further = sorted(name for name in found if re.search(r"_\d{4}$", name) and not name.endswith("_0000"))
        further = [name for name in further if f"{name[:-5]}_0000" in found]
        if further:
            notes.append(
                f"{folder}: one channel is read; {len(further)} others were skipped: {_some(further)}"
            )
        found = {name.removesuffix("_0000"): path for name, path in found.items() if name not in further}
    if not found:
        raise UserError(
            f"{folder}: an image is needed (.nii.gz .nii .mha .mhd .nrrd or a DICOM folder, or 2D images: .png .jpg "
            ".bmp .tif .dcm); found none"
        )
    return found, False


def _labels_of(places: _Places, images: dict[str, Path], are_2d: bool, notes: list[str]) -> dict[str, Path]:
    """Case name -> mask."""
    if not are_2d:
        return _only_known(_volumes(places.labels, notes), images, notes)
    found: dict[str, Path] = {}
    mask_notes = [] if places.labels == places.images else notes  # in HC18's one folder, reported with the images
    for name, path in _images_2d(places.labels, mask_notes).items():
        ending = next((ending for ending in MASK_ENDINGS if name.endswith(ending) and name not in images), "")
        if places.labels != places.images or ending:
            _add(found, name.removesuffix(ending), path)
    return _only_known(found, images, notes)


def _images_2d(folder: Path, notes: list[str]) -> dict[str, Path]:
    """Case name -> 2D image. UserError for volumes among them: half the dataset would be skipped."""
    found: dict[str, Path] = {}
    ignored = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if is_image_2d_file(path) and not path.is_dir():
            _add(found, image_2d_name(path), path)
        elif is_volume_file(path) or is_series_folder(path):
            raise UserError(
                f"{path}: a dataset holds volumes or 2D images, not both; found this volume among 2D images: move one "
                "kind elsewhere"
            )
        elif path.suffix.lower() not in (".csv", ".json") and not path.is_dir():
            ignored.append(path.name)
    if ignored:
        notes.append(f"{folder}: {len(ignored)} files are not images and were skipped: {_some(ignored)}")
    return found


def _subject_of(name: str, are_2d: bool) -> str:
    """The number of the examination in HC18's names: 010_HC and 010_2HC show one fetus."""
    numbered = HC18_NAME.fullmatch(name) if are_2d else None
    return numbered.group(1) if numbered else name


def _note_unmeasured(root: Path, cases: tuple[Case, ...], notes: list[str]) -> None:
    without = [c.name for c in cases if c.pixel_size_mm is None and c.image.suffix.lower() not in DICOM_SUFFIXES]
    if without:
        notes.append(f"{root}: {len(without)} of {len(cases)} images have no pixel size and are measured in pixels "
                     f"only: {_some(without)}")


def _volumes(folder: Path, notes: list[str]) -> dict[str, Path]:
    """Case name -> file or DICOM folder."""
    found: dict[str, Path] = {}
    ignored = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name.startswith("."):
            ignored.append(path.name)
        elif is_volume_file(path) or path.is_dir():
            _add(found, case_name(path), path)
        elif path.suffix.lower() not in (".raw", ".zraw"):  # the voxels of an .mhd
            ignored.append(path.name)
    if ignored:
        notes.append(f"{folder}: {len(ignored)} files are not volumes and were skipped: {_some(ignored)}")
    return found


def _add(found: dict[str, Path], name: str, path: Path) -> None:
    if name not in found:
        found[name] = path
    elif path.suffix.lower() == ".img" and found[name].suffix.lower() == ".hdr":
        pass  # one NIfTI in two files: the header stands for both
    else:
        raise UserError(
            f"{path}: a case has one file; found {found[name].name} too: remove or rename one of them"
        )


def _only_known(found: dict[str, Path], names, notes: list[str]) -> dict[str, Path]:
    unknown = sorted(path.name for name, path in found.items() if name not in names)
    if unknown:
        folder = next(iter(found.values())).parent
        notes.append(
            f"{folder}: {len(unknown)} files have no image and were skipped: {_some(unknown)}"
        )
    return {name: path for name, path in found.items() if name in names}


def _landmark_files(root: Path, places: _Places, names, notes: list[str]) -> dict[str, Path]:
    """Case name -> its own file in `landmarks`, or the one landmarks.csv that has a row for it."""
    folder, ending = places.landmarks, places.ending
    for table in (root / "landmarks.csv", folder / "landmarks.csv"):
        if table.is_file():
            return {name: table for name in read_landmarks_csv(table) if name in names}
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        suffix = next((suffix for suffix in LANDMARK_SUFFIXES if path.name.endswith(suffix)), None)
        if path.name.startswith(".") or (suffix is None and not is_volume_file(path)):
            continue
        stem = case_name(path) if suffix is None else path.name[: -len(suffix)]
        _add(found, stem.removesuffix(ending) if ending else stem, path)
    return _only_known(found, names, notes)


def _some(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


# ---------------------------------------------------------------------------------------------- dataset.json


def _read_description(path: Path, notes: list[str]) -> dict:
    """The entries that this package uses, each checked; absent ones are absent."""
    if not path.is_file():
        return {}
    found = read_json(path, "mend it, or remove it: labels and landmarks are then found in the files")
    if not isinstance(found, dict):
        raise UserError(f"{path}: must hold one JSON object; found {type(found).__name__}")
    unknown = sorted(set(found) - set(OUR_KEYS) - set(FOREIGN_KEYS))
    if unknown:
        notes.append(
            f"{path}: unknown keys were ignored: {_some(unknown, 8)}; known are {', '.join(OUR_KEYS)}"
        )
    readers = {
        "name": _text, "modality": _modality, "labels": _labels, "landmarks": _landmarks,
        "units": _units, "subjects": _subjects, "split": _split,
    }  # fmt: skip
    described = {key: reader(found[key], f"{path}: {key}") for key, reader in readers.items() if key in found}
    if "channel_names" in found and "modality" not in described:
        described["modality"] = _modality(found["channel_names"], f"{path}: channel_names")
    return described


def _wrong(where: str, rule: str, found) -> UserError:
    return UserError(f"{where} must be {rule}; found {json.dumps(found)[:80]}")


def _text(value, where: str) -> str:
    if not isinstance(value, str):
        raise _wrong(where, "text", value)
    return value


def _modality(value, where: str) -> str:
    """Text, or nnU-Net's {"0": "MRI"}: the first channel's."""
    return _text(value.get("0", "") if isinstance(value, dict) else value, where)


def _units(value, where: str) -> str:
    if value != "mm":
        raise _wrong(where, '"mm" (files are read in millimetres)', value)
    return value


def _labels(value, where: str) -> dict[str, int]:
    """{"femur": 1} or, as in the Decathlon, {"1": "femur"}; background (0) is dropped."""
    if not isinstance(value, dict):
        raise _wrong(where, 'an object such as {"femur": 1}', value)
    labels: dict[str, int] = {}
    for key, entry in value.items():
        name, number = (entry, key) if isinstance(entry, str) and key.isdecimal() else (key, entry)
        if isinstance(number, str) and number.isdecimal():
            number = int(number)
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= 65535:
            raise _wrong(
                f"{where}: {key!r}", "one whole number from 0 to 65535 (no regions, no lists)", entry
            )
        if number in labels.values() or name in labels:
            raise _wrong(where, f"without repetition ({name!r}, {number})", value)
        labels[name] = number
    labels = {name: number for name, number in sorted(labels.items(), key=lambda item: item[1]) if number}
    if len(labels) > MOST_LABEL_VALUES:
        raise _wrong(where, f"at most {MOST_LABEL_VALUES} labels", value)
    return labels


def _landmarks(value, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise _wrong(where, 'a list of names such as ["proximal", "distal"]', value)
    if len(set(value)) != len(value):
        raise _wrong(where, "a list of different names", value)
    return tuple(value)


def _subjects(value, where: str) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(name, (str, int)) for name in value.values()):
        raise _wrong(where, 'an object such as {"case_01": "subject_a"}', value)
    return {case: str(subject) for case, subject in value.items()}


def _split(value, where: str) -> dict[str, list[str]] | None:
    """{"train": [...], "validation": [...], "test": [...]}; null counts as absent."""
    if value is None:
        return None
    parts = ("train", "validation", "test")
    if not isinstance(value, dict) or not set(value) <= set(parts):
        raise _wrong(where, 'an object with "train", "validation" and "test"', value)
    for part, names in value.items():
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise _wrong(f"{where}: {part}", "a list of case names", names)
    return {part: list(value.get(part, [])) for part in parts}


def _check_known(named, names, path: Path, key: str) -> None:
    unknown = sorted(set(named) - set(names))
    if unknown:
        raise UserError(
            f"{path}: {key} must name cases that exist; found {_some(unknown)}: correct or remove them"
        )


# --------------------------------------------------------------------------------------- found in the files


def _image_labels(described: dict[str, int] | None, cases: tuple[Case, ...], root: Path, notes) -> dict[str, int]:
    """One label of value 1, whatever the files hold: in a 2D mask every value but 0 is inside."""
    if described is not None and len(described) > 1:
        raise UserError(f"{root / 'dataset.json'}: labels of 2D images must be one, as every value but 0 is inside; "
                        f"found {_some(list(described))}; keep one")
    if described is None:
        return {IMAGE_LABEL: 1} if any(case.label for case in cases) else {}
    return dict.fromkeys(described, 1)


def _volume_labels(described: dict[str, int] | None, cases: tuple[Case, ...], root: Path, notes) -> dict[str, int]:
    """Every positive value of the masks, named label_VALUE; the audit reports unreadable masks."""
    if described is not None:
        return described
    values: set[int] = set()
    for case in cases:
        if case.label is not None:
            values.update(_positive_values(case.label))
        if len(values) > MOST_LABEL_VALUES:
            raise UserError(
                f"{case.label}: without dataset.json the masks give the labels, at most {MOST_LABEL_VALUES}; "
                f"found {len(values)} values: are these masks? Name the labels in dataset.json"
            )
    labels = {f"label_{value}": value for value in sorted(values)}
    if labels:
        notes.append(f"labels found in the masks: {_some(list(labels), 8)}; dataset.json can name them")
    return labels


def _positive_values(path: Path) -> set[int]:
    try:
        array = read_volume(path).array
    except UserError:
        return set()
    if array.dtype == np.uint8:  # counting is ten times as fast as sorting
        values = np.flatnonzero(np.bincount(array.ravel(), minlength=256))
    else:
        values = np.unique(array)
    return {int(value) for value in values if value > 0 and value == int(value)}


def _found_landmarks(cases: tuple[Case, ...], tables: ImageTables, notes: list[str]) -> tuple[str, ...]:
    """Those of a table of points; else every landmark name of any readable file, sorted."""
    if tables.points is not None:
        return LANDMARKS
    names: set[str] = set()
    unreadable: list[str] = []
    for case in cases:
        if case.landmarks is not None:
            try:
                names.update(_landmark_names(case))
            except UserError as error:
                unreadable.append(str(error))
    if unreadable:
        notes.append(f"{len(unreadable)} landmark files have no readable names, such as {unreadable[0]}")
    if names:
        notes.append(
            f"landmarks found in the files: {_some(sorted(names, key=_by_number), 16)}; dataset.json can order them"
        )
    return tuple(sorted(names, key=_by_number))


def _landmark_names(case: Case) -> tuple[str, ...]:
    if case.landmarks.suffix == ".csv":
        return tuple(case_landmarks(case, None))
    return read_landmark_names(case.landmarks)


def _by_number(name: str) -> list:
    """Sorts "2" before "10", and "L2" before "L10"."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name)]
