"""`predict_all` around any predictor: one bad input ends no batch, names become safe files, one process a folder."""

from __future__ import annotations

import csv
import errno
import json
import os
from pathlib import Path

import pytest
import tensorflow as tf

from tfsono.errors import UserError
from tfsono.files import write_text
from tfsono.locks import locked
from tfsono.predict.inputs import find_inputs, unique_names
from tfsono.predict.loop import RECORD, Outputs, predict_all
from tfsono.predict.tables import Tables

OUTPUTS = Outputs("volume", lambda path: path.suffix == ".txt", lambda path: path.stem,
                  {"measurements.csv": ("case", "file", "letters")}, lambda name: (f"{name}_landmarks.mrk.json",))


class Reader:
    """Predicts the number of letters; a file that holds the name of an error raises it."""

    key = "1"
    errors = (ValueError, RuntimeError, MemoryError, KeyError, AssertionError, UnicodeError, OSError, UserError,
              ZeroDivisionError)

    def predict(self, path: Path, name: str, out_dir: Path):
        text = path.read_text(encoding="utf-8")
        for error in self.errors:
            if text == error.__name__:
                raise error("of this\nfile")
        if text == "gpu":
            raise tf.errors.ResourceExhaustedError(None, None, "OOM")
        write_text(out_dir / f"{name}_landmarks.mrk.json", "{}")
        return {"measurements.csv": [{"case": name, "file": str(path.resolve()), "letters": len(text)}]}, name


def cases_of(out: Path) -> dict[str, str]:
    with open(out / "measurements.csv", newline="", encoding="utf-8") as file:
        return {row["case"]: row["file"] for row in csv.DictReader(file)}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a", "z"):
        (tmp_path / "in" / f"{name}.txt").write_text("sound")
    return tmp_path / "in"


