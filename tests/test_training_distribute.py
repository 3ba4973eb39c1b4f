"""`--strategy mirrored`: two devices train as one does. The trainings are in a process, by `on_two_devices.py`.

Those of the systems are slow: each is traced once for one device and once for two.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CLOSE = 1e-5  # of every variable after 4 or 8 steps at rate 0.001; rounding
SYSTEMS = {"hip": CLOSE, "pose": 1e-4, "head": CLOSE}  # of `pose` in Adam's means of gradients: see on_two_devices.py


def on_two_devices(folder, *systems):
    script = Path(__file__).with_name("on_two_devices.py")
    done = subprocess.run([sys.executable, str(script), str(folder), *systems], encoding="utf-8",
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env=os.environ | {"PYTHONPATH": str(script.parents[1])})
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return on_two_devices(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def of_systems(tmp_path_factory):
    return on_two_devices(tmp_path_factory.mktemp("systems"), *SYSTEMS)


@pytest.mark.slow
@pytest.mark.parametrize("system", SYSTEMS)
def test_two_devices_train_as_one(of_systems, system):
    assert of_systems[system]["variables"] < SYSTEMS[system] and of_systems[system]["history"] < CLOSE


def test_normalisation_dropout_and_clipping_are_those_of_the_batch(found):
    assert found["two"]["variables"] < CLOSE and found["two"]["history"] < CLOSE


def test_a_stopped_training_resumes_on_as_many_devices_on_fewer_and_on_more(found):
    assert found["statuses"] == [0, 0, 143, 0, 143, 0, 143, 0]
    assert found["again"]["variables"] == 0 and found["again"]["history"] < 1e-6
    for name in ("fewer", "more"):
        assert found[name]["variables"] < CLOSE and found[name]["history"] < CLOSE


@pytest.mark.parametrize("name, words", [("batch", "multiple of the 2 devices; found 3"), ("adversarial", "method gan"),
                                         ("one volume", "multiple of the 2 devices; found 1")])
def test_what_devices_cannot_share_is_refused_in_a_line(found, name, words):
    assert words in found["refused"][name] and "\n" not in found["refused"][name]
