"""The page of a reproduction: python workflow/report.py SYSTEM EVALUATION [...], in the output folder of the workflow.

Writes report.html: which of the paper's orderings hold in each evaluation, its tables with the paper's rows next to
ours, the minutes of each step, and links to the evaluations' own pages with all figures and cases.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tfsono.errors import run_command
from tfsono.report.evaluation_page import verdict_text
from tfsono.report.orderings import orderings_tables
from tfsono.report.page import Files, Fold, Html, write_page
from tfsono.report.tables import Table, read_cases, to_markdown
from tfsono.reproduction.steps import KINDS
from tfsono.systems import system

NOTHING = "Of no ordering of the paper were both rows measured here."
SYNTHETIC = "The data are phantoms, which are synthetic: no figure here says anything about patients."
RESULTS = re.compile(r'<section id="results-\d+">\n<h2>Results</h2>\n(.*?)\n</section>', re.DOTALL)
NOTE = re.compile(r'<p class="note.*?</p>')


def main(argv: list[str] | None = None) -> None:
    name, *evaluations = sys.argv[1:] if argv is None else argv
    paper, sections, notes = system(name).PAPER, [("What was run", runs_text())], set()
    for evaluation in evaluations:
        folder = Path("results") / evaluation
        tables = orderings_tables(read_cases(folder / "cases.csv"), paper.orderings)
        for table in tables.values():
            print(f"{evaluation}: {to_markdown(table)}")
        verdicts = [part for table in tables.values() for part in (verdict_text(table), table)]
        sections.append((evaluation.replace("_", " ").capitalize(), [
            *(verdicts or [NOTHING]), *own_tables(folder / "report.html", notes),
            Files([folder / "report.html", folder / "cases.csv", *sorted(folder.glob("table*.md"))],
                  "All tables, figures and settings, every case, and the tables as text")]))
    sections += [("Steps", [steps_table(), Files(sorted(Path("logs").rglob("*.log")), "What they printed")]),
                 ("Files", Files([Path("split.json"), *sorted(Path("audit").glob("audit.*")),
                                  Path("saved_model/manifest.json")], "Split, audit, SavedModel"))]
    print(f"wrote {write_page('report.html', paper.title, sections)}")


def runs_text() -> str:
    """Data, trainings and versions, of the runs that end in their seed, which the stand-in does not."""
    runs = [read_json(path) for path in sorted(Path("runs").glob("*_[0-9]*/config.json"))]
    if not runs:
        return "No run was found."
    folder, split = next(Path("runs").glob("*_[0-9]*/config.json")).parent, read_json(Path("split.json"))
    data, versions = read_json(folder / "data.json"), read_json(folder / "versions.json")
    cases = ", ".join(f"{len(split[part])} {purpose}" for part, purpose in (
        ("train", "cases to train"), ("validation", "for validation"), ("test", "to test")))
    seeds = ", ".join(map(str, sorted({run["values"]["seed"] for run in runs})))
    text = (f"Data: {data['dataset']}; {cases}.\n\nTrainings: {len(runs)}, preset {runs[0]['preset']}, seeds {seeds}; "
            f"tfsono {versions['tfsono']}, TensorFlow {versions['tensorflow']}, {versions['devices']}.")
    return f"{SYNTHETIC}\n\n{text}" if list(Path("benchmarks").glob("phantom/*")) else text


def read_json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def own_tables(page: Path, notes: set[str]) -> list[Fold]:
    """The results of an evaluation's own page, on demand; each note of `notes` was printed before."""
    found = RESULTS.search(page.read_text(encoding="utf-8")) if page.is_file() else None
    if not found:
        return []

    def once(note: re.Match) -> str:
        known = note[0] in notes
        notes.add(note[0])
        return "" if known else note[0]

    return [Fold("The paper's rows next to ours", Html(NOTE.sub(once, found[1])))]


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
