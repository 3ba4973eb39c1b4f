"""`fit` with a record: history, best and last weights, TensorBoard, time left, and exact resumption.

The state is saved at every record. A killed run resumes at its last record with the same variables, the same optimizer
and the same batches (`data.pipeline` draws them from the seed and the step), so it ends with the same weights.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from tfsono.errors import UserError
from tfsono.files import write_text
from tfsono.progress import Countdown
from tfsono.training.checkpoint import load_state, save_state, save_weights
from tfsono.training.run import Run, read_history


@dataclass(frozen=True)
class Score:
    """The validation score: its column in the history, and whether less is better."""

    column: str = "validation_dice"
    less_is_better: bool = False

    def value(self, row: dict) -> float:
        """The score of a record, negated where less is better: the best record has the highest value."""
        return -row[self.column] if self.less_is_better else row[self.column]


@dataclass(frozen=True)
class Schedule:
    """The length of a training, the interval of its records, and the score of its best weights.

    Attributes:
      iterations: total steps.
      record_every: steps between two records.
      early_stopping: records without a better score before it stops; 0 never stops early.
      score: of the validation.
    """

    iterations: int
    record_every: int
    early_stopping: int = 0
    score: Score = Score()


def set_seed(seed: int, deterministic: bool) -> None:
    """Seeds Python, NumPy and Keras before a network is built; also makes TensorFlow's kernels `deterministic`."""
    keras.utils.set_random_seed(seed)
    random.seed(seed)
    np.random.seed(seed)
    if deterministic:
        tf.config.experimental.enable_op_determinism()


def fit(run: Run, network: keras.Model, batches: Callable[[range], tf.data.Dataset], schedule: Schedule,
        validate: Callable[[], float] | None = None) -> None:
    """Trains a compiled network from its last record to the end.

    Args:
      run: the run's folder; history, weights, TensorBoard logs and state go there.
      network: compiled.
      batches: gives the dataset of a range of steps.
      schedule: its length.
      validate: gives the network's validation score; None without validation cases.
    """
    if run.finished:
        print(f"{run.folder}: already finished; nothing to do")
        return
    network.optimizer.build(network.trainable_variables)
    start = load_state(run.state, network) if run.state.is_file() else 0
    if start:
        print(f"{run.folder}: resumes at step {start} of {schedule.iterations}")
    recorder = Recorder(run, schedule, validate, start)
    if start < schedule.iterations and not recorder.stale():
        network.fit(batches(range(start, schedule.iterations)), shuffle=False, verbose=0, callbacks=[recorder],
                    epochs=schedule.iterations // schedule.record_every, initial_epoch=start // schedule.record_every,
                    steps_per_epoch=schedule.record_every)
    write_text(run.folder / "finished.json", json.dumps({
        "steps": int(recorder.rows[-1]["step"]), "seconds": recorder.rows[-1]["seconds"]}, indent=2) + "\n")


class Recorder(keras.callbacks.Callback):
    """Prints progress, and at every record validates and writes the files of the run folder."""

    def __init__(self, run: Run, schedule: Schedule, validate: Callable[[], float] | None, start: int):
        super().__init__()
        self.run, self.schedule, self.validate, self.start = run, schedule, validate, start
        self.history = run.folder / "history.csv"
        self.rows = [{**row, "step": int(row["step"])} for row in read_history(self.history) if row["step"] <= start]
        self.before = self.rows[-1]["seconds"] if self.rows else 0.0
        self.step = start
        self.writer = tf.summary.create_file_writer(str(run.folder / "tensorboard"), filename_suffix=f".{start}")

    def on_train_begin(self, logs=None):
        self.began = self.printed = time.monotonic()
        self.countdown = Countdown(self.schedule.iterations - self.start)

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        if not np.isfinite(logs["loss"]):
            raise UserError(f"{self.run.folder}: the loss is {logs['loss']} at step {self.step}; "
                            "lower --learning_rate, or use --precision float32")
        if time.monotonic() - self.printed > 20:
            self._print(f"loss {logs['loss']:.4f}")

    def on_epoch_end(self, epoch, logs=None):
        row = {"step": self.step, "seconds": round(self.before + time.monotonic() - self.began, 1),
               "learning_rate": float(self.model.optimizer.learning_rate), **{k: float(v) for k, v in logs.items()}}
        score = self.schedule.score
        if self.validate:
            row[score.column] = float(self.validate())
        best = self.validate and score.value(row) > max(map(score.value, self.rows), default=-math.inf)
        self.rows.append(row)
        if best:
            save_weights(self.run.folder / "best.weights.h5", self.model)
        save_weights(self.run.folder / "last.weights.h5", self.model)
        write_history(self.history, self.rows)
        self._write_summary(row)
        save_state(self.run.state, self.model, self.step)  # last: where it exists, all the other files do
        found = f", {score.column.replace('_', ' ')} {row[score.column]:.4f}{' (best)' * best}" if self.validate else ""
        self._print(f"loss {row['loss']:.4f}, learning rate {row['learning_rate']:.3g}{found}")
        self.model.stop_training = self.stale()

    def stale(self) -> bool:
        """Whether early stopping applies: the score has not improved for that many records."""
        if not (self.validate and self.schedule.early_stopping and self.rows):
            return False
        scores = [self.schedule.score.value(row) for row in self.rows]
        return len(scores) - 1 - int(np.argmax(scores)) >= self.schedule.early_stopping

    def _write_summary(self, row: dict) -> None:
        with self.writer.as_default(step=int(row["step"])):
            for name, value in row.items():
                if name != "step":
                    tf.summary.scalar(name, value)
        self.writer.flush()

    def _print(self, text: str) -> None:
        self.printed = time.monotonic()
        self.countdown.count = self.step - self.start
        print(f"step {self.step}/{self.schedule.iterations}  {text}  {self.countdown.left()} left")
        sys.stdout.flush()


def write_history(path: str | os.PathLike, rows: list[dict]) -> None:
    """Rewrites `history.csv`, which drops the rows after the last saved state."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, rows[-1].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, stream.getvalue())
