"""Measures runs of `head` on their test cases: python evaluate/head.py --data FILE.h5 --runs DIR [DIR ...] --out DIR.

Writes cases.csv, tables (outlines with HC18's measures, landmarks, BPD/OFD/HC, trimesters, agreement, uncertainty,
differences), figures, the masks and report.html. Runs that differ in fold and seed alone share a row; with --ensemble
they are also measured together. Folds that are tested (--fold_is test) are one table of all images: each is scored by
the network that did not see it, and the folds together on the images that all of them test. The same command resumes an
interrupted evaluation. Predictions are those of `tfsono predict`, measured in each image's own pixels.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TypedDict

if not __package__:  # run as a file of a checkout, and not by `tfsono evaluate`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tfsono.config import evaluation_parser
from tfsono.configs.head import HEAD
from tfsono.errors import UserError, printable, run_command
from tfsono.files import safe_name, write_bytes
from tfsono.reproduction.head import PAPER
from tfsono.structure import check_structure
from tfsono.surroundings import parsed

UNNAMED = ("seed", "fold", "backbone_weights", "start_from")  # fields in which runs of one row may differ
POINTS = tuple(f"{name}_{axis}_px" for name in ("ofd_1", "ofd_2", "bpd_1", "bpd_2") for axis in "xy")
ELLIPSE = ("center_x_px", "center_y_px", "semi_major_px", "semi_minor_px", "angle_rad")


def main(argv: list[str] | None = None) -> None:
    arguments = parsed(options(), argv)
    from tfsono.evaluation.evaluation import opened
    from tfsono.training.intervals import keep_intervals

    with opened(arguments, HEAD) as evaluation:
        heads, groups = check(evaluation, arguments.samples), groups_of(evaluation)
        kept_in = runs_for_intervals(arguments.interval_for, groups)
        rows = evaluation.rows(groups, lambda _, group: measure(evaluation, group, heads, arguments.samples))
        tables = evaluation.write_tables(rows, tables_of(evaluation, rows, heads),
                                         ("segmentation", "landmarks", "measurements", "label_floor", "held_out",
                                          "sizes", "intervals", "orderings"))
        keep_intervals(kept_in, [row for row in rows if row["members"] == 1])
        evaluation.write_page(groups, tables, "masks", cases=cases_of(rows), figures=figures(evaluation, rows, heads),
                              notes_of=lambda run: (f"fold {run.config.fold}", *run.data["labels_used"]))


def options():
    """The options of the command."""
    parser = evaluation_parser(HEAD, __doc__, "masks")
    parser.add_argument("--samples", type=int, default=None,
                        help="passes with dropout on, for the uncertainty; 0: none; default: the runs' own number")
    parser.add_argument("--interval_for", nargs="+", default=[], metavar="RUN",
                        help="run folders to keep 90 %% intervals in, fitted to the measured errors, for `predict` and "
                             "`export`")
    parser.needed |= {"interval_for": "correct the path"}
    return parser


def tables_of(evaluation, rows: list[dict], heads: dict) -> dict:
    """The tables of all rows, and the paper's orderings."""
    from tfsono.report.head_tables import head_tables
    from tfsono.report.orderings import orderings_tables

    return head_tables(rows, label_floors(heads, evaluation.runs[0])) | orderings_tables(rows, PAPER.orderings)


def cases_of(rows: list[dict]):
    """The list of cases."""
    from tfsono.report.head_tables import compared_metrics, unit_of
    from tfsono.report.page import CaseList
    from tfsono.report.rows import by_method, case_means

    unit = unit_of(rows)
    metrics = compared_metrics(unit)
    means = {name: case_means(group, [metric.key for metric in metrics]) for name, group in by_method(rows).items()}
    return CaseList(means, metrics, f"hc_abs_error_{unit}")


class Recorded(TypedDict):
    """What a training of `head` adds to data.json."""

    end_order: object
    outline_margin_px: object
    labels_used: object


