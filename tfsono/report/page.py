"""One HTML page that holds everything it shows: no scripts, and no fonts, images or styles from elsewhere."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TypeAlias
from urllib.parse import quote

from tfsono.files import write_text
from tfsono.report.tables import Summary, Table, cell_text, summary_lines

IMAGE_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif"}


@dataclass(frozen=True)
class Figure:
    """An image file, embedded in the page, and the text below it."""

    path: str | Path
    caption: str = ""


@dataclass(frozen=True)
class Files:
    """Files that the page links to, relative to its folder."""

    paths: Sequence[str | Path]
    text: str = "Files"


@dataclass(frozen=True)
class Html:
    """Markup of our own, put into the page as it is. Never made of a user's text."""

    markup: str


# What a section holds, or a list of these. Text becomes paragraphs; a bare path is a figure or a link,
# by its suffix.
Piece: TypeAlias = Table | Figure | Files | Html | Path | str
Content: TypeAlias = Piece | Sequence[Piece]

STYLE = """
:root { color-scheme: light dark; --ink: #1d2430; --dim: #5a6473; --paper: #ffffff; --panel: #f4f6f9;
  --line: #d5dbe3; --accent: #1f5fa8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ee; --dim: #a0a9b6; --paper: #14181f;
  --panel: #1e242d; --line: #38414d; --accent: #7db4f2; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.8rem; line-height: 1.25; margin: 0 0 1rem; }
h2 { font-size: 1.25rem; margin: 2.75rem 0 .75rem; padding-top: 1rem; border-top: 1px solid var(--line); }
p { margin: .6rem 0; max-width: 75ch; overflow-wrap: anywhere; }
a { color: var(--accent); }
nav ul { list-style: none; display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; padding: 0; margin: 0 0 1rem; }
.wide { overflow-x: auto; margin: 1rem 0 .4rem; }
table { border-collapse: collapse; font-size: .87rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: 0 0 .5rem; }
th, td { padding: .4rem .6rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
thead th { border-bottom: 2px solid var(--ink); vertical-align: bottom; }
tbody th { font-weight: 500; }
tbody tr:hover { background: var(--panel); }
tr.paper td, tr.paper th { color: var(--dim); font-style: italic; }
.number { text-align: right; white-space: nowrap; }
.below { display: block; font-size: .82em; color: var(--dim); }
.note, figcaption, .files { color: var(--dim); font-size: .9rem; }
figure { margin: 1.2rem 0; }
img { display: block; max-width: 100%; height: auto; border-radius: 6px; background: #ffffff; }
figcaption { margin-top: .4rem; max-width: 75ch; }
@media print { main { max-width: none; padding: 0; } figure, table { break-inside: avoid; }
  nav { display: none; } }
""".strip()

# The policy enforces it: a browser that shows the page loads nothing from elsewhere.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write_page(path: str | Path, title: str, sections: Sequence[tuple[str, Content]]) -> Path:
    """Writes the page and returns its path.

    Args:
        path: of the HTML file; links to files are relative to its folder.
        title: the page's heading.
        sections: (heading, content). Text is escaped, an empty line begins a paragraph.

    Raises:
        FileNotFoundError: a figure's file is missing.
        ValueError: a figure or content of an unknown kind.
    """
    path = Path(path)
    anchors = [f"{_anchor(heading)}-{number}" for number, (heading, _) in enumerate(sections, start=1)]
    parts = [_HEAD.format(title=escape(title), policy=POLICY, style=STYLE)]
    if len(sections) > 2:
        parts += ['<nav aria-label="Sections"><ul>']
        for anchor, (heading, _) in zip(anchors, sections, strict=True):
            parts.append(f'<li><a href="#{anchor}">{escape(heading)}</a></li>')
        parts += ["</ul></nav>"]
    for anchor, (heading, content) in zip(anchors, sections, strict=True):
        body = _content(content, path.parent)
        parts += [f'<section id="{anchor}">', f"<h2>{escape(heading)}</h2>", body, "</section>"]
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return write_text(path, "\n".join([*parts, "</main>", "</body>", "</html>"]) + "\n")


