"""Measures runs of `femur` on their test cases: python evaluate/femur.py --data FILE.h5 --runs DIR [DIR ...] --out DIR.

Writes cases.csv, the paper's Tables 1 and 2 with the paper's rows beside ours, regions, agreement, paired differences,
figures, masks, landmarks and report.html. Runs that differ in their seed alone share a row; with --ensemble they are
also measured together. The same command resumes an interrupted evaluation. Everything is scored on the volume's own
grid.
"""

from __future__ import annotations

import itertools
import sys
from functools import partial
from pathlib import Path

if not __package__:  # run as a file of a checkout, and not by `tfsono evaluate`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tfsono.config import add_mask_metrics, evaluation_parser, mask_scoring
from tfsono.configs.femur import FEMUR
from tfsono.errors import UserError, run_command
from tfsono.files import make_folder, safe_name
from tfsono.reproduction.femur import PAPER
from tfsono.surroundings import parsed

UNNAMED = ("seed", "roi_run", "start_from")  # fields in which runs of one row may differ
SHOWN = 6  # cases of Fig. 5
MAIN_TABLES = ("table", "regions", "contradictions", "order", "calibration", "spread", "orderings")


def main(argv: list[str] | None = None) -> None:
    parser = evaluation_parser(FEMUR, __doc__, "masks")
    parser.add_argument("--region", default="found", choices=("found", "reference"), type=reference_for_true,
                        help="region of the second stages: where the first stage finds bone, or the reference boxes")
    add_mask_metrics(parser)
    arguments = parsed(parser, argv)
    from tfsono.evaluation.evaluation import opened

    with opened(arguments, FEMUR, ("labels", "landmarks")) as evaluation:
        groups = groups_of(evaluation, arguments.region)
        rows = evaluation.rows(groups, partial(measure, scoring=mask_scoring(arguments)))
        tables = evaluation.write_tables(rows, tables_of(evaluation, rows, arguments.empty_is), MAIN_TABLES)
        evaluation.write_page(groups, tables, "masks, landmarks", cases=cases_of(evaluation, rows),
                              figures=figures(evaluation, rows))


def reference_for_true(word: str) -> str:
    """`--region true` is the older name of `--region reference`."""
    return "reference" if word == "true" else word


def groups_of(evaluation, region: str) -> list:
    """The groups to measure: runs and, on demand, ensembles; second stages in the boxes of `region`."""
    from tfsono.systems.femur import check_together

    kinds = ["regions" if run.config.network == "unet_roi" else f"{' and '.join(run.config.outputs)}"
             for run in evaluation.runs]
    groups = evaluation.groups(methods_of(evaluation.runs, region), kinds, check=check_together)
    given = [region == "reference" and group.first.config.network != "unet_roi" for group in groups]
    return [group._replace(name=f"{group.name}_reference_boxes", option="reference") if boxes else group
            for group, boxes in zip(groups, given, strict=True)]


def methods_of(runs, region: str) -> list[str]:
    """A row's name for each run: the paper's, and how it differs from others of that name."""
    from tfsono.evaluation.methods import method_names, paper_names

    regions = ["" if run.config.network == "unet_roi" or run.config.roi_run and region == "found" else
               "in reference boxes" for run in runs]
    return paper_names(runs, method_names([run.settings for run in runs], regions, UNNAMED), PAPER.names)


def tables_of(evaluation, rows: list[dict], empty_is: str) -> dict:
    """Tables 1 and 2 with what they rest on, and the calibration of the landmarks' confidence."""
    from tfsono.report.calibration import calibration_tables
    from tfsono.report.femur_tables import femur_tables
    from tfsono.report.orderings import orderings_tables
    from tfsono.report.rows import by_method

    landmarks = tuple(evaluation.cache.landmarks)
    return (femur_tables(rows, landmarks, empty_is) | calibration_tables(by_method(rows), landmarks)
            | orderings_tables(rows, PAPER.orderings))


def cases_of(evaluation, rows: list[dict]):
    """The list of cases, with the measures of masks and of landmarks."""
    from tfsono.report.femur_tables import TABLE_1, landmark_means, mask_means, table_2
    from tfsono.report.page import CaseList
    from tfsono.report.rows import by_method
    from tfsono.report.tables import nsd_columns

    landmarks = tuple(evaluation.cache.landmarks)
    masks, points = mask_means(rows), landmark_means(rows, landmarks)
    means = {method: [mask | point for mask, point in itertools.zip_longest(
        masks.get(method, ()), points.get(method, ()), fillvalue={})] for method in by_method(rows)}
    columns = (TABLE_1 + nsd_columns(rows, 100.0, 2)) * bool(masks) + table_2(landmarks) * bool(points or not masks)
    return CaseList({method: cases for method, cases in means.items() if cases}, columns,
                    "assd_mm" if masks else columns[-1][0])