def test_any_error_is_one_line_and_the_others_are_predicted(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("TFSONO_VERBOSE", raising=False)
    for error in Reader.errors:
        (folder / f"{error.__name__}.txt").write_text(error.__name__)
    (folder / "gpu.txt").write_text("gpu")
    assert predict_all(OUTPUTS, Reader, [folder], tmp_path / "out") == 2
    assert set(cases_of(tmp_path / "out")) == {"a", "z"}
    *lines, last = capsys.readouterr().err.splitlines()
    assert len(lines) == len(Reader.errors) + 1 and last.startswith(f"{len(lines)} of {len(lines) + 2} failed")
    for line in lines:
        name = next((error.__name__ for error in Reader.errors if f"/{error.__name__}.txt" in line), "")
        ours = name not in ("", "MemoryError", "OSError", "UserError")
        assert (f".txt: {name}: " in line and "fault of tfsono" in line) == ours, line


def test_json_has_an_object_for_each_case(folder, tmp_path, capsys):
    (folder / "bad.txt").write_text("ValueError")
    cases, again = [], []
    assert predict_all(OUTPUTS, Reader, [folder], tmp_path / "out", on_case=cases.append) == 2
    assert cases[0] == {"case": "a", "file": "a.txt", "status": "predicted", "error": None,
                        "files": ["a_landmarks.mrk.json"], "tables": {"measurements": [{"letters": 5}]}}
    assert (cases[1]["status"], cases[1]["files"], cases[1]["tables"]) == ("failed", [], {})
    assert cases[1]["error"] in capsys.readouterr().err
    predict_all(OUTPUTS, Reader, [folder], tmp_path / "out", on_case=again.append)
    assert again[0] == cases[0] | {"status": "present"} and again[1] == cases[1]


def test_inputs_none_of_which_exists_are_refused_before_the_model_is_opened(folder, tmp_path):
    with pytest.raises(UserError, match="b.txt: the file must exist"):
        predict_all(OUTPUTS, lambda: pytest.fail("opened"), [folder / "b.txt", folder / "c.txt"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_traceback_of_a_fault_is_shown_on_demand(folder, tmp_path, capsys, monkeypatch):
    (folder / "b.txt").write_text("KeyError")
    monkeypatch.setenv("TFSONO_VERBOSE", "1")
    assert predict_all(OUTPUTS, Reader, [folder], tmp_path / "out") == 2
    assert "Traceback" in capsys.readouterr().err


def test_ctrl_c_still_ends_the_batch(folder, tmp_path, monkeypatch):
    def interrupted(*words):
        raise KeyboardInterrupt

    monkeypatch.setattr(Reader, "predict", interrupted)
    with pytest.raises(KeyboardInterrupt):
        predict_all(OUTPUTS, Reader, [folder], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_name_that_is_not_utf_8_is_refused_in_a_line(folder, tmp_path, capsys):
    bad = os.fsencode(folder) + b"/H\xfcfte.txt"
    with open(bad, "w", encoding="utf-8") as file:
        file.write("sound")
    assert predict_all(OUTPUTS, Reader, [folder], tmp_path / "out") == 2
    printed = capsys.readouterr()
    line, _ = printed.err.splitlines()
    assert r"H\xfcfte.txt" in line and "UTF-8" in line and "rename" in line
    assert set(cases_of(tmp_path / "out")) == {"a", "z"}


def test_an_output_folder_that_is_not_utf_8_is_refused(folder, tmp_path):
    with pytest.raises(UserError, match="UTF-8"):
        predict_all(OUTPUTS, Reader, [folder], os.fsdecode(os.fsencode(tmp_path) + b"/\xfc"))


def test_a_folder_of_a_series_with_such_a_name_is_refused(folder, tmp_path, capsys):
    (tmp_path / "series").mkdir()
    open(os.fsencode(tmp_path) + b"/series/IM\xfc", "wb").close()
    assert predict_all(OUTPUTS, Reader, [folder, tmp_path / "series"], tmp_path / "out") == 2
    assert r"IM\xfc" in capsys.readouterr().err


def test_names_that_no_file_can_have(folder, tmp_path):
    long = ["x" * 250, "x" * 249 + "y", "two\nlines", "tab\t"]
    for name in long:
        (folder / f"{name}.txt").write_text("sound")
    assert predict_all(OUTPUTS, Reader, [folder], tmp_path / "out") == 0
    found = cases_of(tmp_path / "out")
    assert len(found) == 6 and set(found.values()) == {f"{name}.txt" for name in [*long, "a", "z"]}
    assert all((tmp_path / "out" / f"{name}_landmarks.mrk.json").is_file() for name in found)
    assert all(name.isprintable() and len(name) <= 100 for name in found)
    assert predict_all(OUTPUTS, Reader, [folder], tmp_path / "out") == 0  # and keep these names
    assert cases_of(tmp_path / "out") == found


def test_no_output_has_the_place_of_the_inputs_unless_it_is_wanted(folder, tmp_path, capsys):
    assert predict_all(OUTPUTS, Reader, [folder], tmp_path / "out") == 0
    assert cases_of(tmp_path / "out") == {"a": "a.txt", "z": "z.txt"}
    texts = [path.read_text() for path in (tmp_path / "out").iterdir() if path.suffix in (".csv", ".json")]
    assert len(texts) > 2 and not any(str(folder) in text for text in texts)
    capsys.readouterr()
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.txt").write_text("another one")
    assert predict_all(OUTPUTS, Reader, [other, folder], tmp_path / "out") == 0
    assert "2/3] a: predicted already" in capsys.readouterr().out  # the same name elsewhere is another file
    assert cases_of(tmp_path / "out") == {"a": "a.txt", "z": "z.txt", "other_a": "a.txt"}
    assert predict_all(OUTPUTS, Reader, [folder], tmp_path / "whole", absolute_paths=True) == 0
    assert predict_all(OUTPUTS, Reader, [folder], tmp_path / "whole", absolute_paths=True) == 0
    assert cases_of(tmp_path / "whole") == {name: str(folder / f"{name}.txt") for name in "az"}


def test_a_name_that_a_spreadsheet_would_run(folder, tmp_path, capsys):
    (folder / "=1+1.txt").write_text("sound")
    assert predict_all(OUTPUTS, Reader, [folder], tmp_path / "out") == 0
    assert cases_of(tmp_path / "out")["'=1+1"] == "'=1+1.txt"
    assert predict_all(OUTPUTS, Reader, [folder], tmp_path / "out") == 0
    assert capsys.readouterr().out.count("predicted already") == 3


def test_paths_that_cannot_be_end_no_batch(folder, tmp_path, capsys):
    (tmp_path / "loop.txt").symlink_to(tmp_path / "loop.txt")
    strange = [tmp_path / "loop.txt", tmp_path / ("x" * 300), tmp_path / "absent.txt"]
    assert predict_all(OUTPUTS, Reader, [*strange, folder], tmp_path / "out") == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4 and set(cases_of(tmp_path / "out")) == {"a", "z"}


def test_a_folder_that_may_not_be_read_is_an_input_that_fails(folder, tmp_path, monkeypatch):
    def refused(path):
        if path.name == "closed":
            raise PermissionError
        return iterdir(path)

    iterdir = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", refused)
    closed = folder / "closed"
    closed.mkdir()
    assert find_inputs([closed], tmp_path / "out") == [closed]
    found = find_inputs([folder], tmp_path / "out", is_input=OUTPUTS.is_input)
    assert found == [folder / "a.txt", folder / "z.txt"]


def test_equal_names_are_safe_too(tmp_path):
    paths = [tmp_path / site / "a\nb.nii.gz" for site in ("s1", "s2")]
    assert all(name.isprintable() for name in unique_names(paths, {})) and len(set(unique_names(paths, {}))) == 2


def test_a_folder_that_another_command_writes_is_refused_before_the_model_is_loaded(folder, tmp_path):
    def load():
        raise AssertionError("loaded")

    with locked(tmp_path / "out"), pytest.raises(UserError, match=f"process {os.getpid()}"):
        predict_all(OUTPUTS, load, [folder], tmp_path / "out")
    assert predict_all(OUTPUTS, Reader, [folder], tmp_path / "out") == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "a_landmarks.mrk.json", "measurements.csv", "predictions.json", "z_landmarks.mrk.json"]
    assert len(json.loads((tmp_path / "out" / "predictions.json").read_text(encoding="utf-8"))) == 2


# --- leftovers are owned


class Killed(BaseException):
    """Ends the process as SIGKILL does: nothing is cleaned up."""


def killed_after(monkeypatch, name, count):
    """The function of that name in the loop's predictor or tables ends the process when it is called again."""
    calls = []
    owner, attribute = {"image": (Reader, "predict"), "row": (Tables, "replace")}[name]
    before = getattr(owner, attribute)

    def killing(*words):
        calls.append(1)
        found = before(*words) if name == "image" else None
        if len(calls) == count:
            raise Killed
        return found if name == "image" else before(*words)

    monkeypatch.setattr(owner, attribute, killing)


@pytest.mark.parametrize("place", ["image", "row"])
def test_a_prediction_killed_between_image_and_row_resumes(place, folder, tmp_path, monkeypatch, capsys):
    assert predict_all(OUTPUTS, Reader, [folder], tmp_path / "undisturbed") == 0
    with monkeypatch.context() as patched:
        killed_after(patched, place, 1)
        with pytest.raises(Killed):
            predict_all(OUTPUTS, Reader, [folder], tmp_path / "out")
    assert (tmp_path / "out" / "a_landmarks.mrk.json").is_file() and not cases_of_any(tmp_path / "out")
    assert predict_all(OUTPUTS, Reader, [folder], tmp_path / "out") == 0
    for path in (tmp_path / "undisturbed").iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes(), path.name
    capsys.readouterr()
    assert predict_all(OUTPUTS, Reader, [folder], tmp_path / "out") == 0
    assert capsys.readouterr().out.count("predicted already") == 2


def cases_of_any(out: Path) -> dict[str, str]:
    return cases_of(out) if (out / "measurements.csv").is_file() else {}


def test_files_of_others_are_never_replaced(folder, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a_landmarks.mrk.json").write_text("mine")
    assert predict_all(OUTPUTS, Reader, [folder], tmp_path / "out") == 2
    assert (tmp_path / "out" / "a_landmarks.mrk.json").read_text(encoding="utf-8") == "mine"
    assert "not from an earlier prediction" in capsys.readouterr().err and set(cases_of(tmp_path / "out")) == {"z"}


def test_an_input_that_fails_leaves_no_record(folder, tmp_path):
    (folder / "b.txt").write_text("UserError")
    assert predict_all(OUTPUTS, Reader, [folder], tmp_path / "out") == 2
    assert set(json.loads((tmp_path / "out" / RECORD).read_text(encoding="utf-8"))) == {"a", "z"}


def test_a_disk_that_is_full_for_the_row_is_a_line_an_input_and_later_all_is_predicted(folder, tmp_path, monkeypatch,
                                                                                   capsys):
    def full(*words):
        raise OSError(errno.ENOSPC, "No space left on device", "measurements.csv")

    with monkeypatch.context() as patched:
        patched.setattr(Tables, "replace", full)
        assert predict_all(OUTPUTS, Reader, [folder], tmp_path / "out") == 2
    *lines, last = capsys.readouterr().err.splitlines()
    assert all("No space left" in line and "fault of tfsono" not in line for line in [*lines, last])
    assert predict_all(OUTPUTS, Reader, [folder], tmp_path / "out") == 0
    assert set(cases_of(tmp_path / "out")) == {"a", "z"}


def test_names_in_lines_are_printable(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("TFSONO_VERBOSE", raising=False)
    (folder / "b\x1b[2J\n\u202e.txt").write_text("KeyError")
    (folder / "c\x1b[2J\n\u202e.txt").write_text("OSError")
    (folder / "d\x1b[2J\n\u202e.txt").write_text("sound")
    assert predict_all(OUTPUTS, Reader, [folder], tmp_path / "out") == 2
    printed = capsys.readouterr()
    lines = printed.err.splitlines() + printed.out.splitlines()
    assert len(lines) == 6 and all(line.isprintable() for line in lines)
    assert sum(r"\x1b[2J\n\u202e.txt" in line for line in lines) == 2
