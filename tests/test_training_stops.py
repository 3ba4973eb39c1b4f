"""A signal ends a training at the step of its arrival; the same call resumes there, and ends as if undisturbed."""

import signal

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from tfsono.config import choose
from tfsono.configs.hip import HIP
from tfsono.errors import run_command
from tfsono.training.checkpoint import UNFINISHED
from tfsono.training.fit import Recorder, Schedule, fit, spans_of
from tfsono.training.record import record_files
from tfsono.training.run import open_run

SCHEDULE = Schedule(iterations=12, record_every=4)
OUTPUTS = ("one", "other")


def batches(steps):
    numbers = tf.data.Dataset.from_tensor_slices(np.array(steps, np.float32))
    return numbers.map(lambda step: (tf.fill((2, 3), step / 7), dict.fromkeys(OUTPUTS, tf.fill((2, 1), tf.sin(step)))))


def train(folder, at=None, number=signal.SIGTERM):
    """The status of a training of a small network that gets a signal `at` a step, or "validation" of the second."""
    keras.utils.set_random_seed(0)
    place = keras.Input((3,))
    hidden = keras.layers.Dense(2, "tanh")(place)
    network = keras.Model(place, {name: keras.layers.Dense(1, name=name)(hidden) for name in OUTPUTS})
    network.compile(keras.optimizers.Adam(0.05), loss={"one": "mse", "other": "mae"}, run_eagerly=True)
    run = open_run(folder, choose(HIP, "quick", "paper").replaced("test", label_names=("head",)),
                   {"train": ["a"], "validation": ["c"], "test": ["b"]}, {})

    def validate():
        if at == "validation" and int(network.optimizer.iterations) == 8:
            signal.raise_signal(number)
        return float(network.trainable_variables[0][0, 0]), np.zeros((2, 3, 3), np.uint8)

    class Sent(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if int(network.optimizer.iterations) == at:
                signal.raise_signal(number)

    plain, network.fit = network.fit, lambda data, callbacks, **more: plain(
        data, callbacks=[Sent(), *callbacks], **more)
    return run_command(lambda: fit(run, network, batches, SCHEDULE, validate))


def content(folder):
    """All that a training leaves, without the seconds."""
    lines = [line.split(",") for line in (folder / "history.csv").read_text(encoding="utf-8").splitlines()]
    found = {"history": [line[:1] + line[2:] for line in lines], "names": sorted(p.name for p in folder.iterdir())}
    for name in ("state.h5", "last.weights.h5", "best.weights.h5"):
        with h5py.File(folder / name) as file:
            file.visititems(lambda key, item, name=name: found.update(
                {f"{name}/{key}": item[...].tolist()} if isinstance(item, h5py.Dataset) else {}))
            assert UNFINISHED not in file.attrs
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert train(folder) == 0
    return content(folder)


@pytest.mark.parametrize("at, number, status, saved", [
    (1, signal.SIGTERM, 143, 2), (5, signal.SIGINT, 130, 6), ("validation", signal.SIGTERM, 143, 8),
    (11, getattr(signal, "SIGUSR1", signal.SIGTERM), 143, 12)])
def test_a_stopped_training_resumes_at_its_step_and_ends_as_if_undisturbed(tmp_path, whole, capsys, at, number, status,
                                                                          saved):
    assert train(tmp_path / "run", at, number) == status
    assert f"step {saved}/12  saved" in capsys.readouterr().out
    assert not (tmp_path / "run" / "finished.json").exists()
    assert train(tmp_path / "run") == 0
    assert f"resumes at step {saved} of 12" in capsys.readouterr().out
    assert content(tmp_path / "run") == whole


def test_a_training_stopped_twice_in_one_record(tmp_path, whole):
    assert [train(tmp_path / "run", at) for at in (4, 6, None)] == [143, 143, 0]
    assert content(tmp_path / "run") == whole


def test_a_second_signal_ends_at_once(tmp_path, monkeypatch):
    step = Recorder.on_train_batch_end

    def twice(self, batch, logs=None):
        step(self, batch, logs)
        if self.stop.number:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Recorder, "on_train_batch_end", twice)
    assert train(tmp_path / "run", 5) == 143
    with h5py.File(tmp_path / "run" / "state.h5") as file:
        assert file.attrs["step"] == 4 and UNFINISHED not in file.attrs


def test_the_steps_that_are_left():
    assert spans_of(0, SCHEDULE) == [range(0, 12)]
    assert spans_of(5, SCHEDULE) == [range(5, 8), range(8, 12)]
    assert spans_of(9, SCHEDULE) == [range(9, 12)] and spans_of(12, SCHEDULE) == []


def test_a_damaged_unfinished_record_is_refused(tmp_path, capsys):
    assert train(tmp_path / "run", 5) == 143
    for text in ("{", "[]", '{"seconds": 1, "logs": {}}', '{"seconds": 1, "logs": {}, "sums": []}'):
        with h5py.File(tmp_path / "run" / "state.h5", "r+") as file:
            file.attrs[UNFINISHED] = text
        record_files(tmp_path / "run")
        capsys.readouterr()
        assert train(tmp_path / "run") == 2
        assert "state.h5" in capsys.readouterr().err
