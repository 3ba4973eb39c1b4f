"""Changed inputs of every reader: a few always, many with `make fuzz MINUTES=10`; see `fuzz`."""

from __future__ import annotations

import os

import pytest

from fuzz import READERS, finds_of, fuzz

NAMES = [reader.name for reader in READERS]
LOADS_TENSORFLOW = ("run", "manifest")


@pytest.mark.parametrize("name", [name for name in NAMES if name not in LOADS_TENSORFLOW])
def test_some_changed_inputs_are_read_or_refused_in_one_line(name, tmp_path):
    counts = fuzz(name, minutes=1, seed=1, folder=tmp_path, most=50)
    assert not finds_of(counts) and counts["refused"] > 5, counts


@pytest.mark.fuzz
@pytest.mark.parametrize("name", NAMES)
def test_changed_inputs_are_read_or_refused_in_one_line(name, tmp_path, capsys):
    counts = fuzz(name, float(os.environ.get("MINUTES", "10")), int(os.environ.get("SEED", "0")), tmp_path)
    with capsys.disabled():
        print(f"\n{name:10} {sum(counts.values()):8} inputs, {counts.get('refused', 0):8} refused, "
              f"{counts.get('accepted', 0):8} accepted, {sum(finds_of(counts).values()):5} finds", flush=True)
    assert not finds_of(counts), (counts, tmp_path)
