"""The page of a reproduction: python workflow/report.py SYSTEM EVALUATION [...], in the output folder of the workflow.

Writes report.html: which of the paper's orderings hold in each evaluation, the minutes of each step, and links to the
evaluations' own pages with all tables and figures.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tfsono.errors import run_command
from tfsono.report.orderings import orderings_tables
from tfsono.report.page import Files, write_page
from tfsono.report.tables import Table, read_cases, to_markdown
from tfsono.reproduction.steps import KINDS
from tfsono.systems import system

NOTHING = "Of no ordering of the paper were both rows measured here."


def main(argv: list[str] | None = None) -> None:
    name, *evaluations = sys.argv[1:] if argv is None else argv
    paper, sections = system(name).PAPER, []
    for evaluation in evaluations:
        folder = Path("results") / evaluation
        tables = orderings_tables(read_cases(folder / "cases.csv"), paper.orderings)
        for table in tables.values():
            print(f"{evaluation}: {to_markdown(table)}")
        heading = evaluation.replace("_", " ")
        sections.append((heading, [*(tables.values() or [NOTHING]), Files(
            [folder / "report.html", folder / "cases.csv", *sorted(folder.glob("table*.md"))],
            "All tables and figures, every case, and the tables as text")]))
    sections += [("Steps", [steps_table(), Files(sorted(Path("logs").rglob("*.log")), "What they printed")]),
                 ("Files", Files([Path("split.json"), *sorted(Path("audit").glob("audit.*")),
                                  Path("saved_model/manifest.json")], "Split, audit, SavedModel"))]
    print(f"wrote {write_page('report.html', paper.title, sections)}")


def steps_table() -> Table:
    """Minutes and peak memory of every step, of its last call; a resumed one's are of what was left."""
    rows = []
    for kind in KINDS:
        for path in sorted(Path("benchmarks", kind).glob("*.tsv")):
            with path.open(newline="", encoding="utf-8") as file:
                measured = list(csv.DictReader(file, delimiter="\t"))[-1]
            rows.append((kind, path.stem, *(number(measured.get(key), factor)
                                            for key, factor in (("s", 1 / 60), ("max_rss", 1 / 1024)))))
    note = "Of the last call of each step; of one that was resumed, what was left of it."
    return Table("Time and memory", ("Step", "Name", "Minutes", "Peak GiB"), tuple(rows), note, (None, None, 1, 2))


def number(text: str | None, factor: float) -> float:
    """A cell of a benchmark file; NaN where nothing was measured, as of a step of less than a second."""
    try:
        return float(text or "nan") * factor
    except ValueError:
        return float("nan")


if __name__ == "__main__":
    sys.exit(run_command(main))