def check(evaluation, samples: int | None) -> dict:
    """The references of the test cases; refuses runs with different references, and impossible options."""
    from tfsono.evaluation.comparable import check_one_value

    for run in evaluation.runs:
        check_structure(run.data, Recorded, run.folder / "data.json")
    if samples is not None and not 0 <= samples <= 1000:
        raise UserError(f"--samples {samples}: expected 0 to 1000")
    check_one_value(evaluation.runs, "outline", "their references differ")
    return reference_heads(evaluation.runs, evaluation.cache)


def groups_of(evaluation) -> list:
    """The groups to measure: runs and, on demand, ensembles that have test cases in common."""
    groups = evaluation.groups(methods_of(evaluation.runs), [run.config.part for run in evaluation.runs])
    return [group for group in groups if tested_by_all(group.runs)]


def tested_by_all(runs) -> set[str]:
    """The test cases that all of these runs have."""
    return set.intersection(*(set(run.split["test"]) for run in runs))


def runs_for_intervals(folders: list[str], groups: list) -> list:
    """The runs of `--interval_for`; the errors must then be those of one method."""
    from tfsono.training.run import read_run

    methods = list(dict.fromkeys(group.method for group in groups if len(group.runs) == 1))
    if folders and len(methods) > 1:
        raise UserError(f"--interval_for: the runs must be of one method; found {', '.join(methods)}; evaluate one")
    return [read_run(folder, HEAD) for folder in folders]


def methods_of(runs) -> list[str]:
    """A row's name for each run, with its initial weights where runs differ in them."""
    from tfsono.evaluation.methods import method_names

    started = ["ImageNet weights" if run.config.backbone_weights else "fine-tuned" if run.config.start_from else ""
               for run in runs]
    return method_names([run.settings for run in runs], started, UNNAMED)


def reference_heads(runs, cache) -> dict:
    """The references by name of the test cases with a mask that an ellipse fits, or with points; as the first run's."""
    from tfsono.data.heads import known_heads, official_outlines

    run, names = runs[0], sorted({name for run in runs for name in run.split["test"]})
    heads = official_outlines(known_heads(cache, names), run.data["outline_margin_px"])
    known = {name: head for name, head in heads.items() if reference_of(head, run) is not None}
    excluded = sorted(set(heads) - set(known))
    if not known:
        raise UserError(f"{cache.path}: none of the {len(heads)} test cases has a mask or points to compare with")
    if excluded:
        print(f"{len(excluded)} of {len(heads)} test cases have neither mask nor points that fit and are excluded: "
              f"{', '.join(map(printable, excluded))}")
    return known


def order_of(run):
    """The order of a pair's ends in the run's training."""
    from tfsono.geometry.head_labels import EndOrder

    held = run.data["end_order"]
    return EndOrder(tuple(held["ofd_direction"]), tuple(held["bpd_direction"]))


def reference_of(head, run, mask=None):
    """The reference in the run's order of ends: the mask's ellipse, else that of its points, else None."""
    from tfsono.geometry.ellipse import ellipse_of_points
    from tfsono.metrics.head_case import HeadOutline

    points = head.reference_points("drop", order_of(run))
    ellipse = head.ellipse or (ellipse_of_points(points) if points is not None else None)
    return None if ellipse is None else HeadOutline(ellipse, points, mask)


def reference_mask(case, head):
    """The mask of a cached case, bool [Y, X], or its filled official outline; None without a mask."""
    if case.label is None:
        return None
    mask = case.label[:, :, 0].T > 0
    return head.ellipse.mask(mask.shape) if head.margin_px and head.ellipse else mask


def label_floors(heads: dict, run) -> dict[str, list[float]]:
    """How far the circumferences of the reference masks' ellipses are from the official ones, in mm."""
    known = [head for head in heads.values() if head.hc_mm and head.ellipse and head.pixel_size_mm]
    if not known:
        return {}
    floors, margin = {}, run.data["outline_margin_px"] or 0.0
    for name, by_px in {"ellipse of the reference mask": margin, f"the same, {margin:.2f} px smaller": 0.0}.items():
        floors[name] = [head.ellipse.grown(by_px).circumference_px() * head.pixel_size_mm - head.hc_mm
                        for head in known]
        if not margin:
            break
    return floors


