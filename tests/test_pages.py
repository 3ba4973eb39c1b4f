"""The site: what docs/generate.py writes, links and anchors, names on the pages; images; cards of models.

test_page_blocks.py has the commands and the Python of the pages.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tfsono.systems import NAMES, system

ROOT = Path(__file__).resolve().parents[1]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAPERS = sorted((ROOT / "docs" / "papers").glob("*.md"))
CARDS = sorted((ROOT / "pretrained").glob("*/README.md"))
TEXTS = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md")), *CARDS]
CONTINUED = re.compile(r" *(?![-*|#>!] |!\[|\d+\. )([^\s`]*`[^`]+`\S*|\S+)")  # code stays on a line
IMAGES = sorted((ROOT / "docs" / "pictures").iterdir())


def load_script(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATE = load_script("generate")


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


def test_nothing_is_loaded_from_elsewhere():
    settings = (ROOT / "mkdocs.yml").read_text("utf-8")
    assert "font: false" in settings and "plugins: [search]" in settings, "`offline` loads a script from unpkg.com"


@pytest.mark.parametrize("page", TEXTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_paragraphs_are_not_broken_at_odd_places(page):
    """A line is not short where the next one, which continues it, has a word that fits."""
    lines = FENCE.sub("", page.read_text("utf-8")).splitlines()
    assert not [line for line, after in itertools.pairwise(lines) if line.strip() and len(line) < 60
                and not line.startswith(("|", "#", "    ")) and (word := CONTINUED.match(after))
                and len(f"{line} {word[1]}") < 88]


# --- images


def test_each_image_is_small_and_on_a_page():
    text = "".join(path.read_text("utf-8") for path in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")])
    assert [path for path in IMAGES if path.suffix == ".jpg"] == IMAGES
    for path in IMAGES:
        assert path.stat().st_size < 400_000 and f"pictures/{path.name})" in text, path


def test_the_sizes_of_images_are_compared(tmp_path):
    pictures = load_script("pictures")
    strip = pictures.OURS / pictures.STRIP
    with Image.open(strip) as image:
        image.resize((image.width - 5, image.height + 5)).save(tmp_path / "again.jpg")
        image.resize((image.width, image.height // 2)).save(tmp_path / "low.jpg")
    assert pictures.alike(strip, tmp_path / "again.jpg") and not pictures.alike(strip, tmp_path / "low.jpg")
    assert not pictures.alike(strip, tmp_path / "none.jpg")


# --- cards of models


@pytest.mark.parametrize("card", CARDS, ids=lambda path: path.parent.name)
def test_a_card_has_the_form_of_all_cards(card):
    text = card.read_text("utf-8")
    form = (ROOT / "pretrained" / "README.md").read_text("utf-8").split("```text\n")[1].split("```")[0]
    parts = re.findall(r"\*\*[A-Z][\w ]+\*\*", form)
    assert parts[0] == "**Network**" and parts[-1] == "**Limits**" and len(parts) == 8
    places = [text.find(part) for part in parts]
    assert -1 not in places and places == sorted(places), dict(zip(parts, places, strict=True))
    assert f"    tfsono predict pretrained/{card.parent.name} " in text and "licence" in text and "| " in text


# --- minutes: `make docs-check`


@pytest.mark.pages
def test_an_image_is_made_again(tmp_path):
    """The whole demo of `head`; `make pictures` makes all."""
    done = subprocess.run([sys.executable, ROOT / "docs" / "pictures.py", tmp_path, "head"], capture_output=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT)}, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert (tmp_path / "head.jpg").is_file()


def test_the_site_builds(pages, tmp_path):
    settings = (ROOT / "mkdocs.yml").read_text("utf-8")
    settings = settings.replace("build/pages", str(pages)).replace("build/site", str(tmp_path / "site"))
    (tmp_path / "mkdocs.yml").write_text(settings, encoding="utf-8")
    done = subprocess.run([sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file",
                           str(tmp_path / "mkdocs.yml")], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site" / "index.html").read_text("utf-8")
    assert not re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="(?:https?:)?//', page)


@pytest.mark.pages
@pytest.mark.parametrize("page", PAPERS, ids=lambda path: path.stem)
def test_the_network_of_a_paper_is_printed(page, capsys):
    ((_, block),) = [each for each in FENCE.findall(page.read_text("utf-8")) if each[0] == "python"]
    exec(compile(block, str(page), "exec"), {})
    assert "Total params" in capsys.readouterr().out
