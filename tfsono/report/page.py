"""One HTML page that holds everything it shows: no scripts, fonts, images or styles from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TypeAlias
from urllib.parse import quote

import numpy as np

from tfsono.files import write_text
from tfsono.report.orderings import FAILS, HOLDS, UNDECIDED
from tfsono.report.tables import Metric, Summary, Table, cell_text, metric_values, number_text, summary_lines

IMAGE_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif"}


@dataclass(frozen=True)
class Figure:
    """An image file, embedded in the page, and the text below it; of one case and method, for the list of cases."""

    path: str | Path
    caption: str = ""
    case: str = ""
    method: str = ""


@dataclass(frozen=True)
class Files:
    """Files that the page links to, relative to its folder."""

    paths: Sequence[str | Path]
    text: str = "Files"


@dataclass(frozen=True)
class Html:
    """Markup of our own, put into the page as it is. Never made of a user's text."""

    markup: str


@dataclass(frozen=True)
class Fold:
    """Content that is shown on demand, and on paper."""

    title: str
    content: Content


@dataclass(frozen=True)
class CaseList:
    """Every case in a table that can be sorted by each of its columns, with the figures of a case below its row.

    Attributes:
        means: Method -> its cases, a row each with `case`.
        metrics: `Metric`s, or tuples (key, heading, digits[, scale]), a column each.
        by: the key of the error by which the list is sorted at first, the largest one first.
        figures: those with a `case` and a `method` of the list.
    """

    means: Mapping[str, Sequence[Mapping]]
    metrics: Sequence[Metric | tuple]
    by: str
    figures: Sequence[Figure] = ()


# What a section holds, or a list of these. Text becomes paragraphs; a bare path is a figure or a link,
# by its suffix.
Piece: TypeAlias = "Table | Figure | Files | Html | Fold | CaseList | Path | str"
Content: TypeAlias = "Piece | Sequence[Piece]"

ROOM = 136  # of a table at a window of 1280 pixels, in digits of the widest usual font, DejaVu Sans
PADDING = 1.7  # of a column
BOLD = 1.15  # letters of headings in digits

STYLE = """
:root { color-scheme: light dark; --ink: #1d2430; --dim: #5a6473; --paper: #ffffff; --panel: #f4f6f9;
  --line: #d5dbe3; --accent: #1f5fa8; --good: #1b7a3d; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ee; --dim: #a0a9b6; --paper: #14181f;
  --panel: #1e242d; --line: #38414d; --accent: #7db4f2; --good: #6fd08c; --bad: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.8rem; line-height: 1.25; margin: 0 0 1rem; }
h2 { font-size: 1.25rem; margin: 2.75rem 0 .75rem; padding-top: 1rem; border-top: 1px solid var(--line); }
h1, h2, caption, summary { overflow-wrap: anywhere; }
p { margin: .6rem 0; max-width: 75ch; overflow-wrap: anywhere; }
a { color: var(--accent); }
nav ul { list-style: none; display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; padding: 0; margin: 0 0 1rem; }
.wide { overflow-x: auto; margin: 1.4rem 0 .4rem; }
table { border-collapse: collapse; font-size: .85rem; line-height: 1.4; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: 0 0 .4rem; }
th, td { padding: .35rem .45rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line);
  overflow-wrap: break-word; }
thead th { border-bottom: 2px solid var(--ink); vertical-align: bottom; font-weight: 600; }
tbody th { font-weight: 500; min-width: 9ch; max-width: 32ch; }
td { max-width: 60ch; }
tbody tr:hover { background: var(--panel); }
tr.paper td, tr.paper th { color: var(--dim); font-style: italic; }
.number { text-align: right; white-space: nowrap; }
thead .number { white-space: normal; }
.below { display: block; font-size: .8em; color: var(--dim); }
.holds, .fails, .undecided { font-weight: 600; white-space: nowrap; }
.holds { color: var(--good); } .fails { color: var(--bad); } .undecided { color: var(--dim); }
.note, figcaption, .files { color: var(--dim); font-size: .88rem; }
.note { max-width: 110ch; }
.shared { background: var(--panel); padding: .6rem .9rem; border-radius: 6px; }
th button { all: unset; cursor: pointer; text-decoration: underline dotted; }
th button:focus-visible { outline: 2px solid var(--accent); }
th[aria-sort=descending] button::after { content: " \\25BC"; }
th[aria-sort=ascending] button::after { content: " \\25B2"; }
.overlay td { max-width: none; }
summary { cursor: pointer; color: var(--accent); }
figure { margin: 1.2rem 0; }
img { display: block; max-width: 100%; max-height: 48rem; height: auto; border-radius: 6px; background: #ffffff; }
figcaption { margin-top: .4rem; max-width: 75ch; overflow-wrap: anywhere; }
.print { display: none; }
@page { size: A4 landscape; margin: 12mm; }
@media screen and (max-width: 900px) { table { font-size: .72rem; } th, td { padding: .3rem .22rem; } }
@media print {
  :root { color-scheme: light; --ink: #000000; --dim: #444444; --paper: #ffffff; --panel: #ffffff; --line: #bbbbbb;
    --accent: #000000; --good: #1b7a3d; --bad: #b3261e; }
  html { font-size: 9pt; } main { max-width: none; padding: 0; }
  h2 { margin-top: 1.5rem; break-after: avoid; } caption, thead { break-after: avoid; }
  tr, figure { break-inside: avoid; } .wide { overflow: visible; } .shared { padding: 0; }
  img { max-height: 150mm; } .cases tbody { break-inside: avoid; }
  .overlay figure:not(:only-of-type) { display: inline-block; width: 49%; vertical-align: top; }
  nav { display: none; } th button { text-decoration: none; }
  .cases tbody:nth-of-type(n+41) { display: none; } .print { display: block; } }
""".strip()

