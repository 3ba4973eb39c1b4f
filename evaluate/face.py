"""Measures runs of `face` on their test cases: python evaluate/face.py --data FILE.h5 --runs DIR [DIR ...] --out DIR.

Writes cases.csv, the paper's Tables 1 and 2 with the paper's rows beside ours, average precision as COCO and VOC count
it, flaws, paired differences, Figs. 3 and 4, landmarks with their boxes, and report.html. A run of one stage is
measured twice, without the graph prior and with it. Runs that differ in their seed alone share a row; the same command
goes on where it stopped. Everything is scored on the volume's own grid.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from tfsono.config import evaluation_parser
from tfsono.configs.face import FACE, LANDMARKS, MIRRORED
from tfsono.files import make_folder
from tfsono.errors import run_command

NAMES = {"rpn": ("RPN", "G-RPN"), "ig_rpn": ("I-RPN", "IG-RPN"), "ssd": ("SSD", "G-SSD"), "ig_ssd": ("I-SSD", "IG-SSD"),
         "faster_rcnn": ("Faster R-CNN", ""), "heatmap": ("Heatmap", "")}  # without and with the prior; Tables 1 and 2
BOXED = ("RPN", "IG-RPN")  # Fig. 4
TIMED, WARM_UP = 20, 2  # calls


def main(argv: list[str] | None = None) -> None:
    arguments = evaluation_parser(FACE, __doc__, "landmarks").parse_args(argv)

    from tfsono.data.cache import Cache
    from tfsono.evaluation.comparable import check_comparable
    from tfsono.report.face_tables import in_order
    from tfsono.report.tables import write_cases
    from tfsono.training.run import read_run

    runs = [read_run(folder, FACE) for folder in arguments.runs]
    methods = methods_of(runs)
    with Cache(arguments.data, "face") as cache:
        check_comparable(runs, cache, ("landmarks",), arguments.weights)
        out, rows, detections = make_folder(arguments.out), [], {}
        for run, (plain, chosen) in zip(runs, methods, strict=True):
            print(f"{run.folder}: {' and '.join(filter(None, (plain, chosen)))}")
            found = measure(run, cache, out, arguments.weights)
            for name, prior in ((plain, 0), (chosen, 1)):
                rows += [{"method": name, **row} for row in found if name and row["prior"] == prior]
                if name and run.config.boxes:
                    detections.setdefault(name, {})[run.folder.name] = listed(out, found)
        rows = in_order(rows)
        write_cases(out / "cases.csv", rows)
        tables = write_tables(out, rows, detections, tuple(cache.landmarks))
        figures = write_figures(out, rows, runs, cache)
    write_report(out, tables, figures, runs, [plain for plain, _ in methods])


def methods_of(runs) -> list[tuple[str, str]]:
    """Of each run the names of its rows without and with the prior ("" for none): the paper's, and what is its own."""
    from tfsono.evaluation.methods import method_names

    names = []
    for run, name in zip(runs, method_names([run.settings for run in runs], [""] * len(runs)), strict=True):
        variant = run.settings.variant
        plain, chosen = NAMES[variant] if run.config.use_prior else (NAMES[variant][0], "")
        others = [word for word in name.split(", ") if word != variant]
        names.append(tuple(", ".join([own, *others]) if own else "" for own in (plain, chosen)))
    return names


def measure(run, cache, out: Path, weights: str) -> list[dict]:
    """One row per test case, without the prior, and one with it; what an earlier call measured is read back."""
    from tfsono.inference.face_prior import PRIOR
    from tfsono.evaluation.measured import answers_folder, measured
    from tfsono.systems.face import load_run

    has_prior = bool(NAMES[run.settings.variant][1]) and run.config.use_prior
    files = [run.weights(weights), *([run.folder / PRIOR] if has_prior else [])]
    folder = answers_folder(out, run.folder.name, cache.path, files, run.config)

    def open_measure():
        _, module = load_run(run.folder, weights, has_prior)
        times = times_ms(module, cache.read(run.split["test"][0]))
        return lambda name: measure_case(module, run, cache.read(name), folder, times)

    return measured(folder, run.split["test"], open_measure, summary_text)


def times_ms(module, case) -> list[float]:
    """Milliseconds of one volume, the median of 20 calls after a warm-up: without the prior, and then with it."""
    import statistics
    import time

    from tfsono.inference.face import FaceModule

    found, arguments = [], given(case)
    for timed in (FaceModule(module.reader), *([module] if module.prior else [])):
        seconds = []
        for call in range(WARM_UP + TIMED):
            began = time.monotonic()
            timed(*arguments)["points_vox"].numpy()
            seconds += [time.monotonic() - began] if call >= WARM_UP else []
        found.append(1000 * statistics.median(seconds))
    return found


