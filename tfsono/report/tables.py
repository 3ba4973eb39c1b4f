"""Tables: per case first, then mean, standard deviation and interval, and the paper's row beside ours.

A `Table` keeps values, not text. `to_csv` writes them in full, `to_markdown`, `to_latex` and the page round
them to the digits of their column. NaN is shown as a dash, None as an empty cell.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfsono.errors import UserError
from tfsono.files import csv_text, read_rows, safe_name, write_text
from tfsono.metrics.agreement import bootstrap_interval, paired_wilcoxon

DASH = "–"
NAN = float("nan")

# Columns of `cases.csv` that are read as text even where every entry is a number ("001").
TEXT_COLUMNS = (
    "case",
    "subject",
    "label",
    "landmark",
    "variant",
    "method",
    "run",
    "split",
    "mask",
    "file",
    "note",
)


# --- cells and tables ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Summary:
    """A cell: mean and standard deviation of the defined values, and a 95 % interval of the mean.

    `count` values were defined and `undefined` were not; a paper's cell has only a mean, perhaps a deviation.
    `digits` are the cell's own where a column's rows measure different things; None: the column's.
    """

    mean: float
    std: float = NAN
    low: float = NAN
    high: float = NAN
    count: int = 0
    undefined: int = 0
    digits: int | None = None


@dataclass(frozen=True)
class Probability:
    """A cell: a p value. Shown as `<0.001` where three digits would print zero."""

    value: float


class Metric(NamedTuple):
    """A column of measured values: its key in `cases.csv`, its heading, the digits shown, and a factor.

    The factor converts our unit into the heading's (100 for a Dice in percent). The paper's values are not
    multiplied.
    """

    key: str
    heading: str
    digits: int
    scale: float = 1.0


@dataclass(frozen=True)
class Table:
    """A titled table. `digits` gives the decimals of each column; an empty tuple or None means four figures.

    Cells are text, numbers, None (empty), `Summary` or `Probability`.

    Raises:
        ValueError: a row, or `digits`, does not have one entry a column.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    note: str = ""
    digits: tuple[int | None, ...] = ()

    def __post_init__(self) -> None:
        if self.digits and len(self.digits) != len(self.columns):
            raise ValueError(
                f"table {self.title!r}: {len(self.columns)} columns, digits for {len(self.digits)}"
            )
        for number, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ValueError(
                    f"table {self.title!r}: {len(self.columns)} columns, row {number} has {len(row)} cells"
                )

    def column_digits(self) -> tuple[int | None, ...]:
        """Returns the decimals of each column, None where none were given."""
        return self.digits or (None,) * len(self.columns)

    def numeric_columns(self) -> tuple[bool, ...]:
        """Returns, per column, whether it holds values and no text: it is then aligned right."""
        columns = zip(*self.rows, strict=True) if self.rows else [()] * len(self.columns)
        return tuple(not all(map(_is_empty, c)) and all(map(_is_value, c)) for c in map(list, columns))


def _is_empty(cell: object) -> bool:
    return cell is None or cell == ""


def _is_value(cell: object) -> bool:
    return _is_empty(cell) or isinstance(cell, (bool, int, float, np.number, Summary, Probability))


def number_text(value: object, digits: int | None = None) -> str:
    """Returns a number as shown: NaN a dash, integers whole, floats with `digits` decimals or 4 figures."""
    if isinstance(value, (int, np.integer)):
        return str(int(value))
    value = float(value)  # type: ignore[arg-type]
    if math.isnan(value):
        return DASH
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    text = f"{value:.4g}" if digits is None else f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text


