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
           "inference.sliding_window", "volumes.landmarks", "volumes.image", "audit.dataset")


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module(name):
    failed, tried = doctest.testmod(importlib.import_module(f"tfsono.{name}"))
    assert tried and not failed


def test_every_module_with_an_example_is_tested():
    found = {".".join(path.relative_to(ROOT / "tfsono").with_suffix("").parts)
             for path in (ROOT / "tfsono").rglob("*.py") if ">>> " in path.read_text(encoding="utf-8")}
    assert found == set(MODULES)
