"""Measures runs of `femur` on their test cases: python evaluate/femur.py --data FILE.h5 --runs DIR [DIR ...] --out DIR.

Writes cases.csv, the paper's Tables 1 and 2 with the paper's rows beside ours, regions, agreement, paired differences,
figures, masks, landmarks and report.html. Runs that differ in their seed alone share a row; the same command goes on
where it stopped. Everything is scored on the volume's own grid.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from tfsono.config import evaluation_parser
from tfsono.configs.femur import FEMUR
from tfsono.errors import UserError, run_command
from tfsono.files import make_folder

UNNAMED = ("seed", "roi_run", "start_from")  # fields in which runs of one row may differ
NAMES = {"unet_roi": "Unet-ROI", "unet_s": "Unet-S", "unet_l": "Unet-L", "brn": "BRN", "brnd": "BRND",
         "brndc": "BRNDC", "brndc_d": "BRNDC-D"}
TABLE_1 = (  # key in cases.csv, heading of the paper's table, digits, factor
    ("dice", "DSC %", 2, 100.0), ("jaccard", "Jacc %", 2, 100.0), ("surface_mean_mm", "Adb mm", 2),
    ("hausdorff_mm", "Hdb mm", 2), ("volume_error_ml", "Verr mL", 2),
)
PAPER_TABLE_1 = {
    "Unet-ROI": ((87.30, 7.1), (78.07, 9.8), (1.59, 1.4), (9.05, 7.4), (5.52, 2.3)),
    "Unet-S": ((89.41, 4.6), (81.14, 7.1), (0.84, 0.7), (4.98, 3.3), (3.04, 1.7)),
    "BRN": ((90.03, 3.5), (82.04, 5.5), (0.77, 0.5), (4.69, 3.0), (2.28, 1.2)),
    "BRND": ((90.11, 3.5), (82.18, 5.6), (0.78, 0.6), (5.04, 3.4), (1.89, 1.3)),
    "BRNDC": ((90.76, 3.1), (83.23, 5.0), (0.68, 0.5), (4.27, 2.6), (1.79, 1.3)),
    "BRNDC-D": ((91.03, 3.0), (83.67, 5.0), (0.66, 0.5), (4.08, 2.7), (1.60, 1.1)),
}
PAPER_TABLE_2 = {
    "Unet-L": ((4.32, 3.02), (4.57, 2.13), (1.05, 1.15)), "BRN": ((4.26, 2.64), (4.46, 2.88), (0.96, 1.06)),
    "BRND": ((4.19, 2.22), (4.05, 2.60), (0.89, 0.99)), "BRNDC": ((3.92, 2.64), (4.28, 2.78), (1.04, 1.05)),
    "BRNDC-D": ((3.70, 1.93), (4.26, 2.53), (0.87, 0.91)),
}
PAPER_IOU_PERCENT = 78.1
TRUE_BOX, FOUND_BOX, WHOLE = "true box", "found by the first stage", "nothing found: the whole volume"
SHOWN = 6  # cases of Fig. 5


def main(argv: list[str] | None = None) -> None:
    parser = evaluation_parser(FEMUR, __doc__, "masks")
    parser.add_argument("--region", default="found", choices=("found", "true"),
                        help="where the second stages look: where the first one found bone, or in the true boxes")
    arguments = parser.parse_args(argv)

    from tfsono.data.cache import Cache
    from tfsono.evaluation.comparable import check_comparable
    from tfsono.report.tables import write_cases
    from tfsono.training.run import read_run

    runs = [read_run(folder, FEMUR) for folder in arguments.runs]
    methods = methods_of(runs, arguments.region)
    with Cache(arguments.data, "femur") as cache:
        check_comparable(runs, cache, ("labels", "landmarks"), arguments.weights)
        out = make_folder(arguments.out)
        rows = []
        for run, method in zip(runs, methods, strict=True):
            print(f"{run.folder}: {method}")
            rows += [{"method": method, **row} for row in measure(run, cache, out, arguments.weights, arguments.region)]
        write_cases(out / "cases.csv", rows)
        tables = write_tables(out, rows, tuple(cache.landmarks))
        figures = write_figures(out, rows, runs, cache)
    write_report(out, tables, figures, runs, methods)


def methods_of(runs, region: str) -> list[str]:
    """A row's name for each run: the paper's, and what tells it from others of that name."""
    from tfsono.evaluation.methods import method_names

    regions = ["" if run.config.network == "unet_roi" or run.config.roi_run and region == "found" else "in true boxes"
               for run in runs]
    found = method_names([run.settings for run in runs], regions, UNNAMED)
    names = []
    for run, name in zip(runs, found, strict=True):
        variant, own = run.settings.variant, NAMES[run.settings.variant]
        names.append(name.replace(variant, own, 1) if variant in name else ", ".join(filter(None, (own, name))))
    return names


def measure(run, cache, out: Path, weights: str, region: str) -> list[dict]:
    """One row per test case; what an earlier call measured with the same weights and cache is read back."""
    from tfsono.evaluation.measured import answers_folder, measured
    from tfsono.systems.femur import FIRST_STAGE, load_run

    files = [run.weights(weights), *sorted((run.folder / FIRST_STAGE).glob("*.weights.h5"))]
    given_boxes = region == "true" and run.config.network != "unet_roi"
    name = f"{run.folder.name}_true_boxes" if given_boxes else run.folder.name
    folder = answers_folder(out, name, cache.path, files, run.config)

    def open_measure():
        _, module = load_run(run.folder, weights)
        with_box = given_boxes or run.config.network != "unet_roi" and not module.finder
        return lambda name: [measure_case(module, run, cache.read(name), folder, with_box)]

    return measured(folder, run.split["test"], open_measure, lambda rows: summary_text(rows[0]))


def measure_case(module, run, case, folder: Path, with_box: bool) -> dict:
    """Sec. II-A to II-C: region, answer, clean-up; measured on the case's own grid, and the answer kept.

    `with_box` gives the true box in place of the first stage's.
    """
    import numpy as np

    from tfsono.geometry.regions import Box, box_iou, box_of
    from tfsono.inference.segmentation import clean_mask
    from tfsono.metrics.femur_case import MaskAndPoints, joint_metrics

    config, own = run.config, case.own
    truth = MaskAndPoints(own.label, known_points(case, len(config.landmark_names)))
    box = box_of(truth.mask, truth.points_vox)
    given = (own.array, np.float32(own.spacing_mm))
    if with_box and box is None:
        raise UserError(f"{case.name}: has neither mask nor landmarks, so no true box; train with a --roi_run")
    answer = module.predict_in(*given, [*box.low, *box.high]) if with_box else module(*given)
    mask = answer["mask"].numpy() if "mask" in answer else None
    if mask is not None:
        mask = clean_mask(mask, config.classes, config.largest_component, config.fill_holes)
    found = MaskAndPoints(mask, answer["points_vox"].numpy() if "points_vox" in answer else None)
    labels = {name: value for value, name in enumerate(config.label_names, 1)}
    ends = answer["box"].numpy()
    seen = bool(answer["found"]) and not with_box
    row = {"case": case.name, "subject": case.subject, "run": run.folder.name, "seed": config.seed,
           "region": TRUE_BOX if with_box else FOUND_BOX if seen else WHOLE,
           "box_iou": box_iou(Box(ends[:3], ends[3:]), box) if box and not with_box else float("nan"),
           **joint_metrics(found, truth, own.spacing_mm, labels, config.landmark_names)}
    return row | keep_answer(folder, case.name, found, own, config.landmark_names)


def known_points(case, landmarks: int):
    """The true landmarks on the case's own grid; None without any."""
    return None if case.points_vox is None else case.own_points_vox(landmarks)


