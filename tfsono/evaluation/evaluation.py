"""An evaluation from its runs to its page: what the scripts of all systems share."""

from __future__ import annotations

import argparse
import contextlib
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tfsono.config import Choices, Settings, each_once
from tfsono.data.cache import Cache
from tfsono.errors import UserError
from tfsono.evaluation.comparable import check_comparable
from tfsono.evaluation.ensembles import Group, groups_of
from tfsono.evaluation.measured import measured, predictions_folder
from tfsono.files import make_folder, safe_name
from tfsono.locks import locked
from tfsono.merge import part_recorded
from tfsono.parts import Part
from tfsono.progress import json_lines
from tfsono.report.evaluation_page import Tables, write_evaluation_page
from tfsono.report.page import CaseList, Figure
from tfsono.report.plots import history_figure
from tfsono.report.tables import Table, to_markdown, write_cases, write_table
from tfsono.training.run import Run, read_history, read_run
from tfsono.training.start import initialisation_of

Rows = list[dict]


class PartMeasured(Exception):
    """A part of the cases is measured: no tables yet."""


@dataclass(frozen=True)
class Evaluation:
    """Runs that are comparable, and the test cases that they are measured on.

    Attributes:
      runs: in the order of the command line.
      cache: open.
      out: the output folder.
      weights: which of each run are measured: `best`, `last` or `auto`.
      ensemble: whether ensembles of runs are measured too.
      on_row: takes each row of cases.csv, for `--json`.
      part: of the test cases, which alone are measured; None: all of them, and then tables and page.
    """

    runs: list[Run]
    cache: Cache
    out: Path
    weights: str
    ensemble: bool
    on_row: Callable[[Mapping], None] = lambda row: None
    part: Part | None = None

    def groups(self, methods: Sequence[str], kinds: Sequence[str] = (),
               check: Callable[[Sequence[Run]], None] = lambda runs: None) -> list[Group]:
        """Each run with its row's name, and with `ensemble` the runs that predict together; see `groups_of`.

        `check` raises for runs that cannot: before minutes are spent.
        """
        kinds = [" with ".join(filter(None, (kind, " and ".join(run.settings.words_at_test()))))
                 for kind, run in zip(kinds or [""] * len(self.runs), self.runs, strict=True)]
        groups = groups_of(self.runs, methods, self.ensemble, kinds)
        for group in groups:
            check(group.runs)
        return groups

    def folder(self, group: Group, files: Iterable[Path] = (), settings: object = None) -> Path:
        """The folder of a group's predictions.

        Args:
          group: of `groups`.
          files: besides the weights, what the predictions depend on.
          settings: besides the configs, the same; anything with a complete `repr`.
        """
        return predictions_folder(self.out, group.name, self.cache.path,
                                  [*(run.weights(self.weights) for run in group.runs), *files],
                                  ([run.config for run in group.runs], settings))

    def measured(self, group: Group, folder: Path, open_measure: Callable[[], Callable[[str], Rows]],
                 summary: Callable[[Rows], str], names: Sequence[str] | None = None) -> Rows:
        """The rows of every test case, those of an earlier call read back; see `tfsono.evaluation.measured`."""
        names = group.first.split["test"] if names is None else names
        return measured(folder, self.part.share(names) if self.part else names, open_measure, summary)

    def rows(self, groups: Sequence[Group], measure: Callable[[Evaluation, Group], Rows]) -> Rows:
        """The rows of all groups; a group's method is the row's, unless `measure` names another.

        Raises:
          PartMeasured: of a part, whose rows are no table; `opened` takes it as the end.
        """
        make_folder(self.out)  # after all that may refuse
        if not self.part:
            return self._rows(groups, measure)
        cases = self.runs[0].split["test"]
        print(f"part {self.part.number} of {self.part.of}: {len(self.part.share(cases))} of {len(cases)} cases")
        with part_recorded(self.out, self.part, cases):
            self._rows(groups, measure)
        raise PartMeasured

    def _rows(self, groups: Sequence[Group], measure: Callable[[Evaluation, Group], Rows]) -> Rows:
        rows = []
        for group in groups:
            print(f"{', '.join(str(run.folder) for run in group.runs)}: {group.method}")
            rows += [{"method": group.method, **row} for row in measure(self, group)]
        return rows

    def write_tables(self, rows: Sequence[Mapping], tables: Mapping[str, Table], shown: Sequence[str]) -> Tables:
        """Writes cases.csv and all tables; those whose file name starts with one of `shown` are printed, and main."""
        write_cases(self.out / "cases.csv", rows)
        for row in rows:
            self.on_row(row)
        for stem, table in tables.items():
            write_table(self.out, stem, table)
            if stem.startswith(tuple(shown)):
                print(f"\n{to_markdown(table)}")
        others = {stem: table for stem, table in tables.items() if stem != "orderings"}
        main = [table for stem, table in others.items() if stem.startswith(tuple(shown))]
        return Tables(tables.get("orderings"), main, [table for table in others.values() if table not in main])

    @property
    def figures_folder(self) -> Path:
        """Created on first use."""
        return make_folder(self.out / "figures")

    def write_page(self, groups: Sequence[Group], tables: Tables, kept: str, *, cases: CaseList,
                   figures: Sequence[Figure], notes_of: Callable[[Run], Sequence[str]] = lambda run: ()) -> None:
        """Writes report.html, with every training's history, and prints where everything is.

        Args:
          groups: the measured ones.
          tables: to show.
          kept: what is kept of each case, in words.
          cases: the list of cases.
          figures: to show.
          notes_of: further notes on a run.
        """
        first = self.runs[0]
        lines = ["; ".join([f"{group.method}: {group.first.folder.name}", *notes_of(group.first),
                            initialisation_of(group.first.folder)]) if len(group.runs) == 1 else
                 f"{group.method}: {', '.join(run.folder.name for run in group.runs)}" for group in groups]
        write_evaluation_page(self.out, f"{first.settings.system}: {first.data['dataset']}", tables=tables, cases=cases,
                              figures=figures, histories=list(self._histories()), runs=lines,
                              settings=dict(self._settings()))
        print(f"wrote {self.out}/report.html, cases.csv, tables (.csv .md .tex), figures/, runs/ ({kept})")

    def _settings(self) -> Iterator[tuple[str, Settings]]:
        """The settings of each run by its name, with what `--set` set."""
        for run in self.runs:
            yield ", ".join((run.folder.name, *run.settings.words_at_test())), run.settings

    def _histories(self) -> Iterator[Figure]:
        for run in {run.folder: run for run in self.runs}.values():
            path = self.figures_folder / f"history_{safe_name(run.folder.name)}.png"
            history_figure(path, read_history(run.folder / "history.csv"), title=run.folder.name)
            yield Figure(path, f"Training of {run.folder.name}.")


