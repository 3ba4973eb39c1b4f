"""The check of a SavedModel that SECURITY.md gives, run as it is printed, on a stored model and on changed ones."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def model(tmp_path):
    with tarfile.open(ROOT / "tests" / "stored" / "head.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    return next(tmp_path.rglob("manifest.json")).parent


def check(folder: Path) -> subprocess.CompletedProcess:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "SECURITY.md").read_text(encoding="utf-8"), re.DOTALL)
    return subprocess.run([sys.executable, "-I", "-c", code, str(folder)], capture_output=True, encoding="utf-8")


def test_an_unchanged_model_passes(model):
    (model / "README.md").write_text("a card, written later", encoding="utf-8")
    done = check(model)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("change", ["bit", "missing", "more"])
def test_a_changed_model_is_refused(change, model):
    path = model / "saved_model.pb"
    if change == "bit":
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif change == "missing":
        path.unlink()
    else:
        path = model / "variables" / "more"
        path.write_bytes(b"")
    done = check(model)
    assert done.returncode == 1 and done.stderr.startswith(f"{model}: not as exported: ") and path.name in done.stderr
