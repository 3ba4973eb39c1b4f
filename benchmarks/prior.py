"""The graph prior of `face`, by its settings: which candidates it chooses from, its noise, its weight; and the oracle.

    python benchmarks/prior.py --data face.h5 --runs RUN ... [--part test] [--nms 0.3 0.5 0.7 1] [--merge 0 0.5]
        [--noise_mm 0 1 2 4] [--weight 0 0.3 1] [--csv FILE]

Nothing of it needs a training: each case goes through each network once. Settings are chosen with `--part validation`,
the default. Noise 0 and weight 0 are the paper's prior, fitted on reference landmarks and without scores; the oracle
takes of the first candidates that which overlaps the reference most: no choice among them can do better. Rows are means
over the cases and runs. The last line has the settings with the highest mean IoU, as words for `--set`: `merge` without
a prior, and then the others.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tfsono.surroundings import prepare_tensorflow

COLUMNS = ("run", "merge", "nms", "prior", "noise_mm", "weight", "mre_mm", "mean_iou", "hit_mean", "hit_35", "hit_50",
           "hit_75", "changed")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks/prior.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="the cache")
    parser.add_argument("--runs", required=True, nargs="+", help="run folders")
    parser.add_argument("--part", default="validation", choices=("train", "validation", "test"))
    parser.add_argument("--nms", type=float, nargs="+", default=[0.3, 0.5, 0.7, 1.0], help="IoU of the suppression")
    parser.add_argument("--merge", type=float, nargs="+", default=[0.0, 0.5], help="IoU of the mean of boxes; 0: none")
    parser.add_argument("--noise_mm", type=float, nargs="+", default=[0.0, 1.0, 2.0, 4.0])
    parser.add_argument("--weight", type=float, nargs="+", default=[0.0, 0.3, 1.0], help="of the prior; 0: Eq. 4")
    parser.add_argument("--csv", default=None, help="also write the row of each run")
    arguments = parser.parse_args(argv)
    prepare_tensorflow()  # after --help, which must not wait for TensorFlow
    from tfsono.configs.face import FACE
    from tfsono.data.cache import Cache
    from tfsono.training.run import read_run

    rows = []
    with Cache(arguments.data, "face") as cache:
        for folder in arguments.runs:
            run = read_run(folder, FACE)
            rows += rows_of(run, cache, run.split[arguments.part], arguments)
    report(rows)
    print(f"chosen: {words_of(best_of(rows))}")
    if arguments.csv:
        with open(arguments.csv, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)


def rows_of(run, cache, names: list[str], arguments) -> list[dict]:
    """A row for each setting, over the cases of a run."""
    found = measured(run, cache, names, arguments)
    priors = {noise: prior_for(run, noise) for noise in arguments.noise_mm}
    return [{"run": run.folder.name, "merge": merge, "nms": nms, **row} for (merge, nms), cases in found.items()
            for row in choices(cases, priors, arguments.weight, run.config.candidates)]


def prior_for(run, noise_mm: float):
    """The prior of a run with this noise."""
    from tfsono.systems.face import prior_in_run

    return prior_in_run(replace(run, settings=run.settings.set_at_test({"prior_noise_mm": noise_mm})))


def measured(run, cache, names: list[str], arguments) -> dict[tuple[float, float], list]:
    """(merge, nms) -> of each case the candidates, their scores, the reference and its boxes, and the spacing."""
    import numpy as np
    import tensorflow as tf

    from tfsono.geometry.boxes import centred_boxes
    from tfsono.inference.face import FramedFaceReader
    from tfsono.inference.module_input import module_input
    from tfsono.systems.face import measured_module

    reader = measured_module([run], with_prior=False).reader
    plain = reader.reader if isinstance(reader, FramedFaceReader) else reader
    network = tf.function(lambda image: reader.network(image, training=False))
    readers = {(merge, nms): suppression(replace(plain, merged_above=merge, highest_iou=nms))
               for merge in arguments.merge for nms in arguments.nms}
    found = {key: [] for key in readers}
    for name in names:
        case = cache.read(name)
        own = case.own
        volume, spacing = map(tf.constant, module_input(own.array, own.spacing_mm))
        view = reader.read(volume, spacing)
        boxes, scores = plain.detections(network(view.image), view.image, view.size)
        reference = case.own_points_vox(run.config.landmarks)
        targets = centred_boxes(reference, np.array(run.config.sides)[:, None] * np.array(own.size) / case.image.shape)
        for key, one in readers.items():
            best, sure = one(boxes, scores)
            best, sure = view.on_volume(best).numpy(), sure.numpy()
            found[key].append((best, sure, reference, targets, np.array(own.spacing_mm)))
    return found


def suppression(reader):
    """The `best` of a reader, traced once."""
    import tensorflow as tf

    shapes = tf.TensorSpec([None, 6], tf.float32), tf.TensorSpec([None, reader.landmarks], tf.float32)
    return tf.function(lambda boxes, scores: reader.best(boxes, scores), shapes)


def choices(cases: list, priors: dict, weights: list[float], count: int) -> Iterator[dict]:
    """The rows of one way to make candidates: the best, the oracle of the first `count`, and each prior."""
    import numpy as np

    from tfsono.geometry.boxes import iou

    def chosen(choose) -> dict:
        values = [score_of(case, choose(*case)) for case in cases]
        away, overlap, changed = (np.concatenate(parts) for parts in zip(*values, strict=True))
        hits = {f"hit_{round(100 * at)}": 100 * (overlap >= at).mean() for at in (0.35, 0.5, 0.75)}
        mean = 100 * (overlap[:, None] >= np.arange(0.5, 0.951, 0.05) - 1e-9).mean()
        return {"mre_mm": np.nanmean(away), "mean_iou": 100 * overlap.mean(), "hit_mean": mean, **hits,
                "changed": 100 * changed.mean()}

    yield {"prior": "none", "noise_mm": "", "weight": "", **chosen(lambda boxes, *_: np.zeros(len(boxes), int))}
    yield {"prior": "oracle", "noise_mm": "", "weight": "",
           **chosen(lambda boxes, scores, reference, targets, spacing:
                    iou(boxes[:, :count], targets[:, None]).argmax(axis=1))}
    for noise, prior in priors.items():
        for weight in weights:
            yield {"prior": f"weight {weight:g}" if weight else "Eq. 4", "noise_mm": noise, "weight": weight,
                   **chosen(chooser(prior, weight, count))}


def chooser(prior, weight: float, count: int):
    """What chooses among the first candidates of a case, traced once."""
    import numpy as np
    import tensorflow as tf

    graph = tf.function(lambda points, scores: prior.choose(points, scores, weight))

    def choose(boxes, scores, reference, targets, spacing):
        centres = (boxes[:, :count, :3] + boxes[:, :count, 3:]) / 2
        return graph(tf.constant(np.float32(centres * spacing)), tf.constant(scores[:, :count])).numpy()

    return choose


def score_of(case: tuple, chosen) -> tuple:
    """Distance in mm, IoU, and whether another candidate than the best is chosen, of each known landmark of a case."""
    import numpy as np

    from tfsono.geometry.boxes import iou

    boxes, _, reference, targets, spacing = case
    taken = boxes[np.arange(len(boxes)), chosen]
    known = np.isfinite(reference).all(axis=1)
    away = np.linalg.norm(((taken[:, :3] + taken[:, 3:]) / 2 - reference) * spacing, axis=1)
    return away[known], iou(taken, targets)[known], (np.asarray(chosen) > 0)[known]


def means_of(rows: list[dict]) -> list[dict]:
    """The mean of each setting over the runs."""
    import numpy as np

    settings, numbers = COLUMNS[1:6], COLUMNS[6:]
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in settings), []).append(row)
    return [dict(zip(settings, key, strict=True)) | {name: np.mean([row[name] for row in group]) for name in numbers}
            for key, group in groups.items()]


def best_of(rows: list[dict]) -> dict:
    """The settings with the highest mean IoU: `merge` without a prior, then the others."""
    means = means_of(rows)
    merge = max((row for row in means if row["prior"] == "none"), key=lambda row: row["mean_iou"])["merge"]
    return max((row for row in means if row["merge"] == merge and row["weight"] != ""), key=lambda row: row["mean_iou"])


def words_of(row: dict) -> str:
    """A row's settings for `--set`."""
    return (f"merge_iou_threshold={row['merge']:g} nms_iou_threshold={row['nms']:g} prior_noise_mm={row['noise_mm']:g} "
            f"prior_weight={row['weight']:g}")


def report(rows: list[dict]) -> None:
    """Prints the mean of each setting over the runs."""
    headings = "  ".join(f"{name:>6}" for name in ("mm", "mIoU %", "AP %", "AP35 %", "AP50 %", "AP75 %"))
    print(f"{'merge':>5}  {'nms':>4}  {'prior':>10}  {'noise mm':>8}  {headings}  {'changed %':>9}")
    for row in means_of(rows):
        cells = "  ".join(f"{row[name]:6.1f}" for name in COLUMNS[7:-1])
        print(f"{row['merge']:5g}  {row['nms']:4g}  {row['prior']:>10}  {row['noise_mm']!s:>8}  {row['mre_mm']:6.2f}  "
              f"{cells}  {row['changed']:9.1f}")


if __name__ == "__main__":
    main()
