"""Landmarks: four file formats to and from one dictionary, name -> position in LPS millimetres.

A missing landmark is a row of NaN, in whichever way its file says so. Continuous voxel indices count voxel
centres (the first is 0.0).
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfsono.errors import UserError
from tfsono.files import write_text
from tfsono.volumes.image import is_volume_file, read_mask
from tfsono.volumes.volume import Volume

_SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    "markups-schema-v1.0.3.json#"
)
_RAS_TO_LPS = np.array([-1.0, -1.0, 1.0])
_MILLIMETRES = {"um": 1e-3, "mm": 1.0, "cm": 10.0, "m": 1e3}
_CSV_COLUMNS = ("case", "name", "x_mm", "y_mm", "z_mm")
_FCSV_COLUMNS = "id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID"


def read_landmarks(path, like: Volume | None = None) -> dict[str, np.ndarray]:
    """Reads the landmarks of one case.

    Args:
        path: 3D Slicer markups (`.mrk.json`; the points of its lists, or of its lines where it has no list);
            Slicer's older `.fcsv`; an annotation in voxel indices
            (`.json`: {"spacing", "spacing_unit", "landmarks": {name: [i, j, k]}}; a point that is NaN, all 0,
            or has a negative index is missing); or a label image, of which each label's centroid is a
            landmark named by its number.
        like: the image. Needed for voxel indices; a label image is checked against its grid.

    Returns:
        float64 [3] in LPS millimetres for each name, in the file's order; NaN where missing.

    Raises:
        UserError: a missing or unreadable file, an unknown suffix or coordinate system, a name twice, a
            position that is not three numbers, voxel indices without `like` or for another spacing.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: the landmark file must exist; found none")
    name = path.name.lower()
    if name.endswith(".fcsv"):
        return _from_fcsv(path)
    if name.endswith(".json"):
        content = _read_json(path)
        return _from_markups(path, content) if "markups" in content else _from_indices(path, content, like)
    if is_volume_file(path):
        return _from_label_image(path, like)
    raise UserError(f"{path}: landmarks are .mrk.json, .fcsv, .json or a label image; found {path.name!r}")


def read_landmarks_csv(path) -> dict[str, dict[str, np.ndarray]]:
    """Reads one table of all cases: columns case, name, x_mm, y_mm, z_mm (LPS); empty or NaN is missing.

    Returns:
        For each case the landmarks as `read_landmarks` gives them.

    Raises:
        UserError: no file, other columns, a landmark twice in a case, text that is no number.
    """
    path = Path(path)
    rows = list(csv.DictReader(_read_text(path).splitlines()))
    found = tuple(rows[0]) if rows else ()
    if not set(_CSV_COLUMNS) <= set(found):
        raise UserError(f"{path}: the columns {', '.join(_CSV_COLUMNS)} and a row are needed; "
                        f"found {', '.join(str(one) for one in found) or 'no row'}")
    cases: dict[str, dict[str, np.ndarray]] = {}
    for row in rows:
        point = _point(path, row["name"], [row[column] or "nan" for column in _CSV_COLUMNS[2:]])
        _add(path, cases.setdefault(row["case"], {}), row["name"], point)
    return cases


def write_markups(path, points_mm: dict[str, np.ndarray], lines: Sequence[tuple[str, str]] = ()) -> None:
    """Writes a list of points, and lines between some of them, as 3D Slicer reads them by drag and drop.

    Args:
        path: ends in `.mrk.json`; written beside and renamed.
        points_mm: positions [3] in LPS millimetres; one with a NaN is written as missing.
        lines: pairs of names; a line with a missing end is left out.

    Raises:
        UserError: another suffix, or the folder does not exist.
        ValueError: a line names a point that is not there.
    """
    path = Path(path)
    if not path.name.lower().endswith(".mrk.json"):
        raise UserError(f"{path}: markups are written as .mrk.json; found {path.name!r}")
    if not path.parent.is_dir():
        raise UserError(f"{path}: the folder to write into must exist; found none at {path.parent}")
    unknown = {name for pair in lines for name in pair} - set(points_mm)
    if unknown:
        raise ValueError(f"lines must join names of points_mm {sorted(points_mm)}; found {sorted(unknown)}")
    markups = [_markup("Fiducial", "landmarks", points_mm)]
    for pair in lines:
        ends = {name: points_mm[name] for name in pair}
        if all(np.isfinite(end).all() for end in ends.values()):
            markups.append(_markup("Line", " - ".join(pair), ends))
    text = json.dumps({"@schema": _SCHEMA, "markups": markups}, indent=1, allow_nan=False)
    write_text(path, text + "\n")


