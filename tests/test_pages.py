"""The site: what docs/generate.py writes, links and anchors, names and commands on the pages; tutorials that run."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import functools
import importlib.util
import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tfsono.systems import NAMES, system

ROOT = Path(__file__).resolve().parents[1]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAPERS = sorted((ROOT / "docs" / "papers").glob("*.md"))
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
HOW_TO = [ROOT / "docs" / f"{name}.md" for name in ("ensembles", "resuming", "phantoms")]


def load_generator():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATE = load_generator()


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    GENERATE.write_pages(folder)
    return folder


# --- generated text


def test_no_marker_remains(pages):
    texts = {path: path.read_text(encoding="utf-8") for path in pages.rglob("*.md")}
    assert len(texts) > 30
    assert not [path for path, text in texts.items() if GENERATE.MARKER.search(text)]


def test_an_unknown_marker_is_refused():
    with pytest.raises(ValueError, match="x.md: .* expected one of options"):
        GENERATE.filled("<!-- generated: nothing hip -->", Path("x.md"))


@pytest.mark.parametrize("name", NAMES)
def test_every_option_is_listed_once_with_its_origin(name):
    choices = system(name).CHOICES
    text = GENERATE.options(name).split(": variants")[0]
    listed = re.findall(r"^\| `--(\w+)`( \*)? .* \*\*(?:paper|ours|differs)\*\*: ", text, re.MULTILINE)
    assert [each for each, _ in listed] == [field.name for field in dataclasses.fields(choices.config)]
    assert {each for each, star in listed if star} == set(choices.at_test)
    rows = [row for row in text.splitlines() if row.startswith("| `--")]
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 6 for row in rows), "a bar that is not escaped"


def test_deviations_are_those_of_the_config():
    text = GENERATE.deviations("hip")
    assert "| `--iterations` | quick | `600` | paper: 14000; minutes on two CPU cores |" in text
    assert "`--momentum`" not in text
    readings = GENERATE.readings("hip")
    assert "`--norm_momentum`" in readings and "`--rotation_degrees`" not in readings, "an option of ours"
    assert "| Table 2, mean | with transfer | without transfer | 0.22 < 0.67 | `assd_mm` |" in GENERATE.orderings("hip")


def test_a_docstring_becomes_a_list_and_code():
    text = GENERATE.from_docstring("Sums [N].\n\n    a = b\n\nArgs:\n  one: the first\n    of two.\n  two: x\n\n"
                                   "Returns:\n    a |b|\n\nExample:\n    >>> 1\n    1\n")
    assert text == ("Sums \\[N\\].\n\n```text\na = b\n```\n\n**Args**\n\n- `one`: the first\n  of two.\n- `two`: x\n\n"
                    "**Returns**\n\na \\|b\\|\n\n**Example**\n\n```pycon\n>>> 1\n1\n```")


def test_a_list_has_an_empty_line_before_it():
    text = "a\n- b\n- c\n\n  d\n- e\n```yaml\nf\n- g\n```\nh\n- i\n"
    assert GENERATE.spaced(text) == "a\n\n- b\n- c\n\n    d\n\n- e\n```yaml\nf\n- g\n```\nh\n\n- i\n"


# --- links, names, commands


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as MkDocs and GitHub make them."""
    heads = re.findall(r"^#+ (.*?)(?: \{.*\})?$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


def test_links_and_anchors(pages):
    wrong = []
    for path in pages.rglob("*.md"):
        for target, anchor in re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", FENCE.sub("", path.read_text("utf-8"))):
            if "://" in target or target.startswith("mailto:"):
                continue
            other = (path.parent / target).resolve() if target else path
            if not other.is_file() or anchor and anchor not in anchors(other.read_text("utf-8")):
                wrong.append(f"{path.relative_to(pages)}: {target}#{anchor}")
    assert not wrong


def test_every_page_is_in_the_navigation(pages):
    named = set(re.findall(r": ([\w/]+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE))
    assert named == {path.relative_to(pages).as_posix() for path in pages.rglob("*.md")}


def defined_in(path: Path) -> set[str]:
    """Names that a module defines or imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.ImportFrom):
            found.update(alias.name for alias in node.names)
    return found


@pytest.mark.parametrize("page", PAPERS, ids=lambda path: path.stem)
def test_the_functions_of_the_papers_exist(page):
    names = re.findall(r"`((?:tfsono|train|evaluate)\.[\w.]+)`", page.read_text(encoding="utf-8"))
    assert len(names) > 8
    for name in names:
        place = ROOT / name.replace(".", "/")
        if not (place.is_dir() or place.with_suffix(".py").is_file()):
            module = place.parent / "__init__.py" if place.parent.is_dir() else place.parent.with_suffix(".py")
            assert place.name in defined_in(module), name


@functools.cache
def help_of(*command: str) -> str:
    from tfsono.__main__ import run

    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        run([*command, "--help"])
    return out.getvalue()


def commands(page: Path) -> list[list[str]]:
    """The words of each `tfsono` command of a page."""
    text = "\n".join(block for language, block in FENCE.findall(page.read_text("utf-8")) if language == "sh")
    found = [shlex.split(line, comments=True) for line in text.splitlines()]
    return [words[1:] for words in found if words[:1] == ["tfsono"]]


@pytest.mark.parametrize("page", [*TUTORIALS, *HOW_TO], ids=lambda path: path.stem)
def test_the_options_of_commands_exist(page):
    assert commands(page)
    for words in commands(page):
        of_system = words[0] in ("train", "evaluate", "cache")
        text = help_of(*words[:1 + of_system])
        for word in words:
            if word.startswith("--"):
                assert re.search(rf"{re.escape(word)}\b", text), (word, words)


def test_nothing_is_loaded_from_elsewhere():
    settings = (ROOT / "mkdocs.yml").read_text("utf-8")
    assert "font: false" in settings and "plugins: [search]" in settings, "`offline` loads a script from unpkg.com"


# --- minutes: `make docs-check`


@pytest.mark.pages
def test_the_site_builds(pages, tmp_path):
    pytest.importorskip("material", reason="mkdocs-material is not installed")
    settings = (ROOT / "mkdocs.yml").read_text("utf-8")
    settings = settings.replace("build/pages", str(pages)).replace("build/site", str(tmp_path / "site"))
    (tmp_path / "mkdocs.yml").write_text(settings, encoding="utf-8")
    done = subprocess.run([sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file",
                           str(tmp_path / "mkdocs.yml")], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site" / "index.html").read_text("utf-8")
    assert not re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="(?:https?:)?//', page)


TINY = {"hip": ["--patch", "16,16,16", "--widths", "4,4,6,6", "--lower_widths", "4,3", "--middle_widths", "3",
                "--iterations", "4", "--record_every", "2"],
        "pose": ["--widths", "4,4,6", "--iterations", "2", "--record_every", "1", "--ratio", "0.3"],
        "head": ["--input_size", "32,64", "--unet_widths", "4,6,8", "--segmentation_iterations", "2",
                 "--segmentation_record_every", "1"]}
SHELL = """set -euo pipefail
tfsono() {{
    case "$1 $2" in
{cases}
        *) "{python}" -m tfsono "$@" ;;
    esac
}}
"""


def script_of(page: Path) -> str:
    """The blocks of a page as one script, in which trainings are as short as can be."""
    cases = "\n".join(f'        "train {name}") "{sys.executable}" -m tfsono "$@" {shlex.join(words)} ;;'
                      for name, words in TINY.items())
    blocks = [block for language, block in FENCE.findall(page.read_text("utf-8")) if language == "sh"]
    return SHELL.format(cases=cases, python=sys.executable) + "\n".join(blocks)


@pytest.mark.pages
@pytest.mark.parametrize("page", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_runs(page, tmp_path):
    (tmp_path / "pretrained").symlink_to(ROOT / "pretrained")
    (tmp_path / "script.sh").write_text(script_of(page), encoding="utf-8")
    done = subprocess.run(["bash", "script.sh"], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
                          capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert (tmp_path / "results" / "report.html").is_file()
    assert list((tmp_path / "predictions").glob("*.csv"))


@pytest.mark.pages
@pytest.mark.parametrize("page", PAPERS, ids=lambda path: path.stem)
def test_the_network_of_a_paper_is_printed(page, capsys):
    ((_, block),) = [each for each in FENCE.findall(page.read_text("utf-8")) if each[0] == "python"]
    exec(compile(block, str(page), "exec"), {})
    assert "Total params" in capsys.readouterr().out
