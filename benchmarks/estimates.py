"""What a training says that it will take before its first step, and what its first steps take: memory and time.

    python benchmarks/estimates.py OUT [--preset quick] [--systems hip:tuned femur:brndc ...]

Each row is `tfsono train SYSTEM --dry_run`, a fresh process, on a few phantoms of the preset's size, which are written
below OUT and kept there. Phantoms of preset paper take a minute each, a step of it up to 1.5 minutes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

ROWS = ("hip:paper", "hip:tuned", "femur:unet_roi", "femur:brndc", "femur:brndc_d", "pose:land_gcp", "pose:rnn_gcp",
        "pose:gan_gcp", "face:ig_rpn", "face:heatmap", "head:unet", "head:heatmap")
CASES = {"head": 40}
FEW = {"head": ("--test_cases", "4", "--folds", "1")}
"""Options that a few cases need."""


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks/estimates.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--preset", choices=("paper", "quick"), default="quick")
    parser.add_argument("--systems", nargs="+", default=ROWS, metavar="SYSTEM:VARIANT")
    parser.add_argument("--precision", default="float32")
    arguments = parser.parse_args(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    print(f"{'':20}  {'held':>6}  {'estimate GiB':>12}  {'measured':>8}  {'':>5}  {'estimate s':>10}  {'measured':>8}")
    for row in arguments.systems:
        name, variant = row.split(":")
        cache = cache_of(name, arguments.preset, arguments.out)
        found = run(["train", name, "--data", cache, "--run_dir", "none", "--preset", arguments.preset, "--variant",
                     variant, "--precision", arguments.precision, "--dry_run", "--force",
                     *FEW.get(name, ("--test_cases", "1"))])
        values = json.loads(found.splitlines()[-1])
        print(f"{row:20}  {values['held_gib']:6.2f}  {values['estimated_gib']:12.2f}  {values['peak_gib']:8.2f}  "
              f"{values['estimated_gib'] / values['peak_gib'] - 1:+5.0%}  {values['estimated_step_s']:10.3f}  "
              f"{values['step_s']:8.3f}", flush=True)


def cache_of(name: str, preset: str, out: Path) -> str:
    """The cache of a few phantoms of a preset."""
    cache = out / f"{name}_{preset}.h5"
    if not cache.exists():
        folder = str(out / f"{name}_{preset}")
        run(["phantom", name, folder, "--preset", preset, "--cases", str(CASES.get(name, 3))])
        run(["cache", name, folder, str(cache), "--preset", preset])
    return str(cache)


def run(words: list[str]) -> str:
    """The stdout of a command of tfsono."""
    done = subprocess.run([sys.executable, "-m", "tfsono", *words], check=False, stdout=subprocess.PIPE,
                          encoding="utf-8")
    if done.returncode:
        raise SystemExit(f"tfsono {' '.join(words)}: exit status {done.returncode}")
    return done.stdout


if __name__ == "__main__":
    main()
