"""Measures runs of `hip` on their test cases: python evaluate/hip.py --data FILE.h5 --runs DIR [DIR ...] --out DIR.

Writes cases.csv, the paper's Tables 1 and 2 with the paper's rows beside ours, figures, the masks and report.html.
Runs that differ in their seed alone share a row; with --ensemble they are also measured together, by the mean of their
probabilities, in a row of its own. The same command resumes an interrupted evaluation.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

if not __package__:  # run as a file of a checkout, and not by `tfsono evaluate`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tfsono.config import add_mask_metrics, add_speed, evaluation_parser, mask_scoring
from tfsono.configs.hip import HIP
from tfsono.errors import run_command
from tfsono.reproduction.hip import PAPER
from tfsono.surroundings import parsed

MAIN_TABLES = ("table2", "differences", "label_", "displaced", "orderings")


def main(argv: list[str] | None = None) -> None:
    parser = evaluation_parser(HIP, __doc__, "masks")
    add_mask_metrics(parser)
    add_speed(parser)
    arguments = parsed(parser, argv)
    from tfsono.evaluation.evaluation import opened

    options = options_of(arguments)
    with opened(arguments, HIP, ("labels",)) as evaluation:
        groups = groups_of(evaluation)
        rows = evaluation.rows(groups, partial(measure, scoring=mask_scoring(arguments), options=options))
        tables = evaluation.write_tables(rows, tables_of(evaluation, rows, arguments.empty_is), MAIN_TABLES)
        evaluation.write_page(groups, tables, "masks", cases=cases_of(rows), figures=figures(evaluation, rows),
                              notes_of=partial(notes_of, options=options))


def options_of(arguments):
    """The options of the prediction."""
    from tfsono.predict.sources import Options

    return Options(tiling=arguments.tiling, memory_gb=arguments.memory_gb, precision=arguments.precision)


def groups_of(evaluation) -> list:
    """The groups to measure: runs and, on demand, ensembles."""
    from tfsono.systems.hip import check_together

    return evaluation.groups(methods_of(evaluation.runs), check=check_together)


def methods_of(runs) -> list[str]:
    """A row's name for each run, with its row of Table 2."""
    from tfsono.evaluation.methods import method_names

    return method_names([run.settings for run in runs], [transfer_of(run) for run in runs])


def transfer_of(run) -> str:
    """A run's row of Table 2."""
    from tfsono.training.start import initialisation_of

    if not run.config.c3d_weights:
        return "without transfer"
    stand_in = "stand-in" in initialisation_of(run.folder)
    return "with transfer (stand-in, not C3D)" if stand_in else "with transfer"


def notes_of(run, options) -> list[str]:
    """The tiling that a run predicts with."""
    from tfsono.systems.hip import prepared

    return [f"tiling {prepared([run], options)[0].config.tiling}"]


def tables_of(evaluation, rows: list[dict], empty_is: str) -> dict:
    """Tables 1 and 2, and the masks that are displaced."""
    from tfsono.evaluation.displaced import displaced_tables
    from tfsono.report.hip_tables import hip_tables
    from tfsono.report.orderings import orderings_tables

    tables = hip_tables(rows, tuple(evaluation.cache.labels), empty_is)
    return tables | displaced_tables(rows) | orderings_tables(rows, PAPER.orderings)


def cases_of(rows: list[dict]):
    """The list of cases."""
    from tfsono.report.hip_tables import MORE_COLUMNS, OUR_COLUMNS, means_of
    from tfsono.report.page import CaseList
    from tfsono.report.tables import nsd_columns

    return CaseList(means_of(rows), OUR_COLUMNS + MORE_COLUMNS + nsd_columns(rows), "assd_mm")


def measure(evaluation, group, scoring: dict, options) -> list[dict]:
    """One row per test case and label; those of an earlier call with the same weights and cache are read back."""
    from tfsono.systems.hip import module_of, prepared

    runs = prepared(group.runs, options)
    folder = evaluation.folder(group, settings=(scoring, [run.config for run in runs]))

    def open_measure():
        module = module_of(runs, evaluation.weights)
        return lambda name: measure_case(module, group, evaluation.cache.read(name), folder, scoring)

    return evaluation.measured(group, folder, open_measure, summary_text)