def summary_lines(summary: Summary, digits: int | None) -> tuple[str, tuple[str, ...]]:
    """Returns `mean ± deviation`, and what follows it: interval and count of undefined."""
    digits = digits if summary.digits is None else summary.digits
    main = number_text(summary.mean, digits)
    if not math.isnan(summary.mean) and not math.isnan(summary.std):
        main += f" ± {number_text(summary.std, digits)}"
    extras: tuple[str, ...] = ()
    if not (math.isnan(summary.low) or math.isnan(summary.high)):
        extras += (f"{number_text(summary.low, digits)} to {number_text(summary.high, digits)}",)
    if summary.undefined:
        extras += (f"{summary.undefined} undefined",)
    return main, extras


def probability_text(probability: Probability) -> str:
    """Returns a p value with three digits, `<0.001` below that, a dash for NaN."""
    return "<0.001" if probability.value < 0.001 else number_text(probability.value, 3)


def cell_text(cell: object, digits: int | None = None) -> str:
    """Returns any cell as one line of plain text."""
    if isinstance(cell, Summary):
        main, extras = summary_lines(cell, digits)
        return f"{main} ({'; '.join(extras)})" if extras else main
    if isinstance(cell, Probability):
        return probability_text(cell)
    if isinstance(cell, (bool, np.bool_)):
        return "yes" if cell else "no"
    if isinstance(cell, (int, float, np.number)):
        return number_text(cell, digits)
    return "" if cell is None else str(cell)


# --- written forms ------------------------------------------------------------------------------------------


def _plain(cell: object) -> object:
    """Returns a cell as a CSV file holds it: numbers in full, NaN as `nan`."""
    if cell is EMPTY:
        return ""
    if isinstance(cell, Probability):
        cell = cell.value
    if isinstance(cell, (bool, np.bool_, np.integer)):
        return int(cell)
    if isinstance(cell, (float, np.floating)):
        return repr(float(cell))
    return "" if cell is None else cell


_SUMMARY_PARTS = ("std", "low", "high", "count", "undefined")


def _spread(cell: object) -> list[object]:
    """Returns the six CSV fields of a cell in a column of summaries."""
    if not isinstance(cell, Summary):
        return [_plain(cell)] + [""] * len(_SUMMARY_PARTS)
    return [_plain(cell.mean)] + [_plain(getattr(cell, part)) for part in _SUMMARY_PARTS]


def to_csv(table: Table) -> str:
    """Returns the table as CSV with all digits.

    A column of summaries becomes six: its heading (the mean), and the heading with std, low, high, count,
    undefined.
    """
    wide = [any(isinstance(row[i], Summary) for row in table.rows) for i in range(len(table.columns))]
    header = []
    for heading, summaries in zip(table.columns, wide, strict=True):
        header += [heading] + ([f"{heading} {part}" for part in _SUMMARY_PARTS] if summaries else [])
    rows = [itertools.chain.from_iterable(_spread(cell) if summaries else [_plain(cell)]
                                          for cell, summaries in zip(row, wide, strict=True)) for row in table.rows]
    return csv_text([header, *rows])


def escape_markdown(text: str) -> str:
    """Returns text escaped for Markdown, tables too. Underscores in a word need no escape."""
    text = re.sub(r"([\\`*|\[\]])", r"\\\1", text)
    text = re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", text)
    return text.replace("<", "&lt;").replace("\r", "").replace("\n", "<br>")


def to_markdown(table: Table) -> str:
    """Returns the table as a Markdown pipe table with aligned columns, the title above and the note below."""
    texts = [[escape_markdown(heading) for heading in table.columns]]
    digits = table.column_digits()
    for row in table.rows:
        texts.append([escape_markdown(cell_text(c, d)) for c, d in zip(row, digits, strict=True)])
    widths = [max(3, *map(len, column)) for column in zip(*texts, strict=True)]
    right = table.numeric_columns()
    rule = ["-" * (width - 1) + ":" if r else "-" * width for width, r in zip(widths, right, strict=True)]
    lines = []
    for cells in [texts[0], rule, *texts[1:]]:
        padded = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(cells, widths, right, strict=True)]
        lines.append("| " + " | ".join(padded) + " |")
    parts = [f"**{escape_markdown(table.title)}**", "\n".join(lines)]
    parts += [escape_markdown(table.note)] if table.note else []
    return "\n\n".join(parts) + "\n"


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "–": "--",
    "∞": r"$\infty$",
    "−": "$-$",
    "×": r"$\times$",
    "°": r"$^\circ$",
    "µ": r"$\mu$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "→": r"$\rightarrow$",
    **{character: "\\" + character for character in "&%$#_{}"},
}


