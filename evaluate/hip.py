"""Measures runs of `hip` on their test cases: python evaluate/hip.py --data FILE.h5 --runs DIR [DIR ...] --out DIR.

Writes cases.csv, the paper's Tables 1 and 2 with the paper's rows beside ours, figures, the masks and report.html.
Runs that differ in their seed alone share a row; with --ensemble they also answer together, by the mean of their
probabilities, in a row of its own. The same command goes on where it stopped.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from tfsono.config import add_ensemble, evaluation_parser
from tfsono.configs.hip import HIP
from tfsono.errors import run_command
from tfsono.files import make_folder

COLUMNS = (  # key in cases.csv, heading of the paper's tables, digits
    ("surface_mean_mm", "Mean mm", 2), ("surface_std_mm", "STD mm", 2), ("hausdorff_mm", "Hausdorff mm", 1),
    ("dice", "DICE", 3), ("jaccard", "Jaccard", 3), ("precision", "Precision", 3), ("recall", "Recall", 3),
)
MORE_COLUMNS = (("hausdorff95_mm", "HD95 mm", 2), ("volume_error_ml", "Volume error mL", 2))
PAPER_TABLE_1 = {
    "Pat01": (0.17, 0.31, 3.8, 0.989, 0.978, 0.992, 0.985), "Pat02": (0.27, 0.46, 5.3, 0.986, 0.973, 0.985, 0.987),
    "Pat03": (0.19, 0.35, 4.1, 0.987, 0.975, 0.995, 0.979), "Pat04": (0.23, 0.67, 13.0, 0.987, 0.974, 0.992, 0.982),
    "Pat05": (0.12, 0.21, 4.3, 0.989, 0.979, 0.991, 0.988), "Pat06": (0.14, 0.26, 4.5, 0.990, 0.980, 0.995, 0.985),
    "Pat07": (0.41, 0.95, 7.0, 0.978, 0.958, 0.984, 0.973), "Pat08": (0.39, 0.93, 5.2, 0.981, 0.963, 0.994, 0.968),
    "Pat09": (0.12, 0.17, 11.0, 0.990, 0.981, 0.990, 0.990), "Pat10": (0.15, 0.28, 5.3, 0.988, 0.976, 0.991, 0.984),
    "Average": (0.22, None, 6.4, 0.987, 0.974, 0.991, 0.982),
}
PAPER_TABLE_2 = {
    "without transfer": (0.67, None, 12.4, 0.975, 0.950, 0.985, 0.964),
    "with transfer": (0.22, None, 6.4, 0.987, 0.974, 0.991, 0.982),
}


def main(argv: list[str] | None = None) -> None:
    parser = evaluation_parser(HIP, __doc__, "masks")
    add_ensemble(parser)
    arguments = parser.parse_args(argv)

    from tfsono.data.cache import Cache
    from tfsono.evaluation.comparable import check_comparable
    from tfsono.evaluation.ensembles import groups_of
    from tfsono.evaluation.methods import method_names
    from tfsono.report.tables import write_cases
    from tfsono.systems.hip import check_together
    from tfsono.training.run import read_run

    runs = [read_run(folder, HIP) for folder in arguments.runs]
    methods = method_names([run.settings for run in runs], [transfer_of(run) for run in runs])
    with Cache(arguments.data, "hip") as cache:
        check_comparable(runs, cache, ("labels",), arguments.weights)  # before minutes are spent
        groups = groups_of(runs, methods, arguments.ensemble)
        for group in groups:
            check_together(group.runs)
        out = make_folder(arguments.out)
        rows = []
        for group in groups:
            print(f"{', '.join(str(run.folder) for run in group.runs)}: {group.method}")
            rows += [{"method": group.method, **row} for row in measure(group, cache, out, arguments.weights)]
        write_cases(out / "cases.csv", rows)
        tables = write_tables(out, rows, len(cache.labels) > 1)
        figures = write_figures(out, rows, runs, cache)
    write_report(out, tables, figures, groups)


def transfer_of(run) -> str:
    """The row of Table 2 that a run belongs to."""
    if not run.config.c3d_weights:
        return "without transfer"
    return "with transfer (stand-in, not C3D)" if "stand-in" in initialisation_of(run) else "with transfer"


def initialisation_of(run) -> str:
    """What the run said that it started from, which may have moved since."""
    return (run.folder / "transfer.txt").read_text(encoding="utf-8").strip()


def measure(group, cache, out: Path, weights: str) -> list[dict]:
    """One row per test case and label; cases that an earlier call measured with the same weights and cache
    are read back."""
    from tfsono.evaluation.measured import answers_folder, measured
    from tfsono.systems.hip import segmenter_of

    folder = answers_folder(out, group.name, cache.path, [run.weights(weights) for run in group.runs],
                            [run.config for run in group.runs])

    def open_measure():
        segmenter = segmenter_of(group.runs, weights)
        return lambda name: measure_case(segmenter, group, cache.read(name), folder)

    return measured(folder, group.first.split["test"], open_measure, lambda rows: "Dice " + ", ".join(
        f"{row['label']} {row['dice']:.3f}" for row in rows))


def measure_case(segmenter, group, case, folder: Path) -> list[dict]:
    """Sec. 3.4: segment, clean up, measure on the case's own grid, and keep the mask."""
    from tfsono.inference.segmentation import clean_mask, segment_array
    from tfsono.metrics.displacement import displacement
    from tfsono.metrics.surface import segmentation_metrics
    from tfsono.evaluation.displaced import SHIFT
    from tfsono.volumes.image import write_volume

    config, truth = group.first.config, case.own
    mask = clean_mask(segment_array(segmenter, truth.array, truth.spacing_mm), config.classes,
                      config.largest_component, config.fill_holes)
    folder.mkdir(parents=True, exist_ok=True)
    write_volume(folder / f"{case.name}_mask.nii.gz", mask, truth)
    moved = displacement(mask, truth.label)
    of_case = {"case_dice": moved.dice, "moved_dice": moved.moved_dice,
               **dict(zip(SHIFT, moved.shift_vox, strict=True))}
    return [{"case": case.name, "label": label, "run": group.name, "seed": config.seed, "members": len(group.runs),
             "mask": f"{folder.name}/{case.name}_mask.nii.gz",
             **segmentation_metrics(mask == value, truth.label == value, truth.spacing_mm), **of_case}
            for value, label in enumerate(config.label_names, 1)]


