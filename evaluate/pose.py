"""Measures runs of `pose` on their test cases: python evaluate/pose.py --data FILE.h5 --runs DIR [DIR ...] --out DIR.

Writes cases.csv, the paper's Tables 1 and 2 with the paper's rows beside ours, lengths, paired differences, Figs. 1c, 5
and 6, landmarks and report.html. With --refine each run of `land` is measured twice, unrefined and refined on each
test volume (SSL in the paper), and a table and a figure show when that helps. Runs that differ in their seed alone
share a row; with --ensemble they are also measured together. The same command resumes an interrupted evaluation.
Everything is scored on the volume's own grid.
"""

from __future__ import annotations

import sys
from pathlib import Path
from textwrap import fill

if not __package__:  # run as a file of a checkout, and not by `tfsono evaluate`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tfsono.config import evaluation_parser
from tfsono.configs.pose import LANDMARKS, MIRRORED, POSE, ROBUST, SEGMENTS
from tfsono.errors import UserError, run_command
from tfsono.files import make_folder, safe_name
from tfsono.reproduction.pose import PAPER
from tfsono.surroundings import parsed

UNNAMED = ("seed", "start_from", "finder_run")  # fields in which runs of one row may differ
COLOURS = {"Land": "#0072b2", "RNN": "#5f6673", "GAN": "#d55e00", "SSL": "#009e73"}
CURVES = tuple(LANDMARKS[number - 1] for number in (4, 6, 10, 12, 14))  # Fig. 5: the text's five
SKELETONS = ("Land-R4", "LandGCP", "SSLGCP")  # Fig. 6, after the reference
MOST_PANELS = 4
TITLE = 28  # letters in a line above a panel


def main(argv: list[str] | None = None) -> None:
    parser = evaluation_parser(POSE, __doc__, "landmarks")
    parser.add_argument("--refine", action="store_true", help="also refine the runs of land on each test volume (SSL)")
    arguments = parsed(parser, argv)
    from tfsono.evaluation.evaluation import opened
    from tfsono.report.pose_tables import in_order

    with opened(arguments, POSE, ("landmarks",)) as evaluation:
        groups = groups_of(evaluation, arguments.refine)
        rows = in_order(evaluation.rows(groups, measure))
        written = evaluation.write_tables(rows, tables_of(evaluation, rows), ("table", "flaws", "calibration", "spread",
                                                                              "refinement", "orderings"))
        evaluation.write_page(groups, written, "landmarks", cases=cases_of(evaluation, rows),
                              figures=figures(evaluation, rows))


def groups_of(evaluation, refine: bool) -> list:
    """The groups to measure: runs and, on demand, ensembles; with `refine` the runs of land again."""
    from tfsono.evaluation.comparable import check_one_value
    from tfsono.systems.pose import check_together

    check_one_value(evaluation.runs, "auc_limit_mm", "the areas of one table need one limit")
    groups = evaluation.groups(methods_of(evaluation.runs),
                               [f"ratio {run.config.ratio:g}" + " in the body's frame" * (run.config.frame == "body")
                                for run in evaluation.runs], check=check_together)  # one grid each
    if not refine:
        return groups
    land = [group for group in groups if len(group.runs) == 1 and group.first.config.method == "land"]
    if not land:
        raise UserError("--refine: refines runs of land, found none among --runs; omit it or add one")
    return groups + [group._replace(name=f"{group.name}_refined", method=refined_name(group.method), option="refined")
                     for group in land]


def methods_of(runs) -> list[str]:
    """A row's name for each run: the paper's, and how it differs from others of that name."""
    from tfsono.evaluation.methods import method_names, paper_names

    started = {run.settings.variant: set() for run in runs}
    for run in runs:
        started[run.settings.variant].add(bool(run.config.start_from))
    names = paper_names(runs, method_names([run.settings for run in runs], [""] * len(runs), UNNAMED), PAPER.names)
    one_stage = [run.config.method == "rnn" and not run.config.start_from and len(started[run.settings.variant]) > 1
                 for run in runs]
    return [f"{name}, in one stage" if alone else name for name, alone in zip(names, one_stage, strict=True)]


def refined_name(method: str) -> str:
    """The paper's name of a refined row: Land-R4 becomes SSL-R4."""
    return method.replace("Land", "SSL", 1) if "Land" in method else f"{method}, refined"


