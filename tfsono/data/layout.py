"""The images, masks and landmarks of a dataset folder, and its dataset.json.

Three layouts of volumes are read as they are:

    images/CASE.nii.gz  labels/CASE.nii.gz  landmarks/CASE.mrk.json (or .fcsv, a label image, landmarks.csv)
    imagesTr/CASE[_0000].nii.gz  labelsTr/CASE.nii.gz     as of nnU-Net and the Medical Segmentation Decathlon
    volumes/CASE.nii.gz  landmark_anno/CASE_landmark.json

An image may be a folder (one DICOM series). And two of 2D images (see `volumes.image_2d`):

    images/CASE.png  labels/CASE.png (or masks/CASE_mask.png)
    010_HC.png  010_HC_Annotation.png  in one folder        the HC18 set as downloaded

with tables of pixel sizes, head circumferences and BPD/OFD points in the dataset's folder (see `image_tables`). A
dataset holds volumes or 2D images, not both. What a system leaves behind (hidden files, @eaDir, Thumbs.db ...), and
what is neither, is skipped and reported. Names of masks, landmarks and tables are matched with the images' by `names`.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tfsono.data.description import MOST_LABEL_VALUES, read_description, without_ignored
from tfsono.data.image_tables import ImageTables, find_tables, is_point_table, read_point_table
from tfsono.data.names import CHANNEL, check_single, match_names, some
from tfsono.data.splits import check_split_names
from tfsono.data.subjects import HC18_NAME, found_subjects
from tfsono.errors import UserError, printable
from tfsono.files import is_system_entry, open_regular
from tfsono.geometry.head_labels import LANDMARKS
from tfsono.volumes.dicom import is_series_folder
from tfsono.volumes.image import case_name, is_volume_file, read_mask
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
NO_DICOM = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".txt", ".csv", ".json", ".md", ".pdf", ".xlsx", ".zip")
"""A folder of files with these suffixes only is no case."""

UNREAD_TABLE = re.compile(r"(landmark|fiducial)\w*\.(csv|tsv|txt|xlsx?|ods)")
"""Names of tables in the dataset's folder that somebody may expect to be read as landmarks."""

OWN_FOLDERS = ("audit", "landmarks")

MASK_ENDINGS = ("_Annotation", "_mask")
"""What a mask's name may add to its image's."""

IMAGE_LABEL = "head"
"""The label of a dataset of 2D images whose dataset.json names none."""


MOST_BYTES = 16 << 30
"""Of a file of a case."""

LONGEST_HEADER = 1 << 16
"""Bytes of a header that names the file of the voxels."""


