"""`fit` with a record: history, best and last weights, TensorBoard, time left, and exact resumption.

The state is saved at every record, and at the step at which a signal ends the training. A killed run resumes at its
last state with the same variables, the same optimizer and the same batches (`data.pipeline` draws them from the seed
and the step), so it ends with the same weights, and the same history but for the seconds.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

import keras
import numpy as np
import tensorflow as tf

from tfsono.errors import Stop, Terminated, UserError, is_terminal, signals_noted
from tfsono.files import write_text
from tfsono.progress import clock, say, show
from tfsono.training.checkpoint import Unfinished, load_state, read_unfinished, save_state, save_weights
from tfsono.training.memory import Needs, peak_gib
from tfsono.training.record import recorded
from tfsono.training.run import Run, read_history


Validate = Callable[[], tuple[float, np.ndarray]]
"""The validation score, and uint8 [rows, columns, 3] for TensorBoard, of `tfsono.report.comparison`."""

MEASURED_STEPS, LONG_STEP_S = 2, 20.0
"""Of a dry run, after the one that traces; of steps that take this long one."""

PRINTED_S, SHOWN_S = 20.0, 0.2
"""Seconds between two lines of steps: in a log, and on a terminal, which rewrites one line."""


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
      remark: gives what else a record prints, after the validation; "" for nothing.
    """

    iterations: int
    record_every: int
    early_stopping: int = 0
    score: Score = Score()
    remark: Callable[[], str] | None = None


def set_seed(seed: int, deterministic: bool) -> None:
    """Seeds Python, NumPy and Keras before a network is built; also makes TensorFlow's kernels `deterministic`."""
    keras.utils.set_random_seed(seed)
    random.seed(seed)
    np.random.seed(seed)
    if deterministic:
        tf.config.experimental.enable_op_determinism()


def fit(run: Run, network: keras.Model, batches: Callable[[range], tf.data.Dataset], schedule: Schedule,
        validate: Validate | None = None, settle: Callable[[], None] | None = None) -> None:
    """Trains a compiled network from its last record to the end.

    Args:
      run: the run's folder; history, weights, TensorBoard logs and state go there.
      network: compiled.
      batches: gives the dataset of a range of steps.
      schedule: its length.
      validate: gives the network's validation score and an image of one case; None without validation cases.
      settle: called before each record, to change what training does not depend on, such as moving averages.
    """
    if run.dry:
        measure(network, batches, run.dry)
    if run.finished:
        print(f"{run.folder}: already finished; nothing to do")
        return
    network.optimizer.build(network.trainable_variables)
    start = load_state(run.state, network, schedule.iterations) if run.state.exists() else 0
    recorder = Recorder(run, schedule, validate, start, settle=settle,
                        unfinished=read_unfinished(run.state) if start else None)
    if start:
        print(f"{run.folder}: resumes at step {start} of {schedule.iterations}")
    with signals_noted() as recorder.stop:
        if recorder.due():
            recorder.write_due(network)
        spans = spans_of(start, schedule)
        if spans and not recorder.stale():
            weights = sum(math.prod(variable.shape) for variable in network.trainable_variables)
            say(f"training {run.settings.system}, {run.settings.variant}: {weights:,} weights, step {start + 1} to "
                f"{schedule.iterations}, a record every {schedule.record_every}; the first step takes longer, as "
                "TensorFlow traces the network")
        for span in spans:
            if recorder.stop.number or recorder.stale():
                break
            network.fit(batches(span), shuffle=False, verbose=0, callbacks=[recorder],
                        epochs=span.stop // schedule.record_every, initial_epoch=span.start // schedule.record_every,
                        steps_per_epoch=min(len(span), schedule.record_every))
    with recorded(run.folder, "finished.json") as (path,):
        write_text(path, json.dumps({"steps": int(recorder.rows[-1]["step"]),
                                     "seconds": recorder.rows[-1]["seconds"]}, indent=2) + "\n")


class Measured(Exception):
    """A few steps are measured, and the training ends here."""


