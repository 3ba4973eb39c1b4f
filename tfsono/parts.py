"""`--part I/N`: every N-th case, so that N processes share a cohort. Standard library only."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

from tfsono.errors import UserError

Case = TypeVar("Case")

MOST_PARTS = 100_000
FOLDER = re.compile(r"part_([1-9]\d{0,5})_of_([1-9]\d{0,5})", re.ASCII)
SLURM = "SLURM_ARRAY_TASK_"
INDEX = "JOB_COMPLETION_INDEX"  # of a Kubernetes Indexed Job, from 0
HELP = ("predict or measure every N-th case from the I-th (from 1), into a folder of its own in --out; `tfsono merge "
        "OUT` joins the folders. auto: the task's place in its Slurm array; auto/N also in a Kubernetes Indexed Job")


class Part(NamedTuple):
    """Part `number`, from 1, of `of`."""

    number: int
    of: int

    @property
    def folder(self) -> str:
        """The name of its folder."""
        return f"part_{self.number}_of_{self.of}"

    def share(self, cases: Sequence[Case]) -> list[Case]:
        """Its cases: every `of`-th, so that parts are equally long and a new case at the end moves no other."""
        return list(cases[self.number - 1::self.of])


def part_of(text: str, environment: Mapping[str, str] = os.environ) -> Part:
    """The part of `I/N`, `auto` or `auto/N`.

    Raises:
      UserError: another text, or no task of an array for `auto`.
    """
    first, separator, last = text.partition("/")
    if first == "auto" and (bool(separator) == bool(last)):
        return _of_task(_count(last, text) if separator else 0, environment)
    part = Part(_count(first, text), _count(last, text))
    if part.number > part.of:
        raise UserError(f"--part {text[:80]}: I must be 1 to {part.of}; found {part.number}")
    return part


def _count(word: str, text: str) -> int:
    number = int(word) if re.fullmatch(r"\d{1,6}", word, re.ASCII) else 0
    if not 1 <= number <= MOST_PARTS:
        raise UserError(f"--part {text[:80]!r}: expected I/N, with I from 1 to N and N up to {MOST_PARTS}, auto, or "
                        "auto/N")
    return number


def _of_task(of: int, environment: Mapping[str, str]) -> Part:
    """The part of a task of a Slurm array, whose numbers may begin anywhere, or of an Indexed Job."""
    if f"{SLURM}ID" in environment:
        task, least, most, count, step = (_number(environment, f"{SLURM}{name}", default) for name, default in
                                          (("ID", None), ("MIN", None), ("MAX", None), ("COUNT", None), ("STEP", 1)))
        if step < 1 or least + (count - 1) * step != most or (task - least) % step or not least <= task <= most:
            raise UserError(f"--part auto: the tasks of the Slurm array must be evenly spaced; found {count} from "
                            f"{least} to {most}; give --part I/N")
        if of and of != count:
            raise UserError(f"--part auto/{of}: the Slurm array has {count} tasks; start {of}, or give --part I/N")
        return Part((task - least) // step + 1, count)
    if INDEX in environment:
        number = _number(environment, INDEX) + 1
        if not of:
            raise UserError(f"--part auto: {INDEX} does not say how many there are; give --part auto/N")
        if number > of:
            raise UserError(f"--part auto/{of}: {INDEX}={number - 1} must be under {of}")
        return Part(number, of)
    raise UserError(f"--part auto: needs {SLURM}ID or {INDEX} in the environment, found neither; give --part I/N")


def _number(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environment.get(name, "" if default is None else str(default))
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII):
        raise UserError(f"{name}={text[:80]!r}: expected a whole number; give --part I/N")
    return int(text)
