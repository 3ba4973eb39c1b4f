"""Writes phantoms in the dataset layout; resumes if it was interrupted."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import SimpleITK as sitk

from tfsono.configs.face import LANDMARKS as FACE_POINTS
from tfsono.configs.pose import LANDMARKS as JOINTS
from tfsono.configs.pose import SEGMENTS
from tfsono.errors import UserError, printable
from tfsono.files import read_json, replacing, write_bytes, write_text
from tfsono.geometry.head_labels import LANDMARKS
from tfsono.phantoms.face import FacePhantom, FaceReference, face_phantom, face_reference
from tfsono.phantoms.femur import FemurPhantom, FemurReference, femur_phantom, femur_reference
from tfsono.phantoms.pose import FetusPhantom, FetusReference, fetus_phantom, fetus_reference
from tfsono.phantoms.head import HeadReference, head_phantom, head_reference
from tfsono.phantoms.head_points import table_points, wrong_rows
from tfsono.phantoms.hip import hip_phantom
from tfsono.phantoms.shapes import SHAPES, shapes_phantom
from tfsono.progress import Countdown
from tfsono.structure import shown
from tfsono.volumes.landmarks import write_markups

# Increase it when a seed gives another volume than before, so that no folder mixes both.
DRAWING_VERSION = 1

# The share of images that show the same head as the one before, about as in HC18's training set.
SECOND_FRAMES = 0.18
LANDMARK_COLUMNS = ("image_name", *(f"{name}_{axis}" for name in LANDMARKS for axis in "xy"))

CaseVolumes = tuple[str, np.ndarray, np.ndarray, tuple[float, float, float]]
Progress = Callable[[str], None]


def write_hip_dataset(
    root: str | Path, cases: int, seed: int, size, spacing_mm, progress: Progress = print
) -> Path:
    """Writes hips hip_001, hip_002, ... with the label "femur", each from its own seed, drawn from `seed`.

    Raises:
        UserError: `cases` is not positive, or the folder holds other data (other settings, more cases).
    """
    settings = _settings("hip", seed, size, spacing_mm)

    def draw(case_seed: int) -> tuple[np.ndarray, np.ndarray]:
        return hip_phantom(case_seed, tuple(size), tuple(spacing_mm))[:2]

    volumes = _missing_volumes(Path(root), "hip", cases=cases, settings=settings, draw=draw, progress=progress)
    return write_dataset(root, "hip phantoms", "T1w MR (synthetic)", {"femur": 1}, volumes, phantom=settings)


def write_shapes_dataset(
    root: str | Path, cases: int, seed: int, size, spacing_mm, progress: Progress = print, *, classes: int = 4
) -> Path:
    """Writes shapes_001, ...: simple bodies, our replacement for C3D's videos, to pre-train an encoder on.

    Raises:
        UserError: `cases` is not positive, or the folder holds other data (other settings, more cases).
    """
    settings = _settings("shapes", seed, size, spacing_mm) | {"classes": classes}
    labels = {name: value for value, name in enumerate(SHAPES[: classes - 1], start=1)}

    def draw(case_seed: int) -> tuple[np.ndarray, np.ndarray]:
        return shapes_phantom(case_seed, tuple(size), tuple(spacing_mm), classes)

    volumes = _missing_volumes(Path(root), "shapes", cases=cases, settings=settings, draw=draw, progress=progress)
    return write_dataset(root, "shapes phantoms", "synthetic", labels, volumes, phantom=settings)


def write_head_dataset(
    root: str | Path, cases: int, seed: int, size_yx, pixel_range_mm, progress: Progress = print, *,
    wrong_points: float = 0.0,
) -> Path:
    """Writes images head_001.png, ... with masks, pixel sizes, circumferences and four points.

    About one image in six shows the same head as the one before, as listed in dataset.json's "subjects". Also writes
    `pixel_sizes.csv` (image_name, pixel_size_mm, head_circumference_mm) and `landmarks.csv` with the columns of the
    public table (image_name, ofd_1_x, ... bpd_2_y; pixels of the image). Masks hold 0 and 1.

    Args:
        size_yx: rows and columns of the images.
        pixel_range_mm: the smallest and the largest pixel at this size.
        wrong_points: share of the rows of landmarks.csv that do not fit their head; above 0 all rows have the names
            BPD and OFD exchanged (`table_points`).

    Raises:
        UserError: `cases` is not positive, or the folder holds other data (other settings, more cases).
    """
    root = Path(root)
    size_yx, pixel_range_mm = tuple(map(int, size_yx)), tuple(map(float, pixel_range_mm))
    settings = {"kind": "head", "version": DRAWING_VERSION, "seed": int(seed)}
    settings |= {"size_yx": list(size_yx), "pixel_range_mm": list(pixel_range_mm)}
    settings |= {"wrong_points": float(wrong_points)} if wrong_points else {}
    names, missing = _missing_cases(root, "head", cases=cases, suffix=".png",
                                    is_whole=lambda path: _size_of_image(path) == size_yx, progress=progress)
    entry = {"name": "head phantoms", "modality": "US (synthetic)", "labels": {"head": 1}}
    entry |= {"landmarks": list(LANDMARKS), "units": "mm", "phantom": settings}
    _claim(root, entry)
    first = _first_frames(seed, cases)
    drawn_from = [(_case_seed(seed, n), size_yx, pixel_range_mm, _case_seed(seed, first[n])) for n in range(cases)]
    references = {name: head_reference(*drawn) for name, drawn in zip(names, drawn_from, strict=True)}
    if wrong_points:
        wrong = wrong_rows(seed, cases, wrong_points)
        references = {name: reference._replace(points_px=table_points(reference, drawn[0], size_yx, one))
                      for (name, reference), drawn, one in zip(references.items(), drawn_from, wrong, strict=True)}
    subjects = {name: names[number] for name, number in zip(names, first, strict=True)}
    present = set(names) - {names[number] for number in missing}
    _write_tables(root, entry, _only(references, present), subjects)
    for number in _counted(names, missing, progress):
        image, mask = head_phantom(*drawn_from[number])[:2]
        _write_png(root / "images" / f"{names[number]}.png", image)
        _write_png(root / "labels" / f"{names[number]}.png", mask)
        present.add(names[number])
        _write_tables(root, entry, _only(references, present), subjects)
    return root


def write_femur_dataset(
    root: str | Path, cases: int, seed: int, size, spacing_mm, weeks, progress: Progress = print
) -> Path:
    """Writes ultrasound volumes femur_001, femur_002, ... with masks (label "femur") and both tips.

    The tips are in landmarks/CASE.mrk.json (3D Slicer's markups, LPS millimetres) as two points and the line between
    them. `femurs.csv` lists what was drawn: case, weeks (gestational age), length_mm, volume_ml.

    Args:
        weeks: the lowest and the highest gestational age.

    Raises:
        UserError: `cases` is not positive, the field of view is too small for a femur, or the folder holds other
            data (other settings, more cases).
    """
    return _write_landmark_volumes(Path(root), _FEMUR, cases=cases, seed=seed, given=_given(size, spacing_mm, weeks),
                                   progress=progress)


def write_pose_dataset(
    root: str | Path, cases: int, seed: int, size, spacing_mm, weeks, turn_degrees: float,
    variety: float, progress: Progress = print,
) -> Path:
    """Writes ultrasound volumes fetus_001, fetus_002, ... with 16 landmarks each, and no masks.

    The landmarks are in landmarks/CASE.mrk.json (3D Slicer's markups, LPS millimetres) as a list of points and the
    skeleton's 15 lines. `fetuses.csv` lists what was drawn: case, weeks (gestational age), crown_rump_mm.

    Args:
        weeks: the lowest and the highest gestational age.
        turn_degrees: largest rotation out of a sagittal view; with 180 all directions are equally likely.
        variety: of the postures; 1 is usual, 0 makes them all alike.

    Raises:
        UserError: `cases` is not positive, the field of view is too small for a fetus, or the folder holds other
            data (other settings, more cases).
    """
    given = _given(size, spacing_mm, weeks) | {"turn_degrees": float(turn_degrees), "variety": float(variety)}
    return _write_landmark_volumes(Path(root), _POSE, cases=cases, seed=seed, given=given, progress=progress)


def write_face_dataset(
    root: str | Path, cases: int, seed: int, size, spacing_mm, weeks, turn_degrees: float,
    variety: float, progress: Progress = print,
) -> Path:
    """Writes ultrasound volumes face_001, face_002, ... with five landmarks each, and no masks.

    The landmarks are in landmarks/CASE.mrk.json (3D Slicer's markups, LPS millimetres) as a list of points.
    `faces.csv` lists what was drawn: case, weeks (gestational age), the skull's two diameters, three distances of
    landmarks, and the number of hands and cord loops in front of the face.

    Arguments and errors are those of `write_pose_dataset`; `variety` is of faces and of what is in front of them.
    """
    given = _given(size, spacing_mm, weeks) | {"turn_degrees": float(turn_degrees), "variety": float(variety)}
    return _write_landmark_volumes(Path(root), _FACE, cases=cases, seed=seed, given=given, progress=progress)


@dataclass(frozen=True)
class _Kind:
    """Volumes with landmarks of one system, and how to draw one from its seed and the settings.

    Attributes:
        system: name of the system.
        case: what a volume shows; prefix of the case names.
        table: the file that lists what was drawn.
        columns: of the table, after the case name.
        landmarks: their names.
        lines: pairs of them, for the markups.
        masks: whether there are masks, with the label `case`.
        draw: draws a phantom.
        reference: its points and description, without painting it.
        row: description -> row of the table.
    """

    system: str
    case: str
    table: str
    columns: str
    landmarks: tuple[str, ...]
    lines: tuple[tuple[str, str], ...]
    masks: bool
    draw: Callable[..., FemurPhantom | FetusPhantom | FacePhantom]
    reference: Callable[..., tuple[np.ndarray, FemurReference | FetusReference | FaceReference]]
    row: Callable[[FemurReference | FetusReference | FaceReference], str]


def _given(size, spacing_mm, weeks) -> dict:
    return {"size": tuple(map(int, size)), "spacing_mm": tuple(map(float, spacing_mm)),
            "weeks": tuple(map(float, weeks))}


def _write_landmark_volumes(root: Path, kind: _Kind, cases: int, seed: int, given: dict, progress: Progress) -> Path:
    """Writes volumes with markups, and masks if the kind has them; `given` are the settings of the drawing."""
    size, spacing_mm = given["size"], given["spacing_mm"]
    folders = ("images", "labels") if kind.masks else ("images",)
    names, missing = _missing_cases(root, kind.case, cases=cases, suffix=".nii.gz",
                                    is_whole=lambda path: _size_in_file(path) == size, progress=progress,
                                    others=("landmarks/{}.mrk.json",), folders=folders)
    seeds = [_case_seed(seed, number) for number in range(cases)]
    rows = {name: kind.row(kind.reference(case_seed, **given)[1]) for name, case_seed in zip(names, seeds, strict=True)}
    more = {key: list(value) if isinstance(value, tuple) else value for key, value in given.items()}
    entry = {"name": f"{kind.case} phantoms", "modality": "US (synthetic)",
             "labels": {kind.case: 1} if kind.masks else {}, "landmarks": list(kind.landmarks),
             "units": "mm", "phantom": _settings(kind.system, seed, size, spacing_mm) | more}
    _claim(root, entry, (*folders, "landmarks"))
    present = {name for number, name in enumerate(names) if number not in missing}
    _write_rows(root / kind.table, kind.columns, rows, present)
    for number in _counted(names, missing, progress):
        name, phantom = names[number], kind.draw(seeds[number], **given)
        points_mm = np.asarray(_origin_mm(name, size, spacing_mm)) + phantom.points_vox * spacing_mm
        points_mm = dict(zip(kind.landmarks, points_mm, strict=True))
        write_markups(root / "landmarks" / f"{name}.mrk.json", points_mm, kind.lines)
        _write_case(root, name, phantom.image, phantom.mask if kind.masks else None, spacing_mm)
        present.add(name)
        _write_rows(root / kind.table, kind.columns, rows, present)
    return root


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

    Each file is written atomically; other files in the folder are not changed. Images of whole numbers are stored
    as int16, others as float32; the direction is the identity (LPS).

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


def _claim(root: Path, entry: dict, folders: tuple[str, ...] = ("images", "labels")) -> None:
    """Creates dataset.json and `folders`, or checks that the folder is of the same settings."""
    path = root / "dataset.json"
    found = _read_entry(path)
    if found is None:
        _make_folders(root, folders)
        write_text(path, json.dumps(entry, indent=2) + "\n")
    elif _without_subjects(found) != json.loads(json.dumps(_without_subjects(entry))):
        raise UserError(
            f"{path}: written with other settings ({_difference(found, entry)}); choose another folder"
        )


def _without_subjects(entry: dict) -> dict:
    """The subjects follow from the settings, and their list grows with the cases."""
    return {key: value for key, value in entry.items() if key != "subjects"}


def _make_folders(root: Path, names: tuple[str, ...]) -> None:
    """Creates images/, labels/ and others, unless they hold files already."""
    for folder in (root / name for name in names):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{folder}: the folder cannot be made ({error.strerror}); choose another") from error
        if any(folder.iterdir()):
            raise UserError(
                f"{folder}: holds files, but there is no dataset.json next to it; choose another folder"
            )


def _read_entry(path: Path) -> dict | None:
    if not path.exists():
        return None
    found = read_json(path, "delete it or choose another folder")
    return found if isinstance(found, dict) else {}


def _difference(found: dict, wanted: dict) -> str:
    """The first setting in which two dataset.json differ, as text."""
    there, here = (_settings_of(entry) for entry in (found, wanted))
    for key in [*here, *there]:
        if there.get(key) != here.get(key):
            return f"{printable(key)[:40]} {shown(there.get(key))} there, {shown(here.get(key))} requested"
    return "it has other entries"


def _settings_of(entry: dict) -> dict:
    """The settings of the drawing, and the entry's others."""
    phantom, others = entry.get("phantom"), _without_subjects(entry)
    if not isinstance(phantom, dict):
        return others
    return {**phantom, **{key: value for key, value in others.items() if key != "phantom"}}


def _missing_volumes(
    root: Path, prefix: str, cases: int, settings: dict, draw, progress: Progress
) -> Iterator[CaseVolumes]:
    """Draws the missing cases lazily; the checks run at once."""
    size = tuple(settings["size"])
    names, missing = _missing_cases(root, prefix, cases=cases, suffix=".nii.gz",
                                    is_whole=lambda path: _size_in_file(path) == size, progress=progress)
    spacing_mm = tuple(settings["spacing_mm"])
    return ((names[number], *draw(_case_seed(settings["seed"], number)), spacing_mm)
            for number in _counted(names, missing, progress))


def _missing_cases(
    root: Path,
    prefix: str,
    cases: int,
    suffix: str,
    is_whole: Callable[[Path], bool],
    progress: Progress,
    others: tuple[str, ...] = (),
    folders: tuple[str, ...] = ("images", "labels"),
) -> tuple[list[str], list[int]]:
    """All names, and the numbers (from 0) of the cases of which a file is missing or of another size.

    `folders` hold a case's arrays; `others` are its other files, with {} for its name. Files appear only when they
    are complete, so reading their headers is enough.
    """
    if cases < 1:
        raise UserError(f"--cases: must be at least 1; found {cases}")
    names = [f"{prefix}_{number:03d}" for number in range(1, cases + 1)]
    present = [path.name[: -len(suffix)] for path in root.glob(f"images/{prefix}_*{suffix}")]
    extra = [name for name in present if name not in names]
    if extra:
        raise UserError(
            f"{root}: {cases} cases requested, but it holds more ({min(extra)}); choose another folder"
        )
    missing = [
        number
        for number, name in enumerate(names)
        if not all(_is_file_and(is_whole, root / folder / f"{name}{suffix}") for folder in folders)
        or not all((root / other.format(name)).is_file() for other in others)
    ]
    if len(missing) < cases:
        progress(f"{root}: {cases - len(missing)} of {cases} cases exist already")
    return names, missing


def _is_file_and(is_whole: Callable[[Path], bool], path: Path) -> bool:
    return path.is_file() and is_whole(path)


def _counted(names: list[str], missing: list[int], progress: Progress) -> Iterator[int]:
    """Yields the missing numbers; counts each as written when the next one is requested."""
    countdown = Countdown(len(missing), "written", progress, interval_s=0)
    for number in missing:
        yield number
        countdown.step(names[number])


def _case_seed(seed: int, number: int) -> int:
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def _first_frames(seed: int, cases: int) -> list[int]:
    """For each case the number of the first image of its head; more cases do not change the earlier ones."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0, 1]))
    first: list[int] = []
    for number in range(cases):
        repeated = rng.random() < SECOND_FRAMES and number > 0
        first.append(first[-1] if repeated else number)
    return first


def _size_in_file(path: Path) -> tuple[int, ...] | None:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return None
    return tuple(reader.GetSize())


def _size_of_image(path: Path) -> tuple[int, int] | None:
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    return None if image is None else image.shape


def _write_png(path: Path, image: np.ndarray) -> None:
    write_bytes(path, cv2.imencode(".png", image)[1].tobytes())  # cv2 itself may not notice a full disk


def _only(references: dict[str, HeadReference], present: set[str]) -> dict[str, HeadReference]:
    return {name: reference for name, reference in references.items() if name in present}


def _write_tables(root: Path, entry: dict, references: dict[str, HeadReference], subjects: dict[str, str]) -> None:
    """The two tables, and the subjects in dataset.json, of the cases in `references`."""
    sizes, points = ["image_name,pixel_size_mm,head_circumference_mm"], [",".join(LANDMARK_COLUMNS)]
    for name, reference in references.items():
        sizes.append(f"{name}.png,{reference.pixel_size_mm:.7f},{reference.circumference_mm:.3f}")
        points.append(",".join([f"{name}.png", *(f"{value:.3f}" for value in reference.points_px.ravel())]))
    write_text(root / "pixel_sizes.csv", "\n".join(sizes) + "\n")
    write_text(root / "landmarks.csv", "\n".join(points) + "\n")
    entry = entry | {"subjects": {name: subjects[name] for name in references}}
    write_text(root / "dataset.json", json.dumps(entry, indent=2) + "\n")


def _femur_row(about: FemurReference) -> str:
    return f"{about.weeks:.3f},{about.length_mm:.3f},{about.volume_ml:.4f}"


def _fetus_row(about: FetusReference) -> str:
    return f"{about.weeks:.3f},{about.crown_rump_mm:.3f}"


def _face_row(about: FaceReference) -> str:
    of = about.distances_mm
    lengths = (about.weeks, about.biparietal_mm, about.occipitofrontal_mm, of["left_eye", "right_eye"],
               of["mid_eyebrow", "nose_tip"], of["nose_tip", "chin"])
    return ",".join([*(f"{length:.3f}" for length in lengths), str(about.hands), str(about.cords)])


_FEMUR = _Kind(system="femur", case="femur", table="femurs.csv", columns="weeks,length_mm,volume_ml",
               landmarks=("proximal", "distal"), lines=(("proximal", "distal"),), masks=True,
               draw=femur_phantom, reference=femur_reference, row=_femur_row)
_POSE = _Kind(system="pose", case="fetus", table="fetuses.csv", columns="weeks,crown_rump_mm",
              landmarks=JOINTS, lines=SEGMENTS, masks=False,
              draw=fetus_phantom, reference=fetus_reference, row=_fetus_row)
_FACE = _Kind(system="face", case="face", table="faces.csv", landmarks=FACE_POINTS, lines=(), masks=False,
              columns="weeks,biparietal_mm,occipitofrontal_mm,eyes_mm,brow_nose_mm,nose_chin_mm,hands,cords",
              draw=face_phantom, reference=face_reference, row=_face_row)


def _write_rows(path: Path, columns: str, rows: dict[str, str], present: set[str]) -> None:
    """Writes the table of what was drawn, for the cases that exist, in order."""
    lines = [f"case,{columns}", *(f"{name},{row}" for name, row in rows.items() if name in present)]
    write_text(path, "\n".join(lines) + "\n")


def _write_case(root: Path, case: str, image: np.ndarray, label: np.ndarray | None, spacing_mm) -> None:
    if image.ndim != 3 or (label is not None and image.shape != label.shape):
        found = "" if label is None else f" and label {label.shape}"
        raise ValueError(f"{case}: image {image.shape}{found} must be one 3D shape")
    origin_mm = _origin_mm(case, image.shape, spacing_mm)
    labels = {} if label is None else {"labels": label.astype(np.uint8)}
    for folder, array in ({"images": _as_stored(image)} | labels).items():
        volume = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
        volume.SetSpacing([float(side) for side in spacing_mm])
        volume.SetOrigin(origin_mm)
        with replacing(root / folder / f"{case}.nii.gz") as partial:
            sitk.WriteImage(volume, str(partial), True)


def _as_stored(image: np.ndarray) -> np.ndarray:
    whole = np.array_equal(image, np.rint(image)) and np.abs(image).max() < 2**15
    return image.astype(np.int16 if whole else np.float32)


def _origin_mm(case: str, size, spacing_mm) -> tuple[float, ...]:
    """An origin as in a scanner: the centred volume, shifted by centimetres that depend on the name."""
    shift = np.random.default_rng(zlib.crc32(case.encode())).uniform(-60, 60, 3).round(1)
    return tuple(
        float(move - (count - 1) / 2 * step)
        for move, count, step in zip(shift, size, spacing_mm, strict=True)
    )
