"""Measures runs of `pose` on their test cases: python evaluate/pose.py --data FILE.h5 --runs DIR [DIR ...] --out DIR.

Writes cases.csv, the paper's Tables 1 and 2 with the paper's rows beside ours, lengths, paired differences, Figs. 1c, 5
and 6, landmarks and report.html. With --refine each run of `land` is measured twice, as it is and refined on each test
volume (SSL in the paper), and a table and a figure say when that helps. Runs that differ in their seed alone share a
row; the same command goes on where it stopped. Everything is scored on the volume's own grid.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from tfsono.config import evaluation_parser
from tfsono.configs.pose import LANDMARKS, MIRRORED, POSE, ROBUST, SEGMENTS
from tfsono.errors import UserError, run_command
from tfsono.files import make_folder

UNNAMED = ("seed", "start_from")  # fields in which runs of one row may differ
NAMES = {"land_r4": "Land-R4", "land_gcp": "LandGCP", "rnn_r4": "RNN-R4", "rnn_gcp": "RNNGCP", "gan_r4": "GAN-R4",
         "gan_gcp": "GANGCP"}
COLOURS = {"Land": "#0072b2", "RNN": "#5f6673", "GAN": "#d55e00", "SSL": "#009e73"}
CURVES = tuple(LANDMARKS[number - 1] for number in (4, 6, 10, 12, 14))  # Fig. 5: the text's five
SKELETONS = ("Land-R4", "LandGCP", "SSLGCP")  # Fig. 6, after the truth
MOST_PANELS = 4


def main(argv: list[str] | None = None) -> None:
    parser = evaluation_parser(POSE, __doc__, "landmarks")
    parser.add_argument("--refine", action="store_true", help="refine the runs of land on each test volume too: SSL")
    arguments = parser.parse_args(argv)

    from tfsono.data.cache import Cache
    from tfsono.report.pose_tables import in_order
    from tfsono.report.tables import write_cases
    from tfsono.training.run import read_run

    runs = [read_run(folder, POSE) for folder in arguments.runs]
    methods = methods_of(runs)
    with Cache(arguments.data, "pose") as cache:
        check_runs(runs, cache, arguments.weights)
        refined = [run.config.method == "land" and arguments.refine for run in runs]
        if arguments.refine and not any(refined):
            raise UserError("--refine: refines runs of land, found none among --runs; leave it out or add one")
        out, rows = make_folder(arguments.out), []
        for run, method, twice in zip(runs, methods, refined, strict=True):
            print(f"{run.folder}: {method}")
            plain = measure(run, cache, out, arguments.weights)
            rows += [{"method": method, **row} for row in plain]
            if twice:
                print(f"{run.folder}: {refined_name(method)}")
                rows += [{"method": refined_name(method), **row}
                         for row in measure_refined(run, cache, out, arguments.weights, plain)]
        rows = in_order(rows)
        write_cases(out / "cases.csv", rows)
        tables = write_tables(out, rows, cache.landmarks, runs[0].config.auc_limit_mm)
        figures = write_figures(out, rows, runs, cache)
    write_report(out, tables, figures, runs, methods)


def methods_of(runs) -> list[str]:
    """A row's name for each run: the paper's, and what tells it from others of that name."""
    from tfsono.evaluation.methods import method_names

    names, started = [], {run.settings.variant: set() for run in runs}
    for run in runs:
        started[run.settings.variant].add(bool(run.config.start_from))
    for run, name in zip(runs, method_names([run.settings for run in runs], [""] * len(runs), UNNAMED), strict=True):
        variant = run.settings.variant
        own = NAMES.get(variant, variant)
        name = name.replace(variant, own, 1) if variant in name else ", ".join(filter(None, (own, name)))
        one_stage = run.config.method == "rnn" and not run.config.start_from and len(started[variant]) > 1
        names.append(f"{name}, in one stage" if one_stage else name)
    return names


def refined_name(method: str) -> str:
    """The paper's name of a refined row: Land-R4 becomes SSL-R4."""
    return method.replace("Land", "SSL", 1) if "Land" in method else f"{method}, refined"


