"""The atlas set: retrieval against a plain search, its file, and what is refused."""

import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tfsono.errors import UserError
from tfsono.inference.atlases import (
    AtlasSet,
    atlas_set_of,
    atlases_file,
    read_atlases,
    robust_places,
    write_atlases,
)

NAMES = ("head", "neck", "spine", "hip_a", "hip_b", "knee_a")
ROBUST = (0, 1, 2, 3, 4)


def atlas_set(seed=0, count=20, gaps=0.0):
    random = np.random.default_rng(seed)
    poses = random.normal(0, 3, (count, 6, 3)) + random.normal(0, 15, (6, 3))
    poses[random.random((count, 6)) < gaps] = np.nan
    return AtlasSet(NAMES, poses, tuple(f"case_{place}" for place in range(count)))


def pose(seed=100):
    rotation = Rotation.random(rng=np.random.default_rng(seed)).as_matrix()
    return atlas_set().poses_mm[7] @ rotation.T + np.random.default_rng(seed).normal(0, 2, (6, 3)) + 40


def by_search(atlases, wanted, count):
    """Cost and points of the `count` nearest atlases, one after another."""
    found = []
    for place, atlas in enumerate(atlases):
        kept = [k for k in ROBUST if np.isfinite(atlas[k]).all()]
        here, there = atlas[kept].mean(0), wanted[kept].mean(0)
        rotation = Rotation.align_vectors(wanted[kept] - there, atlas[kept] - here)[0].as_matrix()
        aligned = (atlas - here) @ rotation.T + there
        distances = [np.linalg.norm(a - b) for a, b in zip(aligned, wanted, strict=True)]
        found.append((np.nanmean(distances) * 6, place, aligned))
    return sorted(found, key=lambda entry: entry[:2])[:count]


@pytest.mark.parametrize("gaps", [0.0, 0.15])
def test_the_nearest_are_those_of_a_search(gaps):
    atlases = atlas_set(gaps=gaps)
    atlases.poses_mm[:, :3] = atlas_set().poses_mm[:, :3]  # enough to fix a rotation
    wanted = pose()
    found = atlases.nearest(wanted, ROBUST, 8)
    expected = by_search(atlases.poses_mm, wanted, 8)
    assert found.places.tolist() == [place for _, place, _ in expected] and len(set(found.places)) == 8
    np.testing.assert_allclose(found.costs_mm, [cost for cost, _, _ in expected], rtol=1e-6)
    np.testing.assert_allclose(found.points_mm, np.stack([points for _, _, points in expected]), atol=1e-5)
    assert atlases.distance_mm(wanted, ROBUST) == pytest.approx(expected[0][0] / 6)


def test_a_pose_with_exchanged_sides_finds_its_own_atlas_by_the_midline():
    atlases, wanted = atlas_set(), atlas_set().poses_mm[7] @ Rotation.from_euler("xyz", (0.3, 1, 2)).as_matrix() + 40
    exchanged = wanted[[0, 1, 2, 4, 3, 5]]
    found = atlases.nearest(exchanged, (0, 1, 2), 1, [(3, 4)])
    assert found.places.tolist() == [7] and found.costs_mm[0] == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(found.points_mm[0], wanted, atol=1e-6)  # with its own sides
    assert atlases.nearest(exchanged, (0, 1, 2), 1).costs_mm[0] > 1
    exchanged[3] = np.nan
    assert np.isfinite(atlases.nearest(exchanged, (0, 1, 2), 20, [(3, 4)]).costs_mm).all()


def test_a_moved_atlas_costs_nothing_and_a_mirrored_one_does():
    atlases, wanted = atlas_set(), pose()
    rotation = Rotation.random(rng=np.random.default_rng(5)).as_matrix()
    wanted = atlases.poses_mm[11] @ rotation.T - 30
    found = atlases.nearest(wanted, ROBUST, 1)
    assert found.places.tolist() == [11] and found.costs_mm[0] < 1e-9
    np.testing.assert_allclose(found.points_mm[0], wanted, atol=1e-9)
    assert atlases.nearest(wanted * [1, 1, -1], ROBUST, 1).costs_mm[0] > 6


def test_landmarks_that_are_not_robust_count_in_the_cost_alone():
    atlases = AtlasSet(NAMES, atlas_set().poses_mm[:1])
    wanted = atlases.poses_mm[0].copy()
    wanted[5] += [0, 6, 8]
    found = atlases.nearest(wanted, ROBUST, 3)
    np.testing.assert_allclose(found.points_mm[0], atlases.poses_mm[0], atol=1e-9)
    assert found.costs_mm.tolist() == pytest.approx([10.0])


def test_missing_landmarks_count_neither_way():
    atlases, wanted = atlas_set(), pose()
    gaps = wanted.copy()
    gaps[2] = np.nan
    found = atlases.nearest(gaps, ROBUST, 20)
    assert len(found.places) == 20 and np.isfinite(found.costs_mm).all()
    distances = np.linalg.norm(found.points_mm - gaps, axis=-1)[:, [0, 1, 3, 4, 5]]
    np.testing.assert_allclose(found.costs_mm, distances.mean(-1) * 6)


def test_atlases_without_a_common_point_are_excluded():
    atlases = atlas_set(count=4)
    atlases.poses_mm[1, list(ROBUST)] = np.nan  # its knee alone cannot be moved
    atlases.poses_mm[2] = np.nan
    assert sorted(atlases.nearest(pose(), ROBUST, 10).places) == [0, 3]
    assert len(atlases.nearest(np.full((6, 3), np.nan), ROBUST, 10).places) == 0
    assert np.isnan(atlases.distance_mm(np.full((6, 3), np.nan), ROBUST))


