"""How the points of heads that do not fit them are wrong, by `tfsono audit`: of a public table, and of phantoms.

    tfsono audit HC18 --out audit
    tfsono phantom head heads --preset quick --phantom_wrong_points 0.37 && tfsono audit heads
    python benchmarks/head_wrong_points.py audit/audit.json heads/audit/audit.json

The radius of a point is its distance from the ellipse's middle, 1 on the outline; quantiles are the 5 %, 25 %, 50 %,
75 % and 95 % ones.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tfsono.geometry.head_labels import LANDMARKS  # noqa: E402

NEAR_OUTLINE = 0.15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("audits", nargs="+", type=Path)
    for path in parser.parse_args().audits:
        cases = json.loads(path.read_text(encoding="utf-8"))["cases"]
        judged = [case for case in cases if case.get("judgement") and case["ellipse"]]
        wrong = [case for case in judged if not case["judgement"]["fits"]]
        right = [case["judgement"]["names_exchanged"] for case in judged if case["judgement"]["fits"]]
        print(f"{path}: {len(wrong)} of {len(judged)} rows do not fit; names exchanged in {sum(right)} of the "
              f"{len(right)} others")
        if wrong:
            describe(wrong)


def describe(wrong: list[dict]) -> None:
    """Prints what the rows that do not fit have in common."""
    radii = np.array([radii_of(case) for case in wrong])
    near = np.abs(radii - 1) <= NEAR_OUTLINE
    named = np.mean([case["judgement"]["names_exchanged"] for case in wrong])
    print(f"  names exchanged in {named:.0%}; {near.mean():.0%} of the points within {NEAR_OUTLINE} radii of the "
          f"outline, the others' radii up to {radii.max():.1f}")
    values = {"distance from the axes' ends, short semi-axes": [
        case["judgement"]["mean_error_px"] / case["ellipse"]["semi_minor_px"] for case in wrong]}
    for name in ("angle_degrees", "middle_offset", "ratio"):
        values[name] = [case["judgement"][name] for case in wrong]
    for name, found in values.items():
        print(f"  {name}: {', '.join(f'{value:.2f}' for value in np.quantile(found, (0.05, 0.25, 0.5, 0.75, 0.95)))}")


def radii_of(case: dict) -> np.ndarray:
    """The radii [4] of a case's points."""
    ellipse = case["ellipse"]
    x, y = (np.array([case["landmarks"][name][:2] for name in LANDMARKS]) - ellipse["center_px"]).T
    cosine, sine = np.cos(ellipse["angle_rad"]), np.sin(ellipse["angle_rad"])
    along, across = cosine * x + sine * y, cosine * y - sine * x
    return np.hypot(along / ellipse["semi_major_px"], across / ellipse["semi_minor_px"])


if __name__ == "__main__":
    main()