def escape_latex(text: str) -> str:
    """Returns text escaped for LaTeX."""
    return "".join(_LATEX.get(character, character) for character in text).replace("\n", " ")


def _latex_row(row: Sequence[object], digits: Sequence[int | None]) -> list[str]:
    """Returns a row's lines; intervals are in a second, small line, or the table would not fit a page."""
    pairs = [
        summary_lines(cell, d) if isinstance(cell, Summary) else (cell_text(cell, d), ())
        for cell, d in zip(row, digits, strict=True)
    ]
    numbers = [_is_value(cell) for cell in row]
    first = [_latex_text(main, number) for (main, _), number in zip(pairs, numbers, strict=True)]
    if not any(extras for _, extras in pairs):
        return [" & ".join(first) + r" \\"]
    second = [r"{\footnotesize " + _latex_text("; ".join(e), True) + "}" if e else "" for _, e in pairs]
    return [" & ".join(first) + r" \\", " & ".join(second) + r" \\[2pt]"]


def _latex_text(text: str, number: bool) -> str:
    """Returns escaped text; a number's minus sign is no hyphen."""
    text = escape_latex(text)
    return re.sub(r"(^|[ (])-(?=[\d$])", r"\1$-$", text) if number else text


def to_latex(table: Table) -> str:
    """Returns a LaTeX `table` with booktabs rules; the document needs `\\usepackage{booktabs}`."""
    alignment = "".join("r" if right else "l" for right in table.numeric_columns())
    rows = [line for row in table.rows for line in _latex_row(row, table.column_digits())]
    note = [r"\par\smallskip{\small " + escape_latex(table.note) + "}"] if table.note else []
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape_latex(table.title)}}}",
        rf"\begin{{tabular}}{{{alignment}}}",
        r"\toprule",
        " & ".join(escape_latex(heading) for heading in table.columns) + r" \\",
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
        *note,
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def write_table(folder: str | Path, stem: str, table: Table) -> tuple[Path, Path, Path]:
    """Writes `folder/stem.csv`, `.md` and `.tex` (the folder is created if needed); returns the three paths.

    A stem with the name of a label becomes a `safe_name`.
    """
    folder, stem = Path(folder), safe_name(stem)
    folder.mkdir(parents=True, exist_ok=True)
    return (
        write_text(folder / f"{stem}.csv", to_csv(table)),
        write_text(folder / f"{stem}.md", to_markdown(table)),
        write_text(folder / f"{stem}.tex", to_latex(table)),
    )


# --- cases.csv ----------------------------------------------------------------------------------------------


def write_cases(path: str | Path, rows: Sequence[Mapping[str, object]]) -> Path:
    """Writes one line a case; columns in the order of their first appearance; creates the folder.

    Floats are written in full, so that `read_cases` returns the same numbers. A key that a row lacks is
    empty.
    """
    columns = list(dict.fromkeys(key for row in rows for key in row)) or ["case"]
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return write_text(path, csv_text([columns, *([_plain(row.get(column)) for column in columns] for row in rows)]))


def read_cases(path: str | Path) -> list[dict[str, object]]:
    """Reads `cases.csv`: one dict a case.

    A column whose filled cells are all numbers is read as numbers (empty: NaN), every other column, and those
    named in `TEXT_COLUMNS`, as text.

    Raises:
        UserError: no such file, not text, no column `case`, a column twice, or a line of another length.
    """
    header, lines = _read_lines(Path(path))
    columns = list(zip(*lines, strict=True)) if lines else [()] * len(header)
    typed = [_typed(name, column) for name, column in zip(header, columns, strict=True)]
    return [dict(zip(header, values, strict=True)) for values in zip(*typed, strict=True)]