@dataclass(frozen=True)
class Case:
    """One image and what belongs to it; `landmarks` may be a table that several cases share.

    `row` is the case's name in that table; `prefix` is what the names of its landmarks have in front of the dataset's.
    `pixel_size_mm` and `hc_mm` (head circumference) of a 2D image come from the tables, None where these have none; a
    DICOM file may hold its pixel size itself. `spacing_mm_of_file` replaces a volume's spacing; () takes the file's.
    """

    name: str
    image: Path
    label: Path | None
    landmarks: Path | None
    subject: str
    pixel_size_mm: float | None = None
    hc_mm: float | None = None
    row: str = ""
    prefix: str = ""
    spacing_mm_of_file: tuple[float, ...] = ()

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
        ignored: the value in the masks of nnU-Net's label "ignore", voxels that nobody annotated; None without it.
    """

    root: Path
    name: str
    modality: str
    labels: dict[str, int]
    landmarks: tuple[str, ...]
    split: dict[str, list[str]] | None
    cases: tuple[Case, ...]
    notes: tuple[str, ...] = ()
    ignored: int | None = None

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
    described = read_description(root / "dataset.json", notes)
    image_paths, are_2d = _images(places, notes)
    label_paths = _labels_of(places, image_paths, are_2d, notes)
    tables = find_tables(root, image_paths, bool(label_paths), notes) if are_2d else ImageTables()
    landmark_paths = dict.fromkeys(tables.with_points, tables.points)
    rows = tables.with_points
    if tables.points is None:
        landmark_paths, rows = _landmark_files(root, places, image_paths, notes)
    given = described.get("subjects", {})
    _check_known(given, image_paths, root / "dataset.json", "subjects")
    subjects = {**found_subjects(image_paths, given, are_2d, str(places.images), notes), **given}
    cases = tuple(
        Case(name=name, image=image_paths[name], label=label_paths.get(name), landmarks=landmark_paths.get(name),
             subject=subjects[name], pixel_size_mm=tables.pixel_sizes_mm.get(name),
             hc_mm=tables.circumferences_mm.get(name), row=rows.get(name, ""))
        for name in sorted(image_paths)
    )
    if are_2d:
        _note_unmeasured(root, cases, notes)
    if described.get("split") is not None:
        check_split_names(described["split"], image_paths, f"{root / 'dataset.json'}: split")
    labels, ignored = without_ignored(described.get("labels"), are_2d, root / "dataset.json", notes)
    found_labels = _image_labels if are_2d else _volume_labels
    landmarks = described.get("landmarks")
    if landmarks is None:
        landmarks, cases = (LANDMARKS, cases) if tables.points is not None else _found_landmarks(cases, root, notes)
    return Dataset(
        root=root,
        name=described.get("name", printable(root.resolve().name)),
        modality=described.get("modality", ""),
        labels=found_labels(labels, cases, root, notes),
        landmarks=landmarks,
        split=described.get("split"),
        cases=cases,
        notes=tuple(map(printable, notes)),
        ignored=ignored,
    )


def with_spacing_of_files(dataset: Dataset, spacing_mm: tuple[float, ...]) -> Dataset:
    """The dataset with a spacing, x, y, z, that the user states for all of its volumes; () leaves it as it is."""
    if not spacing_mm:
        return dataset
    note = f"--spacing_mm_of_file {','.join(map(str, spacing_mm))}: used for every volume, in place of its file's"
    cases = tuple(replace(case, spacing_mm_of_file=spacing_mm) for case in dataset.cases)
    return replace(dataset, cases=cases, notes=(*dataset.notes, note))


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
        points_px = read_point_table(case.landmarks).get(case.row or case.name, np.empty((0, 2)))
        points_mm = points_to_mm(np.pad(points_px, ((0, 0), (0, 1))), like)
        return dict(zip(LANDMARKS, points_mm, strict=False))
    if case.landmarks.suffix == ".csv":
        found = read_landmarks_csv(case.landmarks).get(case.row or case.name, {})
    else:
        found = read_landmarks(case.landmarks, like)
    return {name.removeprefix(case.prefix): point for name, point in found.items()}


def source_checksums(case: Case) -> dict[str, str]:
    """The sha256 of the contents of the case's "image", "label" and "landmarks"; "" where there is none.

    For a 2D image also of its "numbers" from the tables, and of a "spacing" that the user states.

    Raises:
        UserError: a file cannot be read.
    """
    paths = {"image": case.image, "label": case.label, "landmarks": case.landmarks}
    checksums = {kind: "" if path is None else _checksum(path) for kind, path in paths.items()}
    if case.spacing_mm_of_file:
        checksums["spacing"] = hashlib.sha256(f"{case.spacing_mm_of_file}".encode()).hexdigest()
    if case.is_2d:
        checksums["numbers"] = hashlib.sha256(f"{case.pixel_size_mm} {case.hc_mm}".encode()).hexdigest()
    return checksums


def _checksum(path: Path) -> str:
    """Of a folder: of all its files, in the order of their names; of a header: of the voxels' file too."""
    digest = hashlib.sha256()
    try:
        parts = _parts(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}; fix its permissions or remove the case") from None
    for part in parts:
        digest.update(os.fsencode(part.name))
        _update_with_file(digest, part)
    return digest.hexdigest()


def _update_with_file(digest, path: Path) -> None:
    try:
        _check_length(path)
        with open_regular(path) as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read: {error.strerror}; fix its permissions or remove the case"
        ) from None


def _check_length(path: Path) -> None:
    """Refuses what would take minutes to read and cannot be an image: a sparse file, which a few bytes can make."""
    status = path.stat()
    if status.st_size > MOST_BYTES or status.st_size > 1 << 30 and status.st_blocks * 512 < status.st_size / 100:
        raise UserError(f"{path}: a file of a case has at most {MOST_BYTES >> 30} GiB and is not sparse; found "
                        f"{status.st_size / 2**30:.0f} GiB, of which {status.st_blocks * 512 / 2**30:.1f} are stored")


