"""Evaluations: what is measured again and what is read back."""

import contextlib
from pathlib import Path
from types import SimpleNamespace

import pytest

from tfsono.config import assignment, choose
from tfsono.configs.hip import HIP
from tfsono.errors import UserError
from tfsono.evaluation import evaluation
from tfsono.evaluation.measured import predictions_folder, measured
from tfsono.evaluation.methods import method_names
from tfsono.locks import locked
from tfsono.report.rows import by_method
from tfsono.report.tables import write_cases
from tfsono.training.run import Run


def test_the_folder_changes_with_weights_settings_and_cache(tmp_path):
    paths = [tmp_path / name for name in ("cache.h5", "a.h5", "b.h5")]
    for path in paths:
        path.write_bytes(b"first")
    found = [predictions_folder(tmp_path, "run", paths[0], paths[1:], settings) for settings in (1, 1, 2)]
    paths[2].write_bytes(b"other")
    found.append(predictions_folder(tmp_path, "run", paths[0], paths[1:], 1))
    paths[0].write_bytes(b"longer than before")
    found.append(predictions_folder(tmp_path, "run", paths[0], paths[1:], 1))
    assert found[0] == found[1] and len(set(found)) == 4
    assert all(path.parent == tmp_path / "runs" and path.name.startswith("run_") for path in found)


def test_measured_cases_are_read_back_and_a_stopped_evaluation_resumes(tmp_path, capsys):
    opened, asked = [], []

    def open_measure():
        opened.append(True)

        def measure(name):
            asked.append(name)
            if name == "c" and len(asked) == 3:
                raise KeyboardInterrupt
            return [{"case": name, "label": label, "dice": 0.1 + 0.2, "undefined": int(name == "b"), "hc_mm": None,
                     "gap_mm": float("nan"), "members": 1} for label in ("x", "y")]

        return measure

    with pytest.raises(KeyboardInterrupt):
        measured(tmp_path / "runs" / "one", ["a", "b", "c"], open_measure, lambda rows: f"{len(rows)} rows")
    rows = measured(tmp_path / "runs" / "one", ["a", "b", "c"], open_measure, lambda rows: f"{len(rows)} rows")
    assert asked == ["a", "b", "c", "c"]
    assert [row["case"] for row in rows] == ["a", "a", "b", "b", "c", "c"] and rows[0]["dice"] == 0.1 + 0.2
    assert "1/1 c: 2 rows  0:00 left" in capsys.readouterr().out
    assert measured(tmp_path / "runs" / "one", ["a", "b", "c"], open_measure, str)[0]["dice"] == rows[0]["dice"]
    assert len(opened) == 2
    undisturbed = measured(tmp_path / "runs" / "two", ["a", "b", "c"], open_measure, str)
    one, two = ((tmp_path / "runs" / name / "cases.csv").read_bytes() for name in ("one", "two"))
    assert one == two
    again, two = (write_cases(tmp_path / "again.csv", each).read_bytes() for each in (rows, undisturbed))
    assert one == again == two


def test_rows_by_method_in_the_order_of_the_methods():
    rows = [{"method": "b", "n": 1}, {"method": "a", "n": 2}, {"method": "b", "n": 3}]
    assert list(by_method(rows)) == ["b", "a"] and [row["n"] for row in by_method(rows)["b"]] == [1, 3]


def test_an_output_folder_that_another_evaluation_writes_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "read_run", lambda folder, choices: folder)
    monkeypatch.setattr(evaluation, "Cache", lambda path, system: contextlib.nullcontext("cache"))
    monkeypatch.setattr(evaluation, "check_comparable", lambda *words: None)
    arguments = SimpleNamespace(runs=["a"], data="x.h5", out=str(tmp_path / "out"), weights="auto", ensemble=False,
                                part=None, set=[], as_trained=False, json=False)
    with locked(arguments.out), pytest.raises(UserError, match="is being written"):
        with evaluation.opened(arguments, SimpleNamespace(system="hip")):
            pass
    with evaluation.opened(arguments, SimpleNamespace(system="hip")) as one, pytest.raises(UserError):
        assert one.out == tmp_path / "out"
        with locked(arguments.out):
            pass


def test_values_set_at_test_give_rows_of_their_own():
    run = Run(Path("runs/a"), choose(HIP, "quick", "tuned", {"norm_at_test": "moving"}), {}, {})
    given = [assignment(HIP, text) for text in ("norm_at_test=tile", "largest_component=false")]
    both = evaluation.with_values_set([run], SimpleNamespace(set=given, as_trained=True))
    assert [one.config.norm_at_test for one in both] == ["moving", "tile"] and both[0] is run
    assert method_names([one.settings for one in both], ["with transfer"] * 2) == [
        "tuned, norm_at_test moving", "tuned, norm_at_test tile, largest_component false"]
    one = evaluation.with_values_set([run], SimpleNamespace(set=given, as_trained=False))
    assert one == both[1:] and evaluation.with_values_set([run], SimpleNamespace(set=[], as_trained=False)) == [run]
    for words, given, as_trained in (("given 2 times", given[:1] * 2, False), ("needs --set", [], True)):
        with pytest.raises(UserError, match=words):
            evaluation.with_values_set([run], SimpleNamespace(set=given, as_trained=as_trained))