def points_to_vox(points_mm: np.ndarray, volume: Volume) -> np.ndarray:
    """LPS millimetres [..., 3] to continuous voxel indices [..., 3] of `volume`; NaN stays NaN."""
    shifted = np.asarray(points_mm, np.float64) - np.asarray(volume.origin_mm)
    inverse = np.linalg.inv(volume.direction_matrix * np.asarray(volume.spacing_mm))
    return shifted @ inverse.T


def points_to_mm(points_vox: np.ndarray, volume: Volume) -> np.ndarray:
    """Continuous voxel indices [..., 3] of `volume` to LPS millimetres [..., 3]; NaN stays NaN."""
    scaled = np.asarray(points_vox, np.float64) * np.asarray(volume.spacing_mm)
    return scaled @ volume.direction_matrix.T + np.asarray(volume.origin_mm)


def _from_markups(path: Path, content: dict) -> dict[str, np.ndarray]:
    markups = content["markups"]
    if not isinstance(markups, list) or not all(isinstance(one, dict) for one in markups):
        raise UserError(f"{path}: 'markups' must be a list of objects; found {type(markups).__name__}")
    lists = [one for one in markups if one.get("type") == "Fiducial"]
    points: dict[str, np.ndarray] = {}
    for markup in lists or markups:
        signs = _signs(path, str(markup.get("coordinateSystem", "LPS")))
        unit = markup.get("coordinateUnits", "mm")
        if unit != "mm" and unit[:1] != ["mm"]:
            raise UserError(f"{path}: coordinateUnits must be mm; found {unit}")
        for number, control in enumerate(markup.get("controlPoints", []), start=1):
            name = str(control.get("label") or control.get("id") or number)
            defined = control.get("positionStatus", "defined") == "defined" and control.get("position")
            position = control["position"] if defined else [math.nan] * 3
            _add(path, points, name, signs * _point(path, name, position))
    return points


def _from_fcsv(path: Path) -> dict[str, np.ndarray]:
    """Slicer's old table: comment lines say the coordinate system and the columns, then a row a point."""
    lines = _read_text(path).splitlines()
    header = dict(_header_field(line) for line in lines if line.startswith("#") and "=" in line)
    if "CoordinateSystem" not in header:
        raise UserError(f"{path}: a line '# CoordinateSystem = LPS' (or RAS, 0, 1) is needed; found none")
    signs = _signs(path, header["CoordinateSystem"])
    columns = [column.strip() for column in header.get("columns", _FCSV_COLUMNS).split(",")]
    points: dict[str, np.ndarray] = {}
    for values in csv.reader(line for line in lines if line.strip() and not line.startswith("#")):
        row = dict(zip(columns, values, strict=False))
        name = row.get("label") or row.get("id", "")
        _add(path, points, name, signs * _point(path, name, [row.get(axis, "") for axis in "xyz"]))
    return points


def _header_field(line: str) -> tuple[str, str]:
    key, _, value = line.lstrip("#").partition("=")
    return key.strip(), value.strip()


