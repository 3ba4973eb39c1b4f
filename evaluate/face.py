"""Measures runs of `face` on their test cases: python evaluate/face.py --data FILE.h5 --runs DIR [DIR ...] --out DIR.

Writes cases.csv, the paper's Tables 1 and 2 with the paper's rows beside ours, average precision as COCO and VOC define
it, flaws, paired differences, Figs. 3 and 4, landmarks with their boxes, and report.html. A run of one stage is
measured twice, without the graph prior and with it. Runs that differ in their seed alone share a row; with --ensemble
they are also measured together. The same command resumes an interrupted evaluation. Everything is scored on the
volume's own grid.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

if not __package__:  # run as a file of a checkout, and not by `tfsono evaluate`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tfsono.config import evaluation_parser
from tfsono.configs.face import FACE, LANDMARKS, MIRRORED
from tfsono.errors import run_command
from tfsono.files import make_folder, safe_name
from tfsono.reproduction.face import PAPER
from tfsono.surroundings import parsed

UNNAMED = ("seed",)  # fields in which runs of one row may differ
WITH_PRIOR = {"RPN": "G-RPN", "I-RPN": "IG-RPN", "SSD": "G-SSD", "I-SSD": "IG-SSD"}  # Tables 1 and 2
BOXED = ("RPN", "IG-RPN")  # Fig. 4
TIMED, WARM_UP = 20, 2  # calls


def main(argv: list[str] | None = None) -> None:
    arguments = parsed(evaluation_parser(FACE, __doc__, "landmarks"), argv)
    from tfsono.evaluation.evaluation import opened
    from tfsono.report.face_tables import face_tables, in_order
    from tfsono.report.orderings import orderings_tables

    with opened(arguments, FACE, ("landmarks",)) as evaluation:
        groups = groups_of(evaluation)
        rows, landmarks = in_order(evaluation.rows(groups, measure)), tuple(evaluation.cache.landmarks)
        tables = face_tables(rows, detections_of(evaluation, groups, rows), landmarks, landmarks == LANDMARKS)
        tables |= orderings_tables(rows, PAPER.orderings)
        written = evaluation.write_tables(rows, tables, ("table", "flaws", "orderings"))
        evaluation.write_page(groups, written, "landmarks with their boxes", cases=cases_of(evaluation, rows),
                              figures=figures(evaluation, rows))


def groups_of(evaluation) -> list:
    """The groups to measure: runs and, on demand, ensembles."""
    from tfsono.systems.face import check_together

    return evaluation.groups(methods_of(evaluation.runs), [run.config.method for run in evaluation.runs],
                             check=check_together)


def methods_of(runs) -> list[str]:
    """A row's name for each run without the prior: the paper's, and how it differs from others of that name."""
    from tfsono.evaluation.methods import method_names, paper_names

    return paper_names(runs, method_names([run.settings for run in runs], [""] * len(runs), UNNAMED), PAPER.names)


def name_with_prior(method: str) -> str:
    """The row of the same run with the prior: I-RPN becomes IG-RPN."""
    own, *others = method.split(", ")
    return ", ".join([WITH_PRIOR.get(own, f"{own} with the prior"), *others])


def has_prior(run) -> bool:
    """Whether a run is measured with the graph prior too: one-stage networks, as in the paper."""
    return run.config.use_prior and PAPER.names.get(run.settings.variant, "").split(", ")[0] in WITH_PRIOR


def cases_of(evaluation, rows: list[dict]):
    """The list of cases."""
    from tfsono.report.face_tables import COMPARED, means_of
    from tfsono.report.page import CaseList

    return CaseList(means_of(rows, tuple(evaluation.cache.landmarks)), COMPARED, "mre_mm")


def measure(evaluation, group) -> list[dict]:
    """Rows per test case, without the prior and with it; those of an earlier call are read back."""
    from tfsono.inference.face_prior import PRIOR
    from tfsono.systems.face import FINDER, measured_module

    prior = has_prior(group.first)
    files = [group.first.folder / PRIOR] if prior else []
    folder = evaluation.folder(group, [*files, *sorted((group.first.folder / FINDER).glob("*.weights.h5"))])

    def open_measure():
        module = measured_module(group.runs, evaluation.weights, with_prior=prior)
        times = times_ms(module, evaluation.cache.read(group.first.split["test"][0]))
        return lambda name: measure_case(module, group, evaluation.cache.read(name), folder, times)

    rows = evaluation.measured(group, folder, open_measure, summary_text)
    return [{**row, "method": name_with_prior(group.method) if row["prior"] else group.method} for row in rows]


def times_ms(module, case) -> list[float]:
    """Milliseconds of one volume, the median of 20 calls after a warm-up: without the prior, and with it."""
    import statistics
    import time

    from tfsono.inference.face import FaceModule
    from tfsono.inference.module_input import module_input

    found, arguments = [], module_input(case.own.array, case.own.spacing_mm)
    for timed in (FaceModule(module.reader), *([module] if module.prior else [])):
        seconds = []
        for call in range(WARM_UP + TIMED):
            began = time.monotonic()
            timed(*arguments)["points_vox"].numpy()
            seconds += [time.monotonic() - began] if call >= WARM_UP else []
        found.append(1000 * statistics.median(seconds))
    return found


def device() -> str:
    """The device, as the table names it."""
    import platform

    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        return tf.config.experimental.get_device_details(gpus[0]).get("device_name", "a GPU")
    return f"{os.cpu_count()} cores ({platform.machine()})"


def measure_case(module, group, case, folder: Path, times: list[float]) -> list[dict]:
    """The rows of a case, without the prior and with it; writes the prediction."""
    import numpy as np

    from tfsono.inference.module_input import module_input
    from tfsono.metrics.face_case import face_metrics

    own, config = case.own, group.first.config
    names = config.landmark_names
    predicted = {key: value.numpy() for key, value in module(*module_input(own.array, own.spacing_mm)).items()}
    reference = case.own_points_vox(len(names))
    sides = np.array(config.sides)[:, None] * np.array(own.size) / case.image.shape  # on the case's own grid, [K, 3]
    np.savez(make_folder(folder) / f"{safe_name(case.name)}.npz", reference=reference, sides=sides, **predicted)
    rows = []
    for prior, (found, milliseconds) in enumerate(zip((without_prior(predicted), predicted), times)):
        if not config.boxes:
            found = {"points_vox": found["points_vox"], "scores": found["scores"]}
        rows.append({"case": case.name, "subject": case.subject, "run": group.name, "seed": config.seed,
                     "members": len(group.runs), "prior": prior,
                     **face_metrics(found, reference, sides=sides, spacing_mm=own.spacing_mm, names=names,
                                    mirrored=MIRRORED),
                     "time_ms": milliseconds, "device": device(), "file": keep(folder, case, found, names, prior),
                     "prediction": f"{folder.name}/{safe_name(case.name)}.npz"})
    return rows


def without_prior(predicted: dict) -> dict:
    """The prediction from the best candidates alone."""
    import numpy as np

    best = predicted["candidate_boxes_vox"][:, 0]
    return {**predicted, "points_vox": (best[:, :3] + best[:, 3:]) / 2, "scores": predicted["candidate_scores"][:, 0],
            "boxes_vox": best, "chosen": np.zeros_like(predicted["chosen"])}


def keep(folder: Path, case, found: dict, names, prior: int) -> str:
    """Writes the landmarks, and boxes if there are any, as 3D Slicer's markups; returns the file's relative path."""
    from tfsono.volumes.landmarks import box_to_mm, points_to_mm, write_markups

    own = case.own
    boxes = {name: box_to_mm(box, own) for name, box in zip(names, found.get("boxes_vox", ()))}
    path = folder / f"{safe_name(case.name)}{'_prior' * prior}.mrk.json"
    write_markups(path, dict(zip(names, points_to_mm(found["points_vox"], own), strict=True)), boxes=boxes)
    return f"{folder.name}/{path.name}"


def summary_text(rows: list[dict]) -> str:
    """A case's metrics, in words."""
    words = []
    for row, after in zip(rows, ("", " with the prior")):
        text = f"error {row['mre_mm']:.2f} mm"
        text += f", IoU {100 * row['mean_iou']:.1f} %" if row["mean_iou"] == row["mean_iou"] else ""
        text += f", {row['missing']:.0f} missing" if row["missing"] else ""
        words.append(text + after)
    return "; ".join(words)


