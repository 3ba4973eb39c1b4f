"""`--part I/N` and `tfsono merge`: parts, one of which is killed, give what one process gives, byte for byte."""

from __future__ import annotations

import json
import os
import signal
import tarfile
from pathlib import Path

import pytest

from tfsono.__main__ import run as tfsono
from tfsono.errors import UserError
from tfsono.files import write_text
from tfsono.merge import STATE, merge
from tfsono.parts import Part, part_of
from tfsono.predict.loop import RECORD, Outputs, predict_all

ROOT = Path(__file__).resolve().parents[1]
CASES, PARTS = 8, 3
OUTPUTS = Outputs("volume", lambda path: path.suffix == ".txt", lambda path: path.stem,
                  {"measurements.csv": ("case", "file", "letters"), "landmarks.csv": ("case", "landmark")},
                  lambda name: (f"{name}.json", f"{name}_more.json"))


class Reader:
    """Predicts the number of letters of a file, with as many landmarks; the last of `killed_at` cases never ends."""

    key = "1"
    killed_at = 0

    def __init__(self):
        self.count = 0

    def predict(self, path: Path, name: str, out_dir: Path):
        self.count += 1
        text = path.read_text(encoding="utf-8")
        if text == "bad":
            raise UserError(f"{path}: bad")
        write_text(out_dir / f"{name}.json", json.dumps(text))
        if self.count == self.killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        rows = [{"case": name, "landmark": number} for number in range(len(text) % 3)]
        return {"measurements.csv": [{"case": name, "file": str(path), "letters": f"={len(text)}, \"é\""}],
                "landmarks.csv": rows}, name


class Killed(Reader):
    killed_at = 2


@pytest.fixture
def inputs(tmp_path):
    """Files in two folders, some of one name."""
    for number in range(CASES):
        path = tmp_path / "in" / "ab"[number % 2] / f"scan_{number // 2}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x" * number)
    return [tmp_path / "in" / "a", tmp_path / "in" / "b"]


