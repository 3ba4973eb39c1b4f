"""Landmarks: four file formats to and from one dictionary, name -> position in LPS millimetres.

A missing landmark is a row of NaN, however its file marks it. Continuous voxel indices count voxel centres (the
first is 0.0).
"""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import permutations, zip_longest
from pathlib import Path
from typing import NamedTuple, TypedDict

import numpy as np

from tfsono.errors import UserError, printable
from tfsono.files import (
    check_label,
    check_once,
    check_regular,
    column_key,
    read_json,
    read_rows,
    read_text,
    write_text,
)
from tfsono.structure import check_structure, shown
from tfsono.volumes.image import is_volume_file, read_mask
from tfsono.volumes.volume import Volume

_SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    "markups-schema-v1.0.3.json#"
)
_RAS_TO_LPS = np.array([-1.0, -1.0, 1.0])
_MILLIMETRES = {"um": 1e-3, "mm": 1.0, "cm": 10.0, "m": 1e3}
_UNITS = {"\N{MICRO SIGN}m": "um", "micrometre": "um", "millimetre": "mm", "centimetre": "cm", "metre": "m"}
_CSV_COLUMNS = ("case", "name", "x_mm", "y_mm", "z_mm")
_FCSV_COLUMNS = "id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID"
POINT_LISTS, LINES = ("Fiducial", "PointList"), ("Line", "Angle")
"""The types of Slicer's markups whose control points are landmarks."""

MOST_LANDMARKS = 1000
"""Of one case; pairs of landmarks are compared."""

FARTHEST = 1e6
"""Millimetres or voxels of a coordinate: a kilometre."""


class _Kind(TypedDict, total=False):
    """What every markup of a file has."""

    type: str


class _Control(TypedDict, total=False):
    """A control point; `_point` checks its position."""

    id: str | int | None
    label: str | int | None


class _Markup(_Kind, total=False):
    """A list, line or angle."""

    coordinateSystem: str | int
    coordinateUnits: str | list[str]
    controlPoints: list[_Control]


class Box(NamedTuple):
    """A box in the patient.

    Attributes:
        centre_mm: [3] LPS millimetres; NaN for a missing box.
        orientation: [3, 3], of which column a is the unit vector of the box's axis a.
        size_mm: [3] along these axes.
    """

    centre_mm: np.ndarray
    orientation: np.ndarray
    size_mm: np.ndarray


