"""`report.html` of an evaluation: verdicts first, then the tables, the cases, the figures and where all came from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from tfsono.config import Settings, value_text
from tfsono.report.orderings import FAILS, HOLDS, UNDECIDED
from tfsono.report.page import CaseList, Figure, Files, Fold, write_page
from tfsono.report.tables import Table

NO_VERDICTS = ("None of the paper's orderings is tested here: each compares two of its rows, and both must be "
               "evaluated together. make reproduce SYSTEM=... trains and evaluates all rows.")
SORTING = "A click on a heading sorts the list. Overlays are drawn of some cases, such as the best and the worst."
ORIGINS = {"paper": "the paper", "ours": "our choice", "differs": "differs from the paper"}


@dataclasses.dataclass(frozen=True)
class Tables:
    """The tables of an evaluation.

    Attributes:
      verdicts: on the paper's orderings; None where none was measured.
      main: to be read first.
      further: on demand.
    """

    verdicts: Table | None
    main: Sequence[Table]
    further: Sequence[Table]


def write_evaluation_page(out: Path, title: str, tables: Tables, cases: CaseList, figures: Sequence[Figure],
                          histories: Sequence[Figure], runs: Sequence[str], settings: Mapping[str, Settings]) -> None:
    """Writes `report.html` of an evaluation.

    Args:
      out: its folder, with `cases.csv` and the tables.
      title: the page's heading.
      tables: of all cases.
      cases: the list of cases; figures of a case are added to it.
      figures: to show; those with a case below that case.
      histories: of the trainings.
      runs: a line of text for each run.
      settings: of each run, by the name of its folder.
    """
    listed = dataclasses.replace(cases, figures=[figure for figure in figures if figure.case])
    sections = [
        ("Verdicts", [verdict_text(tables.verdicts), tables.verdicts] if tables.verdicts else NO_VERDICTS),
        ("Results", list(tables.main)),
        ("Further tables", [Fold(table.title, table) for table in tables.further]),
        ("Cases", [SORTING, listed]),
        ("Figures", [figure for figure in figures if not figure.case]),
        ("Training", list(histories)),
        ("Runs and settings", ["\n\n".join(runs), Fold("Where every setting comes from", settings_table(settings))]),
        ("Files", Files([out / "cases.csv", *sorted(out.glob("*.tex"))], "Per case, and tables for a manuscript")),
    ]
    write_page(out / "report.html", title, [(heading, content) for heading, content in sections if content])


def verdict_text(verdicts: Table) -> str:
    """How many orderings hold."""
    found = [row[verdicts.columns.index("Here")] for row in verdicts.rows]
    holds, fails, undecided = map(found.count, (HOLDS, FAILS, UNDECIDED))
    return f"Of {len(found)} orderings of the paper, hold: {holds}; do not hold: {fails}; not decided: {undecided}."


def settings_table(settings: Mapping[str, Settings]) -> Table:
    """Every setting of all runs: its value and where that comes from; a line for each that runs differ in."""
    names = dict.fromkeys(field.name for one in settings.values() for field in dataclasses.fields(one.config))
    rows = []
    for name in names:
        runs: dict[tuple, list[str]] = {}
        for run, one in settings.items():
            origin, note = one.origins[name]
            found = value_text(getattr(one.config, name)), ORIGINS.get(origin, origin), note
            runs.setdefault(found, []).append(run)
        rows += [(name, *found, "all" if len(runs) == 1 else ", ".join(own)) for found, own in runs.items()]
    columns = ("Setting", "Value", "From", "Why", "Runs")
    return Table(f"Settings of {len(settings)} run{'s' * (len(settings) > 1)}", columns, tuple(rows))