def _read_lines(path: Path) -> tuple[list[str], list[list[str]]]:
    if not path.is_file():
        raise UserError(f"{path}: no such file; cases.csv is written by an evaluation")
    lines = [line for line in read_rows(path) if line]
    header = lines[0] if lines else []
    if "case" not in header:
        found = ", ".join(header) or "nothing"
        raise UserError(f"{path}: needs a column 'case' in its first line; found {found}")
    if len(set(header)) != len(header):
        raise UserError(f"{path}: column names must differ; found {', '.join(header)}")
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(header):
            rule = f"must have {len(header)} cells, as the first line has"
            raise UserError(f"{path}: line {number} {rule}; found {len(line)}")
    return header, lines[1:]


EMPTY = float("nan")  # of an empty cell, which `write_cases` writes as one again
_INTEGER = re.compile(r"0|-?[1-9]\d{0,17}", re.ASCII)


def _typed(name: str, column: Sequence[str]) -> list[object]:
    """Returns a column as numbers if it is one of numbers, else unchanged."""
    if name in TEXT_COLUMNS:
        return list(column)
    try:
        return [_number(cell) if cell.strip() else EMPTY for cell in column]
    except ValueError:
        return list(column)


def _number(cell: str) -> int | float:
    """An integer stays one, so that `write_cases` writes the same bytes again."""
    return int(cell) if _INTEGER.fullmatch(cell) else float(cell)


# --- tables of results --------------------------------------------------------------------------------------


def metric_values(cases: Sequence[Mapping[str, object]], metric: Metric) -> np.ndarray:
    """Returns `[N]` values of one metric in the heading's unit; NaN where a case has none."""
    values = [case.get(metric.key) for case in cases]
    return np.array([NAN if _is_empty(v) else float(v) for v in values], dtype=float) * metric.scale  # type: ignore


def present_values(cases: Sequence[Mapping[str, object]], metric: Metric) -> np.ndarray:
    """Returns `metric_values` without the cases that have none because their labels are in neither mask."""
    values = metric_values(cases, metric)
    return values[np.isfinite(values) | ~_flagged(cases, "absent")]


def _flagged(cases: Sequence[Mapping[str, object]], flag: str) -> np.ndarray:
    return np.nan_to_num(metric_values(cases, Metric(flag, "", 0))) != 0


def summarise(values: Sequence[float] | np.ndarray, seed: int = 0, interval: bool = True) -> Summary:
    """Returns mean, standard deviation (N - 1) and the 95 % bootstrap interval of the defined values.

    One value has neither deviation nor interval, no value no mean either.
    """
    values = np.asarray(values, dtype=float)
    defined = values[np.isfinite(values)]
    count, undefined = len(defined), len(values) - len(defined)
    if count == 0:
        return Summary(NAN, undefined=undefined)
    if count == 1:
        return Summary(float(defined[0]), count=1, undefined=undefined)
    low, high = bootstrap_interval(defined, seed) if interval else (NAN, NAN)
    return Summary(mean=float(defined.mean()), std=float(defined.std(ddof=1)), low=low, high=high, count=count,
                   undefined=undefined)


def count_undefined(cases: Sequence[Mapping[str, object]], metrics: Sequence[Metric]) -> int:
    """Returns how many cases are flagged `undefined` (one mask is empty) or lack one of the metrics.

    A case that lacks them because its labels are in neither mask is `absent`, not undefined.
    """
    lacking = np.zeros(len(cases), dtype=bool)
    for metric in metrics:
        lacking |= ~np.isfinite(metric_values(cases, metric))
    return int(np.sum(lacking & ~_flagged(cases, "absent") | _flagged(cases, "undefined")))