def detections_of(evaluation, groups: list, rows: list[dict]) -> dict:
    """Method -> run -> candidates and reference boxes of its cases, for the average precision."""
    import numpy as np

    from tfsono.geometry.boxes import centred_boxes
    from tfsono.metrics.detection import CaseDetections

    boxed, found = {group.name for group in groups if group.first.config.boxes}, {}
    for row in rows:
        if row["run"] in boxed:
            with np.load(evaluation.out / "runs" / row["prediction"], allow_pickle=False) as kept:
                found.setdefault(row["method"], {}).setdefault(row["run"], []).append(
                    CaseDetections(kept["candidate_boxes_vox"], kept["candidate_scores"],
                                   centred_boxes(kept["reference"], kept["sides"])))
    return found


def figures(evaluation, rows: list[dict]) -> list:
    """Figs. 3 and 4, and every case by method."""
    from tfsono.report.face_tables import COMPARED, means_of
    from tfsono.report.page import Figure
    from tfsono.report.plots import cases_figure
    from tfsono.report.rows import by_method

    folder, cache = evaluation.figures_folder, evaluation.cache
    found = [*draw_ratios(folder / "ratios.png", evaluation.runs, cache),
             *draw_boxes(folder, by_method(rows), evaluation.out, cache)]
    cases_figure(folder / "methods.png", means_of(rows, tuple(cache.landmarks)), COMPARED)
    return [*found, Figure(folder / "methods.png", "Every test case, by method; median and quartiles.")]