def measure(evaluation, group, scoring: dict) -> list[dict]:
    """One row per test case; those of an earlier call with the same weights and cache are read back."""
    from tfsono.systems.femur import FIRST_STAGE, module_of
    from tfsono.training.confidence import confidence_files

    stages = sorted((group.first.folder / FIRST_STAGE).glob("*.weights.h5"))
    folder = evaluation.folder(group, [*stages, *confidence_files(group.runs)], (group.option, scoring))

    def open_measure():
        module = module_of(group.runs, evaluation.weights)
        with_box = group.option == "reference" or group.first.config.network != "unet_roi" and not module.finder
        measured = partial(measure_case, module, group, folder=folder, with_box=with_box, scoring=scoring)
        return lambda name: [measured(evaluation.cache.read(name))]

    return evaluation.measured(group, folder, open_measure, lambda rows: summary_text(rows[0]))


def measure_case(module, group, case, folder: Path, with_box: bool, scoring: dict) -> dict:
    """Sec. II-A to II-C: region, prediction, postprocessing; measured on the case's own grid, and written.

    `with_box` takes the reference box instead of the first stage's.
    """
    from tfsono.evaluation.confidence import confidence_columns
    from tfsono.geometry.regions import Box, box_iou, box_of
    from tfsono.metrics.femur_case import MaskAndPoints, coverage, joint_metrics
    from tfsono.report.femur_tables import FOUND_BOX, REFERENCE_BOX, WHOLE
    from tfsono.training.confidence import confidence_models

    config, own = group.first.config, case.own
    classes = {name: value for value, name in enumerate(config.label_names, 1)}
    lengths = {"length_spread_mm": (0, 1)} if len(config.landmark_names) == 2 else {}
    reference = MaskAndPoints(own.label, reference_points(case, len(config.landmark_names)))
    box = box_of(reference.mask, reference.points_vox)
    if with_box and box is None:
        raise UserError(f"{case.name}: has neither mask nor landmarks, so no reference box; train with a --roi_run")
    found, raw = predicted(module, own, box if with_box else None)
    ends, seen = raw["box"], bool(raw["found"])
    region = None if with_box else region_of(ends, config.roi_margin, case)
    row = {"case": case.name, "subject": case.subject, "run": group.name, "seed": config.seed,
           "members": len(group.runs), "region": REFERENCE_BOX if with_box else FOUND_BOX if seen else WHOLE,
           "box_iou": box_iou(Box(ends[:3], ends[3:]), box) if box and not with_box else float("nan"),
           **coverage(region, reference),
           **joint_metrics(found, reference, own.spacing_mm, classes, config.landmark_names, **scoring),
           **confidence_columns(raw, own.spacing_mm, config.landmark_names, lengths, confidence_models(group.runs))}
    return row | keep(folder, case.name, found, own, config.landmark_names)


def region_of(ends, margin: int, case):
    """A predicted box on the case's own grid, enlarged as the second stage does on the network's."""
    import numpy as np

    from tfsono.geometry.regions import Box, enlarged

    step = np.array(case.own.size) / case.image.shape
    return enlarged(Box(ends[:3], ends[3:]), np.rint(margin * step).astype(int), case.own.size)


def predicted(module, own, box) -> tuple:
    """The postprocessed prediction, in `box` or in the found region; and all outputs of the module."""
    from tfsono.inference.module_input import module_input
    from tfsono.metrics.femur_case import MaskAndPoints

    given = module_input(own.array, own.spacing_mm)
    raw = module.predict_in(*given, [*box.low, *box.high]) if box else module(*given)
    raw = {key: value.numpy() for key, value in raw.items()}
    return MaskAndPoints(raw.get("mask"), raw.get("points_vox")), raw


def reference_points(case, landmarks: int):
    """The reference landmarks on the case's own grid; None without any."""
    return None if case.points_vox is None else case.own_points_vox(landmarks)


def keep(folder: Path, name: str, found, own, landmarks: tuple[str, ...]) -> dict:
    """Writes mask and landmarks; their columns of cases.csv: path below runs/ ("" without a mask) and voxels."""
    from tfsono.volumes.image import write_volume
    from tfsono.volumes.landmarks import points_to_mm, write_markups

    make_folder(folder)
    name, row = safe_name(name), {"mask": ""}
    if found.mask is not None:
        write_volume(folder / f"{name}_mask.nii.gz", found.mask, own)
        row["mask"] = f"{folder.name}/{name}_mask.nii.gz"
    if found.points_vox is not None:
        named = dict(zip(landmarks, points_to_mm(found.points_vox, own), strict=True))
        write_markups(folder / f"{name}.mrk.json", named, [landmarks] if len(landmarks) == 2 else [])
        row |= {f"{landmark}_{axis}_vox": float(value)
                for landmark, point in zip(landmarks, found.points_vox, strict=True)
                for axis, value in zip("xyz", point, strict=True)}
    return row


