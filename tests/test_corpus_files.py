"""Broken files of names, settings, landmarks, tables and foreign weights: each is refused in one line.

Of every reader the faults of JSON and CSV as such, of special files, and of what its content must be.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from corpus import Broken, check_refused

from tfsono.audit.dataset import read_audit
from tfsono.c3d.read import read_c3d
from tfsono.config import choose, load_settings, save_settings
from tfsono.configs.head import HEAD
from tfsono.configs.hip import HIP
from tfsono.data.description import read_description
from tfsono.data.image_tables import POINT_COLUMNS, read_point_table
from tfsono.data.splits import read_split
from tfsono.inference.atlases import read_atlases
from tfsono.inference.face_prior import read_prior
from tfsono.predict.pixel_sizes import read_pixel_sizes
from tfsono.report.tables import read_cases
from tfsono.volumes.landmarks import read_landmarks, read_landmarks_csv
from tfsono.volumes.volume import Volume

BROKEN: list[Broken] = []


def add(reader: str, read: Callable[[Path], object], file: str, cases: dict[str, tuple[str, object, str]]) -> None:
    """Inputs of one reader: name -> kind, content (text, bytes, a writer, else JSON), a word of the line."""
    for name, (kind, content, match) in cases.items():
        BROKEN.append(Broken(reader, kind, name, partial(_write, file=file, content=content), read, match))


def _write(folder: Path, file: str, content) -> Path:
    path = folder / file
    if callable(content):
        content(path)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 200 << 30)


def a_socket(path: Path) -> None:
    before = os.getcwd()
    os.chdir(path.parent)  # the address of a socket has few letters
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(before)


SPECIAL = {
    "FIFO": ("special file", os.mkfifo, "FIFO"),
    "socket": ("special file", a_socket, "socket"),
    "link to a device": ("special file", lambda path: path.symlink_to("/dev/zero"), "device"),
    "sparse file of 200 GB": ("declared size", sparse, "64 MiB"),
}
ANY_JSON = {
    "nested 60,000 deep": ("nested", "[" * 60_000 + "]" * 60_000, "levels"),
    "nested 100 deep": ("nested", '{"a":' * 100 + "1" + "}" * 100, "levels"),
    "401 digits": ("number", '{"a": 1' + "0" * 400 + "}", "18 digits"),
    "5,000 digits": ("number", '{"a": [1' + "0" * 5000 + "]}", "18 digits"),
    "no UTF-8": ("text", b'{"a": "H\xfcfte"}', "JSON"),
    "name twice": ("duplicate keys", '{"a": 1, "a": 2}', "twice"),
    "100,000 equal names": ("duplicate keys", "{" + ", ".join(['"a": 1'] * 100_000) + "}", "twice"),
    "cut": ("truncated", '{"a": [1, ', "JSON"),
    "empty": ("truncated", "", "JSON"),
    "zero bytes": ("text", b"\0" * 64, "JSON"),
    **SPECIAL,
}
NOT_FINITE = {
    "1e999": ("number", '{"a": 1e999}', "finite"),
    "NaN": ("number", '{"a": NaN}', "finite"),
}


# ------------------------------------------------------------------------------------------------ config.json


def changed(choices, **changes):
    """A writer of a sound config.json with changed values."""
    def write(path: Path) -> None:
        save_settings(path, choose(choices, "quick", next(iter(choices.variants))))
        content = json.loads(path.read_text())
        content["values"].update(changes)
        path.write_text(json.dumps(content))
    return write


def content_with(choices, key: str, value):
    """A writer of a config.json of which one entry is another."""
    def write(path: Path) -> None:
        changed(choices)(path)
        path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    return write


def load_hip(path: Path):
    return load_settings(path, HIP)


add("config.json", load_hip, "config.json", {**ANY_JSON, **NOT_FINITE, **{
    f"content {json.dumps(content)}": ("structure", content, "config.json: (its content|preset) must")
    for content in ([], {}, None, 7, '"text"', {"system": "hip"}, {"system": "hip", "preset": 1})}, **{
    f"{key} {json.dumps(value)}": ("structure", content_with(HIP, key, value), rf"config.json: .*{key}")
    for key, value in (("system", None), ("system", ["hip"]), ("preset", None), ("preset", "\x1b[2J"), ("variant", 3),
                       ("values", None), ("values", []), ("origins", []), ("origins", {"widths": None}),
                       ("origins", {}), ("origins", {"widths": ["ours"]}))}, **{
    # patch times batch is limited too
    f"{key} {json.dumps(value)[:30]}": ("value", changed(HIP, **{key: value}), rf"config.json: values\.({key}|batch)")
    for key, value in (
        ("widths", None), ("widths", "64,64"), ("widths", [64, 64, 64, None]), ("widths", [[64], 64, 64, 64]),
        ("widths", [64, 64, 64]), ("widths", [10**6] * 4), ("widths", [0, 1, 1, 1]), ("widths", [-1, 1, 1, 1]),
        ("patch", [16_000_000] * 3), ("patch", [8000, 8000, 8000]), ("patch", 64), ("patch", [64.0, 64, 64]),
        ("batch", "2"), ("batch", 2.5), ("batch", True), ("batch", 10**9), ("batch", 0), ("learning_rate", None),
        ("learning_rate", -1), ("learning_rate", 10**17), ("deterministic", 1), ("deterministic", "true"),
        ("label_names", "femur"), ("label_names", [1]), ("label_names", ["a/b"]), ("label_names", ["a\0"]),
        ("label_names", ["x" * 300]), ("label_names", ["a", "a"]), ("label_names", [""]), ("orientation", "XYZ"),
        ("orientation", None), ("spacing_mm", [0, 1, 1]), ("spacing_mm", [1, 1]), ("seed", -1), ("seed", 10**17),
        ("tiling", "some"), ("norm_momentum", 2), ("c3d_weights", "x" * 5000), ("c3d_weights", "\0"),
        ("iterations", -400), ("halve_every", 0))}, **{
    "record_every 0": ("value", changed(HIP, record_every=0), r"config.json: values\..*record_every"),
    "an unknown field": ("value", changed(HIP, knee=1), "fields knee do not match"),
    "fields of another system": ("value", changed(HEAD), "expected a run of hip"),
    "1,000 unknown fields": ("value", changed(HIP, **{f"a{n}": n for n in range(1000)}), "and 995 more"),
    "a removed field with another value": ("value", changed(HIP, jit_compile=[1] * 10_000), "always"),
}})


# ------------------------------------------------------------------------------------------------ dataset.json

CAPTIONS = "\x1b[2J \u202e"


def described(path: Path):
    return read_description(path, [])


def described_as(key: str, *values) -> dict:
    return {f"{key} {json.dumps(value)[:40]}": ("value", {key: value}, rf"dataset.json: {key}") for value in values}


add("dataset.json", described, "dataset.json", {
    **ANY_JSON, **NOT_FINITE, "a list": ("structure", [], "object"), "null": ("structure", "null", "object"),
    **described_as("name", None, 7, "", "x" * 300, "a\0b", CAPTIONS, "\ud800", ["a"]),
    **described_as("modality", None, 7, {"0": 7}, "a\nb", "x" * 5000),
    **described_as("labels", None, [], 7, {"a": None}, {"a": [1, 2]}, {"a": True}, {"a": -1}, {"a": 10**9}, {"a": 1.5},
                   {"a": "x"}, {"a": "1" * 400}, {"a": 1, "b": 1}, {"a/b": 1}, {"a\0": 1}, {"": 1}, {"x" * 300: 1},
                   {CAPTIONS: 1}, {"\ud800": 1}, {"..": 1}, {f"a{n}": n for n in range(300)},
                   {f"a{n}": n for n in range(60_000)}, {"1": "a", "2": "a"}, {"ignore": 0}),
    **described_as("landmarks", None, {}, [1], [None], ["a", "a"], [""], ["x" * 300], ["a\0"], [CAPTIONS],
                   [f"a{n}" for n in range(5000)]),
    **described_as("subjects", None, [], {"a": None}, {"a": []}, {"a": True}, {"a": ""}, {"a": "x" * 300},
                   {"a": "\0"}, {"a": "\ud800"}),
    **described_as("split", [], 7, {"train": None}, {"train": "a"}, {"train": [1]}, {"other": []}),
    **described_as("units", None, "cm", ["mm"], 1),
    **described_as("channel_names", None, [], {"0": None}),
})

# --------------------------------------------------------------------------------------- splits, audit, prior, atlases

add("split file", read_split, "split.json", {**ANY_JSON, **{
    json.dumps(content)[:40]: ("structure", content, "split.json")
    for content in ([], "null", {}, {"train": []}, {"train": None, "validation": [], "test": []},
                    {"train": [1], "validation": [], "test": []}, {"train": [["a"]], "validation": [], "test": []},
                    {"train": {"a": 1}, "validation": [], "test": []},
                    {"train": [], "validation": [], "test": [], "more": []})}})

ENTRY = {"name": "a", "subject": "a", "files": {}, "checksums": None, "checksum_source": "", "size": [1, 1, 1],
         "spacing_mm": [1, 1, 1], "orientation": "LPS", "range": [0, 1], "array_sha256": "", "labels": {},
         "landmarks": {}, "problems": []}


def audit_of(**changes) -> dict:
    return {"version": 2, "labels": {}, "landmarks": [], "cases": [ENTRY, ENTRY | changes]}


add("audit.json", read_audit, "audit.json", {**ANY_JSON, **{
    f"cases {json.dumps(cases)[:40]}": ("structure", {"version": 2, "cases": cases}, "audit.json: cases")
    for cases in (None, {}, 7, "a", [None], [[]], [{}], ["a"], [{"name": "a"}])}, **{
    f"{key} {json.dumps(value)[:40]}": ("structure", audit_of(**{key: value}), rf"audit.json: cases\[1\].*{key}")
    for key, value in (("name", None), ("name", 7), ("checksums", []), ("checksums", {"image": 1}), ("size", 7),
                       ("size", [1, 1]), ("size", [1, None, 1]), ("size", [0, 1, 1]), ("size", [1.5, 1, 1]),
                       ("spacing_mm", "1"), ("spacing_mm", [0, 0, 0]), ("orientation", None), ("orientation", "XYZ"),
                       ("range", [1]), ("labels", None), ("labels", {"a": None}), ("labels", {"a": {"voxels": None}}),
                       ("landmarks", []), ("landmarks", {"a": [1, 2]}), ("problems", None), ("problems", [None]),
                       ("problems", [{"level": "error"}]), ("pixel_size_mm", "1"))},
    "of another version": ("version", audit_of() | {"version": 1}, "version 2"),
    "no object": ("structure", [], "version 2")})

NAMES = ("nose_tip", "chin", "left_eye")
RATIO = {"kind": "asymmetric", "first": ["nose_tip", "chin"], "second": ["nose_tip", "left_eye"], "mean": 1.0,
         "deviation": 0.1, "faces": 3}
PRIOR = {"format_version": 1, "landmarks": list(NAMES), "incomplete": {}, "ratios": [RATIO]}
ATLAS = {"case": "a", "points_mm": [[1, 2, 3], None, [4, 5, 6]]}
ATLASES = {"format_version": 1, "unit": "mm", "landmarks": list(NAMES), "atlases": [ATLAS]}


def changes_of(content: dict, *changes: tuple) -> dict:
    return {f"{key} {json.dumps(value)[:40]}": ("structure", content | {key: value}, r"\.json: ")
            for key, value in changes}


add("prior.json", partial(read_prior, landmarks=NAMES), "prior.json", {
    **ANY_JSON, **NOT_FINITE, "a list": ("structure", [], "an object"), "empty object": ("structure", {}, "must have"),
    **changes_of(PRIOR, ("format_version", None), ("format_version", 2), ("landmarks", None), ("landmarks", "chin"),
                 ("landmarks", [1, 2, 3]), ("landmarks", ["chin"]), ("incomplete", None), ("incomplete", {"a": 1}),
                 ("ratios", None), ("ratios", []), ("ratios", {}), ("ratios", [None]),
                 *(("ratios", [RATIO | {key: value}]) for key, value in (
                     ("kind", None), ("kind", "other"), ("first", None), ("first", ["chin"]),
                     ("first", ["chin", "tail"]),
                     ("first", ["chin", "chin"]), ("mean", None), ("mean", "1"), ("deviation", 0), ("deviation", -1),
                     ("faces", None), ("faces", 1.5))))})
add("atlases.json", partial(read_atlases, landmarks=NAMES), "atlases.json", {
    **ANY_JSON, **NOT_FINITE, "a list": ("structure", [], "an object"), "empty object": ("structure", {}, "must have"),
    **changes_of(ATLASES, ("format_version", "1"), ("format_version", 2), ("unit", None), ("unit", "cm"),
                 ("landmarks", None), ("landmarks", ["chin"]), ("landmarks", [1, 2, 3]), ("atlases", None),
                 ("atlases", []), ("atlases", [None]), ("atlases", [7]),
                 *(("atlases", [ATLAS | {key: value}]) for key, value in (
                     ("case", None), ("points_mm", None), ("points_mm", []), ("points_mm", [None] * 4),
                     ("points_mm", [[1, 2]] * 3), ("points_mm", [["1", 2, 3]] * 3), ("points_mm", [[1e300, 0, 0]] * 3),
                     ("points_mm", [{}, {}, {}]))))})

# ---------------------------------------------------------------------------------------------------- landmarks

LIKE = Volume(np.zeros((9, 9, 9), np.float32), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))


def landmarks(path: Path):
    return read_landmarks(path, LIKE)


def markups(**changes) -> dict:
    return {"markups": [{"type": "Fiducial", "controlPoints": [{"label": "a", "position": [1, 2, 3]}], **changes}]}


def controls(*points) -> dict:
    return markups(controlPoints=list(points))


add(".mrk.json", landmarks, "a.mrk.json", {**ANY_JSON, **{
    json.dumps(content)[:60]: ("structure", content, "a.mrk.json")
    for content in (
        "[]", {"markups": None}, {"markups": {}}, {"markups": 7}, {"markups": [None]}, {"markups": [[]]},
        {"markups": [{"type": None}]}, {"markups": [{"type": ["Line"]}]}, markups(controlPoints=None),
        markups(controlPoints=7), markups(controlPoints={}), controls(None), controls("a"), controls([1, 2, 3]),
        markups(coordinateUnits=None), markups(coordinateUnits=7), markups(coordinateUnits=[]),
        markups(coordinateUnits={}), markups(coordinateUnits="cm"), markups(coordinateSystem=None),
        markups(coordinateSystem="XYZ"), markups(coordinateSystem=[]))}, **{
    f"point {json.dumps(point)[:50]}": ("value", controls(point), "a.mrk.json") for point in (
        {"label": [], "position": [1, 2, 3]}, {"label": {}, "position": [1, 2, 3]}, {"id": 1.5, "position": [1, 2, 3]},
        {"label": "a", "position": "123"}, {"label": "a", "position": [1, 2]}, {"label": "a", "position": 7},
        {"label": "a", "position": [1, [2], 3]}, {"label": "a", "position": {"1": 1, "2": 2, "3": 3}},
        {"label": "a", "position": [True, True, True]}, {"label": "a", "position": [1e300, 0, 0]},
        {"label": "a\0", "position": [1, 2, 3]}, {"label": CAPTIONS, "position": [1, 2, 3]},
        {"label": "x" * 300, "position": [1, 2, 3]}, {"label": "\ud800", "position": [1, 2, 3]})},
    "infinity": ("number", '{"markups": [{"controlPoints": [{"label": "a", "position": [Infinity, 0, 0]}]}]}',
                 "numbers"),
    "label twice": ("duplicate names", controls(*[{"label": "a", "position": [1, 2, 3]}] * 2), "twice"),
    "30,000 labels": ("names", controls(*({"label": f"a{n}", "position": [1, 2, 3]} for n in range(30_000))), "1000"),
})
add("landmark_anno", landmarks, "a_landmark.json", {**ANY_JSON, **{
    json.dumps(content)[:60]: ("structure", content, "a_landmark.json")
    for content in (
        "[]", {}, {"landmarks": None}, {"landmarks": []}, {"landmarks": {"a": 7}}, {"landmarks": {"a": [1, 2]}},
        {"landmarks": {"a": ["x", 1, 2]}}, {"landmarks": {"a": [1, {}, 2]}}, {"landmarks": {"a": [1e300, 1, 1]}},
        {"landmarks": {"": [1, 2, 3]}}, {"landmarks": {"a\0": [1, 2, 3]}}, {"landmarks": {"x" * 300: [1, 2, 3]}},
        {"landmarks": {CAPTIONS: [1, 2, 3]}}, {"landmarks": {}, "spacing": "1;1"}, {"landmarks": {}, "spacing": [1, 1]},
        {"landmarks": {}, "spacing": [1, {}, 1]}, {"landmarks": {}, "spacing": [0, 0, 0]},
        {"landmarks": {}, "spacing": [2, 2, 2]}, {"landmarks": {}, "spacing": 1, "spacing_unit": []},
        {"landmarks": {}, "spacing": 1, "spacing_unit": "x" * 5000})},
    "30,000 names": ("names", {"landmarks": {f"a{n}": [1, 2, 3] for n in range(30_000)}}, "1000"),
    "infinity": ("number", '{"landmarks": {"a": [1e999, 0, 0]}}', "numbers"),
})

ANY_TABLE = {
    "field of 200,000 letters": ("declared size", "case,name,x_mm\n" + "x" * 200_000, "field|must"),
    "no UTF-8": ("text", b"case,name\nH\xfcfte,1\n", "UTF-8"), "zero bytes": ("text", b"case\0,name\n1,2\n", "zero"),
    "open quote": ("quotes", 'case,"name\n1,2\n', "CSV|columns|table"), "empty": ("truncated", "", "a.(csv|fcsv)"),
    **SPECIAL,
}
FCSV = "# CoordinateSystem = LPS\n# columns = id,x,y,z,label\n"
NO_FCSV = ("open quote", "field of 200,000 letters")  # in its own form below
add(".fcsv", landmarks, "a.fcsv", {key: case for key, case in ANY_TABLE.items() if key not in NO_FCSV} | {
    "no system": ("structure", "1,2,3\n", "CoordinateSystem"),
    "another system": ("value", "# CoordinateSystem = XYZ\n1,2,3\n", "LPS"),
    **{row[:20]: ("value", FCSV + row, "a.fcsv") for row in (
        "1,a,2,3,b\n", "1,2,3\n", ",1,2,3,\n", "1,1,2,3,a\n2,1,2,3,a\n", "1,inf,2,3,a\n", "1,1e300,2,3,a\n",
        "1,1,2,3,\x1b[2J\n", f"1,1,2,3,{'x' * 300}\n", f"1,1,2,3,{'x' * 200_000}\n")}})
TABLE = "case,name,x_mm,y_mm,z_mm\n"
add("landmarks.csv", read_landmarks_csv, "a.csv", ANY_TABLE | {
    row[:30]: ("value", row, "a.csv") for row in (
        TABLE, "case,name,x_mm,y_mm\na,b,1,2\n", "case,name,x_mm,x_mm,y_mm,z_mm\na,b,1,1,2,3\n",
        TABLE + "a,b,1,5,2,5,3,5\n",
        TABLE + "a,b,1,2,x\n", TABLE + "a,b,inf,2,3\n", TABLE + "a,b,1e300,2,3\n", TABLE + "a,,1,2,3\n",
        TABLE + "a,b,1,2,3\na,b,1,2,3\n", TABLE + "a,\x1b[2J,1,2,3\n", TABLE + f"a,{'x' * 300},1,2,3\n",
        "case,name,x_mm,y_mm,z_mm," + "m," * 50_000 + "\n")})
add("pixel sizes", lambda path: read_pixel_sizes(str(path)), "a.csv", {
    key: case for key, case in ANY_TABLE.items() if case[0] != "special file"} | {
    row[:30]: ("value", "image_name,pixel_size_mm\n" + row, "a.csv") for row in (
        "a,\n", "a,x\n", "a,0\n", "a,-1\n", "a,nan\n", "a,inf\n", "a,1e300\n", ",0.1\n", "a,0.1\na,0.2\n", "a,0,1\n",
        f"a,{'x' * 5000}\n")} | {
    "column twice": ("structure", "image_name,pixel_size_mm,pixel_size_mm\na,0.1,0.2\n", "twice"),
    "no column": ("structure", "image_name\na\n", "needed"),
    "100,000 columns": ("structure", ",".join(map(str, range(100_000))) + "\n", "needed")})
add("table of points", read_point_table, "a.csv", ANY_TABLE | {
    "no column": ("structure", "image_name,ofd_1_x\na,1\n", "needed"),
    **{row: ("value", "image_name," + ",".join(POINT_COLUMNS) + "\n" + row, "a.csv") for row in (
        "a," + ",".join("x" * 8) + "\n", "a," + ",".join(["1e300"] * 8) + "\n", "a," + ",".join(["inf"] * 8) + "\n")}})
add("cases.csv", read_cases, "a.csv", {key: case for key, case in ANY_TABLE.items() if case[0] != "special file"} | {
    "no case": ("structure", "dice\n1\n", "case"), "column twice": ("structure", "case,a,a\n1,2,3\n", "differ"),
    "short line": ("structure", "case,a\n1\n", "2 cells"), "long line": ("structure", "case,a\n1,2,3\n", "2 cells")})

# ------------------------------------------------------------------------------------------------ C3D


def message(*parts: tuple[int, bytes]) -> bytes:
    """A protocol-buffer message of fields of bytes."""
    return b"".join(number(field << 3 | 2) + number(len(content)) + content for field, content in parts)


def number(value: int) -> bytes:
    found = b""
    while value > 127:
        found, value = found + bytes([value & 127 | 128]), value >> 7
    return found + bytes([value])


def blob(values: int, content: bytes) -> bytes:
    """A network of a sound layer and one with this blob."""
    def layer(name: bytes, values: int, content: bytes) -> bytes:
        return message((1, name), (7, message((7, message((1, number(values)))), (5, content))))

    return message((100, layer(b"data", 1, b"\0" * 4)), (100, layer(b"conv1a", values, content)))


def archive(**arrays: bytes):
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as file:
            for name, content in arrays.items():
                file.writestr(f"{name}.npy", content)
    return write


def header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def with_index(content: bytes):
    def write(path: Path) -> None:
        path.with_name("c3d.index").write_bytes(content)
    return write


def with_fifo(path: Path) -> None:
    path.with_name("c3d.index").write_bytes(b"\0" * 100)
    os.mkfifo(path.with_name("c3d.data-00000-of-00001"))


def tuples(depth: int) -> bytes:
    """A pickle of a tuple of two times the same tuple of two ..., of which the leaves can never be counted."""
    return b"\x80\x04)" + b"2\x86" * depth + b"."


add("C3D", read_c3d, "c3d", {
    **{key: case for key, case in SPECIAL.items() if key != "sparse file of 200 GB"},
    "empty": ("truncated", "", "empty"), "text": ("content", "hello", "unknown"),
    "pickle of tuples of tuples": ("nested", tuples(60), "converted"),
    "a cut pickle": ("truncated", b"\x80\x04(", "converted"),
    "blob of 4n + 1 bytes": ("declared size", blob(3, b"\0" * 13), "values"),
    "blob of 4n - 1 bytes": ("declared size", blob(3, b"\0" * 11), "values"),
    "blob of 10^18 values": ("declared size", blob(10**18, b"\0" * 12), "values"),
    "blob of no values": ("declared size", blob(0, b""), "lacks"),
    "a cut network": ("truncated", blob(3, b"\0" * 12)[:-5] , "truncated|unknown"),
    "20,000 empty layers": ("very large", message((100, b"")) * 20_000, "10000|unknown"),
    "name with control characters": ("names", blob(3, b"\0" * 13).replace(b"conv1a", b"\x1b[2Jab"), "values"),
    "empty archive": ("structure", archive(), "unknown|archive"),
    "no arrays": ("content", archive(a=b"hello"), "archive"),
    "a cut archive": ("truncated", b"PK\x03\x04" + b"\0" * 20, "archive"),
    "object array": ("pickle", archive(a=header("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}\n")), "lacks"),
    "elements of 10^9 bytes": ("declared size",
                               archive(a=header("{'descr': '|V1000000000', 'fortran_order': False, 'shape': (9,)}\n")),
                               "numbers"),
    "nested header": ("nested", archive(a=header("(" * 30_000 + ")" * 30_000)), "damaged"),
    "20,000 arrays": ("very large", archive(**{f"a{n}": b"" for n in range(20_000)}), "10000"),
    "HDF5 signature alone": ("truncated", b"\x89HDF\r\n\x1a\n" + b"\0" * 100, "HDF5|unknown"),
})
add("C3D checkpoint", read_c3d, "c3d", {
    "FIFO for its values": ("special file", with_fifo, "FIFO"),
    "empty index": ("truncated", with_index(b""), "65536 bytes"),
    "index of a block named 20,000 times": ("very large", with_index(b"\0" * 200_000), "65536 bytes"),
})


@pytest.mark.parametrize("broken", BROKEN, ids=str)
def test_refused(broken, tmp_path, capfd):
    check_refused(broken, tmp_path, capfd)