def device() -> str:
    """What it ran on, as the table names it."""
    import platform

    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        return tf.config.experimental.get_device_details(gpus[0]).get("device_name", "a GPU")
    return f"{os.cpu_count()} cores ({platform.machine()})"


def given(case) -> tuple:
    """The arguments of a module: raw intensities and the spacing, on the case's own grid."""
    import numpy as np

    own = case.own
    return np.ascontiguousarray(own.array, np.float32), np.float32(own.spacing_mm)


def measure_case(module, run, case, folder: Path, times: list[float]) -> list[dict]:
    """The rows of a case, without the prior and with it; the answer is kept as files."""
    import numpy as np

    from tfsono.metrics.face_case import face_metrics

    own, names, config = case.own, run.config.landmark_names, run.config
    answer = {key: value.numpy() for key, value in module(*given(case)).items()}
    truth = case.own_points_vox(len(names))
    sides = np.array(config.sides)[:, None] * np.array(own.array.shape) / case.image.shape  # on its own grid, [K, 3]
    make_folder(folder)
    np.savez(folder / f"{case.name}.npz", truth=truth, sides=sides, **answer)
    best = answer["candidate_boxes_vox"][:, 0]
    first = {**answer, "points_vox": centres(best), "scores": answer["candidate_scores"][:, 0], "boxes_vox": best,
             "chosen": np.zeros_like(answer["chosen"])}
    rows = []
    for prior, (found, milliseconds) in enumerate(zip((first, answer), times)):
        if not config.boxes:
            found = {"points_vox": found["points_vox"], "scores": found["scores"]}
        file = write_answer(folder, case, found, names, prior)
        rows.append({"case": case.name, "subject": case.subject, "run": run.folder.name, "seed": config.seed,
                     "prior": prior, **face_metrics(found, truth, sides, own.spacing_mm, names, MIRRORED),
                     "time_ms": milliseconds, "device": device(), "file": file,
                     "answer": f"{folder.name}/{case.name}.npz"})
    return rows


def centres(boxes):
    """[K, 3] of boxes [K, 6]."""
    return (boxes[:, :3] + boxes[:, 3:]) / 2


def write_answer(folder: Path, case, found: dict, names, prior: int) -> str:
    """The landmarks, and their boxes where there are some, as 3D Slicer's markups; the file's place."""
    from tfsono.volumes.landmarks import box_to_mm, points_to_mm, write_markups

    own = case.own
    boxes = {name: box_to_mm(box, own) for name, box in zip(names, found.get("boxes_vox", ()))}
    path = folder / f"{case.name}{'_prior' * prior}.mrk.json"
    write_markups(path, dict(zip(names, points_to_mm(found["points_vox"], own), strict=True)), boxes=boxes)
    return f"{folder.name}/{path.name}"


def summary_text(rows: list[dict]) -> str:
    """What a case's numbers are, in words."""
    words = []
    for row, after in zip(rows, ("", " with the prior")):
        text = f"error {row['mean_error_mm']:.2f} mm"
        text += f", IoU {100 * row['mean_iou']:.1f} %" if row["mean_iou"] == row["mean_iou"] else ""
        text += f", {row['missing']:.0f} missing" if row["missing"] else ""
        words.append(text + after)
    return "; ".join(words)


def listed(out: Path, rows: list[dict]) -> list:
    """The candidates of every case of a run, and its true boxes, for the average precision."""
    import numpy as np

    from tfsono.geometry.boxes import centred_boxes
    from tfsono.metrics.detection import CaseDetections

    cases = []
    for row in rows:
        if row["prior"] == 0:
            with np.load(out / "runs" / row["answer"], allow_pickle=False) as kept:
                cases.append(CaseDetections(kept["candidate_boxes_vox"], kept["candidate_scores"],
                                            centred_boxes(kept["truth"], kept["sides"])))
    return cases


def write_tables(out: Path, rows: list[dict], detections: dict, landmarks: tuple[str, ...]) -> list:
    """Tables 1 and 2, average precision, flaws, landmarks, paired differences."""
    from tfsono.report.face_tables import face_tables
    from tfsono.report.tables import to_markdown, write_table

    tables = face_tables(rows, detections, landmarks, landmarks == LANDMARKS)
    for stem, table in tables.items():
        write_table(out, stem, table)
        if stem in ("table1", "table2", "flaws"):
            print(f"\n{to_markdown(table)}")
    return list(tables.values())