def draw_ratios(path: Path, runs, cache) -> list:
    """Fig. 3 b-d: the ratios in the training cases and the normal distributions of the first run with a prior."""
    import numpy as np

    from tfsono.inference.face_prior import PRIOR, read_prior
    from tfsono.report.histograms import ratio_histograms
    from tfsono.report.page import Figure

    run = next((run for run in runs if (run.folder / PRIOR).is_file()), None)
    if run is None:
        return []
    prior = read_prior(run.folder / PRIOR, run.config.landmark_names)
    known = [name for name in run.split["train"] if name in cache.names and cache.points_vox(name) is not None]
    if not known:
        return []
    faces = np.stack([cache.points_vox(name) * np.array(cache.spacing_mm(name)) for name in known])
    ratio_histograms(path, prior.values(faces), prior.normals, "Fig. 3 b-d: distance ratios of the training cases")
    return [Figure(path, f"Fig. 3 b-d. Ratios of distances in {len(known)} training cases, and fitted normal curves.")]


def draw_boxes(folder: Path, methods: dict[str, list[dict]], out: Path, cache) -> list:
    """Fig. 4: reference and predicted boxes of RPN and IG-RPN, in the best, a middle and the worst case of the last."""
    import numpy as np

    from tfsono.geometry.boxes import centred_boxes
    from tfsono.report.boxes import BoxPanel, boxes_figure
    from tfsono.report.page import Figure

    boxed = [name for name, rows in methods.items() if any(row["mean_iou"] == row["mean_iou"] for row in rows)]
    shown = [name for name in BOXED if name in boxed]
    shown = shown if len(shown) > 1 else boxed[-2:]
    if not shown:
        return []
    first = {name: {row["case"]: row for row in methods[name] if row["run"] == methods[name][0]["run"]}
             for name in shown}
    rows = sorted((row for row in first[shown[-1]].values() if row["mean_iou"] == row["mean_iou"]),
                  key=lambda row: (-row["mean_iou"], row["case"]))
    found = []
    for word, place in {"best": 0, "middle": len(rows) // 2, "worst": len(rows) - 1}.items() if rows else ():
        case, panels = cache.read(rows[place]["case"]), []
        own = case.own
        for name in shown:
            row = first[name][case.name]
            with np.load(out / "runs" / row["prediction"], allow_pickle=False) as kept:
                boxes = kept["boxes_vox"] if row["prior"] else kept["candidate_boxes_vox"][:, 0]
                references = centred_boxes(kept["reference"], kept["sides"])
                at = np.nanmean(kept["reference"], axis=0)
            panels.append(BoxPanel(title=f"{name}: mean IoU {100 * row['mean_iou']:.0f} %, {row['mre_mm']:.1f} mm",
                                   image=own.array, spacing_mm=own.spacing_mm, at_vox=at, boxes_vox=boxes,
                                   references_vox=references))
        path = folder / f"boxes_{word}.png"
        boxes_figure(path, panels, f"Fig. 4: {case.name}", tuple(cache.landmarks))
        found.append(Figure(path, f"Fig. 4. {case.name}, {word} of {len(rows)} test cases of {shown[-1]} by its "
                                "mean IoU.", case=case.name, method=shown[-1]))
    return found


if __name__ == "__main__":
    sys.exit(run_command(main))
