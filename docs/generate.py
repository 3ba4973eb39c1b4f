"""Writes the pages of the site: those of the checkout, with what the code says in the place of each marker.

    python docs/generate.py build/pages

A marker is a line `<!-- generated: KIND NAMES -->`, so that GitHub shows the page without it. The kinds are the
functions of `KINDS`. TensorFlow is not imported: configs and reproductions are plain data, docstrings are parsed.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import os
import re
import shutil
import sys
import textwrap
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from tfsono import __version__
from tfsono.config import Choices, choose
from tfsono.errors import run_command
from tfsono.reproduction.plan import Ordering
from tfsono.systems import NAMES, system

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "docs/**/*.md", "docs/site.css",
         "pretrained/**/*.md")
SCRIPTS = ("train", "evaluate")
NAMED = re.compile(r"`((?:tfsono|train|evaluate)(?:\.\w+)+)`")
MARKER = re.compile(r"^<!-- generated: (\w+) ?(.*?) -->$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)|<img[^>]* src=\"([^\"]+)\"")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
BEFORE_LIST = re.compile(r"^((?!- |[|#]).*\S.*)\n(?=- )", re.MULTILINE)
IN_LIST = re.compile(r"^  (?=\S)", re.MULTILINE)
SECTION = re.compile(r"^    # (\w.*)$")
FIELD = re.compile(r"^    (\w+): ")
ENTRY = re.compile(r"(\*{0,2}\w+(?:, \w+)*): ")
HEADED = re.compile(r"^(Args|Attributes|Raises|Returns|Yields|Examples?):$", re.MULTILINE)  # of a docstring
DRAWN = re.compile(r" {2,}\S|>>> |[\w, ->]+ {2,}\S")  # a paragraph that is code or a map


# --- options


def options(name: str) -> str:
    """Every option of a system by the sections of its config, with the values of both presets and their origins."""
    choices = system(name).CHOICES
    first = next(iter(choices.variants))
    settings = {preset: choose(choices, preset, first) for preset in choices.presets}
    types = typing.get_type_hints(choices.config)
    parts = []
    for title, names in sections(choices.config):
        rows = []
        for field in names:
            values = {preset: value_text(getattr(one.config, field)) for preset, one in settings.items()}
            notes = {preset: provenance(*one.origins[field]) for preset, one in settings.items()}
            note = notes["paper"] + (f"; `quick`: {notes['quick']}" if notes["quick"] != notes["paper"] else "")
            after = " *" if field in choices.at_test else ""
            rows.append((f"`--{field}`{after}", type_text(types[field]), values["paper"], values["quick"], note))
        parts.append(f"### {choices.system}: {title}\n\n" + table(("option", "type", "paper", "quick", "origin"), rows))
    return "\n".join((*parts, variants(choices)))


def sections(config: type) -> Iterator[tuple[str, list[str]]]:
    """The comments of a config's source that head its fields, with these fields."""
    title, names = "data", []
    fields = {field.name for field in dataclasses.fields(config)}
    for line in inspect.getsource(config).splitlines():
        head, field = SECTION.match(line), FIELD.match(line)
        if head:
            if names:
                yield title, names
            title, names = head[1][0].lower() + head[1][1:], []
        elif field and field[1] in fields:
            names.append(field[1])
    yield title, names


def variants(choices: Choices) -> str:
    """What each variant changes of the paper's values."""
    rows = [(f"`{variant}`", f"`--{name}`", value_text(field.default), provenance(**field.metadata))
            for variant, fields in choices.variants.items() for name, field in fields.items()]
    same = [f"`{variant}`" for variant, fields in choices.variants.items() if not fields]
    head = f"### {choices.system}: variants\n\nWithout changes: {', '.join(same) or 'none'}.\n\n"
    return head + table(("variant", "option", "value", "origin"), rows)


def provenance(origin: str, note: str) -> str:
    """Where a value comes from, as `--help` prints it."""
    return f"**{origin}**: {escaped(note)}"