def check_runs(runs, cache, weights: str) -> None:
    """Runs in one table must be comparable, and have one limit of the areas."""
    from tfsono.evaluation.comparable import check_comparable

    check_comparable(runs, cache, ("landmarks",), weights)
    for run in runs:
        if run.config.auc_limit_mm != runs[0].config.auc_limit_mm:
            raise UserError(f"{run.folder}: --auc_limit_mm {run.config.auc_limit_mm}, and {runs[0].folder} has "
                            f"{runs[0].config.auc_limit_mm}; areas of one table must have one limit")


def measure(run, cache, out: Path, weights: str) -> list[dict]:
    """One row per test case; what an earlier call measured with the same weights and cache is read back."""
    from tfsono.evaluation.measured import answers_folder, measured
    from tfsono.systems.pose import load_run

    folder = answers_folder(out, run.folder.name, cache.path, [run.weights(weights)], run.config)

    def open_measure():
        _, module = load_run(run.folder, weights)
        return lambda name: [measure_case(module, run, cache.read(name), folder)]

    return measured(folder, run.split["test"], open_measure, lambda rows: summary_text(rows[0]))


def measure_refined(run, cache, out: Path, weights: str, plain: list[dict]) -> list[dict]:
    """As `measure`, refined on each volume (Sec. 2.2); `plain` are the rows before."""
    from tfsono.inference.atlases import LIBRARY
    from tfsono.evaluation.measured import answers_folder, measured
    from tfsono.systems.pose import load_refiner, load_run

    files = [run.weights(weights), run.folder / LIBRARY]
    folder = answers_folder(out, f"{run.folder.name}_refined", cache.path, files, run.config)
    before = {row["case"]: row for row in plain}

    def open_measure():
        _, module = load_run(run.folder, weights)
        refiner = load_refiner(run, module)
        shortage = refiner.refiner.poses.shortage(run.config.refine_atlases)
        if shortage:
            print(f"  {shortage}")
        return lambda name: [measure_refined_case(refiner, run, cache.read(name), before[name], folder)]

    return measured(folder, run.split["test"], open_measure, lambda rows: summary_text(rows[0]))


def measure_case(module, run, case, folder: Path) -> dict:
    """The answer of the network, measured on the case's own grid, and kept."""
    own = case.own
    answer = module(*given(own))
    return case_row(run, case, answer["points_vox"].numpy(), answer["peaks"].numpy(), folder)


def measure_refined_case(refiner, run, case, before: dict, folder: Path) -> dict:
    """The refined answer, its way, what it was before, and how far the true pose is from the library."""
    import time

    import numpy as np

    from tfsono.inference.atlases import robust_places
    from tfsono.metrics.landmarks import radial_errors

    own, names = case.own, run.config.landmark_names
    began = time.monotonic()
    found = refiner(*given(own))
    seconds = time.monotonic() - began
    spacing, truth = np.array(own.spacing_mm), case.own_points_vox(len(names))
    row = case_row(run, case, found.points_vox, found.peaks, folder)
    row |= {"refined": float(found.refined), "seconds": seconds, "initial_mm": before["mean_error_mm"],
            "library_mm": refiner.refiner.poses.distance_mm(truth * spacing, robust_places(names, ROBUST)),
            "retrieved_mm": float(found.distances_mm[0]) if len(found.distances_mm) else float("nan")}
    row |= {f"initial_{name}_mm": before[f"error_{name}_mm"] for name in names}
    for step, points in enumerate(found.path_vox):
        errors = radial_errors(points * spacing, truth * spacing)
        row[f"iteration_{step}_mm"] = float(np.nanmean(errors)) if np.isfinite(errors).any() else float("nan")
    np.savez(folder / f"{case.name}_path.npz", path_vox=found.path_vox, losses=found.losses,
             distances_mm=found.distances_mm)
    return row | {"note": found.note}


def given(own) -> tuple:
    """The arguments of a module: raw intensities and the spacing."""
    import numpy as np

    return np.ascontiguousarray(own.array, np.float32), np.float32(own.spacing_mm)