def keep_answer(folder: Path, name: str, found, own, landmarks: tuple[str, ...]) -> dict:
    """Writes the mask and the landmarks, and says where below runs/ and at which voxels; "" for what there is not."""
    from tfsono.volumes.image import write_volume
    from tfsono.volumes.landmarks import points_to_mm, write_markups

    make_folder(folder)
    row = {"mask": ""}
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
    """What a case's numbers are, in words."""
    import math

    parts = [f"{word} {row[key]:.{digits}f}{unit}" for key, word, digits, unit in (
        ("dice", "Dice", 3, ""), ("mre_mm", "landmarks", 2, " mm"), ("length_error_mm", "length", 2, " mm"),
        ("box_iou", "box", 2, "")) if key in row and not math.isnan(row[key])]
    return ", ".join(parts)


def table_2(landmarks: tuple[str, ...]) -> tuple:
    """The columns of Table 2, for the landmarks of the data."""
    length = (("length_abs_error_mm", "Lerr mm", 2),) if len(landmarks) == 2 else (("mre_mm", "MRE mm", 2),)
    return *((f"error_{name}_mm", f"{name} mm", 2) for name in landmarks), *length


def write_tables(out: Path, rows: list[dict], landmarks: tuple[str, ...]) -> list:
    """Tables 1 and 2, regions, contradictions, agreement, and the paired differences of every two methods."""
    from tfsono.report.agreement import agreement_table, agreements_of
    from tfsono.report.rows import by_method
    from tfsono.report.tables import comparison_table, paired_table, to_markdown, write_table

    columns = table_2(landmarks)
    means = means_of(rows, landmarks)
    masks = {name: cases for name, cases in means.items() if answers(by_method(rows)[name], "dice")}
    points = {name: cases for name, cases in means.items() if answers(by_method(rows)[name], "mre_mm")}
    tables = {}
    if masks:
        tables["table1"] = comparison_table("Table 1. Segmentation", masks, paper_rows(PAPER_TABLE_1, TABLE_1), TABLE_1)
    if points:
        printed = paper_rows(PAPER_TABLE_2, columns) if len(landmarks) == 2 else {}
        tables["table2"] = comparison_table("Table 2. Landmarks", points, printed, columns)
    tables["regions"] = region_table(by_method(rows))
    both = {name: cases for name, cases in masks.items() if name in points}
    if both:
        tables["contradictions"] = comparison_table(
            "Contradictions: a landmark farther than 5 mm from the mask", both, {},
            (("contradiction", "Cases %", 1, 100.0),
             *((f"apart_{name}_mm", f"{name} apart mm", 2) for name in landmarks)))
    if len(masks) > 1:
        tables["differences1"] = paired_table("Paired differences of Table 1", masks, TABLE_1)
    if len(points) > 1:
        tables["differences2"] = paired_table("Paired differences of Table 2", points, columns)
    tables["agreement"] = agreement_table(agreements_of(by_method(rows), measurements_of(landmarks)))
    for stem, table in tables.items():
        write_table(out, stem, table)
        if stem in ("table1", "table2", "regions", "contradictions"):
            print(f"\n{to_markdown(table)}")
    return list(tables.values())