def measure(network: keras.Model, batches: Callable[[range], tf.data.Dataset], needs: Needs) -> NoReturn:
    """Takes a few steps, and prints their time and memory; the last line is JSON. Raises `Measured`."""
    ends = []

    def note(batch, logs):
        ends.append((time.monotonic(), time.process_time()))
        network.stop_training = len(ends) > 1 and ends[-1][0] - ends[-2][0] > LONG_STEP_S

    network.fit(batches(range(1 + MEASURED_STEPS)), shuffle=False, verbose=0,
                callbacks=[keras.callbacks.LambdaCallback(on_train_batch_end=note)])
    step_s, processor_s = ((end - start) / (len(ends) - 1) for start, end in zip(ends[0], ends[-1], strict=True))
    say(f"measured: {step_s:.3g} s a step, {peak_gib():.2f} GiB at most")
    print(json.dumps({"step_s": step_s, "processor_s": processor_s, "peak_gib": peak_gib(),
                      "estimated_step_s": needs.step_s, "estimated_processor_s": needs.processor_s,
                      "estimated_gib": needs.total_gib, "held_gib": needs.held_gib}), flush=True)
    raise Measured


def spans_of(start: int, schedule: Schedule) -> list[range]:
    """The steps that are left, as ranges of whole records; the rest of one that a signal ended comes first."""
    whole = min(-(-start // schedule.record_every) * schedule.record_every, schedule.iterations)
    return [span for span in (range(start, whole), range(whole, schedule.iterations)) if span]


class Recorder(keras.callbacks.Callback):
    """Prints progress, and at every record validates and writes the files of the run folder."""

    def __init__(self, run: Run, schedule: Schedule, validate: Validate | None, start: int,
                 settle: Callable[[], None] | None = None, unfinished: Unfinished | None = None):
        super().__init__()
        self.run, self.schedule, self.validate, self.start, self.settle = run, schedule, validate, start, settle
        self.unfinished, self.stop = unfinished, Stop()
        self.history = run.folder / "history.csv"
        self.rows = [row for row in read_history(self.history) if row["step"] <= start]
        self._check_history()
        self.before = unfinished["seconds"] if unfinished else self.rows[-1]["seconds"] if self.rows else 0.0
        self.step = start
        self.record_seconds: list[float] = []
        self.began = self.traced = self.printed = time.monotonic()
        self.writer = tf.summary.create_file_writer(str(run.folder / "tensorboard"), filename_suffix=f".{start}")

    def _check_history(self) -> None:
        """The history must reach the state: to its step, or to the last record before it."""
        last, every = self.rows[-1]["step"] if self.rows else 0, self.schedule.record_every
        records = {self.start, (self.start - 1) // every * every} if self.unfinished else {self.start}
        if last not in records or last % every or self.rows and "seconds" not in self.rows[-1]:
            raise UserError(f"{self.history}: must have a row of the last record at or before step {self.start}, at "
                            f"which {self.run.state.name} was written, and a record every {every}; delete the folder "
                            "and train again")

    def due(self) -> bool:
        """Whether a signal ended the training during a validation, before the record was written."""
        return bool(self.unfinished and self.start % self.schedule.record_every == 0
                    and (not self.rows or self.rows[-1]["step"] != self.start))

    def write_due(self, network: keras.Model) -> None:
        """Writes the record of the step at which the training resumes."""
        self.set_model(network)
        self.on_epoch_end(0, self.unfinished["logs"])

    def on_train_begin(self, logs=None):
        values = dataclasses.asdict(self.run.config) if self.run.config else {}
        with self.writer.as_default(step=self.start):
            tf.summary.text("config", "\n".join(f"    {name}: {value}" for name, value in values.items()))

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        loss, now = logs["loss"], time.monotonic()
        if not np.isfinite(loss):
            raise UserError(f"{self.run.folder}: the loss is {loss} at step {self.step}; "
                            "lower --learning_rate, or use --precision float32")
        if self.step == self.start + 1:
            self._add_sums()
            self.traced = now
            self._print(say, f"loss {loss:.4f}  (traced in {clock(now - self.began)})")
        elif now - self.printed > (SHOWN_S if is_terminal() else PRINTED_S):
            self._print(show if is_terminal() else say, f"loss {loss:.4f}  {self.left()} left")
        if self.stop.number:
            self.model.stop_training = True

    def on_epoch_end(self, epoch, logs=None):
        began, image = time.monotonic(), None
        logs = {name: float(value) for name, value in logs.items()}
        unfinished: Unfinished = {"seconds": round(self.before + began - self.began, 1), "logs": logs,
                                  "sums": [float(variable.value.numpy()) for variable in self._sums()]}
        if self.stop.number:
            self._save_unfinished(unfinished)
            return
        row = {"step": self.step, "seconds": unfinished["seconds"],
               "learning_rate": float(tf.convert_to_tensor(self.model.optimizer.learning_rate)), **logs}
        score = self.schedule.score
        if self.settle:
            self.settle()
        if self.validate:
            row[score.column], image = self._validated(unfinished)
        best = self.validate and score.value(row) > max(map(score.value, self.rows), default=-math.inf)
        self.rows.append(row)
        names = [*["best.weights.h5"] * bool(best), "last.weights.h5", "history.csv", "state.h5"]
        with recorded(self.run.folder, *names) as paths:  # the state last: where it exists, all the other files do
            for path in paths[:-2]:
                save_weights(path, self.model)
            write_history(paths[-2], self.rows)
            save_state(paths[-1], self.model, self.step)
        self._write_summary(row, image)
        remark = self.schedule.remark() if self.schedule.remark else ""
        self.record_seconds.append(time.monotonic() - began)
        found = f", {score.column.replace('_', ' ')} {row[score.column]:.4f}{' (best)' * best}" if self.validate else ""
        self._print(say, f"loss {row['loss']:.4f}, learning rate {row['learning_rate']:.3g}{found}  "
                    f"{self.left()} left")
        if remark:
            self._print(say, remark)
        self.model.stop_training = self.stale()

    def _validated(self, unfinished: Unfinished) -> tuple[float, np.ndarray]:
        """The score and image; a signal ends a validation where it arrives, and the record is written on resuming."""
        self.stop.at_once = True
        try:
            return self.validate()
        except (KeyboardInterrupt, Terminated):
            self._save_unfinished(unfinished)
            raise
        finally:
            self.stop.at_once = False

    def _sums(self) -> list:
        """The variables behind the means of a record's losses."""
        return [variable for metric in self.model.metrics for variable in metric.variables]

    def _add_sums(self) -> None:
        """Adds what a record had summed before it was stopped, once the first step has made the variables."""
        if not self.unfinished or self.start % self.schedule.record_every == 0:
            return
        if len(self.unfinished["sums"]) != len(self._sums()):
            raise UserError(f"{self.run.state}: the saved state is of other losses; choose another --run_dir")
        for variable, value in zip(self._sums(), self.unfinished["sums"], strict=True):
            variable.assign_add(value)

    def _save_unfinished(self, unfinished: Unfinished) -> None:
        """Saves the state at a step at which no record is written."""
        with recorded(self.run.folder, "state.h5") as (path,):
            save_state(path, self.model, self.step, unfinished)
        say(f"step {self.step}/{self.schedule.iterations}  saved")

    def left(self) -> str:
        """The remaining time, from the steps after the first one and the fastest record: the firsts include tracing.

        After one record with a validation, whose tracing cannot be told apart, it is an upper limit and says so.
        """
        steps, every = self.step - self.start - 1, self.schedule.record_every
        pace = (time.monotonic() - self.traced - sum(self.record_seconds)) / max(steps, 1)
        records = self.schedule.iterations // every - self.step // every
        seconds = pace * (self.schedule.iterations - self.step) + records * min(self.record_seconds, default=0.0)
        return "at most " * bool(self.validate and records and len(self.record_seconds) == 1) + clock(seconds)

    def stale(self) -> bool:
        """Whether early stopping applies: the score has not improved for that many records."""
        if not (self.validate and self.schedule.early_stopping and self.rows):
            return False
        scores = [self.schedule.score.value(row) for row in self.rows]
        return len(scores) - 1 - int(np.argmax(scores)) >= self.schedule.early_stopping

    def _write_summary(self, row: dict, image: np.ndarray | None) -> None:
        with self.writer.as_default(step=int(row["step"])):
            for name, value in row.items():
                if name != "step":
                    tf.summary.scalar(name, value)
            if image is not None:
                tf.summary.image("validation: reference, prediction", image[None])
        self.writer.flush()

    def _print(self, output: Callable[[str], None], text: str) -> None:
        self.printed = time.monotonic()
        output(f"step {self.step}/{self.schedule.iterations}  {text}")


def write_history(path: str | os.PathLike, rows: list[dict]) -> None:
    """Rewrites `history.csv`, which drops the rows after the last saved state."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, rows[-1].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, stream.getvalue())
