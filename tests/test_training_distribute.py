"""`--strategy mirrored`: two devices train as one does. All trainings are done once, by `on_two_devices.py`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CLOSE = 1e-5  # of every variable after 8 steps at rate 0.001; rounding


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    script = Path(__file__).with_name("on_two_devices.py")
    done = subprocess.run([sys.executable, str(script), str(tmp_path_factory.mktemp("devices"))], encoding="utf-8",
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env=os.environ | {"PYTHONPATH": str(script.parents[1])})
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("system", ["hip", "pose", "head"])
def test_two_devices_train_as_one(found, system):
    assert found[system]["variables"] < CLOSE and found[system]["history"] < CLOSE


def test_normalisation_dropout_and_clipping_are_those_of_the_batch(found):
    assert found["small"]["two"]["variables"] < CLOSE


def test_a_stopped_training_resumes_on_as_many_devices_on_fewer_and_on_more(found):
    assert found["small"]["statuses"] == [0, 0, 143, 0, 143, 0, 143, 0]
    assert found["small"]["again"]["variables"] == 0 and found["small"]["again"]["history"] < 1e-6
    for name in ("fewer", "more"):
        assert found["small"][name]["variables"] < CLOSE and found["small"][name]["history"] < CLOSE


@pytest.mark.parametrize("name, words", [("batch", "multiple of the 2 devices; found 3"), ("adversarial", "method gan"),
                                         ("one volume", "multiple of the 2 devices; found 1")])
def test_what_devices_cannot_share_is_refused_in_a_line(found, name, words):
    assert words in found["refused"][name] and "\n" not in found["refused"][name]