def read_landmarks(path, like: Volume | None = None) -> dict[str, np.ndarray]:
    """Reads the landmarks of one case.

    Args:
        path: 3D Slicer markups (`.mrk.json`; the points of its lists, or of its lines and angles where it has no
            list; never those of planes, curves and boxes, see `skipped_markups`); Slicer's older `.fcsv`; an
            annotation in voxel indices (`.json`: {"spacing", "spacing_unit", "landmarks": {name: [i, j, k]}}; a point
            that is null, empty, NaN, all 0, or has a negative index is missing; a spacing that is absent or null is the
            image's); or a label image, in which each label's centroid is a landmark named by its number.
        like: the image: needed for voxel indices; a label image is checked against its grid.

    Returns:
        float64 [3] in LPS millimetres for each name, in the file's order; NaN where missing.

    Raises:
        UserError: a missing or unreadable file, an unknown suffix or coordinate system, a name twice, a
            position that is not three numbers; voxel indices without `like`, for another spacing, or with axes in
            another order than the image's.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: the landmark file must exist; found none")
    check_regular(path)
    name = path.name.lower()
    if name.endswith(".fcsv"):
        return _from_fcsv(path)
    if name.endswith(".json"):
        content = _read_json(path)
        return _from_markups(path, content) if "markups" in content else _from_indices(path, content, like)
    if is_volume_file(path):
        return _from_label_image(path, like)
    raise UserError(f"{path}: landmarks are .mrk.json, .fcsv, .json or a label image; found {path.name!r}")


def skipped_markups(path) -> str:
    """The markups of a file whose points are not read, in words such as "1 Plane, 2 Curve"; "" where there is none.

    These are all but lists, lines and angles; and lines and angles beside a list that does not hold their points too.

    Raises:
        UserError: the file cannot be read.
    """
    path = Path(path)
    if not path.name.lower().endswith(".json"):
        return ""
    markups = _read_json(path).get("markups")
    if not isinstance(markups, list):
        return ""
    markups = [one for one in markups if isinstance(one, dict)]
    known = {label for one in markups if one.get("type", "Fiducial") in POINT_LISTS for label in _labels_of(one)}
    counts = Counter(printable(str(one["type"]))[:40] for one in markups
                     if one.get("type", "Fiducial") not in POINT_LISTS
                     and (one["type"] not in LINES or (known and not known.issuperset(_labels_of(one)))))
    return ", ".join(f"{count} {kind}" for kind, count in counts.items())


def _labels_of(markup: dict) -> list[str]:
    controls = markup.get("controlPoints")
    controls = controls if isinstance(controls, list) else []
    return [str(control.get("label")) for control in controls if isinstance(control, dict)]


def read_landmark_names(path) -> tuple[str, ...]:
    """The names in a landmark file of one case, in its order, without its image, even if positions are wrong.

    Raises:
        UserError: a missing or unreadable file, an unknown suffix, or no readable names.
    """
    path = Path(path)
    if path.is_file() and path.name.lower().endswith(".json"):
        content = _read_json(path)
        if "markups" not in content:
            return tuple(_named_indices(path, content))
    return tuple(read_landmarks(path))


def read_landmarks_csv(path) -> dict[str, dict[str, np.ndarray]]:
    """Reads one table of all cases: columns case, name, x_mm, y_mm, z_mm (LPS); empty or NaN is missing.

    Columns count by their letters and digits ("X (mm)" is x_mm), cells without outer spaces.

    Returns:
        For each case the landmarks as `read_landmarks` gives them.

    Raises:
        UserError: no file, other columns, a landmark twice in a case, text that is no number.
    """
    path = Path(path)
    header, *rows = [row for row in read_rows(path) if any(map(str.strip, row))] or [[]]
    header = [column_key(column) for column in header]
    if not rows or not set(_CSV_COLUMNS) <= set(header):
        raise UserError(f"{path}: the columns {', '.join(_CSV_COLUMNS)} and a row are needed; "
                        f"found {', '.join(header)[:80] if rows else 'no row'}")
    cases: dict[str, dict[str, np.ndarray]] = {}
    check_once(path, header, _CSV_COLUMNS)
    for cells in rows:
        row = {column: cell.strip() for column, cell in zip_longest(header, cells[:len(header)], fillvalue="")}
        point = _point(path, row["name"], [row[column] or "nan" for column in _CSV_COLUMNS[2:]])
        _add(path, cases.setdefault(row["case"], {}), row["name"], point)
    return cases


def write_markups(path, points_mm: dict[str, np.ndarray], lines: Sequence[tuple[str, str]] = (),
                  boxes: Mapping[str, Box | tuple] | None = None, curves: Mapping[str, Sequence] | None = None) -> None:
    """Writes a list of points, lines between some of them, boxes and closed curves, for 3D Slicer (drag and drop).

    Args:
        path: ends in `.mrk.json`; written under a temporary name and renamed.
        points_mm: positions [3] in LPS millimetres; one with a NaN is written as missing.
        lines: pairs of names; a line with a missing end is omitted.
        boxes: named boxes (`Box`, or its three parts), written as ROIs; one with a NaN, or a side of 0, is omitted.
        curves: named closed curves, through points [N, 3] in LPS millimetres; one without points is omitted.

    Raises:
        UserError: another suffix, or the folder does not exist.
        ValueError: a line names an unknown point, or a box is invalid.

    Example:
        >>> write_markups("case.mrk.json", {"proximal": np.array([1.0, 2.0, 3.0]), "distal": np.array([4.0, 6.0, 3.0])},
        ...               lines=[("proximal", "distal")])
        >>> points = read_landmarks("case.mrk.json")
        >>> float(np.linalg.norm(points["distal"] - points["proximal"]))
        5.0
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
    markups += [_roi(name, Box(*box)) for name, box in (boxes or {}).items()
                if all(np.isfinite(part).all() for part in box) and np.all(box[2])]
    markups += [_curve(name, points) for name, points in (curves or {}).items() if len(points)]
    text = json.dumps({"@schema": _SCHEMA, "markups": markups}, indent=1, allow_nan=False)
    write_text(path, text + "\n")