def case_row(run, case, points_vox, peaks, folder: Path) -> dict:
    """A row of cases.csv; the landmarks are kept as a file, and in the row."""
    from tfsono.metrics.pose_case import known_segments, pose_metrics
    from tfsono.volumes.landmarks import points_to_mm, write_markups

    own, names = case.own, run.config.landmark_names
    make_folder(folder)
    named = dict(zip(names, points_to_mm(points_vox, own), strict=True))
    write_markups(folder / f"{case.name}.mrk.json", named, known_segments(SEGMENTS, names))
    row = {"case": case.name, "subject": case.subject, "run": run.folder.name, "seed": run.config.seed,
           **pose_metrics(points_vox, case.own_points_vox(len(names)), own.spacing_mm, names, SEGMENTS, MIRRORED,
                          run.config.auc_limit_mm)}
    row |= {f"{name}_{axis}_vox": float(value) for name, point in zip(names, points_vox, strict=True)
            for axis, value in zip("xyz", point, strict=True)}
    row |= {f"peak_{name}": float(peak) for name, peak in zip(names, peaks, strict=True)}
    return row | {"lowest_peak": float(min(peaks)), "file": f"{folder.name}/{case.name}.mrk.json"}


def summary_text(row: dict) -> str:
    """What a case's numbers are, in words."""
    text = f"error {row['mean_error_mm']:.2f} mm, AUC {100 * row['auc']:.1f} %"
    if "initial_mm" in row:
        text += f", before {row['initial_mm']:.2f} mm" + (f" ({row['note']})" if row["note"] else "")
    return text


def write_tables(out: Path, rows: list[dict], landmarks, limit_mm: float) -> list:
    """Tables 1 and 2, flaws and lengths, paired differences, and when refinement helps."""
    from tfsono.report.pose_tables import pose_tables
    from tfsono.report.tables import to_markdown, write_table

    tables = pose_tables(rows, landmarks, SEGMENTS, limit_mm, tuple(landmarks) == LANDMARKS)
    for stem, table in tables.items():
        write_table(out, stem, table)
        if stem in ("table1", "table2", "flaws", "refinement"):
            print(f"\n{to_markdown(table)}")
    return list(tables.values())


def write_figures(out: Path, rows: list[dict], runs, cache) -> list:
    """Figs. 1c, 5 and 6, every case by method, the refinement's ways, and the trainings."""
    from tfsono.report.rows import by_method
    from tfsono.report.page import Picture
    from tfsono.report.plots import cases_figure, history_figure
    from tfsono.report.pose_tables import COMPARED, means_of, refined_rows
    from tfsono.report.refinement import refinement_figure
    from tfsono.training.run import read_history

    figures, landmarks = make_folder(out / "figures"), tuple(cache.landmarks)
    methods = by_method(rows)
    pictures = [draw_curves(figures / "pck.png", methods, landmarks, runs[0].config.auc_limit_mm),
                *draw_skeletons(figures, methods, out, cache), *draw_poses(figures / "poses.png", cache)]
    cases_figure(figures / "methods.png", means_of(rows, landmarks, SEGMENTS), COMPARED)
    pictures.append(Picture(figures / "methods.png", "Every test case, by method."))
    refined = refined_rows(methods)
    if refined:
        path = figures / "refinement.png"
        refinement_figure(path, refined, "Refinement on the test volume: when it helps and when it harms")
        pictures.append(Picture(path, "The mean error by iteration (blue: better at the end, orange: worse), and its "
                                "change by the error before and by the distance of the true pose to the library. Where "
                                "the error before is high a part of the change is chance."))
    for run in runs:
        path = figures / f"history_{run.folder.name}.png"
        history_figure(path, read_history(run.folder / "history.csv"), title=run.folder.name)
        pictures.append(Picture(path, f"Training of {run.folder.name}."))
    return pictures


def draw_curves(path: Path, methods: dict[str, list[dict]], landmarks, limit_mm: float):
    """Fig. 5: the text's five landmarks, or the five with the largest errors; and all of them."""
    import numpy as np

    from tfsono.report.page import Picture
    from tfsono.report.pck import Curve, pck_figure

    curves = {}
    for method, rows in methods.items():
        errors, areas = (np.array([[row[key.format(name)] for name in landmarks] for row in rows])
                         for key in ("error_{}_mm", "auc_{}"))
        colour = next((colour for name, colour in COLOURS.items() if name in method), "")
        curves[method] = Curve(errors, np.isfinite(areas), colour, "-R4" in method)
    shown = [name for name in CURVES if name in landmarks]
    if not shown:
        every = np.concatenate([curve.errors_mm for curve in curves.values()])
        large = np.where(np.isfinite(every), every, 0).mean(axis=0)
        shown = [landmarks[place] for place in sorted(np.argsort(-large)[:5])]
    pck_figure(path, curves, landmarks, shown, limit_mm, "Fig. 5: PCK curves")
    return Picture(path, "Fig. 5. Landmarks found nearer than a distance, of all answers; dashed: ratio 0.4.")