def predictor_of(group, weights: str, samples: int | None):
    """The predictor that `tfsono predict` uses, of the group's runs."""
    from tfsono.predict.sources import Model, Options
    from tfsono.systems.head import manifest_of, module_of, predictor

    models = [Model(run.folder, module_of([run], weights), {**manifest_of([run]), "intervals": None})
              for run in group.runs]  # with intervals it would take no samples by default
    return predictor(models, "", Options(samples=samples))


def measure(evaluation, group, heads: dict, samples: int | None) -> list[dict]:
    """One row per test case; those of an earlier call with the same weights and cache are read back."""
    folder = evaluation.folder(group, settings=(samples, [run.data for run in group.runs]))

    def open_measure():
        predictor = predictor_of(group, evaluation.weights, samples)
        return lambda name: [measure_case(predictor, group, evaluation.cache.read(name), heads[name], folder)]

    tested = tested_by_all(group.runs)
    return evaluation.measured(group, folder, open_measure, lambda rows: summary_text(rows[0]),
                               [name for name in heads if name in tested])


def measure_case(predictor, group, case, head, folder: Path) -> dict:
    """Approach 4 and Evaluation Metrics: predict, fit the ellipse, measure in the image's pixels; write the mask."""
    from tfsono.data.images_2d import image_pixels
    from tfsono.metrics.head_case import HeadOutline, head_metrics
    from tfsono.predict.head import mask_of

    run, pixels = group.first, image_pixels(case)
    found, members, dropout = predictor.measure(pixels)
    mask = None if found.probability is None else mask_of(found, run.config.threshold)
    outline = HeadOutline(found.ellipse, found.points_px, mask)
    row = {"case": case.name, "subject": case.subject, "run": group.name, "part": run.config.part,
           "fold": run.config.fold, "seed": run.config.seed, "members": len(group.runs),
           "reference": "mask" if head.ellipse else "points", "pixel_size_mm": head.pixel_size_mm,
           "mask": write_mask(folder / f"{safe_name(case.name)}_mask.png", mask)}
    reference = reference_of(head, run, reference_mask(case, head))
    row |= head_metrics(outline, reference, pixels.shape, head.pixel_size_mm, head.hc_mm)
    row |= spread_row("members", members.deviation_px, head.pixel_size_mm)
    row |= spread_row("dropout", dropout.deviation_px, head.pixel_size_mm)
    return row | {"samples": dropout.count, "samples_undefined": dropout.undefined} | outline_row(outline)


def write_mask(path: Path, mask) -> str:
    """Writes 0 and 255, and returns the path below runs/; "" for landmarks."""
    import cv2
    import numpy as np

    if mask is None:
        return ""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, cv2.imencode(".png", mask.astype(np.uint8) * 255)[1].tobytes())  # cv2 may not notice a full disk
    return f"{path.parent.name}/{path.name}"


def spread_row(name: str, deviation_px, pixel_size_mm: float | None) -> dict:
    """The standard deviation of BPD, OFD and HC over members or dropout's samples; NaN for fewer than two."""
    sizes = {"px": 1.0, "mm": pixel_size_mm or float("nan")}
    return {f"{key}_sd_{name}_{unit}": float(value) * size for unit, size in sizes.items()
            for key, value in zip(("bpd", "ofd", "hc"), deviation_px, strict=True)}


def outline_row(outline) -> dict:
    """The values that the figures need; None where undefined."""
    row = dict.fromkeys((*POINTS, *ELLIPSE))
    if outline.points_px is not None:
        row |= zip(POINTS, map(float, outline.points_px.ravel()), strict=True)
    if outline.ellipse is not None:
        ellipse = outline.ellipse
        row |= zip(ELLIPSE, (*ellipse.center_px, ellipse.semi_major_px, ellipse.semi_minor_px, ellipse.angle_rad),
                   strict=True)
    return row


