"""What a training says that it will take before its first step, and what its first steps take: memory and time.

    python benchmarks/estimates.py OUT [--preset quick] [--systems hip:tuned femur:brndc ...]
    python benchmarks/estimates.py OUT --counted

Each row is `tfsono train SYSTEM --dry_run`, a fresh process, on a few phantoms of the preset's size, which are written
below OUT and kept there. Seconds are the processor's, which other processes disturb less: run it on one core
(`taskset -c 0 python ...`), so that nothing waits for another thread. Phantoms of preset paper take up to a minute, a
step of it up to two minutes of the processor: `--counted` runs none, and compares the estimates of memory with the
steps that `full_size.py` and `memory.py` measured (docs/planning.md).
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tfsono.config import choose
from tfsono.configs.face import LANDMARKS as FACE_LANDMARKS
from tfsono.configs.pose import LANDMARKS as POSE_LANDMARKS
from tfsono.surroundings import prepare_tensorflow
from tfsono.systems import system

ROWS = ("hip:paper", "hip:tuned", "femur:unet_roi", "femur:brndc", "femur:brndc_d", "pose:land_gcp", "pose:rnn_gcp",
        "pose:gan_gcp", "face:ig_rpn", "face:faster_rcnn", "face:heatmap", "head:unet", "head:heatmap")
FULL_SIZE = (  # system, variant, input of a step, options, GiB that were measured over the base
    ("hip", "paper", (2, 64, 64, 64, 1), {}, 3.51),
    ("head", "unet", (8, 512, 512, 1), {}, 14.34),
    ("pose", "land_r4", (1, 96, 96, 112, 1), {}, 6.58),
    ("pose", "land_gcp", (1, 112, 112, 144, 1), {}, 5.46),
    ("femur", "brndc", (1, 152, 80, 128, 1), {}, 6.95),
    ("femur", "brndc", (1, 152, 88, 128, 1), {"recompute": True}, 4.48),
    ("face", "ig_rpn", (1, 128, 128, 128, 1), {}, 2.31))
NAMES = {"hip": {"label_names": ("femur",)}, "head": {}, "pose": {"landmark_names": POSE_LANDMARKS},
         "femur": {"label_names": ("femur",), "landmark_names": ("proximal", "distal")},
         "face": {"landmark_names": FACE_LANDMARKS}}
CASES = {"quick": {"head": 40}, "paper": {"hip": 2, "femur": 2, "pose": 2, "face": 2, "head": 40}}
FEW = {"head": ("--test_cases", "4", "--folds", "1"), "face": ("--test_cases", "1", "--use_prior", "false")}
"""Options that a few cases need."""


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks/estimates.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--preset", choices=("paper", "quick"), default="quick")
    parser.add_argument("--systems", nargs="+", default=ROWS, metavar="SYSTEM:VARIANT")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--counted", action="store_true", help="count the steps of preset paper, run none")
    arguments = parser.parse_args(argv)
    if arguments.counted:
        count_full_size()
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    print(f"{'':20}  {'held':>6}  {'estimate GiB':>12}  {'measured':>8}  {'':>5}  {'estimate s':>10}  {'measured':>8}  "
          "of the processor in a step")
    for row in arguments.systems:
        name, variant = row.split(":")
        cache = cache_of(name, arguments.preset, arguments.out)
        found = run(["train", name, "--data", cache, "--run_dir", "none", "--preset", arguments.preset, "--variant",
                     variant, "--precision", arguments.precision, "--dry_run", "--force",
                     *FEW.get(name, ("--test_cases", "1"))])
        values = json.loads(found.splitlines()[-1])
        print(f"{row:20}  {values['held_gib']:6.2f}  {values['estimated_gib']:12.2f}  {values['peak_gib']:8.2f}  "
              f"{values['estimated_gib'] / values['peak_gib'] - 1:+5.0%}  {values['estimated_processor_s']:10.3f}  "
              f"{values['processor_s']:8.3f}  {values['estimated_processor_s'] / values['processor_s'] - 1:+5.0%}",
              flush=True)


def count_full_size() -> None:
    """Prints estimates of the steps of preset paper beside what was measured."""
    prepare_tensorflow()
    import keras

    from tfsono.training.memory import counted, step_gib

    print(f"{'':16}  {'estimate GiB':>12}  {'measured':>8}  {'':>5}  {'seconds':>7}")
    for name, variant, shape, options, measured in FULL_SIZE:
        config = choose(system(name).CHOICES, "paper", variant).config
        network = importlib.import_module(f"tfsono.models.{name}").build(
            dataclasses.replace(config, **NAMES[name], **options))
        began = time.perf_counter()
        found = counted(network, shape)
        seconds = time.perf_counter() - began
        gib = step_gib(found) + found.weights / 4 / 2**30  # the base was that without weights
        print(f"{f'{name}:{variant}':16}  {gib:12.2f}  {measured:8.2f}  {gib / measured - 1:+5.0%}  {seconds:7.2f}",
              flush=True)
        del network
        keras.backend.clear_session()


def cache_of(name: str, preset: str, out: Path) -> str:
    """The cache of a few phantoms of a preset."""
    cache = out / f"{name}_{preset}.h5"
    if not cache.exists():
        folder = str(out / f"{name}_{preset}")
        run(["phantom", name, folder, "--preset", preset, "--cases", str(CASES[preset].get(name, 3))])
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