def _parts(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(part for part in path.rglob("*") if part.is_file())
    if path.suffix.lower() in (".mhd", ".nhdr"):
        with open_regular(path) as file:
            header = file.read(LONGEST_HEADER).decode("latin-1")
        named = re.search(r"(?im)^(?:ElementDataFile\s*=|data ?file:)\s*(\S.*?)\s*$", header)
        data = [path.parent / named.group(1)] if named and not set("/\\\0") & set(named.group(1)) else []
    elif path.suffix.lower() in (".hdr", ".img"):
        data = [path.with_suffix(suffix) for suffix in (".hdr", ".img")]
    else:
        data = []
    return [path] + [part for part in data if part != path and os.path.isfile(part)]


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
    inside = next((f"; give {path}" for path in sorted(root.iterdir()) if _is_hc18_folder(path)),
                  ": see docs/dataset.md")
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
    are_2d = any(is_image_2d_file(path) and not path.is_dir() for path in folder.iterdir())
    found = _images_2d(folder, notes) if are_2d else _volumes(folder, notes)
    if are_2d and folder == places.labels:
        found = {name: path for name, path in found.items() if not name.endswith(MASK_ENDINGS)}
    if folder.name == "imagesTr":
        further = sorted(name for name in found if re.search(r"_\d{4}$", name) and not name.endswith(CHANNEL))
        further = [name for name in further if name[:-5] + CHANNEL in found]
        if further:
            notes.append(
                f"{folder}: one channel is read; {len(further)} others were skipped: {some(further)}"
            )
        found = {name.removesuffix(CHANNEL): path for name, path in found.items() if name not in further}
    if not found:
        raise UserError(
            f"{folder}: an image is needed (.nii.gz .nii .mha .mhd .nrrd or a DICOM folder, or 2D images: .png .jpg "
            ".bmp .tif .dcm); found none"
        )
    return found, are_2d


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
        if is_system_entry(path):
            ignored.append(path.name)
        elif is_image_2d_file(path) and not path.is_dir():
            _add(found, image_2d_name(path), path)
        elif is_volume_file(path) or is_series_folder(path):
            raise UserError(
                f"{path}: a dataset holds volumes or 2D images, not both; found this volume among 2D images: move one "
                "kind elsewhere"
            )
        elif path.suffix.lower() not in (".csv", ".json") and path.name not in OWN_FOLDERS:
            ignored.append(path.name)
    if ignored:
        notes.append(f"{folder}: {len(ignored)} files or folders are not images and were skipped: {some(ignored)}")
    return found


def _note_unmeasured(root: Path, cases: tuple[Case, ...], notes: list[str]) -> None:
    without = [c.name for c in cases if c.pixel_size_mm is None and c.image.suffix.lower() not in DICOM_SUFFIXES]
    if without:
        notes.append(f"{root}: {len(without)} of {len(cases)} images have no pixel size and are measured in pixels "
                     f"only: {some(without)}")


def _volumes(folder: Path, notes: list[str]) -> dict[str, Path]:
    """Case name -> file or DICOM folder."""
    found: dict[str, Path] = {}
    ignored = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if is_system_entry(path):
            ignored.append(path.name)
        elif is_volume_file(path) or (path.is_dir() and _may_be_series(path)):
            _add(found, case_name(path), path)
        elif path.suffix.lower() not in (".raw", ".zraw"):  # the voxels of an .mhd
            ignored.append(path.name)
    if ignored:
        notes.append(f"{folder}: {len(ignored)} files or folders are not volumes and were skipped: {some(ignored)}")
    return found


def _may_be_series(folder: Path) -> bool:
    """Whether any file in it may be DICOM, by its name; what is in sub-folders is reported as it is read."""
    inside = [path for path in folder.iterdir() if not is_system_entry(path)]
    return any(path.is_dir() and any(path.iterdir()) for path in inside) or any(
        path.is_file() and not is_volume_file(path) and path.suffix.lower() not in NO_DICOM for path in inside)


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
    """Case -> file, of the files whose names fit a case."""
    if not found:
        return {}
    folder = next(iter(found.values())).parent
    matches = match_names(found, names, folder)
    notes += matches.notes(folder, "files", {name: path.name for name, path in found.items()})
    return {case: found[name] for case, name in check_single(matches, folder).items()}


def _landmark_files(root: Path, places: _Places, names, notes: list[str]) -> tuple[dict[str, Path], dict[str, str]]:
    """Case -> its own file in `landmarks`, or the landmarks.csv that has rows for it; and its name in that table."""
    folder, ending = places.landmarks, places.ending
    for table in (root / "landmarks.csv", folder / "landmarks.csv"):
        if table.exists():
            matches = match_names(read_landmarks_csv(table), names, f"{table}: case")
            notes += matches.notes(table, "cases")
            if any(path.name.lower().endswith(LANDMARK_SUFFIXES) for path in folder.glob("[!.]*")):
                notes.append(f"{folder}: landmarks are read from {table.name}, the files in this folder are not")
            rows = check_single(matches, f"{table}: case")
            return dict.fromkeys(rows, table), rows
    found: dict[str, Path] = {}
    ignored = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        suffix = next((suffix for suffix in LANDMARK_SUFFIXES if path.name.lower().endswith(suffix)), None)
        if is_system_entry(path) or path.is_dir() or (suffix is None and not is_volume_file(path)):
            ignored += [path.name] * (path.suffix.lower() not in (".raw", ".zraw", ".img"))
            continue
        stem = case_name(path) if suffix is None else path.name[: -len(suffix)]
        _add(found, stem.removesuffix(ending) if ending else stem, path)
    ignored += [path.name for path in sorted(root.iterdir())
                if path.is_file() and UNREAD_TABLE.fullmatch(path.name.lower())]
    if ignored:
        notes.append(f"{root}: {len(ignored)} files or folders are not landmarks and were skipped: {some(ignored)}; "
                     "landmarks are .mrk.json, .fcsv, .json or a label image a case, or the one table landmarks.csv")
    return _only_known(found, names, notes), {}


def _check_known(named, names, path: Path, key: str) -> None:
    unknown = sorted(set(named) - set(names))
    if unknown:
        raise UserError(
            f"{path}: {key} must name cases that exist; found {some(unknown)}: correct or remove them"
        )


# --------------------------------------------------------------------------------------- found in the files


def _image_labels(described: dict[str, int] | None, cases: tuple[Case, ...], root: Path, notes) -> dict[str, int]:
    """One label of value 1, whatever the files hold: in a 2D mask every value but 0 is inside."""
    if described is not None and len(described) > 1:
        raise UserError(f"{root / 'dataset.json'}: labels of 2D images must be one, as every value but 0 is inside; "
                        f"found {some(list(described))}; keep one")
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
        notes.append(f"labels found in the masks: {some(list(labels), 8)}; dataset.json can name them")
    return labels


def _positive_values(path: Path) -> set[int]:
    try:
        array = read_mask(path).array
    except Exception:  # of a library, or too little memory: the audit reports it
        return set()
    if array.dtype == np.uint8:  # counting is ten times as fast as sorting
        values = np.flatnonzero(np.bincount(array.ravel(), minlength=256))
    else:
        values = np.unique(array)
    return {int(value) for value in values if value > 0 and value == int(value)}


def _found_landmarks(cases: tuple[Case, ...], root: Path, notes: list[str]
                     ) -> tuple[tuple[str, ...], tuple[Case, ...]]:
    """Every landmark name of any readable file, sorted; and the cases, with the `prefix` of their names.

    Raises:
        UserError: no two cases have a name in common, with or without a prefix.
    """
    names_of: dict[str, tuple[str, ...]] = {}
    unreadable: list[str] = []
    for case in cases:
        if case.landmarks is not None:
            try:
                names_of[case.name] = _landmark_names(case)
            except Exception as error:  # as of a mask
                unreadable.append(str(error))
    if unreadable:
        notes.append(f"{len(unreadable)} landmark files have no readable names, such as {unreadable[0]}")
    prefixes = _node_prefixes({case: names for case, names in names_of.items() if names}, root, notes)
    found = {name.removeprefix(prefixes.get(case, "")) for case, names in names_of.items() for name in names}
    ordered = tuple(sorted(found, key=_by_number))
    if ordered:
        notes.append(f"landmarks found in the files: {some(ordered, 16)}; dataset.json can order them")
    return ordered, tuple(replace(case, prefix=prefixes.get(case.name, "")) for case in cases)


def _node_prefixes(names_of: dict[str, tuple[str, ...]], root: Path, notes: list[str]) -> dict[str, str]:
    """Case -> what its landmarks' names begin with, where only the rest is the same in all cases.

    Slicer names points after their node: case_01-1 and case_01-2 in one case, case_02-1 and case_02-2 in another.
    """
    counts = Counter(name for names in names_of.values() for name in set(names))
    if len(names_of) < 2 or max(counts.values()) > 1:
        return {}
    prefixes = {case: _common_start(names) for case, names in names_of.items()}
    rests = [{name.removeprefix(prefixes[case]) for name in names} for case, names in names_of.items()]
    case, names = next(iter(names_of.items()))
    if not all(prefixes.values()) or not set.intersection(*rests):
        raise UserError(f"{root}: a landmark must have the same name in all cases; found no name that two of the "
                        f"{len(names_of)} cases share, such as {names[0]!r} in {case} only (Slicer names points after "
                        'their list): rename them, or write "landmarks": [] into dataset.json to do without')
    notes.append(f"{root}: no two cases share the name of a landmark: its start was dropped, as the rest is shared, "
                 f"such as {names[0]!r}, read as {names[0].removeprefix(prefixes[case])!r}")
    return prefixes


def _common_start(names: tuple[str, ...]) -> str:
    """What all names begin with, up to the last separator."""
    common = os.path.commonprefix(list(names))
    return common[: 1 + max(common.rfind(mark) for mark in "-_ .:")]


def _landmark_names(case: Case) -> tuple[str, ...]:
    if case.landmarks.suffix == ".csv":
        return tuple(case_landmarks(case, None))
    return read_landmark_names(case.landmarks)


def _by_number(name: str) -> list:
    """Sorts "2" before "10", and "L2" before "L10"."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name)]
