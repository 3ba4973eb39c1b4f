"""Every row of a system's tables, with three seeds, on one split: trained two at a time, then evaluated together.

    tfsono phantom femur data --preset quick && tfsono audit data && tfsono cache femur data femur.h5 --preset quick
    python benchmarks/ablation.py femur --data femur.h5 --out ablation [--seeds 0 1 2]

`pose` and `face` work the same way. Each training has one core: small networks leave a second one idle half of the
time. The same command resumes. Words after `--` are passed to every training: `-- --iterations 300`.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tfsono.systems import system

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Training:
    """One run: its name, the words after `train/SYSTEM.py --data FILE --run_dir DIR`, and the runs that it needs."""

    name: str
    words: tuple[str, ...]
    after: tuple[str, ...] = ()


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks/ablation.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("system", choices=tuple(ROWS))
    parser.add_argument("--data", required=True, help="the cache")
    parser.add_argument("--out", required=True, help="folder for runs/, logs/ and results/")
    parser.add_argument("--controls", action="store_true", help="of femur: also what its last rows are compared with")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--at_once", type=int, default=2, help="trainings at a time")
    words = list(sys.argv[1:] if argv is None else argv)
    more = words[words.index("--") + 1:] if "--" in words else []
    arguments = parser.parse_args(words[:len(words) - len(more) - ("--" in words)])
    out = Path(arguments.out)
    (out / "logs").mkdir(parents=True, exist_ok=True)
    kinds = [ROWS[arguments.system], *[femur_controls] * (arguments.controls and arguments.system == "femur")]
    trainings = [training for seed in arguments.seeds for rows in kinds for training in rows(seed, out / "runs")]
    split = out / "runs" / trainings[0].name / "split.json"
    began = time.monotonic()

    def run(training: Training) -> float:
        command = [sys.executable, str(ROOT / "train" / f"{arguments.system}.py"), "--data", arguments.data,
                   "--run_dir", str(out / "runs" / training.name), "--preset", arguments.preset, *training.words, *more]
        if training is not trainings[0]:  # rows are compared on the same test cases
            command += ["--split", str(split)]
        return _logged(command, out / "logs" / f"{training.name}.log")

    _in_order(trainings, run, arguments.at_once, split)
    evaluation = [sys.executable, str(ROOT / "evaluate" / f"{arguments.system}.py"), "--data", arguments.data, "--runs",
                  *(str(out / "runs" / training.name) for training in trainings), "--out", str(out / "results"),
                  *system(arguments.system).DEMO.evaluate]
    print(shlex.join(evaluation), flush=True)
    subprocess.run(evaluation, check=True)
    print(f"{len(trainings)} trainings and their evaluation: {(time.monotonic() - began) / 60:.0f} minutes")


def femur_rows(seed: int, runs: Path) -> list[Training]:
    """Tables 1 and 2: the second stages of a seed share its first stage, which finds their regions."""
    first = f"unet_roi_{seed}"
    region = ("--roi_run", str(runs / first), "--seed", str(seed))
    alone = [Training(f"{variant}_{seed}", ("--variant", variant, *region), (first,))
             for variant in ("brndc", "brnd", "brn", "unet_s", "unet_l")]
    joint = f"brndc_{seed}"
    refined = Training(f"brndc_d_{seed}", ("--variant", "brndc_d", "--start_from", str(runs / joint), *region),
                       (joint,))
    return [Training(first, ("--variant", "unet_roi", "--seed", str(seed))), *alone, refined]


def femur_controls(seed: int, runs: Path) -> list[Training]:
    """The adversarial stage's steps and rates without its loss; twice the steps, and with gradients of one size."""
    first, joint, longer = f"unet_roi_{seed}", f"brndc_{seed}", ("--iterations", "3600")
    region = ("--roi_run", str(runs / first), "--seed", str(seed))
    return [
        Training(f"brndc_more_{seed}", ("--variant", "brndc_d", "--adversarial_weight", "0", "--start_from",
                                        str(runs / joint), *region), (joint,)),
        Training(f"unet_s_long_{seed}", ("--variant", "unet_s", *longer, *region), (first,)),
        Training(f"brndc_long_{seed}", ("--variant", "brndc", *longer, *region), (first,)),
        Training(f"brndc_balanced_{seed}", ("--variant", "brndc", *longer, "--heatmap_weight", "1", *region), (first,))]


def pose_rows(seed: int, runs: Path) -> list[Training]:
    """Tables 1 and 2 at both ratios; SSL rows are the detectors, refined during the evaluation."""
    rows = []
    for ratio in ("gcp", "r4"):
        detector = f"land_{ratio}_{seed}"
        rows += [Training(detector, ("--variant", f"land_{ratio}", "--seed", str(seed))),
                 *(Training(f"{method}_{ratio}_{seed}", ("--variant", f"{method}_{ratio}", "--seed", str(seed),
                                                         "--start_from", str(runs / detector)), (detector,))
                   for method in ("rnn", "gan"))]
    return rows


def face_rows(seed: int, runs: Path) -> list[Training]:
    """Tables 1 and 2; rows with and without the prior share a run."""
    return [Training(f"{variant}_{seed}", ("--variant", variant, "--seed", str(seed)))
            for variant in ("ig_rpn", "rpn", "ig_ssd", "ssd", "faster_rcnn", "heatmap")]


ROWS = {"femur": femur_rows, "pose": pose_rows, "face": face_rows}


def _logged(command: list[str], log: Path) -> float:
    """Runs a command on one core; seconds. Raises RuntimeError with the log's last line where it fails."""
    began = time.monotonic()
    environment = os.environ | {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "OMP_NUM_THREADS": "1"}
    with log.open("a", encoding="utf-8") as file:
        file.write(f"$ {shlex.join(command)}\n")
        file.flush()
        status = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, env=environment, check=False).returncode
    if status:
        raise RuntimeError(f"{log}: exit status {status}: {log.read_text(encoding='utf-8').splitlines()[-1]}")
    return time.monotonic() - began


def _in_order(trainings: list[Training], run, at_once: int, split: Path) -> None:
    """Runs all, `at_once` at a time, each after those that it needs; all wait for the split of the first."""
    first, *rest = trainings
    done: dict[str, float] = {}
    with ThreadPoolExecutor(at_once) as pool:
        running = {pool.submit(run, first): first.name}
        while not split.is_file() and not next(iter(running)).done():
            time.sleep(1)
        while rest or running:
            ready = [training for training in rest if set(training.after) <= set(done)]
            for training in ready[:at_once - len(running)]:
                rest.remove(training)
                running[pool.submit(run, training)] = training.name
            for finished in wait(running, return_when=FIRST_COMPLETED).done:
                name = running.pop(finished)
                done[name] = finished.result()
                print(f"{name}: {done[name]:.0f} s, {len(done)} of {len(trainings)}", flush=True)


if __name__ == "__main__":
    main()