def points_to_vox(points_mm: np.ndarray, volume: Volume) -> np.ndarray:
    """LPS millimetres [..., 3] to continuous voxel indices [..., 3] of `volume`; NaN stays NaN.

    Example:
        >>> volume = Volume(np.zeros((4, 4, 4)), (0.5, 0.5, 2.0), (10.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
        >>> points_to_vox([11.0, 1.0, 6.0], volume)
        array([2., 2., 3.])
    """
    shifted = np.asarray(points_mm, np.float64) - np.asarray(volume.origin_mm)
    inverse = np.linalg.inv(volume.direction_matrix * np.asarray(volume.spacing_mm))
    return shifted @ inverse.T


def points_to_mm(points_vox: np.ndarray, volume: Volume) -> np.ndarray:
    """Continuous voxel indices [..., 3] of `volume` to LPS millimetres [..., 3]; NaN stays NaN."""
    scaled = np.asarray(points_vox, np.float64) * np.asarray(volume.spacing_mm)
    return scaled @ volume.direction_matrix.T + np.asarray(volume.origin_mm)


def box_to_mm(box_vox: np.ndarray, volume: Volume) -> Box:
    """Two corners (x0, y0, z0, x1, y1, z1) in continuous voxel indices to a box along the volume's axes; NaN stays."""
    first, last = np.asarray(box_vox, np.float64).reshape(2, 3)
    size = (last - first) * np.asarray(volume.spacing_mm)
    return Box(points_to_mm((first + last) / 2, volume), volume.direction_matrix, size)


def _from_markups(path: Path, content: dict) -> dict[str, np.ndarray]:
    markups = content["markups"]
    check_structure(markups, list[_Kind], path, "markups")
    places = [place for place, one in enumerate(markups) if one.get("type", "Fiducial") in POINT_LISTS]
    points: dict[str, np.ndarray] = {}
    for place in places or [place for place, one in enumerate(markups) if one["type"] in LINES]:
        check_structure(markup := markups[place], _Markup, path, f"markups[{place}]")
        signs = _signs(path, str(markup.get("coordinateSystem", "LPS")))
        unit = markup.get("coordinateUnits", "mm")
        if unit != "mm" and unit[:1] != ["mm"]:
            raise UserError(f"{path}: coordinateUnits must be mm; found {shown(unit)}")
        for number, control in enumerate(markup.get("controlPoints", []), start=1):
            name = str(control.get("label") or control.get("id") or number)
            defined = control.get("positionStatus", "defined") == "defined" and control.get("position")
            position = control["position"] if defined else [math.nan] * 3
            _add(path, points, name, signs * _point(path, name, position))
    return points


def _from_fcsv(path: Path) -> dict[str, np.ndarray]:
    """Slicer's old table: comment lines with the coordinate system and the columns, then a row a point."""
    lines = read_text(path).splitlines()
    header = dict(_header_field(line) for line in lines if line.startswith("#") and "=" in line)
    if "CoordinateSystem" not in header:
        raise UserError(f"{path}: a line '# CoordinateSystem = LPS' (or RAS, 0, 1) is needed; found none")
    signs = _signs(path, header["CoordinateSystem"])
    columns = [column.strip() for column in header.get("columns", _FCSV_COLUMNS).split(",")]
    points: dict[str, np.ndarray] = {}
    for values in _cells(path, [line for line in lines if line.strip() and not line.startswith("#")]):
        row = dict(zip(columns, values, strict=False))
        name = row.get("label") or row.get("id", "")
        _add(path, points, name, signs * _point(path, name, [row.get(axis, "") for axis in "xyz"]))
    return points


def _cells(path: Path, lines: list[str]) -> list[list[str]]:
    try:
        return list(csv.reader(lines))
    except csv.Error as error:
        raise UserError(f"{path}: must be a table; found: {error}; save it again") from None


def _header_field(line: str) -> tuple[str, str]:
    key, _, value = line.lstrip("#").partition("=")
    return key.strip(), value.strip()


