"""`run.json`: the SHA-256 of the files of a run, so that one that is changed, exchanged or lost is noticed.

    {"format_version": 1, "files": {NAME: SHA-256, ...}, "pending": {NAME: SHA-256, ...}}

Files are written in three steps (`recorded`): all under hidden names; then run.json, with the SHA-256 of the new ones
as `pending` beside those of the old ones; then they are renamed, one by one, and run.json is written again. A kill at
any moment leaves each file whole, either the old or the new one, and a file may be either while it is pending. Which of
the two training resumes from is decided by `state.h5` alone, which is renamed last.

It detects damage and mistakes, but not someone who changes run.json too.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypedDict

from tfsono.errors import UserError
from tfsono.files import open_regular, read_json, replacing, write_text
from tfsono.structure import check_structure

RECORD = "run.json"
FORMAT_VERSION = 1
VERSIONS = "versions.json"  # has the entry MARK where there must be a run.json
MARK = "record"
OF_A_RUN = ("config.json", "split.json", "data.json", VERSIONS, "initialisation.txt", "transfer.txt", "prior.json",
            "atlases.json", "library.json", "history.csv", "best.weights.h5", "last.weights.h5", "state.h5",
            "finished.json", "tiling.json", "confidence.json", "interval.json", "prior_choice.json",
            *(f"{kept}/{name}" for kept in ("roi", "finder")
              for name in ("config.json", "split.json", "data.json", "best.weights.h5", "last.weights.h5")))
"""All that predictions, measurements or the rest of a training depend on; also by the names of the release before."""

REMEDY = "copy the run again, or delete it and train again"
TRIES = 3


class Record(NamedTuple):
    """The content of run.json."""

    files: dict[str, str]
    pending: dict[str, str]


class _Saved(TypedDict):
    format_version: int
    files: dict[str, str]
    pending: dict[str, str]


@contextlib.contextmanager
def recorded(folder: Path, *names: str) -> Iterator[list[Path]]:
    """Yields a path to write to for each file; at the end of the block they become files of the run, in that order.

    Args:
      folder: of the run.
      names: of `OF_A_RUN`.
    """
    files = _files_now(folder)
    with contextlib.ExitStack() as stack:
        partials = [stack.enter_context(replacing(folder / name)) for name in reversed(names)][::-1]
        yield partials
        new = {name: _sha256(path) for name, path in zip(names, partials, strict=True)}
        _write(folder, Record(files, new))
    _write(folder, Record(files | new, {}))


def record_files(folder: Path) -> None:
    """Writes run.json for the files as they are: of a run of the release before."""
    _write(folder, Record({name: _sha256(folder / name) for name in OF_A_RUN if (folder / name).exists()}, {}))


def check_files(folder: Path) -> None:
    """Compares every file of a run with run.json. A note on stderr for a run of the release before, which has none.

    Raises:
      UserError: a file is changed, missing, or not of this run; run.json is missing or is no such file.
    """
    if not (folder / RECORD).exists():
        _check_older(folder)
        return
    for _ in range(TRIES):  # a training may be writing the folder meanwhile
        record = _read(folder)
        problem = _problem(folder, record)
        if not problem:
            return
        if _read(folder) == record:
            break
    raise UserError(problem)


def _check_older(folder: Path) -> None:
    if (folder / VERSIONS).exists() and MARK in read_json(folder / VERSIONS, REMEDY):
        raise UserError(f"{folder / RECORD}: missing; {REMEDY}")
    within = folder.parent
    if (within / RECORD).exists() and f"{folder.name}/config.json" in _read(within).files:
        return  # is checked with the run that it is a part of
    print(f"note: {folder}: was trained before run.json was written: whether its files belong together is not known; "
          "its training command, run again, adds it", file=sys.stderr)


def _problem(folder: Path, record: Record) -> str:
    """The first file that is not as recorded, as a line; "" where all are."""
    for name in sorted({*OF_A_RUN, *record.files, *record.pending}):
        path, known = folder / name, {kept[name] for kept in record if name in kept}
        if not path.exists():
            if name in record.files:
                return f"{path}: missing, and {RECORD} names it; {REMEDY}"
        elif not known:
            return f"{path}: is not of this run, as {RECORD} does not name it; remove it"
        elif _sha256(path) not in known:
            return f"{path}: is not the file that the training wrote (its SHA-256 differs from {RECORD}'s); {REMEDY}"
    return ""


def _files_now(folder: Path) -> dict[str, str]:
    """The SHA-256 of the run's files; what a killed training left pending is as it is found."""
    if not (folder / RECORD).exists():
        return {}
    files, pending = _read(folder)
    return files | {name: _sha256(folder / name) for name in pending if (folder / name).exists()}


def _read(folder: Path) -> Record:
    path = folder / RECORD
    content = read_json(path, REMEDY)
    check_structure(content, _Saved, path)
    if content["format_version"] != FORMAT_VERSION:
        raise UserError(f"{path}: format {content['format_version']}, this version reads {FORMAT_VERSION}; use the "
                        "version that trained the run")
    strange = [name for name in (*content["files"], *content["pending"]) if name not in OF_A_RUN]
    if strange:
        raise UserError(f"{path}: names {strange[0][:40]!r}, which is no file of a run; {REMEDY}")
    return Record(content["files"], content["pending"])


def _write(folder: Path, record: Record) -> None:
    write_text(folder / RECORD, json.dumps({"format_version": FORMAT_VERSION, **record._asdict()}, indent=2) + "\n")


def _sha256(path: str | os.PathLike) -> str:
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