def means_of(rows: list[dict], landmarks: tuple[str, ...]) -> dict[str, list[dict]]:
    """Method -> a row a case, the mean over its runs."""
    from tfsono.report.rows import by_method
    from tfsono.report.rows import case_means

    keys = [*(column[0] for column in TABLE_1 + table_2(landmarks)), "mre_mm", "contradiction",
            *(f"apart_{name}_mm" for name in landmarks)]
    return {method: case_means(group, keys) for method, group in by_method(rows).items()}


def answers(rows: list[dict], key: str) -> bool:
    """Whether a method gives this at all."""
    return any(row[key] == row[key] for row in rows)


def measurements_of(landmarks: tuple[str, ...]) -> tuple:
    """Fig. 4: volume, and of two landmarks the length."""
    from tfsono.report.agreement import Measurement

    volume = Measurement("volume", "volume_ml", "truth_volume_ml", "mL")
    return (volume, Measurement("length", "length_mm", "length_true_mm", "mm")) if len(landmarks) == 2 else (volume,)


def paper_rows(printed: dict, columns: tuple) -> dict[str, dict]:
    """The paper's rows by the keys of our columns."""
    return {name: {"cases": 20, **{column[0]: value for column, value in zip(columns, values, strict=True)}}
            for name, values in printed.items()}


def region_table(methods: dict[str, list[dict]]):
    """Sec. III-B: the overlap of the found box and the true one before it is enlarged, and where nothing was found."""
    from tfsono.report.tables import Metric, Table, metric_values, summarise

    rows = []
    for name, group in methods.items():
        found = summarise(metric_values(group, Metric("box_iou", "", 1, 100.0)))
        nothing = sum(row["region"] == WHOLE for row in group)
        region = TRUE_BOX if group[0]["region"] == TRUE_BOX else FOUND_BOX
        rows.append((name, region, len(group), nothing, found))
    note = (f"IoU of the boxes before they are enlarged; the paper: {PAPER_IOU_PERCENT} %. Where nothing was found the "
            "whole volume was searched.")
    return Table("Regions", ("Method", "Region", "Answers", "Nothing found", "IoU %"), tuple(rows), note,
                 (None, None, 0, 0, 1))