def summary_text(row: dict) -> str:
    """A case's metrics, in words."""
    import math

    parts = [f"{word} {row[key]:.{digits}f}{unit}" for key, word, digits, unit in (
        ("dice", "Dice", 3, ""), ("mre_mm", "landmarks", 2, " mm"), ("length_error_mm", "length error", 2, " mm"),
        ("box_iou", "box IoU", 2, "")) if key in row and not math.isnan(row[key])]
    return ", ".join(parts + [f"{row['absent']:.0f} labels absent"] * bool(row["absent"]))


def figures(evaluation, rows: list[dict]) -> list:
    """Fig. 4: agreement; Fig. 5: six cases with masks, landmarks and lengths; every case by method."""
    from tfsono.report.agreement import agreement_figure, agreements_of
    from tfsono.report.calibration import calibration_figures
    from tfsono.report.femur_tables import TABLE_1, landmark_means, mask_means, measurements_of, table_2
    from tfsono.report.page import Figure
    from tfsono.report.plots import cases_figure
    from tfsono.report.rows import by_method

    folder, landmarks, methods = evaluation.figures_folder, tuple(evaluation.cache.landmarks), by_method(rows)
    agreement_figure(folder / "agreement.png", agreements_of(methods, measurements_of(landmarks)),
                     "Fig. 4: agreement with the reference")
    found = [Figure(folder / "agreement.png", "Fig. 4. Bland and Altman: prediction minus reference over their mean, "
                    "with the bias and its limits (1.96 standard deviations); of several runs in a row, their mean.")]
    found += calibration_figures(folder / "calibration.png", methods, landmarks)
    for stem, columns, shown in (("methods1", TABLE_1, mask_means(rows)),
                                 ("methods2", table_2(landmarks), landmark_means(rows, landmarks))):
        if shown:
            cases_figure(folder / f"{stem}.png", shown, columns)
            found.append(Figure(folder / f"{stem}.png", "Every test case, by method; median and quartiles."))
    for number, (method, group) in enumerate(methods.items(), 1):
        found += draw_examples(evaluation, number, method, group)
    return found


def draw_examples(evaluation, number: int, method: str, rows: list[dict]) -> list:
    """Fig. 5: six cases of a method's first run, from the best to the worst, evenly."""
    import numpy as np

    from tfsono.report.femur_tables import has
    from tfsono.report.page import Figure

    key, sign = ("dice", -1) if has(rows, "dice") else ("mre_mm", 1)
    own = sorted((row for row in rows if row["run"] == rows[0]["run"] and row[key] == row[key]),
                 key=lambda row: (sign * row[key], row["case"]))
    chosen = sorted({round(place) for place in np.linspace(0, len(own) - 1, min(SHOWN, len(own)))})
    found = []
    for place in chosen:
        path = evaluation.figures_folder / f"{number}_{place + 1:02d}.png"
        draw_case(evaluation, path, own[place], f"{method}: {place + 1} of {len(own)}")
        found.append(Figure(path, f"Fig. 5. {method}, {place + 1} of {len(own)} by {key}: reference and prediction; "
                            "landmarks projected along the cut axis.", case=own[place]["case"], method=method))
    return found


def draw_case(evaluation, path: Path, row: dict, title: str) -> None:
    """A case's slices with masks, landmarks and lengths."""
    import numpy as np

    from tfsono.report.plots import slices_figure
    from tfsono.volumes.image import read_mask

    cache = evaluation.cache
    case, landmarks = cache.read(row["case"]), tuple(cache.landmarks)
    own, mask, points = case.own, None, None
    if row["mask"]:
        mask = read_mask(evaluation.out / "runs" / row["mask"], own).array
    if landmarks and f"{landmarks[0]}_x_vox" in row:
        points = np.array([[row[f"{name}_{axis}_vox"] for axis in "xyz"] for name in landmarks])
    slices_figure(path, own.array, own.label, mask, own.spacing_mm,
                  title=f"{title}, {case.name}\n{summary_text(row)}{length_text(row)}",
                  label_names=tuple(cache.labels), orientation=cache.settings.orientation,
                  points_vox={"reference": reference_points(case, len(landmarks)), "prediction": points})


def length_text(row: dict) -> str:
    """The two lengths in words; "" without them."""
    length = row.get("length_mm", float("nan"))
    return f"; length {length:.1f} mm, reference {row['length_reference_mm']:.1f} mm" if length == length else ""


if __name__ == "__main__":
    sys.exit(run_command(main))
