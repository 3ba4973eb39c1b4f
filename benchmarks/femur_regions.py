"""Settings of `femur`'s prediction on validation cases: regions, masks, tips; nothing is trained or written.

    tfsono phantom femur data --preset quick --cases 66 && tfsono audit data
    tfsono cache femur data femur.h5 --preset quick
    python benchmarks/femur_regions.py split --data femur.h5 --out split.json --test 20 --first 50
    python train/femur.py --data femur.h5 --run_dir runs/brndc --preset quick --roi_run runs/roi --split split.json
    python benchmarks/femur_regions.py score --data femur.h5 --runs runs/brndc --set roi_passes=1 --set roi_passes=2

The split of the first 50 cases is that of 50 cases alone, with their seed 0; the others are for validation. A row of
`score` is a run with the values of one `--set`, by its last weights. `tips` says more about the ends of the masks.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tfsono.surroundings import prepare_tensorflow

prepare_tensorflow()

import numpy as np

from evaluate.femur import reference_points, region_of
from tfsono.config import assignment
from tfsono.configs.femur import FEMUR
from tfsono.data.cache import Cache
from tfsono.data.splits import chosen_split
from tfsono.geometry.regions import Box, box_iou, box_of
from tfsono.inference.module_input import module_input
from tfsono.metrics.femur_case import MaskAndPoints, coverage, joint_metrics
from tfsono.systems.femur import module_of
from tfsono.training.run import read_run

COLUMNS = (("box_iou", "IoU %", 100), ("mask_inside", "mask inside %", 100), ("landmarks_inside", "tips inside %", 100),
           ("dice", "DSC %", 100), ("error_proximal_mm", "proximal mm", 1), ("error_distal_mm", "distal mm", 1),
           ("length_abs_error_mm", "length mm", 1), ("contradiction", "contradictions %", 100))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks/femur_regions.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("split", "score", "tips"))
    parser.add_argument("--data", required=True, help="the cache")
    parser.add_argument("--out", default="split.json", help="of `split`")
    parser.add_argument("--first", type=int, default=50, help="cases that `split` divides as if they were alone")
    parser.add_argument("--test", type=int, default=20, help="test cases among them")
    parser.add_argument("--runs", nargs="+", default=[])
    parser.add_argument("--split", default="", help="file with the validation cases; default: each run's own split")
    parser.add_argument("--part", default="validation", choices=("train", "validation", "test"))
    parser.add_argument("--box", default="found", choices=("found", "reference"))
    parser.add_argument("--set", action="append", nargs="+", default=[], metavar="FIELD=VALUE",
                        type=lambda text: assignment(FEMUR, text), help="a row; several values may stand in one")
    arguments = parser.parse_args(argv)
    with Cache(arguments.data, "femur") as cache:
        if arguments.what == "split":
            write_split(cache, arguments)
        elif arguments.what == "tips":
            tips(cache, arguments)
        else:
            score(cache, arguments)


def write_split(cache: Cache, arguments: argparse.Namespace) -> None:
    """The split of the first cases alone, and all others as validation."""
    names, others = cache.names[:arguments.first], cache.names[arguments.first:]
    split = chosen_split(None, None, names, cache.subjects, test_cases=arguments.test, validation_cases=0, seed=0)
    Path(arguments.out).write_text(json.dumps({**split, "validation": others}, indent=2) + "\n", encoding="utf-8")
    print({name: len(cases) for name, cases in {**split, "validation": others}.items()})


def score(cache: Cache, arguments: argparse.Namespace) -> None:
    """A row of means for each run and each `--set`."""
    print("| run | set |", " | ".join(name for _, name, _ in COLUMNS), "|")
    for folder in arguments.runs:
        for values in arguments.set or [[]]:
            rows = [row for row, *_ in measured(cache, folder, dict(values), arguments)]
            means = [f"{factor * np.nanmean([row.get(key, np.nan) for row in rows]):.1f}" for key, _, factor in COLUMNS]
            worst = min(row["mask_inside"] for row in rows)
            words = " ".join(f"{name}={value}" for name, value in values)
            print(f"| {Path(folder).name} | {words} |", " | ".join(means), f"| lowest mask inside {100 * worst:.0f} %",
                  flush=True)


def tips(cache: Cache, arguments: argparse.Namespace) -> None:
    """Every tip: its peak, the errors of heatmap and mask end, and the distance between the two."""
    for folder in arguments.runs:
        for values in arguments.set or [[]]:
            print("case, tip, peak, error of the heatmap, error of the end, heatmap to end, mm")
            for row, raw, reference, spacing in measured(cache, folder, dict(values), arguments):
                points, ends = (raw[key].numpy() for key in ("points_vox", "ends_vox"))
                errors = [np.linalg.norm((one - other) * spacing, axis=1)
                          for one, other in ((points, reference), (ends, reference), (points, ends))]
                for tip, values_of in enumerate(zip(raw["peaks"].numpy(), *errors, strict=True)):
                    print(f"{row['case']}, {tip}, " + ", ".join(f"{value:.2f}" for value in values_of), flush=True)


def measured(cache: Cache, folder: str, values: dict, arguments: argparse.Namespace):
    """(numbers, raw prediction, reference points, spacing) of each case of a run's part."""
    run = read_run(folder, FEMUR)
    run = dataclasses.replace(run, settings=run.settings.set_at_test(values)) if values else run
    module, config = module_of([run], "last"), run.config
    split = json.loads(Path(arguments.split).read_text(encoding="utf-8")) if arguments.split else run.split
    for name in split[arguments.part]:
        case = cache.read(name)
        own = case.own
        reference = MaskAndPoints(own.label, reference_points(case, len(config.landmark_names)))
        box = box_of(reference.mask, reference.points_vox)
        given = module_input(own.array, own.spacing_mm)
        in_box = arguments.box == "reference" and config.network != "unet_roi"
        raw = module.predict_in(*given, [*box.low, *box.high]) if in_box else module(*given)
        found = MaskAndPoints(*(raw[key].numpy() if key in raw else None for key in ("mask", "points_vox")))
        ends = raw["box"].numpy()
        row = {"case": name, "box_iou": box_iou(Box(ends[:3], ends[3:]), box),
               **coverage(region_of(ends, config.roi_margin, case), reference),
               **joint_metrics(found, reference, own.spacing_mm, dict.fromkeys(config.label_names, 1),
                               config.landmark_names)}
        yield row, raw, reference.points_vox, np.asarray(own.spacing_mm)


if __name__ == "__main__":
    main()