def tables_of(evaluation, rows: list[dict]) -> dict:
    """Tables 1 and 2 with what they rest on, and the calibration of the landmarks' confidence."""
    from tfsono.report.calibration import calibration_tables
    from tfsono.report.orderings import orderings_tables
    from tfsono.report.pose_tables import pose_tables
    from tfsono.report.rows import by_method

    landmarks = evaluation.cache.landmarks
    tables = pose_tables(rows, landmarks, SEGMENTS, limit_mm=evaluation.runs[0].config.auc_limit_mm,
                         papers=tuple(landmarks) == LANDMARKS)
    return tables | calibration_tables(by_method(rows), landmarks) | orderings_tables(rows, PAPER.orderings)


def cases_of(evaluation, rows: list[dict]):
    """The list of cases."""
    from tfsono.report.page import CaseList
    from tfsono.report.pose_tables import COMPARED, means_of

    return CaseList(means_of(rows, tuple(evaluation.cache.landmarks), SEGMENTS), COMPARED, "mre_mm")


def measure(evaluation, group) -> list[dict]:
    """One row per test case; those of an earlier call with the same weights and cache are read back."""
    from tfsono.systems.pose import limits_of, module_of
    from tfsono.training.confidence import confidence_files

    if group.option == "refined":
        return measure_refined(evaluation, group)
    folder = evaluation.folder(group, [*files_beside(group.first), *confidence_files(group.runs)])

    def open_measure():
        module, limits = module_of(group.runs, evaluation.weights), limits_of(group.first)
        return lambda name: [measure_case(module, group, evaluation.cache.read(name), folder, limits)]

    return evaluation.measured(group, folder, open_measure, lambda rows: summary_text(rows[0]))


def files_beside(run) -> list[Path]:
    """What a run's predictions and their flags depend on besides its weights: its atlas set, and its finder."""
    from tfsono.inference.atlases import atlases_file
    from tfsono.systems.pose import FINDER

    return [atlases_file(run.folder), *sorted((run.folder / FINDER).glob("*.weights.h5"))]


def measure_refined(evaluation, group) -> list[dict]:
    """As `measure`, refined on each volume (Sec. 2.2)."""
    from tfsono.systems.pose import limits_of, load_refiner, module_to_refine

    run = group.first
    folder = evaluation.folder(group, files_beside(run), group.option)
    plain = group._replace(name=run.folder.name, option="")  # measured before: its rows are read back
    before = {row["case"]: row for row in measure(evaluation, plain)}

    def open_measure():
        refiner, limits = load_refiner(run, module_to_refine(group.runs, evaluation.weights)), limits_of(run)
        shortage = refiner.refiner.poses.shortage(run.config.refine_atlases)
        if shortage:
            print(f"  {shortage}")
        return lambda name: [measure_refined_case(refiner, group, evaluation.cache.read(name), before[name],
                                                  folder=folder, limits=limits)]

    return evaluation.measured(group, folder, open_measure, lambda rows: summary_text(rows[0]))


def measure_case(module, group, case, folder: Path, limits) -> dict:
    """The network's prediction, measured on the case's own grid, and written."""
    from tfsono.evaluation.confidence import confidence_columns
    from tfsono.inference.module_input import module_input
    from tfsono.metrics.pose_case import known_segments
    from tfsono.training.confidence import confidence_models

    found = module(*module_input(case.own.array, case.own.spacing_mm))
    found, names = {name: value.numpy() for name, value in found.items()}, group.first.config.landmark_names
    lengths = {f"length_spread_{first}_{last}_mm": (names.index(first), names.index(last))
               for first, last in known_segments(SEGMENTS, names)}
    row = case_row(group, case, found["points_vox"], found["peaks"], folder=folder, limits=limits)
    return row | confidence_columns(found, case.own.spacing_mm, names, lengths, confidence_models(group.runs))