# Sorts lists of cases (undefined values last), and opens on paper what is folded.
SCRIPT = """
for (const table of document.querySelectorAll("table.cases")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, place) => head.firstElementChild.addEventListener("click", () => {
    const sign = head.getAttribute("aria-sort") === "descending" ? 1 : -1;
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    const cell = (body) => body.rows[0].cells[place];
    const number = (body) => parseFloat(cell(body).dataset.value);
    const order = (a, b) => !("value" in cell(a).dataset)
      ? sign * cell(a).textContent.localeCompare(cell(b).textContent, "en", { numeric: true })
      : isNaN(number(a)) || isNaN(number(b)) ? isNaN(number(a)) - isNaN(number(b)) : sign * (number(a) - number(b));
    table.append(...[...table.tBodies].sort(order));
  }));
}
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => { one.open = true; }));
""".strip()

# The policy enforces it: a browser that shows the page loads nothing from elsewhere, and runs no other script.
_DIGEST = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode("ascii")
POLICY = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{_DIGEST}'"


def write_page(path: str | Path, title: str, sections: Sequence[tuple[str, Content]]) -> Path:
    """Writes the page and returns its path.

    Args:
        path: of the HTML file; links to files are relative to its folder.
        title: the page's heading.
        sections: (heading, content). Text is escaped, an empty line begins a paragraph. A sentence of several tables'
            notes is printed once, above the first of them.

    Raises:
        FileNotFoundError: a figure's file is missing.
        ValueError: a figure or content of an unknown kind.
    """
    path = Path(path)
    anchors = [f"{_anchor(heading)}-{number}" for number, (heading, _) in enumerate(sections, start=1)]
    parts, shared = [_HEAD.format(title=escape(title), policy=POLICY, style=STYLE)], _Shared(sections)
    if len(sections) > 2:
        parts += ['<nav aria-label="Sections"><ul>']
        for anchor, (heading, _) in zip(anchors, sections, strict=True):
            parts.append(f'<li><a href="#{anchor}">{escape(heading)}</a></li>')
        parts += ["</ul></nav>"]
    for anchor, (heading, content) in zip(anchors, sections, strict=True):
        body = shared.note_before(content) + _content(content, path.parent, shared)
        parts += [f'<section id="{anchor}">', f"<h2>{escape(heading)}</h2>", body, "</section>"]
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return write_text(path, "\n".join([*parts, "</main>", f"<script>{SCRIPT}</script>", "</body>", "</html>"]) + "\n")


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


