"""What a training says that it will take, and what is refused: in every system, on networks of a few channels."""

import dataclasses
import json
import math
import re

import numpy as np
import pytest

from small_caches import TINY, write_small_cache
from tfsono.config import choose
from tfsono.configs.face import FACE
from tfsono.configs.head import HEAD
from tfsono.configs.hip import HIP
from tfsono.errors import UserError
from tfsono.models.face import build as build_face
from tfsono.models.head import build as build_head
from tfsono.models.hip import build
from tfsono.training import memory
from tfsono.training.memory import Needs, check_fits, counted, step_gib
from wiring import eagerly, script

SHAPE = (2, 16, 16, 16, 1)


@pytest.fixture(scope="module")
def network():
    config = choose(HIP, "quick", "tuned").config
    return build(dataclasses.replace(config, label_names=("a",), widths=(2, 3, 4, 5), lower_widths=(3, 2),
                                     middle_widths=(2,)))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return write_small_cache(tmp_path_factory.mktemp("memory"), ((19, 17, 21), (17, 21, 19), (21, 19, 17)))


def test_what_is_counted(network):
    small, large = counted(network, SHAPE), counted(network, (2, 32, 32, 32, 1))
    assert large.retained == 8 * small.retained and large.multiplications == 8 * small.multiplications
    assert large.weights == small.weights == 16 * sum(math.prod(v.shape) for v in network.trainable_variables)
    assert small.largest == 2 * 16**3 * 4 * 4 and small.working == 2 * small.largest  # the concatenation at full size
    first = 2 * 16**3 * 27 * (1 * 2 + 2 * 2)  # conv1 and what follows it at full size are a part of it
    assert small.multiplications > first


@pytest.mark.parametrize("variant", HEAD.variants)
def test_every_network_of_images_is_counted(variant):
    """Some have layers that are called twice."""
    config = choose(HEAD, "quick", variant, {"input_size": "64,96"}).config
    assert step_gib(counted(build_head(config), (2, 64, 96, 1))) > 0


@eagerly()
def test_the_time_is_measured_and_nothing_is_learned(network):
    before = [variable.numpy() for variable in network.variables]
    (part,) = memory.parts_of(network, (2, 64, 64, 64, 1))
    assert [small.shapes for small in part.small()] == [(1, 16, 16, 16, 1), (1, 32, 32, 32, 1)]
    wall, processor = memory.step_seconds([part])
    assert wall > 0 and processor > 0
    assert all(np.array_equal(each, now.numpy()) for each, now in zip(before, network.variables, strict=True))


def test_both_stages_are_counted():
    config = choose(FACE, "quick", "faster_rcnn").config
    network = build_face(dataclasses.replace(config, landmark_names=("a", "b"), box_sides=(7.0,), widths=(2, 3, 4, 5),
                                             head_width=6))
    first, second = memory.parts_of(network, (1, 32, 32, 32, 1))
    assert second.shapes == [(1, 8, 8, 8, 6), (1, config.proposals, 6)]
    regions = config.roi_side ** 3 * 6
    assert second.counted().weights >= 16 * regions * config.roi_width and second.small() == [second]
    found = counted(network, (1, 32, 32, 32, 1))
    assert found.weights == first.counted().weights + second.counted().weights
    assert found.weights == 16 * sum(math.prod(variable.shape) for variable in network.trainable_variables)


def test_what_does_not_fit_is_refused_with_what_does(network):
    needed = step_gib(counted(network, SHAPE))
    half = step_gib(counted(network, (1, 16, 16, 16, 1)))
    needs = Needs(1.0, needed, free_gib=1.0 + half + 1e-6, step_s=0.5, steps=10, where="the machine")
    sizes = [("--batch 1", (1, 16, 16, 16, 1)), ("--batch 1 --patch 8,8,8", (1, 8, 8, 8, 1))]
    with pytest.raises(UserError, match=r"about 1\.\d GiB .*the nearest settings that fit: --batch 1; or --force"):
        check_fits(needs, network, sizes)
    with pytest.raises(UserError, match="no smaller input fits; take --preset quick"):
        check_fits(dataclasses.replace(needs, free_gib=0.5), network, sizes)
    check_fits(dataclasses.replace(needs, free_gib=math.inf), network, [])
    assert re.search(r"about 1\.\d GiB .* about 0:05 for 10 steps of 0\.5 s", needs.line())


def test_a_dry_run_measures_and_leaves_nothing(cache, tmp_path, monkeypatch, capsys):
    words = ["--data", str(cache), "--run_dir", str(tmp_path / "run"), *TINY, "--test_cases", "1"]
    monkeypatch.setattr(memory, "step_seconds", lambda parts: (1.0, 2.0))
    main = script("train", announced=True).main
    main([*words, "--dry_run"])
    out = capsys.readouterr().out
    found = json.loads(out.splitlines()[-1])
    assert found["step_s"] > 0 and found["peak_gib"] > 0.1 and found["estimated_gib"] > found["held_gib"] > 0.1
    assert found["processor_s"] > 0 and found["estimated_processor_s"] == 2.0
    assert "this training takes about" in out and not (tmp_path / "run").exists()
    monkeypatch.setattr(memory, "free_memory_gib", lambda: -0.5)
    with pytest.raises(UserError, match="this training takes about .* or --force"):
        main(words)
    assert not (tmp_path / "run").exists()