def write_tables(out: Path, rows: list[dict], several_labels: bool) -> list:
    """Table 1 (per patient) of every method, Table 2 (methods), per label, paired differences, displaced masks."""
    from tfsono.evaluation.displaced import displaced_table
    from tfsono.report.rows import by_method
    from tfsono.report.rows import case_means
    from tfsono.report.tables import Table, case_table, comparison_table, paired_table, to_markdown, write_table

    keys = [column[0] for column in COLUMNS + MORE_COLUMNS]
    means = {method: case_means(group, keys) for method, group in by_method(rows).items()}
    paper = {name: {column[0]: value for column, value in zip(COLUMNS, values, strict=True)}
             for name, values in PAPER_TABLE_2.items()}
    tables = {"table2": comparison_table("Table 2. Methods", means, paper, COLUMNS + MORE_COLUMNS)}
    if len(means) > 1:
        tables["differences"] = paired_table("Paired differences", means, COLUMNS)
    if several_labels:
        for label in dict.fromkeys(row["label"] for row in rows):
            held = {method: case_means([row for row in group if row["label"] == label], keys)
                    for method, group in by_method(rows).items()}
            tables[f"label_{label}"] = comparison_table(f"Label {label}", held, {}, COLUMNS + MORE_COLUMNS)
    displaced = displaced_table(rows)
    if displaced:
        tables["displaced"] = displaced
    for number, (method, cases) in enumerate(means.items(), 1):
        own = case_table(f"Table 1. Per patient: {method}", cases, COLUMNS)
        printed = tuple((f"{name} (paper)", *values) for name, values in PAPER_TABLE_1.items())
        stem = "table1" if len(means) == 1 else f"table1_{number}"
        tables[stem] = Table(own.title, own.columns, own.rows + printed,
                             "The paper's patients are not ours; its rows stand below ours.", own.digits)
    for stem, table in tables.items():
        write_table(out, stem, table)
        if not stem.startswith("table1"):
            print(f"\n{to_markdown(table)}")
    return list(tables.values())


