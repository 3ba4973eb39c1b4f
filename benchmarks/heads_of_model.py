"""An exported model of `head` on images that it did not see: tables by size, and intervals for its manifest.

    python benchmarks/heads_of_model.py pretrained/head --data heads.h5 --split split.json --out published [--keep]

The images are the test part of the split. `--keep` writes the intervals of the lengths, fitted to the errors on them,
into the model's manifest, and what `predict` flags of its training part that the manifest lacks.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tfsono.surroundings import prepare_tensorflow


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks/heads_of_model.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", required=True, help="the cache")
    parser.add_argument("--split", required=True, help="JSON with train and test; a run's split.json")
    parser.add_argument("--out", required=True)
    parser.add_argument("--keep", action="store_true")
    arguments = parser.parse_args(argv)
    prepare_tensorflow()  # after --help, which must not wait for TensorFlow
    from tfsono.data.cache import Cache
    from tfsono.data.splits import read_split
    from tfsono.report.head_sizes import coverage_table, size_table
    from tfsono.report.tables import to_markdown, write_cases, write_table

    split, out = read_split(arguments.split), Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    with Cache(arguments.data, "head") as cache:
        rows = measured(arguments.model, cache, split["test"])
        write_cases(out / "cases.csv", rows)
        for stem, make in (("sizes", size_table), ("intervals", coverage_table)):
            table = make({"model": rows})
            write_table(out, stem, table)
            print(f"\n{to_markdown(table)}")
        if arguments.keep:
            keep(Path(arguments.model), cache, split["train"], rows)


def measured(model: str, cache, names: list[str]) -> list[dict]:
    """The metrics of every case, against the official outlines of the model's training."""
    from tfsono.data.heads import known_heads, official_outlines
    from tfsono.data.images_2d import image_pixels
    from tfsono.export import read_manifest
    from tfsono.metrics.head_case import HeadOutline, head_metrics
    from tfsono.predict.sources import Options
    from tfsono.systems.commands import open_predictor

    predictor, manifest = open_predictor(model, Options(samples=0)), read_manifest(model)
    heads = official_outlines(known_heads(cache, names), manifest["outline_margin_px"])
    order, rows = predictor.members[0].order, []
    for number, (name, head) in enumerate(heads.items(), 1):
        pixels = image_pixels(cache.read(name))
        found, _, _ = predictor.measure(pixels)
        reference = HeadOutline(head.ellipse, head.reference_points("drop", order))
        row = head_metrics(HeadOutline(found.ellipse, found.points_px), reference, pixels.shape, head.pixel_size_mm,
                           head.hc_mm)
        rows.append({"method": "model", "case": name, "subject": cache.subjects[name], "run": "model", **row})
        print(f"{number}/{len(heads)} {name}: HC {row['hc_mm']:.1f} mm ({row['hc_error_mm']:+.1f})", flush=True)
    return rows


def keep(model: Path, cache, trained: list[str], rows: list[dict]) -> None:
    """Adds the intervals, and the record of the training part, to the manifest."""
    from tfsono.export import MANIFEST
    from tfsono.files import write_text
    from tfsono.manifest import DIGEST, check_manifest, digest_of
    from tfsono.metrics.intervals import fitted
    from tfsono.training.fingerprint import fingerprint_of_images

    manifest = json.loads((model / MANIFEST).read_text(encoding="utf-8"))
    record = fingerprint_of_images(cache, trained, cache.circumferences_mm)
    manifest |= {"intervals": fitted(rows), "trained_on": {**record, **manifest["trained_on"]}}
    if DIGEST in manifest:
        manifest[DIGEST] = digest_of(manifest)
    check_manifest(model / MANIFEST, manifest)
    write_text(model / MANIFEST, json.dumps(manifest, indent=2) + "\n")


if __name__ == "__main__":
    main()