def draw_skeletons(folder: Path, methods: dict[str, list[dict]], out: Path, cache) -> list:
    """Fig. 6: truth and answers of the first runs, in the best, a middle and the worst case of the last method.

    Where it is refined, best and worst are by what the refinement changed.
    """
    import numpy as np

    from tfsono.metrics.pose_case import known_segments
    from tfsono.report.page import Picture
    from tfsono.report.skeleton import Panel, skeleton_figure

    shown = [name for name in SKELETONS if name in methods]
    shown = shown if len(shown) > 1 else list(methods)[-MOST_PANELS:]
    first = {name: {row["case"]: row for row in methods[name] if row["run"] == methods[name][0]["run"]}
             for name in shown}
    rows = [row for row in first[shown[-1]].values() if row["mean_error_mm"] == row["mean_error_mm"]]
    rows.sort(key=lambda row: (row["mean_error_mm"] - row.get("initial_mm", 0.0), row["case"]))
    landmarks, pictures = tuple(cache.landmarks), []
    for word, place in {"best": 0, "middle": len(rows) // 2, "worst": len(rows) - 1}.items() if rows else ():
        case = cache.read(rows[place]["case"])
        spacing = np.array(case.own.spacing_mm)
        truth = case.own_points_vox(len(landmarks)) * spacing
        panels = [Panel("Truth", truth)]
        for name, row in ((name, first[name][case.name]) for name in shown):
            points = np.array([[row[f"{landmark}_{axis}_vox"] for axis in "xyz"] for landmark in landmarks])
            panels.append(Panel(f"{name}\nmean {row['mean_error_mm']:.1f} mm", points * spacing, truth,
                                way(out, row, spacing)))
        path = folder / f"skeletons_{word}.png"
        skeleton_figure(path, [panels], landmarks, known_segments(SEGMENTS, landmarks), f"Fig. 6: {case.name}")
        kind = "what the refinement changed" if "initial_mm" in rows[0] else "its mean error"
        pictures.append(Picture(path, f"Fig. 6. {case.name}, {word} of {len(rows)} test cases of {shown[-1]} by "
                                f"{kind}; a black line is a landmark's way through the iterations."))
    return pictures


def way(out: Path, row: dict, spacing):
    """[T + 1, K, 3] millimetres, where the refinement kept it; None for an answer that was not refined."""
    import numpy as np

    path = out / "runs" / row["file"].replace(".mrk.json", "_path.npz")
    if not row.get("refined") or not path.is_file():
        return None
    return np.load(path, allow_pickle=False)["path_vox"] * spacing


def draw_poses(path: Path, cache) -> list:
    """Fig. 1c: the true poses of all cases, moved onto one another."""
    import numpy as np

    from tfsono.inference.atlases import robust_places
    from tfsono.metrics.pose_case import known_segments
    from tfsono.report.page import Picture
    from tfsono.report.skeleton import aligned_poses, poses_figure

    landmarks, poses = tuple(cache.landmarks), []
    for name in cache.names:
        points = cache.points_vox(name)
        if points is not None and np.isfinite(points).all():
            poses.append(points * np.array(cache.spacing_mm(name)))
    if not poses:
        return []
    aligned = aligned_poses(np.stack(poses), robust_places(landmarks, ROBUST))
    poses_figure(path, aligned, landmarks, known_segments(SEGMENTS, landmarks), "Figs. 1b and 1c: the data's poses")
    return [Picture(path, f"Fig. 1c. The {len(poses)} true poses without a gap, training cases too, moved rigidly onto "
                    "their mean.")]


def write_report(out: Path, tables: list, figures: list, runs, methods: list[str]) -> None:
    """report.html, and where everything is."""
    from tfsono.report.page import write_evaluation_page
    from tfsono.training.start import initialisation_of

    said = [f"{method}: {run.folder.name}, {initialisation_of(run.folder)}"
            for run, method in zip(runs, methods, strict=True)]
    write_evaluation_page(out, f"pose: {runs[0].data['dataset']}", tables, figures, said, "landmarks")


if __name__ == "__main__":
    sys.exit(run_command(main))
