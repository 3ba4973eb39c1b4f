"""Poses: each problem alone with its numbers, sound poses without any, and the audit of a dataset."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from small_datasets import RAS, noise, write_image, write_json
from tfsono.configs.pose import LANDMARKS, MIRRORED, SEGMENTS
from tfsono.audit.dataset import audit_cases
from tfsono.data.layout import open_dataset
from tfsono.audit.body import judge_pose, judge_poses
from tfsono.volumes.landmarks import read_landmarks

NAMES = ("head", "hand_a", "hand_b", "front")
POINTS = np.array([[10.0, 10, 20], [4, 10, 10], [16, 10, 10], [10, 18, 8]])
SPACING = (0.5, 1.0, 2.0)


def codes(problems):
    return [code for code, _ in problems]


def only_text(problems):
    (_, text), = problems
    return text


# ------------------------------------------------------------------------------------------------ one pose


def test_a_sound_pose_has_no_problem():
    assert judge_pose(POINTS, SPACING, NAMES, (21, 20, 30)) == []


def test_missing_landmarks_are_counted_and_named():
    points = POINTS.copy()
    points[2] = np.nan
    assert judge_pose(points, SPACING, NAMES) == [("landmark_missing", "1 of 4 landmarks: hand_b")]
    many = np.full((16, 3), np.nan)
    many[:4] = POINTS
    text = only_text(judge_pose(many, SPACING, LANDMARKS))
    assert text == "12 of 16 landmarks: elbow_a, wrist_a, spine, sacrum, elbow_b, wrist_b and 6 more"
    points[1] = np.nan
    assert codes(judge_pose(points, SPACING, NAMES)) == ["landmark_missing", "few_landmarks"]
    assert codes(judge_pose(points * np.nan, SPACING, NAMES)) == ["landmark_missing", "few_landmarks"]
    assert codes(judge_pose(points[:1], SPACING, NAMES[:1])) == ["few_landmarks"]


def test_landmarks_outside_the_faces():
    points = POINTS.copy()
    points[0, 2], points[1, 0] = 20.5, -0.5
    assert judge_pose(points, SPACING, NAMES, (21, 20, 21)) == []  # on the faces
    points[0, 2], points[1, 0] = 20.6, -0.6
    problems = judge_pose(points, SPACING, NAMES, (21, 20, 21))
    assert codes(problems) == ["landmark_outside"] * 2
    assert all(part in problems[0][1] for part in ("head at voxel (10.0, 10.0, 20.6)", "outside", "21x20x21"))
    assert judge_pose(points, SPACING, NAMES) == []


def test_coincident_landmarks_in_voxels():
    points = POINTS.copy()
    points[3] = points[1] + [0.6, 0, 0.7]  # 0.92 voxels, 1.43 mm
    assert "hand_a and front are 0.9 voxels apart" in only_text(judge_pose(points, SPACING, NAMES))
    points[3] = points[1] + [1.0, 0, 0]  # 0.5 mm
    assert judge_pose(points, SPACING, NAMES) == []


def test_landmarks_on_a_line_in_millimetres():
    line = np.array([5.0, 5, 5]) + np.arange(4)[:, None] * np.array([[3.0, 1, 2]])
    assert "all 4 " in only_text(judge_pose(line, SPACING, NAMES))
    assert " mm of a line" in only_text(judge_pose(line, SPACING, NAMES))
    line[2] = np.nan
    assert codes(judge_pose(line, SPACING, NAMES)) == ["landmark_missing", "landmarks_on_a_line"]
    # two points on each side of the x axis at a distance h along z: root mean square distance h; voxels have 3.5/3 mm
    for height, expected in ((1.1, ["landmarks_on_a_line"]), (1.2, [])):
        across = np.array([[0.0, 0, height], [20, 0, -height], [40, 0, -height], [60, 0, height]]) / SPACING
        assert codes(judge_pose(across, SPACING, NAMES)) == expected
    assert codes(judge_pose(np.ones((4, 3)), SPACING, NAMES)) == ["coincident_landmarks"] * 6 + ["landmarks_on_a_line"]


@pytest.mark.parametrize("spacing", [None, (0.5, np.nan, 0.5), (0, 0, 0), (1, 1, -1)])
def test_an_unknown_spacing_is_reported_and_lines_are_checked_in_voxels(spacing):
    assert codes(judge_pose(POINTS, spacing, NAMES)) == ["no_spacing"]
    line = np.arange(4)[:, None] * np.array([[3.0, 1, 2]])
    problems = judge_pose(line, spacing, NAMES)
    assert codes(problems) == ["no_spacing", "landmarks_on_a_line"] and "voxels of a line" in problems[1][1]


# ------------------------------------------------------------------------------------------------ all poses


def body(random, size=1.0):
    """[16, 3] mm: a bent back, arms and legs held in front of it, each at its own angles; rotated at random."""
    def limb(root, side, lengths, spread):
        first = np.array([side * random.uniform(0, spread), -1, random.uniform(-1, 0.6)])
        second = np.array([-side * random.uniform(0, 0.5), -random.uniform(0.2, 1), random.uniform(-1, 1)])
        knee = root + lengths[0] * first / np.linalg.norm(first)
        return root, knee, knee + lengths[1] * second / np.linalg.norm(second)

    bend = random.uniform(2, 6)
    at = {"head": [0, -4, 16], "neck": [0, 0, 0], "spine": [0, bend, -14], "sacrum": [0, 0, -28]}
    for side, sign in (("a", 1), ("b", -1)):
        arm = limb(np.array([sign * 7.0, -1, -3]), sign, (9, 8), 1.0)
        leg = limb(np.array([sign * 4.0, -2, -31]), sign, (10, 9), 0.6)
        at |= {f"{joint}_{side}": place for joint, place in
               zip(("shoulder", "elbow", "wrist", "hip", "knee", "ankle"), (*arm, *leg), strict=True)}
    points = size * np.array([at[name] for name in LANDMARKS], float) + random.normal(0, 0.3, (16, 3))
    return Rotation.random(random_state=int(random.integers(1 << 31))).apply(points) + random.uniform(-50, 50, 3)


@pytest.fixture
def bodies():
    random = np.random.default_rng(1)
    return {f"body_{number}": body(random, random.uniform(0.7, 1.4)) for number in range(14)}


def sides_changed(points):
    """The points with a and b exchanged, by name."""
    other = {a: b for pair in MIRRORED for a, b in (pair, pair[::-1])}
    return points[[LANDMARKS.index(other.get(name, name)) for name in LANDMARKS]]


def judged(bodies):
    found = judge_poses(bodies, LANDMARKS, SEGMENTS, MIRRORED)
    assert list(found) == list(bodies)
    return {case: codes(problems) for case, problems in found.items() if problems}


def test_sound_poses_have_no_problem(bodies):
    assert judged(bodies) == {}
    assert judge_poses({}, LANDMARKS) == {}


def test_few_poses_are_not_checked(bodies):
    few = dict(list(bodies.items())[:4])
    few["body_0"] = few["body_0"] * 10
    assert judged(few) == {}


@pytest.mark.parametrize("landmarks", [1, 2, 3])
def test_few_landmarks_are_no_body(landmarks):
    points = np.random.default_rng(0).normal(0, 10, (8, landmarks, 3))
    points[3] = points[3] * 0  # all in one place: no size either
    found = judge_poses({str(n): pose for n, pose in enumerate(points)}, LANDMARKS[:landmarks], SEGMENTS, MIRRORED)
    assert len(found) == 8 and "sides_exchanged" not in str(found)


def test_a_joint_in_the_wrong_place_makes_its_segments_too_long(bodies):
    wrist = LANDMARKS.index("wrist_a")
    elbow = bodies["body_3"][LANDMARKS.index("elbow_a")]
    bodies["body_3"][wrist] = elbow + 3 * (bodies["body_3"][wrist] - elbow)
    problems = judge_poses(bodies, LANDMARKS, SEGMENTS, MIRRORED)
    assert {case: codes(found) for case, found in problems.items() if found} == {"body_3": ["implausible_length"]}
    text = only_text(problems["body_3"])
    length = np.linalg.norm(bodies["body_3"][wrist] - elbow)
    assert text.startswith(f"elbow_a - wrist_a has {length:.1f} mm, ") and "expected 0.5 to 2" in text
    assert 2.7 < float(text.split(" times")[0].split()[-1]) < 3.3
    bodies["body_3"][wrist] = elbow + (bodies["body_3"][wrist] - elbow) / 9
    assert judged(bodies) == {"body_3": ["implausible_length"]}
    assert all(not found for found in judge_poses(bodies, LANDMARKS, (), MIRRORED).values())  # no bones, no lengths


def test_another_unit_makes_another_size(bodies):
    bodies["body_2"] *= 10
    bodies["body_7"] /= 10
    assert judged(bodies) == {"body_2": ["implausible_size"], "body_7": ["implausible_size"]}
    text = only_text(judge_poses(bodies, LANDMARKS, SEGMENTS, MIRRORED)["body_2"])
    assert "0.33 to 3" in text
    sizes = {case: codes(found) for case, found in judge_poses(bodies, LANDMARKS).items() if found}
    assert sizes == {"body_2": ["implausible_size"], "body_7": ["implausible_size"]}  # without segments too


@pytest.mark.parametrize("exchanged", [1, 3, 6])
@pytest.mark.parametrize("fault", ["names", "mirror"])
def test_exchanged_sides_of_the_fewer_are_found(bodies, exchanged, fault):
    wrong = [f"body_{number}" for number in range(1, 1 + 2 * exchanged, 2)]
    for case in wrong:
        bodies[case] = sides_changed(bodies[case]) if fault == "names" else bodies[case] * (1, 1, -1)
    assert judged(bodies) == {case: ["sides_exchanged"] for case in wrong}
    found = {case: codes(problems) for case, problems in judge_poses(bodies, LANDMARKS).items() if problems}
    assert found == {case: ["sides_exchanged"] for case in wrong}  # also where no pairs are known


def test_a_body_that_is_its_own_mirror_image_is_not_checked():
    flat = np.random.default_rng(0).normal(0, 10, (8, 5, 3)) * (1, 1, 0)  # in a plane
    assert not any(judge_poses({str(n): pose for n, pose in enumerate(flat)}, tuple("abcde")).values())


def test_reported_distances_are_those_of_scipy():
    """Nine copies of one body, of which one has its sides exchanged: the distances are known."""
    random = np.random.default_rng(5)
    one = body(random)
    copies = {str(n): Rotation.random(random_state=n).apply(one) for n in range(9)}
    copies["4"] = sides_changed(copies["4"])
    centred, other = one - one.mean(axis=0), sides_changed(one) - one.mean(axis=0)
    _, distance = Rotation.align_vectors(centred, other)
    text = only_text(judge_poses(copies, LANDMARKS, SEGMENTS, MIRRORED)["4"])
    assert text.startswith(f"{distance / 4:.1f} mm from") and "mirror image 0.0 mm" in text


def test_missing_points_are_ignored(bodies):
    random = np.random.default_rng(3)
    bodies["body_5"] = sides_changed(bodies["body_5"])
    for points in bodies.values():
        points[random.choice(16, 3, replace=False)] = np.nan
    bodies["body_9"][:] = np.nan
    bodies["body_11"][3:] = np.nan  # three points have no handedness
    assert judged(bodies) == {"body_5": ["sides_exchanged"]}
    assert judged({case: points * np.nan for case, points in bodies.items()}) == {}


def test_real_landmarks_are_sound_until_one_is_mirrored(shared_data):
    folders = sorted((shared_data / "fetal_brain_mr").glob("fetal_SB_atlas_*"))
    found = {folder.name: read_landmarks(folder / "lmks.nii.gz") for folder in folders}
    assert len(found) == 12
    names = tuple(next(iter(found.values())))
    poses = {name: np.stack(list(points.values())) for name, points in found.items()}
    assert not any(judge_poses(poses, names).values())
    wrong = list(poses)[4]
    poses[wrong] = poses[wrong] * (-1, 1, 1)
    assert [case for case, problems in judge_poses(poses, names).items() if problems] == [wrong]
    poses[wrong] = poses[wrong][[1, 0, 2, 4, 3, 6, 5]]  # right and left by name as well: sound again
    assert not any(judge_poses(poses, names, (), (("1", "2"), ("4", "5"), ("10", "11"))).values())


# ------------------------------------------------------------------------------------------------ a dataset


def write_body(root, number, points_mm, direction=None, size=(90, 90, 90)):
    """A volume of 1 mm whose voxel indices are the points, except for axes that the direction reverses."""
    name = f"body_{number}"
    write_image(root / "volumes" / f"{name}.nii.gz", noise(number, size), (1, 1, 1), (0, 0, 0), direction)
    (root / "landmark_anno").mkdir(exist_ok=True)
    named = {label: None if np.isnan(point).any() else point.tolist()
             for label, point in zip(LANDMARKS, points_mm, strict=True)}
    (root / "landmark_anno" / f"{name}_landmark.json").write_text(json.dumps({"spacing": None, "landmarks": named}))


def test_the_audit_of_a_dataset_reports_it_for_each_case(tmp_path, bodies):
    few = [points - points.mean(axis=0) + 45 for points in list(bodies.values())[:7]]
    few[1] = sides_changed(few[1])
    few[2] = few[2] * np.nan
    few[2][:4] = np.array([[20.0, 20, 20]]) + np.arange(4)[:, None]
    few[3] *= (1, 1, -1)  # a file whose third axis runs downwards holds the same body ...
    few[3] += (0, 0, 89)
    few[4][0] = few[4][2]
    for number, points in enumerate(few):
        left_handed = (1.0, 0, 0, 0, 1, 0, 0, 0, -1) if number == 3 else RAS if number == 5 else None
        write_body(tmp_path, number, points, left_handed)
    write_json(tmp_path / "dataset.json", {"labels": {}, "landmarks": list(LANDMARKS)})
    entries = audit_cases(open_dataset(tmp_path), None, lambda line: None)
    found = {name: [problem["code"] for problem in entry["problems"]] for name, entry in entries.items()}
    assert found.pop("body_4")[0] == "coincident_landmarks"
    assert found == {"body_0": [], "body_1": ["sides_exchanged"], "body_3": [], "body_5": [], "body_6": [],
                     "body_2": ["implausible_size", "landmark_missing", "landmarks_on_a_line"]}
    assert all(problem["level"] == "warning" for entry in entries.values() for problem in entry["problems"])