def write_figures(out: Path, rows: list[dict], runs, cache) -> list:
    """Fig. 4: agreement; Fig. 5: six cases with masks, landmarks and lengths; every case by method; the trainings."""
    from tfsono.report.agreement import agreement_figure, agreements_of
    from tfsono.report.rows import by_method
    from tfsono.report.page import Picture
    from tfsono.report.plots import cases_figure, history_figure
    from tfsono.training.run import read_history

    figures, landmarks = make_folder(out / "figures"), tuple(cache.landmarks)
    methods = by_method(rows)
    agreement_figure(figures / "agreement.png", agreements_of(methods, measurements_of(landmarks)),
                     "Fig. 4: agreement with the truth")
    pictures = [Picture(figures / "agreement.png", "Fig. 4. Bland and Altman: answer less truth over their mean, with "
                        "the bias and its limits (1.96 standard deviations).")]
    means = means_of(rows, landmarks)
    for stem, columns, key in (("methods1", TABLE_1, "dice"), ("methods2", table_2(landmarks), "mre_mm")):
        shown = {name: cases for name, cases in means.items() if answers(methods[name], key)}
        if shown:
            cases_figure(figures / f"{stem}.png", shown, columns)
            pictures.append(Picture(figures / f"{stem}.png", "Every test case, by method."))
    for number, (method, group) in enumerate(methods.items(), 1):
        pictures += draw_examples(figures, number, method, group, out, cache)
    for run in runs:
        path = figures / f"history_{run.folder.name}.png"
        history_figure(path, read_history(run.folder / "history.csv"), title=run.folder.name)
        pictures.append(Picture(path, f"Training of {run.folder.name}."))
    return pictures


def draw_examples(folder: Path, number: int, method: str, rows: list[dict], out: Path, cache) -> list:
    """Fig. 5: six cases of a method's first run, from the best to the worst, evenly."""
    import numpy as np

    from tfsono.report.page import Picture
    from tfsono.report.plots import slices_figure
    from tfsono.volumes.image import read_mask

    key, sign = ("dice", -1) if answers(rows, "dice") else ("mre_mm", 1)
    own = sorted((row for row in rows if row["run"] == rows[0]["run"]),
                 key=lambda row: (sign * row[key] if row[key] == row[key] else np.inf, row["case"]))
    chosen = sorted({round(place) for place in np.linspace(0, len(own) - 1, min(SHOWN, len(own)))})
    pictures = []
    for place in chosen:
        row, case = own[place], cache.read(own[place]["case"])
        grid = case.own
        mask = None
        if row["mask"]:
            mask = read_mask(out / "runs" / row["mask"], grid).array
        found = None
        if f"{cache.landmarks[0]}_x_vox" in row if cache.landmarks else False:
            found = np.array([[row[f"{name}_{axis}_vox"] for axis in "xyz"] for name in cache.landmarks])
        path = folder / f"{number}_{place + 1:02d}.png"
        slices_figure(path, grid.array, grid.label, mask, grid.spacing_mm,
                      f"{method}: {place + 1} of {len(own)}, {case.name}\n{summary_text(row)}{length_text(row)}",
                      tuple(cache.labels), cache.settings.orientation,
                      {"truth": known_points(case, len(cache.landmarks)), "prediction": found})
        pictures.append(Picture(path, f"Fig. 5. {method}, {place + 1} of {len(own)} by {key}: truth and answer; "
                                "landmarks as seen along the cut axis."))
    return pictures


def length_text(row: dict) -> str:
    """The two lengths in words; "" where there are none."""
    length = row.get("length_mm", float("nan"))
    return f"; length {length:.1f} mm, truly {row['length_true_mm']:.1f} mm" if length == length else ""


def write_report(out: Path, tables: list, figures: list, runs, methods: list[str]) -> None:
    """report.html, and where everything is."""
    from tfsono.report.page import write_evaluation_page
    from tfsono.training.start import initialisation_of

    said = [f"{method}: {run.folder.name}, {initialisation_of(run.folder)}"
            for run, method in zip(runs, methods, strict=True)]
    write_evaluation_page(out, f"femur: {runs[0].data['dataset']}", tables, figures, said, "masks, landmarks")


if __name__ == "__main__":
    sys.exit(run_command(main))