def _tables(content: object) -> Iterator[Table]:
    if isinstance(content, Table):
        yield content
    elif isinstance(content, Fold):
        yield from _tables(content.content)
    elif isinstance(content, (list, tuple)):
        for item in content:
            yield from _tables(item)


_SENTENCE = re.compile(r"(?<=[.!?])(?<!\bSec\.)(?<!\bFig\.)\s+(?=[A-Z])")


class _Shared:
    """The sentences that the notes of several tables have; each is printed once."""

    def __init__(self, sections: Sequence[tuple[str, Content]] = ()) -> None:
        notes = [dict.fromkeys(_SENTENCE.split(table.note)) for _, one in sections for table in _tables(one)]
        counts = Counter(sentence for note in notes for sentence in note if sentence)
        self.sentences = {sentence for sentence, count in counts.items() if count > 1}
        self.left = set(self.sentences)

    def note_before(self, content: Content) -> str:
        """The markup of the shared sentences of a section's tables, without those of earlier sections."""
        found = dict.fromkeys(one for table in _tables(content) for one in _SENTENCE.split(table.note)
                              if one in self.left)
        self.left -= found.keys()
        return f'<p class="note shared">{escape(" ".join(found))}</p>\n' if found else ""

    def own_note(self, table: Table) -> str:
        """The other sentences."""
        return " ".join(one for one in _SENTENCE.split(table.note) if one not in self.sentences)


def _content(content: Content, folder: Path, shared: _Shared) -> str:
    """Returns the markup of any content."""
    if isinstance(content, Html):
        return content.markup
    if isinstance(content, Table):
        return table_html(content, shared.own_note(content))
    if isinstance(content, CaseList):
        return _case_list(content)
    if isinstance(content, Fold):
        body = _content(content.content, folder, shared)
        return f"<details><summary>{escape(content.title)}</summary>\n{body}\n</details>"
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
        return "\n".join(_content(item, folder, shared) for item in content)
    kind = type(content).__name__
    raise ValueError(f"a section holds tables, figures, files, text or lists of them; found {kind}")


def _paragraphs(text: str) -> str:
    pieces = [piece.strip() for piece in re.split(r"\n\s*\n", text) if piece.strip()]
    return "\n".join("<p>" + escape(piece).replace("\n", "<br>") + "</p>" for piece in pieces)


def table_html(table: Table, note: str) -> str:
    """Returns the table as markup, in parts if it is wide: intervals below their means, the paper's rows in italics."""
    parts = _parts(table)
    lines = [_part_html(table, columns, number, len(parts)) for number, columns in enumerate(parts, 1)]
    return "\n".join(lines + ([f'<p class="note">{escape(note)}</p>'] if note else []))


def _part_html(table: Table, columns: Sequence[int], number: int, count: int) -> str:
    right, digits = table.numeric_columns(), table.column_digits()
    kinds = [' class="number"' if right[place] else "" for place in columns]
    head = "".join(f'<th scope="col"{kind}>{escape(str(table.columns[place]))}</th>'
                   for place, kind in zip(columns, kinds, strict=True))
    caption = escape(table.title) + (f" ({number} of {count})" if count > 1 else "")
    lines = ['<div class="wide"><table>', f"<caption>{caption}</caption>", f"<thead><tr>{head}</tr></thead>", "<tbody>"]
    for row in table.rows:
        texts = [_cell(row[place], digits[place]) for place in columns]
        cells = [f'<th scope="row"{kinds[0]}>{texts[0]}</th>']
        cells += [f"<td{kind}>{text}</td>" for text, kind in zip(texts[1:], kinds[1:], strict=True)]
        paper = ' class="paper"' if _is_paper(table, row) else ""
        lines.append(f"<tr{paper}>{''.join(cells)}</tr>")
    return "\n".join([*lines, "</tbody></table></div>"])


def _parts(table: Table) -> list[list[int]]:
    """The columns of each part of a table, so that none scrolls sideways; each begins with the columns of text."""
    widths, right = _widths(table), table.numeric_columns()
    keys = max(1, right.index(True)) if True in right else len(right)
    rest, room = range(keys, len(right)), ROOM - sum(widths[:keys])
    for count in range(1, len(rest) + 1):
        parts = [[*range(keys), *map(int, part)] for part in np.array_split(rest, count)]
        if all(sum(widths[place] for place in part[keys:]) <= room for part in parts):
            return parts
    return parts if rest else [list(range(keys))]


