"""Trainings on two logical CPU devices and on one, in a process of its own: on_two_devices.py FOLDER [SYSTEM ...].

TensorFlow divides a CPU only before it starts. Prints as JSON what it found, for `test_training_distribute`: of the
systems, or without any of a small network and of what is refused.
"""

from __future__ import annotations

import contextlib
import io
import json
import signal
import sys
from pathlib import Path

import h5py
import keras
import numpy as np
import tensorflow as tf

from small_caches import TINY, TINY_HEAD, write_head_cache, write_small_cache, write_small_head_dataset
from small_pose import SIZES, TINY_POSE, write_small_pose_dataset
from tfsono.__main__ import run as tfsono
from tfsono.config import choose
from tfsono.configs.hip import HIP
from tfsono.errors import UserError, run_command
from tfsono.training.distribute import replicated, strategy_scope
from tfsono.training.fit import Schedule, fit
from tfsono.training.optimizers import optimizer
from tfsono.training.run import open_run
from wiring import script

# SGD, as Adam makes full steps of gradients that are nearly 0, of which rounding decides the sign. `pose` has Adam
# alone: at rate 0.001 one device and two differ by 1.6e-3 in a weight, and one device with the volumes of each batch
# exchanged by 1.5e-3.
STEPS = ["--learning_rate", "0.001", "--precision", "float32"]
SYSTEMS = {
    "hip": [*TINY, *STEPS, "--iterations", "8", "--record_every", "4", "--validation_cases", "0"],
    "pose": [*TINY_POSE, *STEPS, "--iterations", "8", "--record_every", "4", "--validation_cases", "0", "--batch", "2",
             "--learning_rate", "1e-6"],
    "head": [*TINY_HEAD, *STEPS, "--segmentation_iterations", "8", "--segmentation_record_every", "4", "--optimizer",
             "sgd"]}
REFUSED = {"batch": ("hip", "--batch", "3"),
           "adversarial": ("pose", "--variant", "gan_gcp", "--second_iterations", "4"),
           "one volume": ("pose", "--batch", "1")}
MIRRORED = ["--strategy", "mirrored"]


def main(place: Path, systems: list[str]) -> None:
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0],
                                               [tf.config.LogicalDeviceConfiguration()] * 2)
    with contextlib.redirect_stdout(io.StringIO()):
        write_small_cache(place / "hip", ((19, 17, 21), (17, 21, 19), (21, 19, 17), (17, 17, 21), (23, 19, 17))).rename(
            place / "hip.h5")
        sizes = SIZES if systems else SIZES[:2]  # what is refused is so before a case is read
        tfsono(["cache", "pose", str(write_small_pose_dataset(place / "pose", sizes, missing=((0, "wrist_a"),))),
                str(place / "pose.h5"), "--preset", "quick"])
        if systems:
            write_head_cache(write_small_head_dataset(place / "head"), place / "head.h5")
        found = {}
        for system in systems:
            for name, more in (("one", []), ("two", MIRRORED)):
                train(place, system, place / f"{system}_{name}", *more)
            found[system] = difference(place / f"{system}_one", place / f"{system}_two")
        if not systems:
            found = small(place) | {"refused": {name: refused(place, *words) for name, words in REFUSED.items()}}
    print(json.dumps(found))


def train(place: Path, system: str, folder: Path, *more: str) -> None:
    """A training by its script."""
    script("train", system, graphs=True).main(["--data", str(place / f"{system}.h5"), "--run_dir", str(folder),
                                               *SYSTEMS[system], *more])


def refused(place: Path, system: str, *more: str) -> str:
    """The message of a training that is refused."""
    try:
        train(place, system, place / "refused", *more, *MIRRORED)
    except UserError as error:
        return str(error)
    return "not refused"


def state(folder: Path) -> dict[str, np.ndarray]:
    """All variables of a run's state."""
    with h5py.File(folder / "state.h5") as file:
        return {f"{kind}/{name}": file[kind][name][...].astype(float) for kind in file for name in file[kind]}


def difference(one: Path, other: Path) -> dict[str, float]:
    """The largest difference of any variable, and of any column of the history but the seconds.

    As a share of the largest value of that variable or column, where it is above 1.
    """
    first, second = state(one), state(other)
    assert first.keys() == second.keys()
    histories = [np.loadtxt(folder / "history.csv", delimiter=",", skiprows=1) for folder in (one, other)]
    columns = [np.delete(rows, 1, axis=1).T for rows in histories]
    return {"variables": max(share(first[name], second[name]) for name in first),
            "history": max(share(*pair) for pair in zip(*columns, strict=True))}


def share(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max() / max(1, np.abs(one).max()))


# --- a small network, for what all systems share


def small(place: Path) -> dict:
    """Of a network with all that differs on several devices: one, two, stopped and resumed on two, and on one."""
    tf.config.run_functions_eagerly(True)
    statuses = [short(place / "small_one", 1), short(place / "small_two", 2)]
    for name, devices, others in (("again", 2, 2), ("fewer", 2, 1), ("more", 1, 2)):
        statuses += [short(place / f"small_{name}", devices, stopped=3), short(place / f"small_{name}", others)]
    tf.config.run_functions_eagerly(False)
    found = {name: difference(place / "small_one", place / f"small_{name}") for name in ("two", "fewer", "more")}
    return found | {"again": difference(place / "small_two", place / "small_again"), "statuses": statuses}


def short(folder: Path, devices: int, stopped: int = 0) -> int:
    """The status of a training of 4 steps, which a signal ends at a step."""
    run = open_run(folder, choose(HIP, "quick", "paper").replaced("test", label_names=("head",)),
                   {"train": ["a"], "validation": [], "test": ["b"]}, {})
    with strategy_scope(4, "float32") if devices > 1 else contextlib.nullcontext():
        keras.utils.set_random_seed(0)
        place = x = keras.Input((3,))
        for _ in range(2):
            x = keras.layers.Dropout(0.4)(keras.layers.BatchNormalization()(keras.layers.Dense(5, "tanh")(x)))
        network = replicated(keras.Model(place, keras.layers.Dense(1)(x)))
        network.compile(optimizer("adamw", 1e-3, weight_decay=0.01, gradient_clip=0.1), loss="mse")

        def batches(steps):
            numbers = tf.data.Dataset.range(4 * steps.start, 4 * steps.stop).map(lambda n: tf.cast(n, tf.float32))
            return numbers.map(lambda n: (tf.sin(n * [1.0, 2.0, 3.0]), tf.cos([n]))).batch(4)

        plain, network.fit = network.fit, lambda data, callbacks, **more: plain(
            data, callbacks=[Stopped(stopped), *callbacks], **more)
        return run_command(lambda: fit(run, network, batches, Schedule(4, 2)))


class Stopped(keras.callbacks.Callback):
    """Ends the training at a step by a signal; 0 for never."""

    def __init__(self, step: int):
        super().__init__()
        self.step = step

    def on_train_batch_begin(self, batch, logs=None):
        if self.step and int(self.model.optimizer.iterations.value.numpy()) == self.step - 1:
            signal.raise_signal(signal.SIGTERM)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