def _signs(path: Path, system: str) -> np.ndarray:
    """The signs that convert a coordinate system to LPS; Slicer's tables have 0 for RAS and 1 for LPS."""
    if system.upper() in ("RAS", "0"):
        return _RAS_TO_LPS
    if system.upper() in ("LPS", "1"):
        return np.ones(3)
    raise UserError(f"{path}: the coordinate system must be LPS (1) or RAS (0); found {system[:40]!r}")


def _from_indices(path: Path, content: dict, like: Volume | None) -> dict[str, np.ndarray]:
    if like is None:
        raise UserError(f"{path}: landmarks in voxel indices need their image; found none")
    named = _named_indices(path, content)
    _check_spacing(path, content, like)
    indices = {name: _index(path, name, value) for name, value in named.items()}
    _check_order(path, indices, like)
    return {name: points_to_mm(index, like) for name, index in indices.items()}


def _named_indices(path: Path, content: dict) -> dict:
    named = content.get("landmarks")
    if not isinstance(named, dict):
        raise UserError(f"{path}: 'landmarks' must be an object of name: [i, j, k]; found {shown(named)}")
    for name in named:
        check_label(name, f"{path}: a landmark")
    _check_count(path, len(named))
    return named


def _index(path: Path, name: str, value) -> np.ndarray:
    """[3] voxel indices; NaN where the point is missing: null, [], NaN, all 0, or an index below 0."""
    point = np.full(3, np.nan) if value is None or value in ([], "") else _point(path, name, value)
    return np.full(3, np.nan) if (point < 0).any() or not point.any() else point


def _check_order(path: Path, indices: dict[str, np.ndarray], like: Volume) -> None:
    """UserError for points outside the image that would be inside with their axes in another order.

    Programs write (z, y, x) for (x, y, z). Points that fit in no order are reported by the audit, one by one.
    """
    known = np.array([point for point in indices.values() if np.isfinite(point).all()]).reshape(-1, 3)
    last = np.array(like.size) - 0.5
    outside = [name for name, point in indices.items() if (point > last).any()]
    order = next((order for order in _orders() if (known[:, order] <= last).all()), None)
    if outside and order is not None:
        index = ", ".join(f"{value:g}" for value in indices[outside[0]])
        size = "x".join(str(side) for side in like.size)
        raise UserError(f"{path}: indices must be in the order of the axes of {like.path}, {size} voxels; found "
                        f"{outside[0]!r} at ({index}), outside of it, and all of them inside if the order is "
                        f"{_order_words(order)}: write them in the image's")


def _check_spacing(path: Path, content: dict, like: Volume) -> None:
    """The annotation's spacing, if any, must be the image's: else its indices are of another grid."""
    given = content.get("spacing")
    given = list(given) if isinstance(given, list) else [given] * 3
    if all(value is None for value in given):  # also of []
        return
    unit = _unit(path, content)
    stated = _point(path, "spacing", given)
    if np.isnan(stated).all():
        return
    if (stated <= 0).any():
        raise UserError(f"{path}: 'spacing' must be positive, or null where it is unknown; found {shown(given)}")
    own = np.asarray(like.spacing_mm)
    if _same(stated * _MILLIMETRES[unit], own):
        return
    hints = [f" (in {other} it would be the image's: is spacing_unit wrong?)" for other, factor in _MILLIMETRES.items()
             if _same(stated * factor, own)]
    hints += [f" (the image's in the order {_order_words(order)}: are the indices in that order too?)"
              for order in _orders() if _same(stated[list(order)] * _MILLIMETRES[unit], own)]
    raise UserError(f"{path}: its spacing must be that of {like.path}, {_words(like.spacing_mm)}; "
                    f"found {_words(stated * _MILLIMETRES[unit])}{''.join(hints[:1])}")


def _unit(path: Path, content: dict) -> str:
    """The spacing's unit as a key of `_MILLIMETRES`; millimetres by default."""
    given = content.get("spacing_unit")
    unit = "mm" if given in (None, "") else str(given).strip()
    short = unit.lower().removesuffix("s").replace("meter", "metre") if len(unit) > 2 else unit.lower()
    short = _UNITS.get(short.replace("\N{GREEK SMALL LETTER MU}", "\N{MICRO SIGN}"), short)
    if short not in _MILLIMETRES:
        raise UserError(f"{path}: spacing_unit must be one of {', '.join(_MILLIMETRES)}; found {shown(given)}")
    return short