def _signs(path: Path, system: str) -> np.ndarray:
    """What turns a coordinate system's points into LPS; Slicer's tables wrote 0 for RAS and 1 for LPS."""
    if system.upper() in ("RAS", "0"):
        return _RAS_TO_LPS
    if system.upper() in ("LPS", "1"):
        return np.ones(3)
    raise UserError(f"{path}: the coordinate system must be LPS (1) or RAS (0); found {system!r}")


def _from_indices(path: Path, content: dict, like: Volume | None) -> dict[str, np.ndarray]:
    if like is None:
        raise UserError(f"{path}: landmarks in voxel indices need their image; found none")
    named = content.get("landmarks")
    if not isinstance(named, dict):
        found = type(named).__name__
        raise UserError(f"{path}: 'landmarks' must be an object of name: [i, j, k]; found {found}")
    _check_spacing(path, content, like)
    points: dict[str, np.ndarray] = {}
    for name, index in named.items():
        point = _point(path, name, [np.nan] * 3 if index is None else index)
        missing = not np.isfinite(point).all() or (point < 0).any() or not point.any()
        points[name] = np.full(3, np.nan) if missing else points_to_mm(point, like)
    return points


def _check_spacing(path: Path, content: dict, like: Volume) -> None:
    """Where the annotation says a spacing, it is the image's: else its indices are of another grid."""
    if "spacing" not in content:
        return
    unit = content.get("spacing_unit", "mm")
    if unit not in _MILLIMETRES:
        raise UserError(f"{path}: spacing_unit must be one of {', '.join(_MILLIMETRES)}; found {unit!r}")
    given = content["spacing"]
    stated = _point(path, "spacing", given if isinstance(given, list) else [given] * 3) * _MILLIMETRES[unit]
    if not np.allclose(stated, like.spacing_mm, rtol=1e-3, atol=0):
        raise UserError(f"{path}: its spacing must be that of {like.path}, {_words(like.spacing_mm)}; "
                        f"found {_words(stated)}")


def _from_label_image(path: Path, like: Volume | None) -> dict[str, np.ndarray]:
    mask = read_mask(path, like)
    where = np.argwhere(mask.array > 0)
    labels = mask.array[tuple(where.T)]
    centroids = {str(label): where[labels == label].mean(axis=0) for label in np.unique(labels)}
    return {name: points_to_mm(centroid, mask) for name, centroid in centroids.items()}


def _markup(kind: str, name: str, points_mm: dict[str, np.ndarray]) -> dict:
    controls = [_control_point(number, *item) for number, item in enumerate(points_mm.items(), start=1)]
    return {
        "type": kind,
        "name": name,
        "coordinateSystem": "LPS",
        "coordinateUnits": "mm",
        "controlPoints": controls,
    }


def _control_point(number: int, label: str, point: np.ndarray) -> dict:
    """A missing point has no position at all: JSON has no NaN, and three zeros would be a place."""
    control: dict = {"id": str(number), "label": label}
    if np.isfinite(point).all():
        control["position"] = [float(value) for value in point]
    control["positionStatus"] = "defined" if "position" in control else "missing"
    return control


def _point(path: Path, name: str, values) -> np.ndarray:
    try:
        point = np.array([math.nan if value is None else float(value) for value in values])
    except (TypeError, ValueError):
        point = np.empty(0)
    if point.shape != (3,):
        raise UserError(f"{path}: {name!r} must be three numbers; found {values}")
    return point if np.isfinite(point).all() else np.full(3, np.nan)


def _add(path: Path, points: dict[str, np.ndarray], name: str, point: np.ndarray) -> None:
    if not name or name in points:
        raise UserError(f"{path}: each landmark must have a name of its own; found {name!r} "
                        f"{'twice' if name else 'as a name'}")
    points[name] = point


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: must be a readable text file; found: {error}") from None


def _read_json(path: Path) -> dict:
    try:
        content = json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: must be JSON; found: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: must hold a JSON object; found a {type(content).__name__}")
    return content


def _words(values) -> str:
    return "(" + ", ".join(f"{value:.6g}" for value in values) + ") mm"
