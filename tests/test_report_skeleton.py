"""Skeletons, PCK curves, paths of refinements and their tables: geometry by hand, and figures read back as pixels."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from scipy.spatial.transform import Rotation

from tfsono.configs.pose import LANDMARKS, SEGMENTS
from tfsono.geometry.rigid import aligned_poses
from tfsono.metrics.landmarks import area_scores
from tfsono.report import pck, refinement, skeleton
from tfsono.report.landmark_tables import landmark_table
from tfsono.report.tables import Probability, Summary, to_csv, to_latex, to_markdown

NAN = float("nan")
PLACES = {"head": (0, -4, 26), "neck": (0, 0, 14), "shoulder_a": (8, 0, 12), "shoulder_b": (-8, 0, 12),
          "elbow_a": (14, -5, 4), "elbow_b": (-13, -7, 5), "wrist_a": (9, -14, 6), "wrist_b": (-6, -15, 10),
          "spine": (0, 3, 0), "sacrum": (0, 0, -14), "hip_a": (5, -1, -16), "hip_b": (-5, -1, -16),
          "knee_a": (8, -15, -12), "knee_b": (-9, -14, -18), "ankle_a": (4, -14, -27), "ankle_b": (-1, -12, -29)}
BODY = np.array([PLACES[name] for name in LANDMARKS], float)


def pixels(path):
    figure = imread(path)[..., :3]
    assert figure.reshape(-1, 3).std(axis=0).max() > 0.02, "the figure is blank"
    return figure


def count(figure, colour, tolerance=0.06):
    return int((np.abs(figure - np.array(to_rgb(colour))).max(axis=2) < tolerance).sum())


# --- views, colours, digits


def test_views_are_right_handed_and_rotate_with_the_body():
    rotation = Rotation.from_rotvec([0.4, 1.2, -2.0]).as_matrix()
    for points in (BODY, BODY @ rotation.T + [40, 50, 60]):
        for view in skeleton.body_views(points):
            frame = np.array([view.right, view.up, view.towards])
            np.testing.assert_allclose(frame @ frame.T, np.eye(3), atol=1e-12)
            assert np.linalg.det(frame) == pytest.approx(1)  # -1 would exchange left and right
    one, other = (skeleton.projected(points, skeleton.body_views(points)[0])[0] for points in (BODY, BODY @ rotation.T))
    apart = [np.linalg.norm(places[:, None] - places[None], axis=-1) for places in (one, other)]
    np.testing.assert_allclose(*apart, atol=1e-9)
    places, _ = skeleton.projected(BODY, skeleton.body_views(BODY)[0])
    assert places[0, 1] == max(places[:, 1])  # the head is above


def test_a_view_looks_along_the_least_variance():
    flat = np.random.default_rng(0).normal(size=(30, 3)) * [9, 0.1, 4]
    front, side = skeleton.body_views(flat)
    assert abs(front.towards[1]) > 0.99 and abs(front.up[0]) > 0.99
    np.testing.assert_allclose(side.towards, front.right)
    places, height = skeleton.projected(flat, front)
    frame = np.array([front.right, front.up, front.towards])
    np.testing.assert_allclose(np.column_stack([places, height]) @ frame, flat, atol=1e-9)


def test_limbs_have_their_colours_and_sides_theirs():
    colours = dict(zip(SEGMENTS, skeleton.segment_colours(LANDMARKS, SEGMENTS), strict=True))
    for limb in (("neck", "shoulder_a", "elbow_a", "wrist_a"), ("sacrum", "hip_b", "knee_b", "ankle_b")):
        assert len({colours[pair] for pair in itertools.pairwise(limb)}) == 1
    ends = [colours["elbow_a", "wrist_a"], colours["knee_a", "ankle_a"], colours["elbow_b", "wrist_b"],
            colours["knee_b", "ankle_b"], colours["neck", "spine"]]
    assert len(set(ends)) == 5 and colours["head", "neck"] == colours["spine", "sacrum"] == skeleton.TRUNK_COLOUR
    of = dict(zip(LANDMARKS, skeleton.landmark_colours(LANDMARKS, SEGMENTS), strict=True))
    assert of["sacrum"] == of["neck"] == skeleton.TRUNK_COLOUR and of["wrist_b"] == ends[2]
    # Names without sides: a colour each.
    assert len(set(skeleton.segment_colours(("x", "y", "z"), (("x", "y"), ("y", "z"))))) == 2


def test_texts_do_not_overlap_and_are_near_their_anchors():
    generator = np.random.default_rng(3)
    anchors = list(generator.random((14, 2)) * 3)
    sizes = [np.array([0.2, 0.12])] * 14
    obstacles = np.array(anchors)
    centres = np.array(skeleton.place_texts(anchors, sizes, obstacles))
    for one, other in itertools.combinations(centres, 2):
        assert (np.abs(one - other) >= np.array([0.2, 0.12]) - 1e-9).any()
    for centre, anchor in zip(centres, anchors, strict=True):
        assert np.abs(centre - anchor).max() > 0.05 and np.linalg.norm(centre - anchor) < 0.6


# --- figures


def test_the_figure_of_skeletons(tmp_path):
    found = BODY.copy()
    found[[5, 9]] = found[[9, 5]]  # wrists exchanged: two long red lines
    found[12] = NAN
    panels = [skeleton.Panel("Reference", BODY), skeleton.Panel("found", found, BODY),
              skeleton.Panel("way", BODY, BODY, np.stack([found, BODY]))]
    skeleton.skeleton_figure(tmp_path / "s.png", [panels], LANDMARKS, SEGMENTS, "Fig. 6")
    figure = pixels(tmp_path / "s.png")
    third = figure.shape[1] // 3
    red = [count(part, skeleton.ERROR_COLOUR) for part in (figure[:, :third], figure[:, third:2 * third])]
    assert red[0] == 0 and red[1] > 150
    for colour in (skeleton.INDEX_COLOUR, skeleton.LENGTH_COLOUR):
        assert all(count(figure[:, third * n:third * (n + 1)], colour) > 200 for n in range(3))


def test_nothing_found_and_other_landmarks_are_drawn_too(tmp_path):
    skeleton.skeleton_figure(tmp_path / "none.png", [[skeleton.Panel("t", BODY),
                                                     skeleton.Panel("f", np.full((16, 3), NAN), BODY)]],
                             LANDMARKS, SEGMENTS)
    names = tuple(f"point_{number}" for number in range(7))
    points = np.random.default_rng(0).random((7, 3)) * 30
    skeleton.skeleton_figure(tmp_path / "seven.png", [[skeleton.Panel("t", points)]], names, ())
    skeleton.pose_preview(tmp_path / "all_missing.png", np.zeros((9, 8, 7)), np.full((7, 3), NAN), (1, 1, 1), names, ())
    assert count(pixels(tmp_path / "seven.png"), skeleton.INDEX_COLOUR) > 100
    assert (tmp_path / "none.png").stat().st_size > 1000 and (tmp_path / "all_missing.png").stat().st_size > 1000


def test_a_prediction_with_its_slices(tmp_path):
    image = np.random.default_rng(0).normal(90, 20, (61, 45, 50)).astype(np.float32)
    points = BODY / (0.8, 1.2, 1.5) + (30, 22, 25)
    skeleton.pose_preview(tmp_path / "p.png", image, points, (0.8, 1.2, 1.5), LANDMARKS, SEGMENTS,
                          "case_1   low confidence: x")
    figure = pixels(tmp_path / "p.png")
    assert count(figure, skeleton.INDEX_COLOUR) > 200 and count(figure, skeleton.LENGTH_COLOUR) > 200
    upper = figure[:figure.shape[0] // 3]
    grey = (np.abs(upper - upper.mean(axis=2, keepdims=True)).max(axis=2) < 0.02) & (upper.mean(axis=2) < 0.9)
    assert grey.mean() > 0.2


def test_poses_are_moved_onto_one_another_and_never_mirrored(tmp_path):
    generator = np.random.default_rng(1)
    rotations = Rotation.random(12, random_state=2).as_matrix()
    poses = np.stack([BODY @ rotation.T + generator.normal(size=3) * 40 for rotation in rotations])
    aligned = aligned_poses(poses, range(16))
    assert np.ptp(aligned, axis=0).max() < 1e-9
    distances = np.linalg.norm(aligned[0, :, None] - aligned[0, None], axis=-1)
    np.testing.assert_allclose(distances, np.linalg.norm(BODY[:, None] - BODY[None], axis=-1), atol=1e-9)
    mirrored = np.stack([BODY, BODY * [-1, 1, 1]])
    assert np.ptp(aligned_poses(mirrored, range(16)), axis=0).max() > 1
    gap = poses.copy()
    gap[3, 5] = NAN
    moved = aligned_poses(gap, range(16))
    assert np.isnan(moved[3, 5]).all() and np.nanmax(np.ptp(np.delete(moved, 5, 1), axis=0)) < 1e-9
    skeleton.poses_figure(tmp_path / "poses.png", moved, LANDMARKS, SEGMENTS, "Fig. 1c")
    assert count(pixels(tmp_path / "poses.png"), skeleton.LIMB_COLOURS["_a"][0], 0.1) > 100


# --- curves


def test_the_curve_is_exact_and_its_area_too():
    generator = np.random.default_rng(0)
    errors = generator.gamma(1.5, 3, 40)
    errors[[3, 9]] = NAN
    known = generator.random(40) > 0.2
    x, y = pck.pck_steps(errors, known, 10)
    at = np.linspace(0, 9.99, 400)
    # Strictly below: to the right of each step.
    held = y[np.searchsorted(x, at, side="left") - 1]
    correct = 100 * (errors[known] < at[:, None]).mean(axis=1)
    np.testing.assert_allclose(held[1:], correct[1:])
    area = (np.diff(x) * y[:-1]).sum() / 10
    assert area == pytest.approx(100 * area_scores(errors, 10, known)[known].mean())


def test_the_figure_of_curves(tmp_path):
    generator = np.random.default_rng(0)
    curves = {name: pck.Curve(generator.gamma(1.2, 4, (20, 16)), None, "", name.endswith("R4"))
              for name in ("Land-R4", "LandGCP", "SSL-R4", "SSLGCP")}
    pck.pck_figure(tmp_path / "p.png", curves, LANDMARKS, ("wrist_a", "knee_a"), 10, "Fig. 5")
    figure = pixels(tmp_path / "p.png")
    looks = pck.curve_looks(curves)
    assert len(set(looks.values())) == 4 and all(count(figure, colour) > 100 for colour, _ in looks.values())
    with pytest.raises(ValueError, match="tail"):
        pck.pck_figure(tmp_path / "x.png", curves, LANDMARKS, ("tail",))
    with pytest.raises(ValueError, match=r"\[N, 16\]"):
        pck.pck_figure(tmp_path / "x.png", {"a": pck.Curve(np.zeros((4, 3)))}, LANDMARKS, ("head",))


def test_two_lines_never_look_alike():
    same = {str(number): pck.Curve(np.zeros((1, 1)), None, "#0072b2", number % 2 == 0) for number in range(6)}
    looks = pck.curve_looks(same)
    assert len(set(looks.values())) == 6 and looks["0"][0] == looks["1"][0] == "#0072b2"


# --- when refinement helps


def predictions(count, names=("p", "q"), seeds=2):
    """Refinement pulls every landmark to 4 mm: it helps what was worse, and harms what was better."""
    generator, rows = np.random.default_rng(5), []
    for case in range(count):
        for seed in range(seeds):
            initial = generator.uniform(1, 14, len(names))
            error = initial + 0.5 * (4 - initial)
            row = {"case": f"c{case}", "seed": seed, "initial_mm": initial.mean(), "mre_mm": error.mean(),
                   "atlas_mm": 1.0 + case / 10}
            row |= {f"initial_{name}_mm": value for name, value in zip(names, initial, strict=True)}
            row |= {f"error_{name}_mm": value for name, value in zip(names, error, strict=True)}
            rows.append(row | {f"iteration_{step}_mm": initial.mean() + (error - initial).mean() * step / 2
                               for step in range(3)})
    return rows


def test_groups_hold_every_prediction_once_and_their_gain():
    rows = predictions(20)
    table = refinement.benefit_table({"SSLGCP": rows}, ("p", "q"))
    lines = {(line[1], line[2]): line[3:] for line in table.rows}
    all_of = lines["predictions", "all"]
    assert all_of[:2] == (40, 20)
    cases = [[row for row in rows if row["case"] == f"c{number}"] for number in range(20)]
    change = [np.mean([row["mre_mm"] - row["initial_mm"] for row in group]) for group in cases]
    assert all_of[4].mean == pytest.approx(np.mean(change)) and all_of[4].count == 20
    assert all_of[3] - all_of[2] == pytest.approx(np.mean(change))
    by_error = [line for (what, name), line in lines.items() if what == "predictions" and "initial" in name]
    by_atlas = [line for (what, name), line in lines.items() if "atlas set" in name]
    assert sum(line[0] for line in by_error) == sum(line[0] for line in by_atlas) == 40
    points = {name: line for (what, name), line in lines.items() if what == "landmarks"}
    assert sum(line[0] for line in points.values()) == 80
    first, last = points["initial error under 2.5 mm"], points["initial error 10 and more mm"]
    assert first[4].mean > 0 and first[6] == 100 and last[4].mean < 0 and last[5] == 100
    assert isinstance(last[7], Probability) and last[7].value < 0.05
    for text in (to_markdown(table), to_csv(table), to_latex(table)):
        assert "SSLGCP" in text


def test_undefined_predictions_are_excluded_from_the_groups():
    rows = predictions(3, seeds=1)
    rows[0]["mre_mm"] = rows[1]["initial_mm"] = NAN
    line = refinement.benefit_table({"SSL": rows}, ("p", "q")).rows[0]
    assert line[3:5] == (1, 1) and line[7].mean == pytest.approx(rows[2]["mre_mm"] - rows[2]["initial_mm"])
    assert np.isnan(line[10].value)


def test_the_figure_of_refinements(tmp_path):
    rows = predictions(12)
    rows[0] |= {"iteration_1_mm": NAN, "iteration_2_mm": NAN}  # not refined
    errors = refinement.iteration_errors(rows)
    assert errors.shape == (24, 3) and np.isnan(errors[0]).tolist() == [False, True, True]
    refinement.refinement_figure(tmp_path / "r.png", {"SSL-R4": rows, "SSLGCP": rows[:1]}, "title")
    figure = pixels(tmp_path / "r.png")
    assert count(figure, refinement.BETTER, 0.25) > 100 and count(figure, refinement.WORSE, 0.3) > 20


# --- tables with a column a landmark


def test_a_table_of_landmarks_has_the_papers_rows_beside_ours():
    cases = [{"case": str(n), "e_p": float(n), "e_q": NAN if n == 2 else 1.0, "e": n + 0.5, "missing": n == 2,
              "undefined": 2.0 * (n == 1)} for n in range(3)]
    columns = (("e_p", "L1 p", 2), ("e_q", "L2 q", 2), ("e", "Mean mm", 2))
    printed = {"Land": (1, 2, 1.5), "RNN": (3, 4, 3.5)}
    table = landmark_table("Table 1", {"Land": cases, "ours alone": cases[:1]}, printed, columns, 52)
    assert [row[:2] for row in table.rows] == [("Land", "ours"), ("Land", "paper"), ("ours alone", "ours"),
                                               ("RNN", "paper")]
    ours, paper = table.rows[0], table.rows[1]
    assert ours[2:5] == (3, 1, 2) and paper[2:5] == (52, None, None)
    assert ours[5] == Summary(1.0, count=3) and ours[6].mean == 1 and ours[6].count == 2
    assert ours[7].std == pytest.approx(1) and ours[7].low < 1.5 < ours[7].high
    assert [cell.mean for cell in paper[5:]] == [1, 2, 1.5]
    with pytest.raises(ValueError, match="'RNN' must have 3"):
        landmark_table("t", {}, {"RNN": (1, 2)}, columns)
