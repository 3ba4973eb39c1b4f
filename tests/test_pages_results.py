"""The pages of results and of the papers: scripts that exist, lines that can be read, linked functions, drawings."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest

from tfsono.systems import NAMES

ROOT = Path(__file__).resolve().parents[1]
RESULTS = [ROOT / "docs" / "results.md", *sorted((ROOT / "docs" / "results").glob("*.md"))]
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
SCRIPT = re.compile(r"\b((?:benchmarks|train|evaluate|workflow)/(?!SYSTEM)\w+\.(?:py|sh))\b")
DRAWN = re.compile(r"<text[^>]*>([^<]+)</text>")


def load(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def test_every_script_that_a_page_names_is_there():
    named = {(page.name, script) for page in (ROOT / "docs").rglob("*.md")
             for script in SCRIPT.findall(page.read_text("utf-8"))}
    assert len(named) > 40
    assert not [each for each in named if not (ROOT / each[1]).is_file()]


@pytest.mark.parametrize("page", RESULTS, ids=lambda path: path.stem)
def test_lines_of_results_are_short(page):
    """Tables cannot be broken."""
    lines = [line for line in page.read_text("utf-8").splitlines() if not line.lstrip().startswith("|")]
    assert max(map(len, lines)) <= 120


@pytest.mark.parametrize("page", RESULTS[1:], ids=lambda path: path.stem)
def test_a_section_of_results_begins_with_its_finding(page):
    """In bold; or says that there is none yet."""
    sections = re.split(r"^###? (.*)\n", FENCE.sub("", page.read_text("utf-8")), flags=re.MULTILINE)[1:]
    texts = dict(zip(sections[::2], sections[1::2], strict=True))
    assert not [head for head, text in texts.items() if head not in PLAIN
                and not text.strip().startswith(("**", "Not measured yet."))]


PLAIN = {"The recipe of the paper, cut off", "Demos and tests", "Anchors"}  # nothing was found, or a table says it


@pytest.mark.parametrize("name", NAMES)
def test_functions_are_linked_to_their_descriptions(name):
    page = ROOT / "docs" / "papers" / f"{name}.md"
    generate = load("generate")
    text = generate.filled(page.read_text("utf-8"), page)
    names = generate.NAMED.findall(page.read_text("utf-8"))
    assert len(names) > 8
    assert [each for each in names if f"[`{each}`](../" not in text] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_paper_has_its_drawing(name):
    assert f"]({name}.svg)" in (ROOT / "docs" / "papers" / f"{name}.md").read_text("utf-8")
    texts = DRAWN.findall((ROOT / "docs" / "papers" / f"{name}.svg").read_text("utf-8"))
    assert any("trainable parameters" in text for text in texts)


# --- half a minute: `make docs-check`


@pytest.mark.pages
@pytest.mark.parametrize("name", NAMES)
def test_a_drawing_is_of_the_network_that_is_built(name, tmp_path):
    networks = load("networks")
    networks.write(name, tmp_path)
    drawn, kept = ((folder / f"{name}.svg").read_text("utf-8") for folder in (tmp_path, ROOT / "docs" / "papers"))
    assert DRAWN.findall(drawn) == DRAWN.findall(kept), "make networks draws it again"
