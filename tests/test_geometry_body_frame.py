"""The frame of a body: where all bodies lie alike, mirror images too, and the same fit inside the graph."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tfsono.configs.pose import LANDMARKS, MIDLINE, MIRRORED, SEGMENTS
from tfsono.data.landmark_volumes import WholeSampling, WholeSource, framed
from tfsono.geometry.body_frame import body_frame
from tfsono.geometry.rigid import fit_rigid
from tfsono.inference.framed import fitted
from tfsono.metrics.pose_limits import limits_described, pose_limits
from tfsono.phantoms.pose import fetus_reference

MIDDLE = [LANDMARKS.index(name) for name in MIDLINE]
SIDES = [[LANDMARKS.index(name) for name in pair] for pair in zip(*MIRRORED, strict=True)]


def poses_of(seeds):
    """Bodies in all directions, mm."""
    return np.stack([fetus_reference(seed, (110, 110, 110), (1.0, 1.0, 1.0), (12.5, 14.0))[0] for seed in seeds])


@pytest.fixture(scope="module")
def poses():
    return poses_of(range(20))


@pytest.fixture(scope="module")
def frame(poses):
    return body_frame(poses, MIDDLE, 10.0)


def mirrored(pose):
    """The mirror image of a body, with the names of its sides exchanged."""
    found = pose * [1.0, -1.0, 1.0]
    found[SIDES[0] + SIDES[1]] = found[SIDES[1] + SIDES[0]]
    return found


def test_left_is_left_in_every_direction_and_in_a_mirror(frame):
    random = np.random.default_rng(0)
    ways = []
    for pose in poses_of(range(50, 70)):
        for body in (pose, mirrored(pose)):
            body = body @ Rotation.random(random_state=random).as_matrix() + random.normal(0, 50, 3)
            rotation, shift = frame.fit(body + random.normal(0, 0.5, body.shape))
            lying = body @ rotation.T + shift
            ways.append(lying[SIDES[0]] - lying[SIDES[1]])
            assert np.linalg.det(rotation) == pytest.approx(1) and (np.abs(lying) < frame.sides_mm / 2).all()
    shoulders_and_hips = np.stack(ways)[:, [0, 3]]
    mean = shoulders_and_hips.mean(0)
    assert ((shoulders_and_hips * mean).sum(-1) > 0).all()


def test_the_box_is_in_the_middle_and_small(frame, poses):
    assert frame.midline == tuple(MIDDLE) and frame.midline_mm.shape == (4, 3)
    lying = np.stack([pose @ rotation.T + shift for pose in poses for rotation, shift in [frame.fit(pose)]])
    low, high = lying.min((0, 1)), lying.max((0, 1))
    np.testing.assert_allclose(low, -high, atol=0.1)
    np.testing.assert_allclose(high - low, frame.sides_mm - 20, atol=0.2)
    size, padded = frame.size(2.0, 8)
    assert all(0 <= 2 * n - side < 2 for n, side in zip(size, frame.sides_mm, strict=True))
    assert all(n % 8 == 0 and 0 <= n - m < 8 for n, m in zip(padded, size, strict=True))


def test_the_fit_inside_the_graph_is_that_of_numpy(frame):
    random = np.random.default_rng(1)
    for points in (*random.normal(0, 20, (5, 4, 3)), frame.midline_mm * [1, 1, -1], np.arange(12.0).reshape(4, 3) // 3,
                   np.zeros((4, 3))):
        for one, other in zip(fitted(np.float32(points), frame.midline_mm),
                              fit_rigid(np.float32(points), frame.midline_mm), strict=True):
            np.testing.assert_allclose(one, other, atol=2e-4)


def test_training_shows_bodies_in_the_frame_with_left_on_the_left(frame, poses):
    spacing = np.array([0.8, 1.0, 1.3])
    source = WholeSource("a", (140, 110, 90), tuple(spacing), poses[3] / spacing)
    sampling = WholeSampling(ratio=0.5, stride=8, sigma_mm=5.0, augmentation="random", rotation_degrees=0.0, seed=0,
                             frame=frame)
    rotation, shift = frame.fit(poses[3])
    turned, seen = poses[3] @ rotation.T + shift, []
    for position in range(16):
        matrix, place = framed(position, 0, 0, source, sampling)
        offsets = np.linalg.solve(matrix, (source.points_vox - place["middle"]).T).T * spacing.mean() / 0.5
        mirror = np.linalg.det(matrix) < 0
        if mirror:
            offsets[SIDES[0] + SIDES[1]] = offsets[SIDES[1] + SIDES[0]]
        else:
            np.testing.assert_allclose(offsets, turned, atol=1e-6)
        ways = (offsets[SIDES[0]] - offsets[SIDES[1]]) * (turned[SIDES[0]] - turned[SIDES[1]])
        assert (ways.sum(1)[[0, 3]] > 0).all()  # shoulders and hips
        seen.append(mirror)
    assert 4 < sum(seen) < 12


def test_limits_flag_exchanged_sides_and_odd_lengths(poses):
    limits = pose_limits(poses, LANDMARKS, SEGMENTS, MIRRORED, MIDLINE)
    again = limits_described(limits.described())
    for pose in poses_of(range(50, 60)):
        assert limits.exchanged(pose, LANDMARKS) == [] == list(limits.odd_lengths(pose, LANDMARKS))
        swapped = pose.copy()
        swapped[SIDES[0] + SIDES[1]] = pose[SIDES[1] + SIDES[0]]
        found = again.exchanged(swapped, LANDMARKS)
        assert found == list(limits.sides_mm) and ("shoulder_a", "shoulder_b") in found
        swapped[LANDMARKS.index("wrist_a")] = swapped[LANDMARKS.index("elbow_a")]
        assert again.odd_lengths(swapped, LANDMARKS)[("elbow_a", "wrist_a")] == 0
        swapped[:] = np.nan
        assert again.exchanged(swapped, LANDMARKS) == [] == list(again.odd_lengths(swapped, LANDMARKS))
    for names in ((), ("left", "right")):
        none = pose_limits(np.zeros((2, len(names), 3)), names, SEGMENTS, MIRRORED, MIDLINE)
        assert none.exchanged(np.zeros((len(names), 3)), names) == [] and none.sides_mm == {}
    assert limits_described({}).exchanged(poses[0], LANDMARKS) == []