def killed(inputs, out: Path, part: Part) -> None:
    """Predicts a part in a process of its own, which a SIGKILL ends in its second case."""
    child = os.fork()
    if not child:
        predict_all(OUTPUTS, Killed, inputs, out, part=part)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def content(folder: Path) -> dict[str, bytes]:
    """All files by their path, besides those of the parts."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*"))
            if path.is_file() and not path.relative_to(folder).parts[0].startswith("part_")}


def test_three_parts_of_which_one_is_killed_give_what_one_process_gives(inputs, tmp_path, capsys):
    assert predict_all(OUTPUTS, Reader, inputs, tmp_path / "one") == 0
    out = tmp_path / "out"
    killed(inputs, out, Part(2, PARTS))
    for number in (3, 1):
        assert predict_all(OUTPUTS, Reader, inputs, out, part=Part(number, PARTS)) == 0
    with pytest.raises(UserError, match="part_2_of_3: the part has not ended"):
        merge(out)
    assert not (out / RECORD).exists(), "nothing is merged before all is there"
    capsys.readouterr()
    assert predict_all(OUTPUTS, Reader, inputs, out, part=Part(2, PARTS)) == 0
    printed = capsys.readouterr().out
    assert f"part 2 of 3: 3 of {CASES} volumes" in printed and printed.count("predicted already") == 1
    assert tfsono(["merge", str(out)]) == 0
    assert content(out) == content(tmp_path / "one")
    assert tfsono(["merge", str(out)]) == 0 and content(out) == content(tmp_path / "one"), "merging again is the same"
    assert predict_all(OUTPUTS, lambda: Reader(), inputs, out) == 0
    assert capsys.readouterr().out.count("predicted already") == CASES, "the merged folder is a folder of predictions"


def test_a_part_without_inputs_and_failed_inputs(inputs, tmp_path, capsys):
    (inputs[0] / "scan_1.txt").write_text("bad")
    one = predict_all(OUTPUTS, Reader, inputs, tmp_path / "one")
    statuses = [predict_all(OUTPUTS, Reader, inputs, tmp_path / "out", part=Part(number, 10))
                for number in range(1, 11)]
    assert one == 2 and sorted(statuses) == [0] * 9 + [2]
    assert tfsono(["merge", str(tmp_path / "out")]) == 2
    assert "1 of them have no prediction" in capsys.readouterr().err
    assert content(tmp_path / "out") == content(tmp_path / "one")


def test_parts_that_do_not_fit_are_refused(inputs, tmp_path):
    out = tmp_path / "out"
    for match in ("has no folders part_I_of_N", "part 2 of 2 is missing"):
        with pytest.raises(UserError, match=match):
            merge(out)
        predict_all(OUTPUTS, Reader, inputs, out, part=Part(1, 2))
    predict_all(OUTPUTS, Reader, inputs, out, part=Part(1, 3))
    with pytest.raises(UserError, match="parts of 2 and of 3"):
        merge(out)
    (out / "part_1_of_3").rename(tmp_path / "away")
    predict_all(OUTPUTS, Reader, inputs[::-1], out, part=Part(2, 2))
    with pytest.raises(UserError, match="different inputs"):
        merge(out)


def test_other_models_and_other_predictions_are_refused(inputs, tmp_path, monkeypatch):
    out = tmp_path / "out"
    predict_all(OUTPUTS, Reader, inputs, out, part=Part(1, 2))
    monkeypatch.setattr(Reader, "key", "2")
    predict_all(OUTPUTS, Reader, inputs, out, part=Part(2, 2))
    with pytest.raises(UserError, match="2 different models"):
        merge(out)
    predict_all(OUTPUTS, Reader, inputs, out, part=Part(1, 2))
    (tmp_path / "other.txt").write_text("x")
    predict_all(OUTPUTS, Reader, [tmp_path / "other.txt"], out)
    with pytest.raises(UserError, match="besides those of the parts, such as 'other'"):
        merge(out)


@pytest.mark.parametrize("text", ["{", "[]", '{"all": "", "cases": 1, "ended": true}', '{"cases": []}'])
def test_a_damaged_state_is_refused_in_a_line(inputs, tmp_path, text):
    predict_all(OUTPUTS, Reader, inputs, tmp_path / "out", part=Part(1, 1))
    (tmp_path / "out" / "part_1_of_1" / STATE).write_text(text)
    with pytest.raises(UserError, match=STATE):
        merge(tmp_path / "out")


# --- which part


def test_a_part_is_named():
    assert part_of("2/3") == (2, 3) and part_of("1/1") == (1, 1)
    for text in ("0/3", "4/3", "1/0", "1", "/3", "1/", "a/b", "-1/3", "1/3/3", "²/3", "1/9999999", "auto/", "auto/x",
                 ""):
        with pytest.raises(UserError, match="--part"):
            part_of(text, {})


def test_every_case_is_in_one_part():
    shares = [Part(number, 3).share(range(8)) for number in (1, 2, 3)]
    assert sorted(case for share in shares for case in share) == list(range(8))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1 and Part(3, 3).share([1]) == []


def slurm(task, least, most, count, step=1) -> dict[str, str]:
    names = ("ID", "MIN", "MAX", "COUNT", "STEP")
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in
            zip(names, (task, least, most, count, step), strict=True)}


@pytest.mark.parametrize("tasks", [range(0, 4), range(1, 5), range(5, 9), range(0, 16, 4), range(7, 8)])
def test_slurms_arrays_begin_anywhere(tasks):
    found = [part_of("auto", slurm(task, tasks[0], tasks[-1], len(tasks), tasks.step)) for task in tasks]
    assert found == [(number, len(tasks)) for number in range(1, len(tasks) + 1)]


def test_the_place_in_an_array_is_not_guessed():
    for environment, match in (({}, "needs SLURM"), (slurm(3, 1, 9, 3), "evenly spaced"),
                               (slurm("x", 0, 3, 4), "SLURM_ARRAY_TASK_ID='x'"), (slurm(1, 0, 3, 4, 0), "evenly"),
                               ({"SLURM_ARRAY_TASK_ID": "1"}, "SLURM_ARRAY_TASK_MIN=''"),
                               ({"JOB_COMPLETION_INDEX": "1"}, "auto/N")):
        with pytest.raises(UserError, match=match):
            part_of("auto", environment)
    with pytest.raises(UserError, match="has 4 tasks"):
        part_of("auto/5", slurm(1, 0, 3, 4))


def test_an_indexed_job_begins_at_0():
    assert [part_of("auto/3", {"JOB_COMPLETION_INDEX": str(index)}) for index in range(3)] == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(UserError, match="must be under 3"):
        part_of("auto/3", {"JOB_COMPLETION_INDEX": "3"})


# --- a real model


def test_parts_of_head_give_the_tables_of_one_process(tmp_path, monkeypatch):
    from test_predict_head import ellipse_image, write
    from wiring import opened_once

    with tarfile.open(ROOT / "tests" / "stored" / "head.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    for number in range(4):
        write(tmp_path / "in" / f"head_{number}.png", ellipse_image(seed=number))
    words = ["predict", str(tmp_path / "saved_model"), str(tmp_path / "in"), "--pixel_size_mm", "0.15", "--out"]
    with opened_once():
        assert tfsono([*words, str(tmp_path / "one")]) == 0
        for task in range(5, 8):
            for name, value in slurm(task, 5, 7, 3).items():
                monkeypatch.setenv(name, value)
            assert tfsono([*words, str(tmp_path / "out"), "--part", "auto"]) == 0
    assert tfsono(["merge", str(tmp_path / "out")]) == 0
    one, merged = content(tmp_path / "one"), content(tmp_path / "out")
    assert one.keys() == merged.keys() and {"measurements.csv", RECORD} < one.keys()
    assert {name for name in one if one[name] != merged[name]} == set()