def _paper_cell(value: object, count: int) -> Summary:
    """Returns the paper's value, or pair of mean and deviation, as a cell; NaN where it printed none."""
    if value is None:
        return Summary(NAN)
    mean, std = value if isinstance(value, (tuple, list)) else (value, NAN)
    return Summary(float(mean), float(std), count=count)  # type: ignore[arg-type]


def _paper_row(
    variant: str, values: Mapping[str, object], metrics: Sequence[Metric], counts: int
) -> tuple[object, ...]:
    count = values.get("cases")
    cells = [_paper_cell(values.get(metric.key), int(count or 0)) for metric in metrics]
    return (variant, "paper", count, *[None] * counts, *cells)


def _our_row(
    variant: str, cases: Sequence[Mapping[str, object]], metrics: Sequence[Metric], seed: int, counts: int
) -> tuple[object, ...]:
    cells = [summarise(present_values(cases, metric), seed) for metric in metrics]
    found = (count_undefined(cases, metrics), int(_flagged(cases, "absent").sum()))
    return (variant, "ours", len(cases), *found[:counts], *cells)


_MEAN_NOTE = "Mean ± standard deviation over cases (95 % bootstrap interval of the mean)."
_PAPER_NOTE = "Paper: as printed, measured on the paper's own data, which are not ours."
COMPARISON_NOTE = f"{_MEAN_NOTE} Undefined: cases with one empty mask or a missing value. {_PAPER_NOTE}"
LANDMARKS_NOTE = f"{_MEAN_NOTE} Undefined: cases in which a value is missing. {_PAPER_NOTE}"

ABSENT_NOTES = {
    "absent": "Absent: cases with a label that neither the reference nor the prediction has; it is excluded from every "
              "mean.",
    "perfect": "Absent: cases with a label that neither the reference nor the prediction has; it counts as perfect, "
               "Dice 1 and 0 mm (--empty_is perfect).",
}
"""The note on the column Absent, for each value of `--empty_is`."""
SURFACE_NOTE = "Distances of surfaces, and NSD, count the voxels of a boundary alike, unweighted by area."
NSD_NOTE = ("NSD: normalised surface Dice, the share of both boundaries' voxels that are no farther from the other "
            "boundary than the heading's tolerance (--nsd_mm).")


def nsd_columns(rows: Sequence[Mapping[str, object]], scale: float = 1.0, digits: int = 3) -> tuple[Metric, ...]:
    """The columns of the surface Dice, whose tolerance is in their names; none of an evaluation before it was added."""
    keys = dict.fromkeys(key for row in rows for key in row)
    found = {key: match[1] for key in keys if (match := re.fullmatch(r"nsd_([\d.e+-]+)mm", key))}
    unit = " %" if scale == 100 else ""
    return tuple(Metric(key, f"NSD at {tolerance} mm{unit}", digits, scale) for key, tolerance in found.items())


def comparison_table(
    title: str,
    ours: Mapping[str, Sequence[Mapping[str, object]]],
    paper_rows: Mapping[str, Mapping[str, object]],
    metrics: Sequence[Metric | tuple],
    note: str = COMPARISON_NOTE,
    seed: int = 0,
    empty_is: str = "",
) -> Table:
    """Returns the table of variants: each of our rows with the paper's row of the same name below it.

    Args:
        title: the table's heading.
        ours: per variant its cases, as of `read_cases`.
        paper_rows: per variant the paper's printed values by metric key: a number or (mean, deviation), in
            the heading's unit; `"cases"` may hold their number. Variants that we did not run come last.
        metrics: `Metric`s, or tuples (key, heading, digits[, scale]).
        note: printed below the table.
        seed: of the bootstrap.
        empty_is: for metrics of masks, a key of `ABSENT_NOTES`: adds the column Absent and its note.
    """
    metrics = [Metric(*metric) for metric in metrics]
    counted = ("Undefined", "Absent") if empty_is else ("Undefined",)
    rows = []
    for variant, cases in ours.items():
        rows.append(_our_row(variant, cases, metrics, seed, len(counted)))
        if variant in paper_rows:
            rows.append(_paper_row(variant, paper_rows[variant], metrics, len(counted)))
    rows += [_paper_row(name, values, metrics, len(counted))
             for name, values in paper_rows.items() if name not in ours]
    columns = ("Variant", "Source", "Cases", *counted, *(metric.heading for metric in metrics))
    digits = (None, None, 0, *[0] * len(counted), *(metric.digits for metric in metrics))
    return Table(title, columns, tuple(rows), f"{note} {_mask_note(metrics, empty_is)}" if empty_is else note, digits)