def outline_of(row: dict, out: Path):
    """The outline of a row of cases.csv, with its mask from runs/."""
    import cv2
    import numpy as np

    from tfsono.geometry.ellipse import Ellipse
    from tfsono.metrics.head_case import HeadOutline

    def numbers(names):
        values = [row[name] for name in names]
        return None if any(value is None or np.isnan(value) for value in values) else values

    points, ellipse = numbers(POINTS), numbers(ELLIPSE)
    mask = cv2.imread(str(out / "runs" / row["mask"]), cv2.IMREAD_GRAYSCALE) if row["mask"] else None
    return HeadOutline(Ellipse(tuple(ellipse[:2]), *ellipse[2:]) if ellipse else None,
                       np.reshape(points, (4, 2)) if points else None, None if mask is None else mask > 0)


def summary_text(row: dict) -> str:
    """BPD, OFD and HC with their errors, in words."""
    if row["undefined"]:
        return "undefined: no ellipse fits"
    unit = "mm" if row["pixel_size_mm"] and row["hc_reference_mm"] == row["hc_reference_mm"] else "px"
    return ", ".join(f"{key.upper()} {row[f'{key}_{unit}']:.1f} {unit} ({row[f'{key}_error_{unit}']:+.1f})"
                     for key in ("bpd", "ofd", "hc"))


def figures(evaluation, rows: list[dict], heads: dict) -> list:
    """Best, median and worst case of each method, agreement, and every case by method."""
    from tfsono.report.agreement import agreement_figure, agreements_of
    from tfsono.report.head_tables import measurements_of, unit_of
    from tfsono.report.page import Figure
    from tfsono.report.plots import cases_figure
    from tfsono.report.rows import by_method

    folder, unit, methods = evaluation.figures_folder, unit_of(rows), by_method(rows)
    agreement_figure(folder / "agreement.png", agreements_of(methods, measurements_of(unit)),
                     "Agreement with the reference")
    cases = cases_of(rows)
    cases_figure(folder / "methods.png", cases.means, cases.metrics)
    found = [Figure(folder / "agreement.png", "Bland and Altman: prediction minus reference over their mean, with the "
                    "bias and its limits (1.96 standard deviations); of several runs in a row, their mean."),
             Figure(folder / "methods.png", "Every test case, by method; median and quartiles.")]
    for number, (method, group) in enumerate(methods.items(), 1):
        found += draw_examples(evaluation, f"{number}", method, group, heads)
    return found


def draw_examples(evaluation, stem: str, method: str, rows: list[dict], heads: dict) -> list:
    """The best, median and worst case of a method by the overlap of the ellipses, as its first run predicts it."""
    from tfsono.data.images_2d import image_pixels
    from tfsono.report.head_plots import comparison_figure
    from tfsono.report.page import Figure

    first = [row for row in rows if row["run"] == rows[0]["run"]]
    ranked = sorted(first, key=lambda row: (row["dsc_percent"], row["case"]))
    found = []
    for rank, row in {"best": ranked[-1], "median": ranked[len(ranked) // 2], "worst": ranked[0]}.items():
        path, case = evaluation.figures_folder / f"{stem}_{rank}.png", row["case"]
        text = f"{summary_text(row)}; DSC {row['dsc_percent']:.1f} %"
        comparison_figure(path, image_pixels(evaluation.cache.read(case)),
                          reference=reference_of(heads[case], evaluation.runs[0]),
                          found=outline_of(row, evaluation.out),
                          title=f"{method}: {rank} of {len(ranked)}, {case}", lines=[text])
        found.append(Figure(path, f"{method}, {rank} case by the overlap of the ellipses: reference and prediction.",
                            case=case, method=method))
    return found


if __name__ == "__main__":
    sys.exit(run_command(main))