def write_figures(out: Path, rows: list[dict], runs, cache) -> list:
    """Fig. 2: surfaces coloured by distance and slices with contours, of the best, median and worst case; box plots."""
    from tfsono.report.rows import by_method
    from tfsono.report.rows import case_means
    from tfsono.report.page import Picture
    from tfsono.report.plots import cases_figure, history_figure
    from tfsono.training.run import read_history

    figures = out / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    pictures = []
    for number, (method, group) in enumerate(by_method(rows).items(), 1):
        ranked = sorted(case_means(group, ["dice"]), key=lambda row: row["dice"])
        chosen = {"worst": ranked[0], "median": ranked[len(ranked) // 2], "best": ranked[-1]}
        for rank, row in chosen.items():
            first = next(r for r in group if r["case"] == row["case"])
            pictures += draw_case(figures, f"{number}_{rank}", f"{method}: {rank} of {len(ranked)}", out, first, cache)
    means = {method: case_means(group, [column[0] for column in COLUMNS]) for method, group in by_method(rows).items()}
    cases_figure(figures / "methods.png", means, COLUMNS)
    pictures.append(Picture(figures / "methods.png", "Every test case, by method."))
    for run in runs:
        path = figures / f"history_{run.folder.name}.png"
        history_figure(path, read_history(run.folder / "history.csv"), title=run.folder.name)
        pictures.append(Picture(path, f"Training of {run.folder.name}."))
    return pictures


def draw_case(folder: Path, stem: str, title: str, out: Path, row: dict, cache) -> list:
    """One case's slices and, for each label, its surface coloured by the distance to the truth."""
    from tfsono.metrics.surface import surface_distances
    from tfsono.report.page import Picture
    from tfsono.report.plots import slices_figure, surface_distance_figure
    from tfsono.volumes.image import read_mask

    case = cache.read(row["case"])
    truth = case.own
    mask = read_mask(out / "runs" / row["mask"], truth).array
    names = tuple(cache.labels)
    slices_figure(folder / f"{stem}_slices.png", truth.array, truth.label, mask, truth.spacing_mm,
                  f"{title}: {case.name}", names, cache.settings.orientation)
    pictures = [Picture(folder / f"{stem}_slices.png", f"{title}, {case.name}: contours of truth and prediction.")]
    for value, label in enumerate(names, 1):
        if not ((mask == value).any() and (truth.label == value).any()):
            continue
        found = surface_distances(mask == value, truth.label == value, truth.spacing_mm)
        path = folder / f"{stem}_surface_{value}.png"
        surface_distance_figure(path, mask == value, found.prediction_points_vox, found.prediction_to_truth_mm,
                                truth.spacing_mm, f"{title}: {case.name}, {label}")
        pictures.append(Picture(path, f"{label} as predicted, coloured by its distance to the truth's surface."))
    return pictures


def write_report(out: Path, tables: list, figures: list, groups: list) -> None:
    """report.html, and where everything is."""
    from tfsono.report.page import write_evaluation_page

    said = [f"{group.method}: " + "; ".join(f"{run.folder.name}, {initialisation_of(run)}" for run in group.runs)
            for group in groups]
    write_evaluation_page(out, f"hip: {groups[0].first.data['dataset']}", tables, figures, said, "masks")


if __name__ == "__main__":
    sys.exit(run_command(main))