def measure_refined_case(refiner, group, case, before: dict, folder: Path, limits) -> dict:
    """The refined prediction, its path, the errors before, and the atlas set's distance from the reference."""
    import time

    import numpy as np

    from tfsono.inference.atlases import robust_places
    from tfsono.inference.module_input import module_input
    from tfsono.metrics.landmarks import radial_errors

    own, names = case.own, group.first.config.landmark_names
    began = time.monotonic()
    found = refiner(*module_input(own.array, own.spacing_mm))
    seconds = time.monotonic() - began
    spacing, reference = np.array(own.spacing_mm), case.own_points_vox(len(names))
    row = case_row(group, case, found.points_vox, found.peaks, folder=folder, limits=limits)
    row |= {"refined": float(found.refined), "seconds": seconds, "initial_mm": before["mre_mm"],
            "atlas_mm": refiner.refiner.poses.distance_mm(reference * spacing, robust_places(names, ROBUST)),
            "retrieved_mm": float(found.distances_mm[0]) if len(found.distances_mm) else float("nan")}
    row |= {f"initial_{name}_mm": before[f"error_{name}_mm"] for name in names}
    for step, points in enumerate(found.path_vox):
        errors = radial_errors(points * spacing, reference * spacing)
        row[f"iteration_{step}_mm"] = float(np.nanmean(errors)) if np.isfinite(errors).any() else float("nan")
    np.savez(folder / f"{safe_name(case.name)}_path.npz", path_vox=found.path_vox, losses=found.losses,
             distances_mm=found.distances_mm)
    return row | {"note": found.note}


def case_row(group, case, points_vox, peaks, folder: Path, limits) -> dict:
    """A row of cases.csv; the landmarks are written to a file, and into the row."""
    import numpy as np

    from tfsono.metrics.pose_case import known_segments, pose_metrics
    from tfsono.volumes.landmarks import points_to_mm, write_markups

    own, config = case.own, group.first.config
    names = config.landmark_names
    make_folder(folder)
    named = dict(zip(names, points_to_mm(points_vox, own), strict=True))
    write_markups(folder / f"{safe_name(case.name)}.mrk.json", named, known_segments(SEGMENTS, names))
    row = {"case": case.name, "subject": case.subject, "run": group.name, "seed": config.seed,
           "members": len(group.runs),
           **pose_metrics(points_vox, case.own_points_vox(len(names)), own.spacing_mm, landmarks=names,
                          segments=SEGMENTS, mirrored=MIRRORED, limit_mm=config.auc_limit_mm)}
    row |= {f"{name}_{axis}_vox": float(value) for name, point in zip(names, points_vox, strict=True)
            for axis, value in zip("xyz", point, strict=True)}
    points_mm = points_vox * np.array(own.spacing_mm)
    row |= {"sides_contradict": float(len(limits.exchanged(points_mm, names))),
            "odd_lengths": float(len(limits.odd_lengths(points_mm, names)))}
    row |= {f"peak_{name}": float(peak) for name, peak in zip(names, peaks, strict=True)}
    return row | {"lowest_peak": float(min(peaks)), "file": f"{folder.name}/{safe_name(case.name)}.mrk.json"}


def summary_text(row: dict) -> str:
    """A case's metrics, in words."""
    text = f"error {row['mre_mm']:.2f} mm, AUC {100 * row['auc']:.1f} %"
    if "initial_mm" in row:
        text += f", before {row['initial_mm']:.2f} mm" + (f" ({row['note']})" if row["note"] else "")
    return text


def figures(evaluation, rows: list[dict]) -> list:
    """Figs. 1c, 5 and 6, every case by method, the reliability of probabilities, and the refinement."""
    from tfsono.report.calibration import calibration_figures
    from tfsono.report.page import Figure
    from tfsono.report.plots import cases_figure
    from tfsono.report.pose_tables import COMPARED, means_of, refined_rows
    from tfsono.report.refinement import refinement_figure
    from tfsono.report.rows import by_method

    folder, cache = evaluation.figures_folder, evaluation.cache
    landmarks, methods = tuple(cache.landmarks), by_method(rows)
    found = [draw_curves(folder / "pck.png", methods, landmarks, evaluation.runs[0].config.auc_limit_mm),
             *draw_skeletons(folder, methods, evaluation.out, cache), *draw_poses(folder / "poses.png", cache)]
    cases_figure(folder / "methods.png", means_of(rows, landmarks, SEGMENTS), COMPARED)
    found.append(Figure(folder / "methods.png", "Every test case, by method; median and quartiles."))
    found += calibration_figures(folder / "calibration.png", methods, landmarks)
    refined = refined_rows(methods)
    if refined:
        path = folder / "refinement.png"
        refinement_figure(path, refined, "Refinement on the test volume: when it helps")
        found.append(Figure(path, "The mean error by iteration (blue: better at the end, orange: worse), and its "
                            "change by the error before and by the distance of the reference pose to the atlas set. "
                            "Where the error before is high, part of the change is regression to the mean."))
    return found