def write_evaluation_page(
    out: Path, title: str, tables: Sequence[Table], figures: Sequence[Figure], runs: Sequence[str], predictions: str
) -> None:
    """Writes `report.html` of an evaluation, and prints where everything is.

    Args:
        out: its folder, with `cases.csv` and the tables.
        title: the page's heading.
        tables: to show.
        figures: to show.
        runs: a line of text for each run.
        predictions: what the evaluation kept of each case, in words.
    """
    write_page(out / "report.html", title, [
        ("Tables", list(tables)), ("Figures", list(figures)), ("Runs", "\n\n".join(runs)),
        ("Files", Files([out / "cases.csv", *sorted(out.glob("*.tex"))], "Per case, and tables for a manuscript"))])
    print(f"wrote {out}/report.html, cases.csv, tables (.csv .md .tex), figures/, runs/ ({predictions})")


_HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{style}
</style>
</head>
<body>
<main>
<h1>{title}</h1>"""


def _anchor(heading: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-") or "section"


def _content(content: Content, folder: Path) -> str:
    """Returns the markup of any content."""
    if isinstance(content, Html):
        return content.markup
    if isinstance(content, Table):
        return table_html(content)
    if isinstance(content, Figure):
        return _figure(content)
    if isinstance(content, Files):
        return _files(content, folder)
    if isinstance(content, Path):
        is_image = content.suffix.lower() in IMAGE_TYPES
        return _figure(Figure(content)) if is_image else _files(Files([content]), folder)
    if isinstance(content, str):
        return _paragraphs(content)
    if isinstance(content, (list, tuple)):
        return "\n".join(_content(item, folder) for item in content)
    kind = type(content).__name__
    raise ValueError(f"a section holds tables, figures, files, text or lists of them; found {kind}")


def _paragraphs(text: str) -> str:
    pieces = [piece.strip() for piece in re.split(r"\n\s*\n", text) if piece.strip()]
    return "\n".join("<p>" + escape(piece).replace("\n", "<br>") + "</p>" for piece in pieces)


def table_html(table: Table) -> str:
    """Returns the table as markup: intervals below their means, the paper's rows in italics."""
    right = table.numeric_columns()
    kinds = [' class="number"' if r else "" for r in right]
    head = "".join(
        f'<th scope="col"{k}>{escape(str(h))}</th>' for h, k in zip(table.columns, kinds, strict=True)
    )
    lines = ['<div class="wide"><table>', f"<caption>{escape(table.title)}</caption>"]
    lines += [f"<thead><tr>{head}</tr></thead>", "<tbody>"]
    for row in table.rows:
        texts = [_cell(cell, digits) for cell, digits in zip(row, table.column_digits(), strict=True)]
        cells = [f'<th scope="row"{kinds[0]}>{texts[0]}</th>']
        cells += [f"<td{kind}>{text}</td>" for text, kind in zip(texts[1:], kinds[1:], strict=True)]
        paper = ' class="paper"' if _is_paper(table, row) else ""
        lines.append(f"<tr{paper}>{''.join(cells)}</tr>")
    lines.append("</tbody></table></div>")
    return "\n".join(lines + ([f'<p class="note">{escape(table.note)}</p>'] if table.note else []))


def _is_paper(table: Table, row: Sequence[object]) -> bool:
    return "Source" in table.columns and row[table.columns.index("Source")] == "paper"


def _cell(cell: object, digits: int | None) -> str:
    if isinstance(cell, Summary):
        main, below = summary_lines(cell, digits)
        return escape(main) + "".join(f'<span class="below">{escape(line)}</span>' for line in below)
    return escape(cell_text(cell, digits)).replace("\n", "<br>")


def _figure(figure: Figure) -> str:
    path = Path(figure.path)
    kind = IMAGE_TYPES.get(path.suffix.lower())
    if kind is None:
        raise ValueError(f"{path}: a page embeds {', '.join(IMAGE_TYPES)}; found {path.suffix or 'no suffix'}")
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    text = escape(figure.caption or path.stem.replace("_", " "))
    caption = f"<figcaption>{escape(figure.caption)}</figcaption>" if figure.caption else ""
    return f'<figure><img alt="{text}" src="data:{kind};base64,{data}">{caption}</figure>'


def _files(files: Files, folder: Path) -> str:
    links = []
    for path in map(Path, files.paths):
        relative = Path(os.path.relpath(path, folder)).as_posix()
        # "./" keeps a name with a colon from being read as the name of a protocol.
        links.append(f'<a href="./{escape(quote(relative))}">{escape(path.name)}</a>')
    return f'<p class="files">{escape(files.text)}: {", ".join(links)}</p>'