def _orders() -> list[tuple[int, ...]]:
    """The orders of three axes other than their own; the most common one, reversed, is the first."""
    others = [order for order in permutations(range(3)) if order != (0, 1, 2)]
    return sorted(others, key=lambda order: order != (2, 1, 0))


def _order_words(order: tuple[int, ...]) -> str:
    """The order of the axes in a file that must be read in `order`."""
    return "(" + ", ".join("xyz"[order.index(axis)] for axis in range(3)) + ")"


def _same(spacing: np.ndarray, other: np.ndarray) -> bool:
    return bool(np.allclose(spacing, other, rtol=1e-3, atol=0))


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


def _curve(name: str, points_mm: Sequence) -> dict:
    """A closed curve, whose control points are not shown, as they are no landmarks."""
    controls = {str(number): np.asarray(point, np.float64) for number, point in enumerate(points_mm, start=1)}
    return {**_markup("ClosedCurve", name, controls), "display": {"pointLabelsVisibility": False, "glyphScale": 0.2}}


def _roi(name: str, box: Box) -> dict:
    """A box in Slicer's form: its only control point is its centre, its orientation row by row."""
    orientation, size = np.array(box.orientation, np.float64), np.asarray(box.size_mm, np.float64)
    if orientation.shape != (3, 3) or size.shape != (3,) or (size <= 0).any():
        raise ValueError(f"box {name!r} must have an orientation [3, 3] and three positive sizes; "
                         f"found {orientation.tolist()} and {size.tolist()}")
    if np.linalg.det(orientation) < 0:
        orientation[:, 2] *= -1  # a mirrored frame is not a rotation; the box is the same either way
    return {
        **_markup("ROI", name, {name: np.asarray(box.centre_mm, np.float64)}),
        "roiType": "Box",
        "center": [float(value) for value in box.centre_mm],
        "orientation": [float(value) for value in orientation.ravel()],
        "size": [float(value) for value in size],
        "insideOut": False,
        "display": {"handlesInteractive": False, "pointLabelsVisibility": False},
    }


def _control_point(number: int, label: str, point: np.ndarray) -> dict:
    """A missing point has no position: JSON has no NaN, and three zeros would be a position."""
    control: dict = {"id": str(number), "label": label}
    if np.isfinite(point).all():
        control["position"] = [float(value) for value in point]
    control["positionStatus"] = "defined" if "position" in control else "missing"
    return control


def _point(path: Path, name: str, values) -> np.ndarray:
    try:
        numbers = values if isinstance(values, list) else ()
        point = np.array([_coordinate(value) for value in numbers])
    except (TypeError, ValueError):
        point = np.empty(0)
    if point.shape != (3,) or (np.abs(point) > FARTHEST).any():
        raise UserError(f"{path}: {name[:40]!r} must be three numbers up to {FARTHEST:g}; found {shown(values)}")
    return point if np.isfinite(point).all() else np.full(3, np.nan)


def _coordinate(value) -> float:
    if isinstance(value, bool):
        raise ValueError
    return math.nan if value is None else float(value)


def _add(path: Path, points: dict[str, np.ndarray], name: str, point: np.ndarray) -> None:
    if not name or name in points:
        raise UserError(f"{path}: each landmark must have a name of its own; found {name[:40]!r} "
                        f"{'twice' if name else 'as a name'}")
    points[check_label(name, f"{path}: a landmark")] = point
    _check_count(path, len(points))


def _check_count(path: Path, count: int) -> None:
    if count > MOST_LANDMARKS:
        raise UserError(f"{path}: a case has at most {MOST_LANDMARKS} landmarks; found more")


def _read_json(path: Path) -> dict:
    content = read_json(path, nan=True)
    check_structure(content, dict[str, object], path)
    return content


def _words(values) -> str:
    return "(" + ", ".join(f"{value:.6g}" for value in values) + ") mm"