def draw_curves(path: Path, methods: dict[str, list[dict]], landmarks, limit_mm: float):
    """Fig. 5: the text's five landmarks, or the five with the largest errors; and all of them."""
    import numpy as np

    from tfsono.report.page import Figure
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
    pck_figure(path, curves, landmarks=landmarks, shown=shown, limit_mm=limit_mm, title="Fig. 5: PCK curves")
    return Figure(path, "Fig. 5. Share of landmarks predicted nearer than a distance; dashed: ratio 0.4.")


def draw_skeletons(folder: Path, methods: dict[str, list[dict]], out: Path, cache) -> list:
    """Fig. 6: reference and predictions of the first runs, in the best, a middle and the worst case of the last method.

    If that is refined, cases are ranked by the change of the error.
    """
    import numpy as np

    from tfsono.metrics.pose_case import known_segments
    from tfsono.report.page import Figure
    from tfsono.report.skeleton import Panel, skeleton_figure

    shown = [name for name in SKELETONS if name in methods]
    shown = shown if len(shown) > 1 else list(methods)[-MOST_PANELS:]
    first = {name: {row["case"]: row for row in methods[name] if row["run"] == methods[name][0]["run"]}
             for name in shown}
    rows = [row for row in first[shown[-1]].values() if row["mre_mm"] == row["mre_mm"]]
    rows.sort(key=lambda row: (row["mre_mm"] - row.get("initial_mm", 0.0), row["case"]))
    landmarks, found = tuple(cache.landmarks), []
    for word, place in {"best": 0, "middle": len(rows) // 2, "worst": len(rows) - 1}.items() if rows else ():
        case = cache.read(rows[place]["case"])
        spacing = np.array(case.own.spacing_mm)
        reference = case.own_points_vox(len(landmarks)) * spacing
        panels = [Panel("Reference", reference)]
        for name, row in ((name, first[name][case.name]) for name in shown):
            points = np.array([[row[f"{landmark}_{axis}_vox"] for axis in "xyz"] for landmark in landmarks])
            panels.append(Panel(f"{fill(name, TITLE)}\nmean {row['mre_mm']:.1f} mm", points * spacing, reference,
                                path_of(out, row, spacing)))
        path = folder / f"skeletons_{word}.png"
        skeleton_figure(path, [panels], landmarks, known_segments(SEGMENTS, landmarks), f"Fig. 6: {case.name}")
        kind = "the change by the refinement" if "initial_mm" in rows[0] else "its mean error"
        found.append(Figure(path, f"Fig. 6. {case.name}, {word} of {len(rows)} test cases of {shown[-1]} by "
                                f"{kind}; a black line is a landmark's path through the iterations.",
                            case=case.name, method=shown[-1]))
    return found


def path_of(out: Path, row: dict, spacing):
    """[T + 1, K, 3] millimetres, of a refined prediction; None for another."""
    import numpy as np

    path = out / "runs" / row["file"].replace(".mrk.json", "_path.npz")
    if not row.get("refined") or not path.is_file():
        return None
    return np.load(path, allow_pickle=False)["path_vox"] * spacing


def draw_poses(path: Path, cache) -> list:
    """Fig. 1c: the reference poses of all cases, registered to one another."""
    import numpy as np

    from tfsono.geometry.rigid import aligned_poses
    from tfsono.inference.atlases import robust_places
    from tfsono.metrics.pose_case import known_segments
    from tfsono.report.page import Figure
    from tfsono.report.skeleton import poses_figure

    landmarks, poses = tuple(cache.landmarks), []
    for name in cache.names:
        points = cache.points_vox(name)
        if points is not None and np.isfinite(points).all():
            poses.append(points * np.array(cache.spacing_mm(name)))
    if not poses:
        return []
    aligned = aligned_poses(np.stack(poses), robust_places(landmarks, ROBUST))
    poses_figure(path, aligned, landmarks, known_segments(SEGMENTS, landmarks), "Figs. 1b and 1c: the data's poses")
    return [Figure(path, f"Fig. 1c. The {len(poses)} complete reference poses, training cases too, moved rigidly onto "
                    "their mean.")]


if __name__ == "__main__":
    sys.exit(run_command(main))
