"""What `tfsono predict` flags on images of heads, what a border around them changes, and the bias of their ages.

    python benchmarks/head_flags.py pretrained/head --data DATA [DATA ...] [--every 1]
    python benchmarks/head_flags.py runs/fold_? --data DATA [DATA ...]

Of several runs, which are folds, each image is predicted by the first that has it among its test cases; borders and
ages are left out. DATA are folders with images/NAME.png, masks/NAME_mask.png and pixel_size_and_hc.csv (image_name,
pixel_size_mm, head_circumference_mm), as HC18's images can be arranged. Trimesters are by Hadlock's age by the official
HC. Ages are of the masks' own axes, so that no network is in them: each formula's days above those by the official HC.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

BORDERS = (0.05, 0.1, 0.12, 0.15, 0.2, 0.3, 0.5, 1.0)  # of the image's sides, on each side


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks/head_flags.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="an exported model, or the runs of folds")
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--every", type=int, default=1, help="take every n-th image; borders: every 20 n-th")
    arguments = parser.parse_args(argv)

    from tfsono.surroundings import prepare_tensorflow

    prepare_tensorflow()
    from tfsono.predict.sources import Options
    from tfsono.systems.commands import open_predictor

    heads = [head for folder in arguments.data for head in heads_of(Path(folder))][::arguments.every]
    predictor, *others = [open_predictor(model, Options(samples=0, outside="allow")) for model in arguments.models]
    if others:
        tested = [json.loads((Path(run) / "split.json").read_text(encoding="utf-8"))["test"]
                  for run in arguments.models]
        folds = list(zip([predictor, *others], tested, strict=True))
        print_flags([(next(one for one, names in folds if head[0].stem in names), head) for head in heads])
        return
    print_flags([(predictor, head) for head in heads])
    print_borders(predictor, heads[::20])
    print_ages(heads)


def heads_of(folder: Path) -> list[tuple[Path, Path, float, float]]:
    """Image, mask, millimetres a pixel and official HC of each row of the table."""
    with open(folder / "pixel_size_and_hc.csv", newline="", encoding="utf-8") as file:
        return [(folder / "images" / row["image_name"],
                 folder / "masks" / row["image_name"].replace(".png", "_mask.png"),
                 float(row["pixel_size_mm"]), float(row["head_circumference_mm"])) for row in csv.DictReader(file)]


def print_flags(tasks: list) -> None:
    """By trimester: images, flagged ones, each kind of doubt; and errors of HC with and without a flag."""
    from tfsono.metrics.biometry import trimester
    from tfsono.predict.pixel_sizes import PixelSizes

    counts, errors = {}, {}
    for predictor, (image, _, pixel_size_mm, hc_mm) in tasks:
        predictor.pixel_sizes = PixelSizes(single=pixel_size_mm)
        row = predictor.of_file(image).measurements[0]
        count = counts.setdefault(trimester(hc_mm), Counter())
        kinds = [re.sub(r"[ \d.x]+mm.*", "", flag) for flag in row["flags"].split("; ")]
        count.update(["images", *["flagged"] * row["flagged"], *["cut"] * bool(row["cut_to_px"])])
        count.update(filter(None, kinds))
        if row["hc_mm"] != "":
            errors.setdefault((row["flagged"], trimester(hc_mm)), []).append(abs(row["hc_mm"] - hc_mm))
    for number, count in sorted(counts.items()):
        print(f"trimester {number}: " + ", ".join(f"{key} {value}" for key, value in count.most_common()))
    for flagged in (0, 1):
        of_part = {number: values for (flag, number), values in sorted(errors.items()) if bool(flag) == bool(flagged)}
        of_part["all"] = [value for values in of_part.values() for value in values]
        for number, values in of_part.items():
            print(f"{'not ' * (not flagged)}flagged, trimester {number}: {len(values)} heads, HC error mean "
                  f"{np.mean(values or [np.nan]):.2f} mm, largest {max(values, default=np.nan):.1f} mm")


def print_borders(predictor, heads: list) -> None:
    """HC in a black border relative to that without it, with and without the cut."""
    from tfsono.volumes import sector

    pixels = [cv2.imread(str(image), cv2.IMREAD_GRAYSCALE) for image, *_ in heads]
    before = [predictor.measure(image)[0].lengths()[2] for image in pixels]
    both = sector.BOTH, sector.EITHER
    for share in BORDERS:
        for words, (sector.BOTH, sector.EITHER) in (("", both), (", not cut", (0.0, 0.0))):
            found = [predictor.measure(np.pad(image, [(round(share * side),) * 2 for side in image.shape]))[0]
                     for image in pixels]
            ratios = np.array([each.lengths()[2] for each in found]) / before
            known = ratios[np.isfinite(ratios)]
            print(f"border of {100 * share:.0f} %{words}: HC {100 * (known.mean() - 1):+.2f} % in the mean, largest "
                  f"{100 * np.abs(known - 1).max():.1f} %, {len(ratios) - len(known)} of {len(ratios)} undefined")
    sector.BOTH, sector.EITHER = both


def print_ages(heads: list) -> None:
    """Days above the age by HC: by BPD from outer to outer edge as it is, and converted; by both."""
    from tfsono.geometry.ellipse import REFERENCE, ellipse_of_mask
    from tfsono.metrics.biometry import (
        gestational_age, gestational_age_by_bpd, gestational_age_by_hc, outer_to_inner_mm,
    )

    days = []
    for _, mask, pixel_size_mm, hc_mm in heads:
        ellipse, weeks = ellipse_of_mask(cv2.imread(str(mask), 0), search=REFERENCE), gestational_age_by_hc(hc_mm)
        if ellipse is not None and weeks:
            bpd = 2 * ellipse.semi_minor_px * hc_mm / ellipse.circumference_px()  # of the official circumference
            values = (gestational_age_by_bpd(bpd), gestational_age_by_bpd(outer_to_inner_mm(bpd)),
                      gestational_age(outer_to_inner_mm(bpd), hc_mm))
            days.append([7 * (value - weeks) if value else np.nan for value in values])
    names = ("BPD outer to outer", "BPD converted", "both, BPD converted")
    for name, values in zip(names, np.transpose(days), strict=True):
        known = values[np.isfinite(values)]
        print(f"age by {name}: {known.mean():+.2f} days from that by HC in the mean of {len(known)}, "
              f"sd {known.std(ddof=1):.1f}")


if __name__ == "__main__":
    main()