def write_figures(out: Path, rows: list[dict], runs, cache) -> list:
    """Figs. 3 and 4, every case by method, and the trainings."""
    from tfsono.report.face_tables import COMPARED, means_of
    from tfsono.report.rows import by_method
    from tfsono.report.page import Picture
    from tfsono.report.plots import cases_figure, history_figure
    from tfsono.training.run import read_history

    figures = make_folder(out / "figures")
    pictures = [*draw_ratios(figures / "ratios.png", runs, cache), *draw_boxes(figures, by_method(rows), out, cache)]
    cases_figure(figures / "methods.png", means_of(rows, tuple(cache.landmarks)), COMPARED)
    pictures.append(Picture(figures / "methods.png", "Every test case, by method."))
    for run in runs:
        path = figures / f"history_{run.folder.name}.png"
        history_figure(path, read_history(run.folder / "history.csv"), title=run.folder.name)
        pictures.append(Picture(path, f"Training of {run.folder.name}."))
    return pictures


def draw_ratios(path: Path, runs, cache) -> list:
    """Fig. 3 b-d: the ratios in the training cases and the normal distributions of the first run with a prior."""
    import numpy as np

    from tfsono.inference.face_prior import PRIOR, read_prior
    from tfsono.report.histograms import ratio_histograms
    from tfsono.report.page import Picture

    run = next((run for run in runs if (run.folder / PRIOR).is_file()), None)
    if run is None:
        return []
    prior = read_prior(run.folder / PRIOR, run.config.landmark_names)
    known = [name for name in run.split["train"] if name in cache.names and cache.points_vox(name) is not None]
    if not known:
        return []
    faces = np.stack([cache.points_vox(name) * np.array(cache.spacing_mm(name)) for name in known])
    ratio_histograms(path, prior.values(faces), prior.normals, "Fig. 3 b-d: distance ratios of the training cases")
    return [Picture(path, f"Fig. 3 b-d. Ratios of distances in {len(known)} training cases, and fitted normal curves.")]


def draw_boxes(folder: Path, methods: dict[str, list[dict]], out: Path, cache) -> list:
    """Fig. 4: true and found boxes of RPN and IG-RPN, in the best, a middle and the worst case of the last of them."""
    import numpy as np

    from tfsono.geometry.boxes import centred_boxes
    from tfsono.report.boxes import BoxPanel, boxes_figure
    from tfsono.report.page import Picture

    boxed = [name for name, rows in methods.items() if any(row["mean_iou"] == row["mean_iou"] for row in rows)]
    shown = [name for name in BOXED if name in boxed]
    shown = shown if len(shown) > 1 else boxed[-2:]
    if not shown:
        return []
    first = {name: {row["case"]: row for row in methods[name] if row["run"] == methods[name][0]["run"]}
             for name in shown}
    rows = sorted((row for row in first[shown[-1]].values() if row["mean_iou"] == row["mean_iou"]),
                  key=lambda row: (-row["mean_iou"], row["case"]))
    pictures = []
    for word, place in {"best": 0, "middle": len(rows) // 2, "worst": len(rows) - 1}.items() if rows else ():
        case, panels = cache.read(rows[place]["case"]), []
        own = case.own
        for name in shown:
            row = first[name][case.name]
            with np.load(out / "runs" / row["answer"], allow_pickle=False) as kept:
                boxes = kept["boxes_vox"] if row["prior"] else kept["candidate_boxes_vox"][:, 0]
                truths = centred_boxes(kept["truth"], kept["sides"])
                at = np.nanmean(kept["truth"], axis=0)
            panels.append(BoxPanel(f"{name}: mean IoU {100 * row['mean_iou']:.0f} %, {row['mean_error_mm']:.1f} mm",
                                   own.array, own.spacing_mm, at, boxes, truths))
        path = folder / f"boxes_{word}.png"
        boxes_figure(path, panels, f"Fig. 4: {case.name}", tuple(cache.landmarks))
        pictures.append(Picture(path, f"Fig. 4. {case.name}, {word} of {len(rows)} test cases of {shown[-1]} by its "
                                "mean IoU."))
    return pictures


def write_report(out: Path, tables: list, figures: list, runs, methods: list[str]) -> None:
    """report.html, and where everything is."""
    from tfsono.report.page import write_evaluation_page
    from tfsono.training.start import initialisation_of

    said = [f"{method}: {run.folder.name}, {initialisation_of(run.folder)}"
            for run, method in zip(runs, methods, strict=True)]
    write_evaluation_page(out, f"face: {runs[0].data['dataset']}", tables, figures, said, "landmarks with their boxes")


if __name__ == "__main__":
    sys.exit(run_command(main))