def value_text(value) -> str:
    """A value as it is typed on the command line; a list has its line breaks after the commas."""
    if isinstance(value, tuple) and len(value) > 1:
        return f"<code>{',<wbr>'.join(map(str, value))}</code>"
    if isinstance(value, tuple):
        value = ",".join(map(str, value))
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{text}`" if text else "none"


def type_text(hint) -> str:
    """`int`, or for a tuple `int, ...`."""
    kinds = typing.get_args(hint)
    return f"{kinds[0].__name__}, ..." if kinds else hint.__name__


# --- papers


def deviations(name: str) -> str:
    """The values of preset `paper` that are not the paper's, and those that `quick` has instead."""
    choices = system(name).CHOICES
    rows = []
    for preset in choices.presets:
        settings = choose(choices, preset, next(iter(choices.variants)))
        rows += [(f"`--{field}`", preset, value_text(getattr(settings.config, field)), escaped(note))
                 for field, (origin, note) in settings.origins.items()
                 if origin == "differs" and (preset == "paper" or field in choices.presets[preset])]
    return table(("option", "preset", "value", "the paper's, and why not"), rows)


def readings(name: str) -> str:
    """The numbers that the paper does not state, with our reason for each; without what are options of ours."""
    choices = system(name).CHOICES
    settings = choose(choices, "paper", next(iter(choices.variants)))
    rows = [(f"`--{field}`", value_text(getattr(settings.config, field)), escaped(note))
            for field, (origin, note) in settings.origins.items()
            if origin == "ours" and not note.startswith("option")]
    return table(("option", "value", "why"), rows)


def orderings(name: str) -> str:
    """What the paper claims, with the values that it prints, as `evaluate` tests it."""
    rows = [(escaped(each.place), *ranked(each), f"`{each.metric}`") for each in system(name).PAPER.orderings]
    return table(("place", "better", "worse", "printed", "column of cases.csv"), rows)


def ranked(each: Ordering) -> tuple[str, str, str]:
    """Better row, worse row, and the values that the paper prints of them."""
    sign = ">" if each.higher else "<"
    return each.better, each.worse, f" {sign} ".join(map(str, each.values)) or f"none; {sign}"


def trainings(name: str) -> str:
    """The runs of a paper's tables, with their options, as `make reproduce` gives them."""
    paper = system(name).PAPER
    rows = [(f"`{each.name}`", paper.names.get(each.name, ""), " ".join(f"`{word}`" for word in each.words),
             ", ".join(each.after)) for each in (*paper.trainings, *paper.controls)]
    return table(("run", "row", "options", "after"), rows)


# --- Python


def module(name: str) -> str:
    """A module's docstring, and its public functions and classes with signature and docstring."""
    tree = ast.parse(source_of(name).read_text(encoding="utf-8"))
    defined = [node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))
               and not node.name.startswith("_") and ast.get_docstring(node)]
    parts = [f"### {full_name(name)}", from_docstring(ast.get_docstring(tree))]
    for node in defined:
        parts += [f"#### {name}.{node.name} {{ data-toc-label='{node.name}' }}",
                  f"```python\n{signature(node)}\n```", from_docstring(ast.get_docstring(node))]
    return "\n\n".join(parts)


def full_name(name: str) -> str:
    """The name to import a module by; a marker has it without `tfsono.`."""
    return name if name.split(".")[0] in SCRIPTS else f"tfsono.{name}"


def about(name: str) -> str:
    """A module's docstring alone."""
    return from_docstring(ast.get_docstring(ast.parse(source_of(name).read_text(encoding="utf-8"))))


def source_of(name: str) -> Path:
    """The file of a module, by its name in a marker."""
    path = ROOT / full_name(name).replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def signature(node: ast.FunctionDef | ast.ClassDef) -> str:
    """A function as it is called, a class with its bases and fields."""
    if isinstance(node, ast.FunctionDef):
        returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        return "\n".join(textwrap.wrap(f"{node.name}({ast.unparse(node.args)}){returns}", 90, subsequent_indent="    ",
                                       break_long_words=False, break_on_hyphens=False))
    fields = [ast.unparse(line) for line in node.body if isinstance(line, ast.AnnAssign)]
    return "\n    ".join((f"class {node.name}:", *fields))


def from_docstring(text: str) -> str:
    """Google style -> Markdown: lists of arguments, and code."""
    first, *rest = HEADED.split(text)
    parts = [prose(first)]
    for head, body in zip(rest[::2], rest[1::2], strict=True):
        body = textwrap.dedent(body.strip("\n")).strip("\n")
        if head.startswith("Example"):
            body = fenced(body, "pycon" if body.startswith(">>>") else "python")
        else:
            body = prose(body) if head in ("Returns", "Yields") else entries(body)
        parts += [f"**{head}**", body]
    return "\n\n".join(parts)


def prose(text: str) -> str:
    """Paragraphs; those that are indented, and maps of names and texts, as they are."""
    paragraphs = re.split(r"\n\s*\n", text.strip("\n"))
    return "\n\n".join(fenced(textwrap.dedent(one), "text") if DRAWN.match(one)
                       else re.sub(r"\n(?=- )", "\n\n", escaped(one)) for one in paragraphs if one.strip())


def entries(body: str) -> str:
    """`name: text` -> a list; what follows an entry, further indented, is of it."""
    found: list[str] = []
    for line in body.splitlines():
        entry = ENTRY.match(line)
        if entry:
            found.append(f"- `{entry[1]}`: {escaped(line[entry.end():])}")
        else:
            found.append(f"  {escaped(line.strip())}")
    return "\n".join(found)


def fenced(text: str, language: str) -> str:
    """Text as a block of code."""
    return f"```{language}\n{text}\n```"


# --- pages


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; a line of text where it has no rows."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join((f"| {' | '.join(head)} |", "|---" * len(head) + "|", *lines, "")) if lines else "None.\n"


def escaped(text: str) -> str:
    """Text without what Markdown would take for its own; code between backticks stays."""
    parts = text.split("`")
    parts[::2] = [re.sub(r"([|<*\[\]_])", r"\\\1", part) for part in parts[::2]]
    parts[1::2] = [part.replace("|", r"\|") for part in parts[1::2]]
    return "`".join(parts)