def _widths(table: Table) -> list[float]:
    """The width of each column in digits: text is broken at its words, numbers are not."""
    widths = []
    for place, (heading, digits, right) in enumerate(zip(table.columns, table.column_digits(), table.numeric_columns(),
                                                         strict=True)):
        lines = [_lines(row[place], digits) for row in table.rows]
        longest = max((max(len(main), *(0.8 * len(line) for line in below), 0) for main, below in lines), default=0)
        most = math.inf if right else 14 if place else 20
        widths.append(max(min(longest, most), *(BOLD * len(word) for word in str(heading).split()), 1) + PADDING)
    return widths


def _lines(cell: object, digits: int | None) -> tuple[str, tuple[str, ...]]:
    return summary_lines(cell, digits) if isinstance(cell, Summary) else (cell_text(cell, digits), ())


def _case_list(cases: CaseList) -> str:
    """The list, a body of the table for each case: its row, and its figures in a second row."""
    metrics = [Metric(*metric) for metric in cases.metrics]
    by = next(place for place, metric in enumerate(metrics) if metric.key == cases.by)
    bodies = []
    for method, rows in cases.means.items():
        values = np.stack([metric_values(rows, metric) for metric in metrics], axis=1)
        bodies += [(row, _case(method, str(case["case"]), metrics, row, cases)) for case, row in
                   zip(rows, values, strict=True)]
    bodies.sort(key=lambda body: (math.isnan(body[0][by]), -body[0][by]))
    heads = "".join(f'<th scope="col"{kind}><button type="button">{escape(heading)}</button></th>' for heading, kind in
                    [("Case", ""), ("Method", ""), *((metric.heading, ' class="number"' +
                     ' aria-sort="descending"' * (metric.key == cases.by)) for metric in metrics)])
    return "\n".join(['<div class="wide"><table class="cases">', f"<thead><tr>{heads}</tr></thead>",
                      *(markup for _, markup in bodies), "</table></div>",
                      '<p class="note print">On paper: the first 40 rows.</p>' * (len(bodies) > 40)])


def _case(method: str, case: str, metrics: Sequence[Metric], values: np.ndarray, cases: CaseList) -> str:
    cells = "".join(f'<td class="number" data-value="{float(value)!r}">{number_text(value, metric.digits)}</td>'
                    for metric, value in zip(metrics, values, strict=True))
    figures = "".join(_figure(one) for one in cases.figures if (one.method, one.case) == (method, case))
    overlay = (f'<tr class="overlay"><td colspan="{len(metrics) + 2}"><details><summary>Overlay of {escape(case)}'
               f"</summary>{figures}</details></td></tr>") if figures else ""
    return f'<tbody><tr><th scope="row">{escape(case)}</th><td>{escape(method)}</td>{cells}</tr>{overlay}</tbody>'


def _is_paper(table: Table, row: Sequence[object]) -> bool:
    return "Source" in table.columns and row[table.columns.index("Source")] == "paper"


_VERDICTS = {HOLDS: "holds", FAILS: "fails", UNDECIDED: "undecided"}


def _cell(cell: object, digits: int | None) -> str:
    if cell in _VERDICTS:
        return f'<span class="{_VERDICTS[cell]}">{escape(cell)}</span>'
    main, below = _lines(cell, digits)
    return escape(main).replace("\n", "<br>") + "".join(f'<span class="below">{escape(line)}</span>' for line in below)


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
    links, paths = [], [Path(path) for path in files.paths]
    alike = len({path.name for path in paths}) < len(paths)
    for path in paths:
        relative = Path(os.path.relpath(path, folder)).as_posix()
        # "./" keeps a name with a colon from being read as the name of a protocol.
        links.append(f'<a href="./{escape(quote(relative))}">{escape(relative if alike else path.name)}</a>')
    return f'<p class="files">{escape(files.text)}: {", ".join(links)}</p>'
