"""The examples in docstrings and in docs/python.md run, and give what they say."""

from __future__ import annotations

import doctest
import importlib
import re
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = ("metrics.overlap", "metrics.surface", "metrics.landmarks", "metrics.agreement", "metrics.biometry",
           "metrics.growth", "inference.sliding_window", "volumes.landmarks", "volumes.image", "volumes.sector",
           "audit.dataset")


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # of files that an example writes
    failed, tried = doctest.testmod(importlib.import_module(f"tfsono.{name}"))
    assert tried and not failed


def test_every_module_with_an_example_is_tested():
    found = {".".join(path.relative_to(ROOT / "tfsono").with_suffix("").parts)
             for path in (ROOT / "tfsono").rglob("*.py") if ">>> " in path.read_text(encoding="utf-8")}
    assert found == set(MODULES)


@pytest.fixture
def files(tmp_path, monkeypatch):
    """What docs/python.md says is there, in the working directory."""
    from test_python_predict import head_image, volume_file

    from tfsono.phantoms.dataset import write_hip_dataset

    monkeypatch.chdir(tmp_path)
    for name, folder in (("hip", "saved_model"), ("head", "head_model")):
        with tarfile.open(ROOT / "tests" / "stored" / f"{name}.tar.xz") as archive:
            archive.extractall(tmp_path / name, filter="data")
        (tmp_path / name / "saved_model").rename(tmp_path / folder)
    volume_file(tmp_path / "scan.nii.gz")
    head_image(tmp_path / "head.png")
    write_hip_dataset("dataset", 2, 0, (48, 40, 32), (2.0, 2.0, 2.0), progress=lambda line: None)


def test_the_snippets_of_the_page(files, capsys):
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    snippets = re.findall(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    assert len(snippets) == text.count("```") // 2 == 8
    names = {}
    for snippet in snippets:
        exec(compile(snippet, "docs/python.md", "exec"), names)
    out, err = capsys.readouterr()
    assert out.startswith("head: ") and out.count("\n") == 1 and err == ""
    assert names["found"].mask is not None and names["bad"] == [] and "hip_001" in names["warnings"]