def measure_case(module, group, case, folder: Path, scoring: dict) -> list[dict]:
    """Sec. 3.4: segment (the module also postprocesses), measure on the case's own grid, and write the mask."""
    from tfsono.evaluation.displaced import displacement_columns
    from tfsono.files import make_folder, safe_name
    from tfsono.inference.segmentation import segment_array
    from tfsono.metrics.surface import segmentation_metrics
    from tfsono.volumes.image import write_volume

    config, reference = group.first.config, case.own
    mask = segment_array(module, reference.array, reference.spacing_mm)
    write_volume(make_folder(folder) / f"{safe_name(case.name)}_mask.nii.gz", mask, reference)
    of_case = displacement_columns(mask, reference.label)
    return [{"case": case.name, "label": label, "run": group.name, "seed": config.seed, "members": len(group.runs),
             "mask": f"{folder.name}/{safe_name(case.name)}_mask.nii.gz",
             **segmentation_metrics(mask == value, reference.label == value, reference.spacing_mm, **scoring),
             **of_case}
            for value, label in enumerate(config.label_names, 1)]


def summary_text(rows: list[dict]) -> str:
    """A case's Dice, in words."""
    return "Dice " + ", ".join(f"{row['label']} {'absent' if row['absent'] else format(row['dice'], '.3f')}"
                               for row in rows)


def figures(evaluation, rows: list[dict]) -> list:
    """Fig. 2: surfaces coloured by distance and slices with contours, of the best, median and worst case; box plots."""
    from tfsono.report.hip_tables import OUR_COLUMNS, means_of
    from tfsono.report.page import Figure
    from tfsono.report.plots import cases_figure
    from tfsono.report.rows import by_method

    found, means = [], means_of(rows)
    for number, (method, group) in enumerate(by_method(rows).items(), 1):
        ranked = sorted((row for row in means[method] if row["dice"] == row["dice"]), key=lambda row: row["dice"])
        places = {"worst": 0, "median": len(ranked) // 2, "best": -1} if ranked else {}
        chosen = {rank: ranked[place] for rank, place in places.items()}
        for rank, row in chosen.items():
            first = next(r for r in group if r["case"] == row["case"])
            found += draw_case(evaluation, f"{number}_{rank}", f"{rank} of {len(ranked)}", first)
    path = evaluation.figures_folder / "methods.png"
    cases_figure(path, means, OUR_COLUMNS)
    return [*found, Figure(path, "Every test case, by method; median and quartiles.")]


def draw_case(evaluation, stem: str, rank: str, row: dict) -> list:
    """One case's slices and, for each label, its surface coloured by the distance to the reference."""
    from tfsono.metrics.surface import surface_distances
    from tfsono.report.page import Figure
    from tfsono.report.plots import slices_figure, surface_distance_figure
    from tfsono.volumes.image import read_mask

    folder, case, names = evaluation.figures_folder, evaluation.cache.read(row["case"]), tuple(evaluation.cache.labels)
    reference, title = case.own, f"{row['method']}: {rank}"
    of_case = {"case": case.name, "method": row["method"]}
    mask = read_mask(evaluation.out / "runs" / row["mask"], reference).array
    path = folder / f"{stem}_slices.png"
    slices_figure(path, reference.array, reference.label, mask, reference.spacing_mm,
                  title=f"{title}: {case.name}", label_names=names, orientation=evaluation.cache.settings.orientation)
    found = [Figure(path, f"{title}, {case.name}: contours of reference and prediction.", **of_case)]
    for value, label in enumerate(names, 1):
        if not ((mask == value).any() and (reference.label == value).any()):
            continue
        distances = surface_distances(mask == value, reference.label == value, reference.spacing_mm)
        path = folder / f"{stem}_surface_{value}.png"
        surface_distance_figure(path, mask == value, distances.prediction_points_vox,
                                distances.prediction_to_reference_mm, spacing_mm=reference.spacing_mm,
                                title=f"{title}: {case.name}, {label}")
        found.append(Figure(path, f"{label} as predicted, coloured by its distance to the reference surface.",
                            **of_case))
    return found


if __name__ == "__main__":
    sys.exit(run_command(main))