def _mask_note(metrics: Sequence[Metric], empty_is: str) -> str:
    nsd = f" {NSD_NOTE}" if any(metric.key.startswith("nsd_") for metric in metrics) else ""
    return f"{ABSENT_NOTES[empty_is]} {SURFACE_NOTE}{nsd}"


def case_table(
    title: str, cases: Sequence[Mapping[str, object]], metrics: Sequence[Metric | tuple], note: str = ""
) -> Table:
    """Returns one row a case in the given order and, below, mean and standard deviation over them."""
    metrics = [Metric(*metric) for metric in metrics]
    columns = [metric_values(cases, metric) for metric in metrics]
    rows = [(str(case["case"]), *(float(column[i]) for column in columns)) for i, case in enumerate(cases)]
    known = (present_values(cases, metric) for metric in metrics)
    rows.append(("Mean ± standard deviation", *(summarise(column, interval=False) for column in known)))
    headings = ("Case", *(metric.heading for metric in metrics))
    return Table(title, headings, tuple(rows), note, (None, *(metric.digits for metric in metrics)))


def _case_key(case: Mapping[str, object]) -> tuple[str, str]:
    return str(case["case"]), str(case.get("label", ""))


def paired_values(
    first: Sequence[Mapping[str, object]], second: Sequence[Mapping[str, object]], metric: Metric
) -> tuple[np.ndarray, np.ndarray]:
    """Returns two `[N]` arrays of one metric over the cases (and labels) that both have defined."""
    places = {_case_key(case): i for i, case in enumerate(second)}
    pairs = [(i, places[_case_key(case)]) for i, case in enumerate(first) if _case_key(case) in places]
    index = np.array(pairs, dtype=int).reshape(-1, 2)
    a, b = metric_values(first, metric)[index[:, 0]], metric_values(second, metric)[index[:, 1]]
    defined = np.isfinite(a) & np.isfinite(b)
    return a[defined], b[defined]


PAIRED_NOTE = (
    "Mean ± standard deviation of the differences case by case (95 % bootstrap interval) over the pairs in which both "
    "have a value, and p of the "
    "two-sided paired Wilcoxon signed-rank test, not corrected for the number of tests."
)


def paired_table(
    title: str,
    ours: Mapping[str, Sequence[Mapping[str, object]]],
    metrics: Sequence[Metric | tuple],
    note: str = PAIRED_NOTE,
    seed: int = 0,
) -> Table:
    """Returns, for every two variants and each metric, the difference (later minus earlier) and its p."""
    metrics = [Metric(*metric) for metric in metrics]
    rows = []
    for (base, base_cases), (name, cases) in itertools.combinations(ours.items(), 2):
        for metric in metrics:
            a, b = paired_values(cases, base_cases, metric)
            difference = replace(summarise(a - b, seed), digits=metric.digits)
            p = Probability(float(paired_wilcoxon(a, b)))
            rows.append((f"{name} minus {base}", metric.heading, len(a), difference, p))
    return Table(title, ("Variants", "Metric", "Pairs", "Difference", "p"), tuple(rows), note)