KINDS: dict[str, Callable[[str], str]] = {
    each.__name__: each for each in (options, deviations, readings, orderings, trainings, module, about)}


@functools.cache
def module_pages() -> dict[str, Path]:
    """The page of each module that is listed with its functions."""
    pages = sorted((ROOT / "docs").glob("*.md"))
    return {full_name(name): page for page in pages for kind, names in MARKER.findall(page.read_text(encoding="utf-8"))
            if kind == "module" for name in names.split()}


def linked(text: str, page: Path) -> str:
    """A page with the names of functions and modules linked to where they are described."""
    def one(match: re.Match) -> str:
        name, found = match[1], module_pages()
        place = name if name in found else name.rpartition(".")[0]
        if place not in found:
            return match[0]
        anchor = name.removeprefix("tfsono.") if name != place else name
        target = os.path.relpath(found[place], page.parent)
        return f"[{match[0]}]({target}#{anchor.replace('.', '').lower()})"

    return NAMED.sub(one, text)


def filled(text: str, page: Path) -> str:
    """A page's text with every marker replaced, and on a paper's page the functions linked."""
    def one(match: re.Match) -> str:
        if match[1] not in KINDS:
            raise ValueError(f"{page}: <!-- generated: {match[1]} -->: expected one of {', '.join(KINDS)}")
        return "\n\n".join(KINDS[match[1]](name) for name in match[2].split())

    if page.parent.name == "papers":
        text = linked(text, page)
    return MARKER.sub(one, spaced(text))


def spaced(text: str) -> str:
    """A page with its lists as MkDocs needs them: an empty line before each, and further paragraphs four in."""
    parts = re.split(f"({FENCE.pattern})", text, flags=FENCE.flags)
    parts[::2] = [IN_LIST.sub("    ", BEFORE_LIST.sub(r"\1\n\n", part)) for part in parts[::2]]
    return "".join(parts)


def linked_files(text: str, page: Path) -> Iterator[Path]:
    """Files of the checkout that a page links to, besides pages."""
    for link in LINK.finditer(FENCE.sub("", text)):
        path = (page.parent / (link[1] or link[2])).resolve()
        if path.is_file() and path.is_relative_to(ROOT) and path.suffix != ".md":
            yield path


def write_pages(folder: Path) -> list[Path]:
    """Writes all pages and the files that they link to; gives the pages, relative to the checkout."""
    pages = [path for pattern in PAGES for path in sorted(ROOT.glob(pattern))]
    for page in pages:
        text = filled(page.read_text(encoding="utf-8"), page)
        target = folder / page.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        for path in linked_files(text, page):
            copy = folder / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    return [page.relative_to(ROOT) for page in pages if page.suffix == ".md"]


def main() -> None:
    (folder,) = map(Path, sys.argv[1:])
    shutil.rmtree(folder, ignore_errors=True)
    print(f"tfsono {__version__}: {len(write_pages(folder))} pages in {folder}; systems {', '.join(NAMES)}")


if __name__ == "__main__":
    sys.exit(run_command(main))
