"""Folders of parts (`--part I/N`) -> one folder, as one process would have written it.

Tables and the record of the predictions are joined in the order of the cases; all other files are linked, or copied
where links are not possible. The parts stay, so that one can be run again and merged again.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypedDict

from tfsono.errors import UserError, printable
from tfsono.files import check_regular, csv_text, make_folder, read_json, read_rows, write_text
from tfsono.locks import LOCK, locked
from tfsono.parts import FOLDER, Part
from tfsono.structure import check_structure

STATE = "part.json"
RECORD = "predictions.json"  # file and model of each predicted case, so that a rerun can skip it
BEGUN = {"state": "begun"}  # in the record: of a case whose files may exist, but not yet its row
CASES = "cases.csv"

DERIVED = ("hc18.csv",)  # made from the merged measurements.csv, by `predict.head.write_derived`


class State(TypedDict):
    """The content of part.json: all parts' cases in one number, the part's in their order, whether it has ended."""

    all: str
    cases: list[str]
    ended: bool


@contextlib.contextmanager
def part_recorded(folder: Path, part: Part, cases: Sequence[str]) -> Iterator[None]:
    """Writes into the folder of a part which of all cases it has, and at the end that it has ended."""
    digest = hashlib.sha256(json.dumps(list(cases)).encode()).hexdigest()
    for ended in (False, True):
        state = {"all": digest, "cases": part.share(cases), "ended": ended}
        write_text(folder / STATE, json.dumps(state, indent=1) + "\n")
        if not ended:
            yield


def merge(out_dir: str | os.PathLike) -> tuple[int, list[str]]:
    """Joins the parts in a folder into it; the number of cases, and those without a prediction.

    Raises:
      UserError: no parts, parts that are missing, have not ended or do not fit together, or a folder with other cases.
    """
    out = Path(out_dir)
    parts = found_parts(out)
    with locked(out), contextlib.ExitStack() as held:
        states = [held.enter_context(_opened(out / part.folder)) for part in parts]
        if len({state["all"] for state in states}) > 1:
            raise UserError(f"{out}: the parts had different inputs; delete their folders and run all of them again")
        order = [case for turn in itertools.zip_longest(*(state["cases"] for state in states)) for case in turn
                 if case is not None]
        folders = [out / part.folder for part in parts]
        check_own(order, out)
        tables = tables_of(folders)
        for name in tables:
            _merge_table([folder / name for folder in folders], order, out / name)
        record = _merge_record([folder / RECORD for folder in folders], order, out / RECORD)
        for folder in folders:
            _link_files(folder, out)
    measured = any(name.startswith("runs/") for name in tables)
    return len(order), [] if measured else [case for case in order if BEGUN.items() <= record.get(case, BEGUN).items()]


def found_parts(out: Path) -> list[Part]:
    """The parts in a folder, all of one number of parts."""
    names = sorted(path.name for path in out.iterdir() if path.is_dir()) if out.is_dir() else []
    found = sorted(Part(*map(int, match.groups())) for match in map(FOLDER.fullmatch, names) if match)
    if not found:
        raise UserError(f"{out}: has no folders part_I_of_N; give the --out of the commands with --part")
    numbers = sorted({part.of for part in found})
    if len(numbers) > 1:
        raise UserError(f"{out}: has parts of {numbers[0]} and of {numbers[1]}; delete the folders of one of them")
    missing = sorted({*range(1, numbers[0] + 1)} - {part.number for part in found})
    if missing:
        raise UserError(f"{out}: part {missing[0]} of {numbers[0]} is missing"
                        f"{f', and {len(missing) - 1} more' * (len(missing) > 1)}; run it first")
    return found


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[State]:
    """The state of a part that has ended; no process writes it meanwhile."""
    with locked(folder):
        path = folder / STATE
        state = read_json(path, "run the part again") if path.is_file() else {"all": "", "cases": [], "ended": False}
        check_structure(state, State, path)
        if not state["ended"]:
            raise UserError(f"{folder}: the part has not ended; run it again, it resumes")
        yield state


def check_own(order: Sequence[str], out: Path) -> None:
    """Raises `UserError` for other predictions in the folder of all parts."""
    before = read_json(out / RECORD, "delete it, or choose another --out") if (out / RECORD).is_file() else {}
    others = sorted(set(before) - set(order)) if isinstance(before, dict) else []
    if others:
        raise UserError(f"{out}: has predictions besides those of the parts, such as {printable(others[0])[:80]!r}; "
                        "move them away")


def tables_of(folders: Sequence[Path]) -> list[str]:
    """The tables that any part has, by their paths in its folder."""
    found = {path.relative_to(folder).as_posix(): None for folder in folders
             for path in (*sorted(folder.glob("*.csv")), *sorted(folder.glob(f"runs/*/{CASES}")))
             if path.name not in DERIVED}
    return list(found)


def _merge_table(paths: Sequence[Path], order: Sequence[str], out: Path) -> None:
    """Writes the rows of all parts case by case; a part without cases may lack the table."""
    header: dict[str, None] = {}
    rows: dict[str, list[dict[str, str]]] = {}
    for path in paths:
        lines = [line for line in read_rows(path) if line] if path.is_file() else []
        if lines and ("case" not in lines[0] or any(len(line) != len(lines[0]) for line in lines)):
            raise UserError(f"{path}: must be a table with a column 'case', and lines of one length; run the part "
                            "again")
        header |= dict.fromkeys(lines[0] if lines else ())
        for line in lines[1:]:
            row = dict(zip(lines[0], line, strict=True))
            rows.setdefault(row["case"], []).append(row)
    strange = sorted(set(rows) - set(order))
    if strange:
        raise UserError(f"{out.name}: a part has case {printable(strange[0])[:80]!r}, which is none of its inputs now; "
                        "delete the folders of the parts and run them again")
    make_folder(out.parent)
    write_text(out, csv_text([header, *([row.get(column, "") for column in header] for case in order
                                        for row in rows.get(case, ()))]))


def _merge_record(paths: Sequence[Path], order: Sequence[str], out: Path) -> dict:
    """Joins the records of the predictions; nothing of an evaluation, which has none."""
    merged: dict[str, dict[str, str]] = {}
    for path in paths:
        record = read_json(path, "run the part again") if path.is_file() else {}
        check_structure(record, dict[str, dict[str, str]], path)
        merged |= record
    models = {entry.get("model") for entry in merged.values()}
    if len(models) > 1:
        raise UserError(f"{out.parent}: the parts are predictions of {len(models)} different models or options; run "
                        "all of them with one")
    if merged:
        merged = {case: merged[case] for case in order if case in merged}
        write_text(out, json.dumps(merged, indent=1) + "\n")
    return merged


def _link_files(folder: Path, out: Path) -> None:
    """Links the files of a part, besides its tables, record and state, into the folder of all."""
    own = {STATE, RECORD, LOCK, *tables_of([folder])}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name in own or path.is_dir() or path.name.startswith("."):
            continue
        check_regular(path)
        place = out / name
        make_folder(place.parent)
        place.unlink(missing_ok=True)
        try:
            os.link(path, place)
        except OSError:  # another file system, or one without links
            shutil.copy2(path, place)
