"""Runs of `head` on their validation cases, one row a run: settings are chosen by this table, and not on test cases.

    python benchmarks/heads_on_validation.py --data heads.h5 runs/coordinate runs/coordinate_grid [--set threshold=0.4]
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tfsono.config import assignment
from tfsono.configs.head import HEAD
from tfsono.surroundings import prepare_tensorflow

COLUMNS = {"dsc_percent": "DSC %", "mre_exchanged_mm": "MRE mm, any order", "hc_abs_error_mm": "HC mm",
           "hc_error_mm": "HC signed mm", "hc_abs_error_percent": "HC %", "bpd_error_mm": "BPD signed mm",
           "ofd_error_mm": "OFD signed mm", "undefined": "undefined"}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks/heads_on_validation.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--data", required=True, help="the cache")
    parser.add_argument("--set", nargs="+", default=[], metavar="FIELD=VALUE",
                        type=functools.partial(assignment, HEAD))
    arguments = parser.parse_args(argv)
    prepare_tensorflow()  # after --help, which must not wait for TensorFlow
    import numpy as np

    from tfsono.data.cache import Cache
    from tfsono.training.run import read_run

    print("| run | cases | " + " | ".join(COLUMNS.values()) + " |\n|---|" + "---:|" * (1 + len(COLUMNS)))
    with Cache(arguments.data, "head") as cache:
        for folder in arguments.runs:
            run = read_run(folder, HEAD)
            run = dataclasses.replace(run, settings=run.settings.set_at_test(dict(arguments.set)))
            rows = measured(run, cache)
            means = [np.nanmean([row[key] for row in rows]) for key in COLUMNS]
            cells = [run.folder.name, f"{len(rows)}", *(f"{mean:.2f}" for mean in means)]
            print(f"| {' | '.join(cells)} |", flush=True)


def measured(run, cache) -> list[dict]:
    """The metrics of every validation case that has a mask, as `evaluate` measures test cases."""
    from tfsono.data.heads import known_heads, official_outlines
    from tfsono.data.images_2d import image_pixels
    from tfsono.geometry.head_labels import EndOrder
    from tfsono.metrics.head_case import HeadOutline, head_metrics
    from tfsono.predict.sources import Model, Options
    from tfsono.systems.head import manifest_of, module_of, predictor

    predict = predictor([Model(run.folder, module_of([run]), manifest_of([run]))], "", Options(samples=0))
    heads = official_outlines(known_heads(cache, run.split["validation"]), run.data["outline_margin_px"])
    order = EndOrder(**{name: tuple(value) for name, value in run.data["end_order"].items()})
    rows = []
    for name, head in heads.items():
        if head.ellipse is None:
            continue
        pixels = image_pixels(cache.read(name))
        found, _, _ = predict.measure(pixels)
        reference = HeadOutline(head.ellipse, head.reference_points("drop", order))
        rows.append(head_metrics(HeadOutline(found.ellipse, found.points_px), reference, pixels.shape,
                                 head.pixel_size_mm, head.hc_mm))
    return rows


if __name__ == "__main__":
    main()