@contextlib.contextmanager
def opened(arguments: argparse.Namespace, choices: Choices, kinds: Sequence[str] = ()) -> Iterator[Evaluation]:
    """Reads the runs, opens the cache, and locks the output folder once both match.

    Args:
      arguments: of `tfsono.config.evaluation_parser`.
      choices: of the system.
      kinds: what the networks predict: `labels`, `landmarks`, both, or neither for 2D images.

    Raises:
      UserError: as `read_run`, `Cache` and `check_comparable`, or another process writes to the folder.
    """
    runs = with_values_set([read_run(folder, choices) for folder in arguments.runs], arguments)
    with Cache(arguments.data, choices.system) as cache:
        check_comparable(runs, cache, kinds, arguments.weights)
        part = arguments.part
        folder = Path(arguments.out) / part.folder if part else arguments.out
        with locked(folder) as out, json_lines(arguments.json) as on_row, contextlib.suppress(PartMeasured):
            yield Evaluation(runs, cache, out, weights=arguments.weights, ensemble=arguments.ensemble, on_row=on_row,
                             part=part)
        if part:
            print(f"wrote {folder}; once all parts have ended: tfsono merge {shlex.quote(str(arguments.out))}, then "
                  "the same command without --part for tables and page")


def with_values_set(runs: list[Run], arguments: argparse.Namespace) -> list[Run]:
    """The runs with the values of `--set`; with `--as_trained` before them the runs as they are.

    Raises:
      UserError: a field that is set twice, a value that the run's config forbids, or `--as_trained` alone.
    """
    values = each_once(arguments.set)
    if not values:
        if arguments.as_trained:
            raise UserError("--as_trained: needs --set; without it runs are evaluated as they were trained")
        return runs
    changed = [replace(run, settings=run.settings.set_at_test(values)) for run in runs]
    return runs * arguments.as_trained + changed
