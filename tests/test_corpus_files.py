"""Broken files of names, settings, landmarks, tables and foreign weights: each is refused in one line.

Of every reader the faults of JSON and CSV as such, of special files, and of what its content must be.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from corpus import Broken, check_refused

from tfsono.config import choose, load_settings, save_settings
from tfsono.configs.head import HEAD
from tfsono.configs.hip import HIP

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
    f"{key} {json.dumps(value)[:30]}": ("value", changed(HIP, **{key: value}), rf"config.json: values\.{key}")
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


@pytest.mark.parametrize("broken", BROKEN, ids=str)
def test_refused(broken, tmp_path, capfd):
    check_refused(broken, tmp_path, capfd)