def test_points_on_a_line_are_shifted():
    line = np.outer(np.arange(6.0), [1.0, 2, 3])
    found = AtlasSet(NAMES, line[None]).nearest(pose(), ROBUST, 1)
    shift = pose()[:5].mean(0) - line[:5].mean(0)
    np.testing.assert_allclose(found.points_mm[0], line + shift, atol=1e-9)


def test_too_few_atlases_are_all_used_with_a_warning():
    few = atlas_set(count=4)
    assert len(few.nearest(pose(), ROBUST, 10).places) == 4
    assert "4 atlases" in few.shortage(10) and not few.shortage(4)
    assert len(few) == 4 and few.without("case_2").cases == ("case_0", "case_1", "case_3")
    np.testing.assert_array_equal(few.without("case_2").poses_mm, few.poses_mm[[0, 1, 3]])


def test_the_robust_landmarks_by_name():
    assert robust_places(NAMES, ("spine", "head", "elbow", "hip_b")) == (0, 2, 4)
    assert robust_places(NAMES, ("head", "neck")) == (0, 1, 2, 3, 4, 5)  # two do not fix a rotation
    assert robust_places(("brain", "cerebellum"), ("head",)) == (0, 1)


def test_an_atlas_set_is_in_the_millimetres_of_its_cases():
    points = np.arange(18.0).reshape(6, 3)
    gap = points.copy()
    gap[3, 1] = np.nan
    made = atlas_set_of([("a", points, (0.5, 1, 2)), ("none", np.full((6, 3), np.nan), (1, 1, 1)),
                         ("b", gap, (1, 1, 1))], NAMES)
    assert made.cases == ("a", "b") and made.names == NAMES
    np.testing.assert_array_equal(made.poses_mm[0], points * [0.5, 1, 2])
    assert np.isnan(made.poses_mm[1, 3]).all() and np.isfinite(made.poses_mm[1, [0, 1, 2, 4, 5]]).all()
    with pytest.raises(UserError, match="none"):
        atlas_set_of([("none", np.full((6, 3), np.nan), (1, 1, 1))], NAMES)


def test_an_atlas_set_is_read_as_it_was_written(tmp_path):
    written = atlas_set(gaps=0.2)
    path = write_atlases(tmp_path / "atlases.json", written)
    assert "NaN" not in path.read_text() and len(json.loads(path.read_text())["atlases"]) == 20
    found = read_atlases(path, NAMES)
    assert (found.names, found.cases) == (written.names, written.cases)
    np.testing.assert_allclose(found.poses_mm, written.poses_mm, rtol=0, atol=1e-8)
    assert np.isnan(found.poses_mm).any()
    again = write_atlases(tmp_path / "again.json", found)
    assert again.read_text() == path.read_text()


def test_the_older_name_of_the_file_is_read_where_it_stands_alone(tmp_path):
    assert atlases_file(tmp_path).name == "atlases.json"
    older = write_atlases(tmp_path / "library.json", atlas_set())
    assert atlases_file(tmp_path) == older and len(read_atlases(atlases_file(tmp_path), NAMES)) == 20
    newer = write_atlases(tmp_path / "atlases.json", atlas_set())
    assert atlases_file(tmp_path) == newer


@pytest.mark.parametrize("landmarks, words", [
    (("neck", "head", *NAMES[2:]), "order.*'head'.*'neck'"),
    (NAMES[:5], "6 for 5"), ((*NAMES[:5], "tail"), "tail")])
def test_an_atlas_set_of_other_landmarks_is_refused(tmp_path, landmarks, words):
    path = write_atlases(tmp_path / "atlases.json", atlas_set())
    with pytest.raises(UserError, match=words) as error:
        read_atlases(path, landmarks)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def changed(**changes):
    return lambda found: json.dumps({**found, **changes})


@pytest.mark.parametrize("change, words", [
    (lambda found: json.dumps(found)[:-40], "must be JSON"), (lambda found: "[1, 2]", "content must be an object"),
    (lambda found: json.dumps({k: v for k, v in found.items() if k != "atlases"}), "atlases"),
    (changed(format_version=9), "format 9"), (changed(unit="cm"), '"cm"'), (changed(atlases=[]), "found 0"),
    (changed(atlases=[{"case": "a", "points_mm": [[1, 2, 3]] * 5}]), r"atlases\[0\].points_mm must be a list of 6"),
    (changed(atlases=[{"case": "a", "points_mm": [[1, 2]] * 6}]), r"points_mm\[0\] must be a list of 3 numbers"),
    (changed(atlases=[{"case": "a", "points_mm": [["x", 2, 3]] * 6}]), r"points_mm\[0\]\[0\] must be a number"),
    (changed(atlases=[{"case": "a", "points_mm": [[float("inf"), 2, 3]] * 6}]), "finite"),
])
def test_a_damaged_file_is_refused_in_one_line(tmp_path, change, words):
    path = write_atlases(tmp_path / "atlases.json", atlas_set(count=2))
    path.write_text(change(json.loads(path.read_text())))
    with pytest.raises(UserError, match=words) as error:
        read_atlases(path, NAMES)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(UserError, match="cannot be read"):
        read_atlases(tmp_path / "nothing.json", NAMES)


def test_poses_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="shape"):
        AtlasSet(NAMES, np.zeros((4, 5, 3)))
