"""A run: its folder, its record, and that a killed run ends with the weights of an uninterrupted one."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import h5py
import keras
import numpy as np
import pytest

from small_caches import TINY, write_small_cache
from tfsono.config import choose
from tfsono.configs.hip import HIP
from tfsono.errors import UserError
from tfsono.layers.batch_normalization import BatchNormalization
from tfsono.locks import locked
from tfsono.progress import clock
from tfsono.training.averages import settle_averages
from tfsono.training.fit import Recorder, Schedule, Score
from tfsono.training.log import logged
from tfsono.training.optimizers import cosine_restarts, learning_rate, optimizer
from tfsono.training.run import open_run, read_history, read_run
from tfsono.training.start import Start

ROOT = Path(__file__).resolve().parents[1]
SIZES = ((19, 17, 21), (17, 21, 19), (21, 19, 17), (17, 17, 21), (23, 19, 17))


@pytest.fixture(scope="module")
def cache_path(tmp_path_factory):
    return write_small_cache(tmp_path_factory.mktemp("training"), SIZES)


def command(cache_path, run_dir, *more):
    return [sys.executable, str(ROOT / "train" / "hip.py"), "--data", str(cache_path), "--run_dir", str(run_dir),
            *TINY, "--iterations", "12", "--validation_cases", "1", *more]


def arrays(path):
    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[...]}) if isinstance(item, h5py.Dataset) else None)
    return found


def without_seconds(path):
    """The cells of a history as they are written, without the one column that differs between two calls."""
    header, *lines = (line.split(",") for line in path.read_text(encoding="utf-8").split("\n"))
    place = header.index("seconds")
    return [line[:place] + line[place + 1:] for line in (header, *lines)]


@pytest.mark.kills  # a minute
def test_a_killed_run_ends_with_the_weights_of_an_uninterrupted_one(cache_path, tmp_path):
    subprocess.run(command(cache_path, tmp_path / "whole"), check=True, capture_output=True)
    killed = subprocess.Popen(command(cache_path, tmp_path / "killed"), stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (tmp_path / "killed" / "state.h5").is_file() and time.monotonic() < deadline:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "killed" / "finished.json").exists()
    again = subprocess.run(command(cache_path, tmp_path / "killed"), check=True, capture_output=True, encoding="utf-8")
    assert "resumes at" in again.stdout
    for name in ("last.weights.h5", "best.weights.h5", "state.h5"):
        one, other = arrays(tmp_path / "whole" / name), arrays(tmp_path / "killed" / name)
        assert one.keys() == other.keys() and len(one) > 20
        for key, value in one.items():
            np.testing.assert_array_equal(value, other[key], err_msg=f"{name} {key}")
    rows = [read_history(tmp_path / run / "history.csv") for run in ("whole", "killed")]
    assert without_seconds(tmp_path / "whole" / "history.csv") == without_seconds(tmp_path / "killed" / "history.csv")
    assert [row["step"] for row in rows[0]] == [2, 4, 6, 8, 10, 12]
    assert rows[0][-1]["learning_rate"] == pytest.approx(choose(HIP, "quick", "paper").config.learning_rate)
    log = (tmp_path / "killed" / "log.txt").read_text(encoding="utf-8")
    assert log.count("\n--- 20") == 1 and log.endswith(again.stdout)  # begun, and appended
    (events,) = (tmp_path / "whole" / "tensorboard").iterdir()
    assert events.read_bytes().count(b"\x89PNG") == 6 and b"learning_rate: " in events.read_bytes()


def test_the_time_left_is_without_the_tracing(tmp_path, settings, monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr("tfsono.training.fit.time.monotonic", lambda: now[0])
    recorder = Recorder(open_run(tmp_path / "run", settings, SPLIT, {}), Schedule(100, 50), None, 0)
    recorder.on_train_begin()
    for seconds in (60, 30, 2):  # the first one with the tracing
        now[0] += seconds
        recorder.on_train_batch_end(0, {"loss": 0.25})
    assert recorder.left() == "25:52"  # 97 steps of 16 s
    assert capsys.readouterr().out.splitlines() == [
        "step 1/100  loss 0.2500  (traced in 1:00)", "step 2/100  loss 0.2500  49:00 left"]
    recorder.record_seconds = [20.0]  # with the validation's tracing
    assert recorder.left() == clock(97 * (32 - 20) / 2 + 2 * 20)
    recorder.validate = lambda: (0.5, None)
    assert recorder.left() == "at most " + clock(97 * (32 - 20) / 2 + 2 * 20)
    recorder.record_seconds = [20.0, 10.0]
    assert recorder.left() == clock(97 * (32 - 30) / 2 + 2 * 10)


def test_a_log_has_what_is_printed_and_what_ended_it(tmp_path, capsys):
    for word in ("first", "second"):
        with contextlib.suppress(UserError), logged(tmp_path):
            print(f"{word}\u2028", flush=True)
            print("an error", file=sys.stderr)
            sys.stdout.write("\rstep 3\r")
            raise UserError("the loss is nan")
    assert capsys.readouterr() == ("first\u2028\n\rstep 3\rsecond\u2028\n\rstep 3\r", "an error\n" * 2)
    lines = (tmp_path / "log.txt").read_text(encoding="utf-8").split("\n")
    assert [line for line in lines if "---" not in line] == [
        "first\u2028", "an error", "ended: the loss is nan", "second\u2028", "an error", "ended: the loss is nan", ""]


@pytest.mark.parametrize("make", [lambda path: os.mkfifo(path), lambda path: path.symlink_to("/etc/passwd"),
                                  lambda path: path.mkdir()])
def test_a_log_is_a_file(tmp_path, make):
    make(tmp_path / "log.txt")
    with pytest.raises(UserError, match="log.txt"), logged(tmp_path):
        pytest.fail("not refused")


@pytest.fixture
def settings():
    return choose(HIP, "quick", "paper").replaced("test", label_names=("head",))


SPLIT = {"train": ["a"], "validation": [], "test": ["b"]}


def test_a_run_folder_is_read_as_it_was_written(tmp_path, settings):
    data = {"dataset": "small", "cases": ["a", "b"], "labels": {"head": 1}}
    run = open_run(tmp_path / "run", settings, SPLIT, data)
    again = read_run(tmp_path / "run", HIP)
    assert (again.settings, again.split, again.data) == (run.settings, SPLIT, data)
    assert json.loads((tmp_path / "run" / "versions.json").read_text(encoding="utf-8"))["keras"]
    assert (tmp_path / "run" / "command.txt").read_text(encoding="utf-8")
    assert open_run(tmp_path / "run", settings, SPLIT, data) == run


def test_another_configuration_split_or_dataset_is_refused(tmp_path, settings):
    open_run(tmp_path / "run", settings, SPLIT, {})
    with pytest.raises(UserError, match="batch: 2, 3"):
        open_run(tmp_path / "run", settings.replaced("test", batch=3), SPLIT, {})
    with pytest.raises(UserError, match="another split"):
        open_run(tmp_path / "run", settings, {**SPLIT, "test": ["c"]}, {})
    with pytest.raises(UserError, match="another data"):
        open_run(tmp_path / "run", settings, SPLIT, {"dataset": "other"})


def test_a_run_of_the_previous_release_is_resumed_unless_it_uses_a_removed_option(tmp_path, settings):
    path = open_run(tmp_path / "run", settings, SPLIT, {}).folder / "config.json"
    (tmp_path / "run" / "versions.json").unlink()  # says that there must be a run.json
    content = json.loads(path.read_text(encoding="utf-8"))
    for axis in "zx":
        content["values"] |= {"c3d_time_axis": axis, "jit_compile": False}
        path.write_text(json.dumps(content), encoding="utf-8")
        (tmp_path / "run" / "run.json").unlink()  # the release before wrote none
        if axis == "z":
            assert open_run(tmp_path / "run", settings, SPLIT, {}).settings == settings
    with pytest.raises(UserError, match='c3d_time_axis is "x"'):
        open_run(tmp_path / "run", settings, SPLIT, {})


def test_another_folder_is_not_touched(tmp_path, settings):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(UserError, match="not empty"):
        open_run(tmp_path, settings, SPLIT, {})
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(UserError, match="no such run folder"):
        read_run(tmp_path / "nowhere", HIP)


def test_a_run_folder_that_another_training_writes_is_refused(tmp_path, settings, monkeypatch):
    cache = SimpleNamespace(name="small", labels={"bone": 1}, landmarks=(), names=["a", "b", "c"],
                            check=lambda name: None)
    monkeypatch.setattr("tfsono.training.start.fingerprint_of_volumes", lambda cache, names: {"cases": len(names)})

    def start(until_the_end):
        return Start(cache, settings, tmp_path / "run", None, kinds=("labels",), until_the_end=until_the_end)

    with locked(tmp_path / "run"), contextlib.ExitStack() as end, pytest.raises(UserError, match=f"s {os.getpid()} on"):
        start(end).open_run(SPLIT, "without transfer")
    assert not (tmp_path / "run").exists()
    with contextlib.ExitStack() as end:
        run = start(end).open_run(SPLIT, "without transfer")
        with pytest.raises(UserError, match="is being written"), locked(run.folder):  # until the training ends
            pass
    with contextlib.ExitStack() as end:  # resumed
        assert start(end).open_run(SPLIT, "without transfer") == run


def test_weights_before_the_first_record(tmp_path, settings):
    run = open_run(tmp_path / "run", settings, SPLIT, {})
    with pytest.raises(UserError, match="no best or last weights"):
        run.weights()
    (run.folder / "last.weights.h5").touch()
    assert run.weights().name == "last.weights.h5"
    (run.folder / "best.weights.h5").touch()
    assert run.weights().name == "best.weights.h5" and run.weights("last").name == "last.weights.h5"


@pytest.mark.parametrize("scores, patience, stale", [
    ([0.1, 0.5, 0.4, 0.4], 2, True), ([0.1, 0.5, 0.4], 2, False), ([0.5, 0.4, 0.6], 2, False),
    ([0.5, 0.4, 0.3, 0.2], 0, False), ([], 1, False)])
def test_early_stopping(tmp_path, settings, scores, patience, stale):
    run = open_run(tmp_path / "run", settings, SPLIT, {})
    recorder = Recorder(run, Schedule(100, 10, patience), lambda: 0.0, 0)
    recorder.rows = [{"step": i, "validation_dice": score} for i, score in enumerate(scores)]
    assert recorder.stale() == stale


@pytest.mark.parametrize("errors, stale", [([9.0, 5.0, 6.0, 7.0], True), ([9.0, 7.0, 6.0, 5.0], False)])
def test_a_score_of_which_less_is_better(tmp_path, settings, errors, stale):
    run = open_run(tmp_path / "run", settings, SPLIT, {})
    schedule = Schedule(100, 10, 2, Score("validation_mre_mm", less_is_better=True))
    recorder = Recorder(run, schedule, lambda: 0.0, 0)
    recorder.rows = [{"step": i, "validation_mre_mm": error} for i, error in enumerate(errors)]
    assert recorder.stale() == stale


def test_early_stopping_without_validation_never_stops(tmp_path, settings):
    recorder = Recorder(open_run(tmp_path / "run", settings, SPLIT, {}), Schedule(100, 10, 1), None, 0)
    recorder.rows = [{"step": 10, "loss": 1.0}, {"step": 20, "loss": 2.0}]
    assert not recorder.stale()


def test_the_rate_is_halved_every_3000_iterations():
    rate = learning_rate(1e-3, "halving", 3000, 14000)
    at = {step: float(rate(step)) for step in (0, 2999, 3000, 5999, 6000, 9000, 12000, 13999)}
    assert at == pytest.approx({0: 1e-3, 2999: 1e-3, 3000: 5e-4, 5999: 5e-4, 6000: 2.5e-4, 9000: 1.25e-4,
                                12000: 6.25e-5, 13999: 6.25e-5})
    cosine = learning_rate(1e-3, "cosine", 3000, 100)
    assert [float(cosine(step)) for step in (0, 50, 100)] == pytest.approx([1e-3, 5e-4, 0], abs=1e-9)


def test_sgd_is_the_papers():
    import keras

    variable = keras.Variable(np.float32([1.0]))
    sgd = optimizer("sgd", 0.1, 0.9)
    sgd.build([variable])
    for _ in range(2):
        sgd.apply([keras.ops.convert_to_tensor(np.float32([1.0]))], [variable])
    assert float(variable.value[0]) == pytest.approx(1 - 0.1 - (0.9 * 0.1 + 0.1))  # v = 0.9 v - 0.1 g; w += v


def test_warm_restarts_are_loshchilovs():
    rate = cosine_restarts(1e-3, 1e-5, 10, 2.0)

    def by_hand(step, first=10):
        while step >= first:
            step, first = step - first, 2 * first
        return 1e-5 + (1e-3 - 1e-5) * (1 + np.cos(np.pi * step / first)) / 2

    steps = [0, 5, 9, 10, 11, 20, 29, 30, 50, 69, 70]  # cycles of 10, 20, 40
    assert [float(rate(step)) for step in steps] == pytest.approx([by_hand(step) for step in steps], rel=1e-4)
    assert float(rate(10)) == float(rate(30)) == pytest.approx(1e-3)


def test_adamw_decays_what_has_no_gradient_and_clips_all_gradients_together():
    import keras

    weights = [keras.Variable(np.float32([2.0])), keras.Variable(np.float32([2.0]))]
    adamw = optimizer("adamw", 0.1, weight_decay=0.5)
    adamw.build(weights)
    adamw.apply([keras.ops.convert_to_tensor(np.float32([0.0])), keras.ops.convert_to_tensor(np.float32([1.0]))],
                weights)
    # w - rate decay w, and for a gradient Adam's first step of the rate besides
    assert [float(w.value[0]) for w in weights] == pytest.approx([2 - 0.1 * 0.5 * 2, 2 - 0.1 * 0.5 * 2 - 0.1])
    clipped = optimizer("sgd", 1.0, 0.0, gradient_clip=1.0)
    weights = [keras.Variable(np.float32([0.0])), keras.Variable(np.float32([0.0]))]
    clipped.build(weights)
    clipped.apply([keras.ops.convert_to_tensor(np.float32([v])) for v in (3.0, 4.0)], weights)
    assert [float(w.value[0]) for w in weights] == pytest.approx([-0.6, -0.8])


def test_settled_averages_are_means_over_batches_and_no_weight_changes():
    image = keras.Input((6, 6, 2))
    x = BatchNormalization(momentum=0.9, name="first")(keras.layers.Conv2D(3, 3)(image))
    network = keras.Model(image, BatchNormalization(momentum=0.8, name="second")(keras.layers.Conv2D(2, 1)(x)))
    images = np.random.default_rng(0).normal(3, 2, (5, 4, 6, 6, 2)).astype(np.float32)
    inner = keras.Model(image, network.layers[1].output)
    maps = [np.asarray(inner(one)) for one in images]
    before = [keras.ops.convert_to_numpy(weight) for weight in network.trainable_variables]
    settle_averages(network, images)
    first, second = network.get_layer("first"), network.get_layer("second")
    np.testing.assert_allclose(first.moving_mean, np.mean([one.mean((0, 1, 2)) for one in maps], 0), rtol=1e-3)
    np.testing.assert_allclose(first.moving_variance, np.mean([one.var((0, 1, 2)) for one in maps], 0), rtol=1e-4)
    assert (first.momentum, second.momentum) == (0.9, 0.8)
    for weight, value in zip(network.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(weight, value)
