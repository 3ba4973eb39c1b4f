"""The prior of a run: the paper's graph, other landmarks, the fit on cases, its file, and what is refused."""

import itertools
import json
import math

import numpy as np
import pytest

from tfsono.config import choose
from tfsono.configs import face as config_of_face
from tfsono.errors import UserError
from tfsono.geometry.graph import GraphPrior, Ratio, choose_combination
from tfsono.inference import prior_choice
from tfsono.inference.face_prior import (
    RATIOS,
    FacePrior,
    face_graph,
    other_graph,
    prior_of,
    ratio_name,
    read_prior,
    write_prior,
)
from tfsono.inference.prior_choice import CHOICE, choice_of
from tfsono.predict.sources import PRIOR_CHOICE
from tfsono.training.run import Run

NAMES = ("left_eye", "mid_eyebrow", "right_eye", "nose_tip", "chin")
OTHERS = ("cerebellum_a", "cerebellum_b", "pons", "skull_front", "skull_back")
FACE = np.array([[13, 0, 0], [0, 7, 6], [-13, 0, 0], [0, 13, -10], [0, 7, -28]], np.float64)
SPACING = (1.3, 0.9, 2.1)


def cases(count=12, seed=0, shape=FACE):
    """(name, points_vox, spacing_mm): jittered faces of one shape."""
    random = np.random.default_rng(seed)
    points = (shape + 60 + random.normal(0, 0.8, (count, *shape.shape))) / SPACING
    return [(f"case_{number}", face, SPACING) for number, face in enumerate(points)]


def without(found, gaps):
    """Cases of which some landmarks are missing: {number of the case: numbers of the landmarks}."""
    for number, landmarks in gaps.items():
        found[number][1][landmarks] = np.nan
    return found


# --- the graph


def test_the_graph_is_the_papers_nine_edges_in_six_ratios():
    edges = {frozenset(edge) for _, *pair in RATIOS for edge in pair}
    assert edges == set(map(frozenset, itertools.combinations(NAMES, 2))) - {frozenset(("mid_eyebrow", "chin"))}
    assert face_graph(NAMES) == (  # the paper's nodes less one
        Ratio("symmetric", (0, 1), (2, 1)), Ratio("symmetric", (0, 3), (2, 3)), Ratio("symmetric", (0, 4), (2, 4)),
        Ratio("asymmetric", (1, 3), (0, 2)), Ratio("asymmetric", (3, 4), (0, 2)), Ratio("asymmetric", (3, 4), (1, 3)))


def test_the_graph_follows_the_names():
    order = (4, 2, 0, 3, 1)
    names = tuple(NAMES[k] for k in order)
    assert [ratio_name(ratio, names) for ratio in face_graph(names)] == [
        ratio_name(ratio, NAMES) for ratio in face_graph(NAMES)]
    some = face_graph(("chin", "ear", "left_eye", "right_eye", "nose_tip"))
    assert some == (Ratio("symmetric", (2, 4), (3, 4)), Ratio("symmetric", (2, 0), (3, 0)),
                    Ratio("asymmetric", (4, 0), (2, 3)))
    assert face_graph(OTHERS) == () == face_graph(NAMES[:1])


def test_other_landmarks_are_compared_with_their_longest_edge():
    points = np.array([[[0, 0, 0], [3, 0, 0], [0, 4, 0], [0, 0, 1]], [[0, 0, 0], [3, 0, 0], [0, 4, 0], [0, 0, 1]],
                       [[0, 0, 0], [np.nan, 0, 0], [0, 4, 0], [0, 0, 30]]])
    # mean lengths: 0-1 3, 0-2 4, 0-3 32/3, 1-2 5, 1-3 3.2, 2-3 (2 * 4.1 + 30.3) / 3 = 12.8
    assert other_graph(points) == tuple(Ratio("asymmetric", edge, (2, 3))
                                        for edge in ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3)))


def test_a_ratio_as_a_formula():
    assert ratio_name(face_graph(NAMES)[4], NAMES) == "d(nose_tip - chin) / d(left_eye - right_eye)"
    assert ratio_name(face_graph(NAMES)[0], NAMES) == (
        "(a - b) / (a + b) of a = d(left_eye - mid_eyebrow), b = d(right_eye - mid_eyebrow)")


# --- the fit


def test_a_prior_is_fitted_in_millimetres():
    found = cases()
    prior = prior_of(found, NAMES)
    lengths = [[math.dist(points[a] * SPACING, points[b] * SPACING) for a, b in ((3, 4), (0, 2))]
               for _, points, _ in found]
    expected = np.array([one / other for one, other in lengths])
    name = "d(nose_tip - chin) / d(left_eye - right_eye)"
    assert prior.normals[name] == pytest.approx((expected.mean(), expected.std(ddof=1)), rel=1e-5)
    points_mm = np.stack([points * SPACING for _, points, _ in found])
    np.testing.assert_allclose(prior.values(points_mm)[name], expected, rtol=1e-6)
    assert prior.landmarks == NAMES and prior.graph == face_graph(NAMES) and prior.incomplete == {}
    assert prior.summary() == "graph prior: 6 ratios fitted on 12 faces"


def test_missing_landmarks_are_excluded_and_reported():
    found = without(cases(14), {2: [4], 5: [0, 3]}) + [("empty", None, SPACING)]
    prior = prior_of(iter(found), NAMES)
    assert prior.fitted.count.tolist() == [13, 13, 12, 13, 12, 12]
    assert prior.incomplete == {"case_2": ("chin",), "case_5": ("left_eye", "nose_tip"), "empty": NAMES}
    assert "on 12 to 13 faces; case_2 without chin; case_5 without left_eye, nose_tip; empty w" in prior.summary()


@pytest.mark.parametrize("found, words", [
    (cases(9), "found 9 of 9"), ([], "found 0 of 0"),
    (without(cases(12), {0: [4], 5: [4], 7: [4]}),
     r"found 9 of 12 .*left_eye - chin"),
    ([(f"{k}", None, SPACING) for k in range(20)], "found 0 of 20")])
def test_fewer_than_ten_faces_are_refused(found, words):
    with pytest.raises(UserError, match=words) as error:
        prior_of(found, NAMES)
    assert "\n" not in str(error.value) and "without the prior" in str(error.value)


@pytest.mark.parametrize("number, candidates, words", [
    (2, 2, "at least 3 landmarks, found 2"), (17, 2, "65536 .* found 2 candidates of each of 17"),
    (9, 4, "found 4 candidates of each of 9")])
def test_too_few_and_too_many_landmarks_are_refused(number, candidates, words):
    shape = np.random.default_rng(0).normal(0, 20, (number, 3))
    with pytest.raises(UserError, match=words) as error:
        prior_of(cases(12, shape=shape), [f"point_{k}" for k in range(number)], candidates)
    assert "\n" not in str(error.value) and "without the prior" in str(error.value)


def test_other_landmarks_get_a_prior_that_chooses_too():
    shape = np.array([[20, -25, 0], [-20, -25, 3], [0, -5, 2], [0, 55, 0], [3, -50, 0]], np.float64)
    prior = prior_of(cases(40, shape=shape), OTHERS)
    assert len(prior.graph) == 9 and all(ratio.second == (3, 4) for ratio in prior.graph)
    right = cases(1, seed=9, shape=shape)[0][1] * SPACING
    candidates = np.stack([right, right], axis=1)
    candidates[2, 0] = right[2] + [40, 10, -30]
    candidates[0, 1] = right[0] + [0, 30, 0]
    chosen, _ = choose_combination(candidates, np.ones((5, 2), bool), prior.graph, prior.fitted)
    assert np.array(chosen).tolist() == [0, 0, 1, 0, 0]


# --- the file


def test_a_prior_is_read_as_it_was_written(tmp_path):
    written = prior_of(without(cases(14), {2: [4]}), NAMES)
    path = write_prior(tmp_path / "prior.json", written)
    found = read_prior(path, NAMES)
    assert (found.landmarks, found.graph, found.incomplete) == (written.landmarks, written.graph, written.incomplete)
    for key in ("mean", "deviation", "count"):
        np.testing.assert_array_equal(getattr(found.fitted, key), getattr(written.fitted, key))
    assert write_prior(tmp_path / "again.json", found).read_text() == path.read_text()
    line = json.loads(path.read_text().splitlines()[5].rstrip(","))
    assert line["ratio"] == "d(nose_tip - chin) / d(left_eye - right_eye)" and line["faces"] == 13
    assert line["first"] == ["nose_tip", "chin"] and line["mean"] == written.fitted.mean[4]


@pytest.mark.parametrize("landmarks", [(NAMES[2], NAMES[1], NAMES[0], *NAMES[3:]), NAMES[:4], OTHERS])
def test_a_prior_of_other_landmarks_is_refused(tmp_path, landmarks):
    path = write_prior(tmp_path / "prior.json", prior_of(cases(), NAMES))
    with pytest.raises(UserError, match="order") as error:
        read_prior(path, landmarks)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def changed(**changes):
    return lambda found: json.dumps({**found, **changes})


def changed_ratio(**changes):
    return lambda found: json.dumps({**found, "ratios": [{**found["ratios"][0], **changes}, *found["ratios"][1:]]})


@pytest.mark.parametrize("change, words", [
    (lambda found: json.dumps(found)[:-40], "must be JSON"), (lambda found: "[1, 2]", "content must be an object"),
    (lambda found: json.dumps({k: v for k, v in found.items() if k != "ratios"}), "ratios"),
    (changed(format_version=9), "format 9"), (changed(ratios=[]), "finite means"),
    (changed(incomplete=["case"]), "incomplete must be an object"),
    (changed_ratio(kind="other"), "kind must be one of"),
    (changed_ratio(first=["left_eye", "tail"]), "found 'tail'"),
    (changed_ratio(first=["left_eye"]), r"ratios\[0\].first must be a list of 2 texts"),
    (changed_ratio(mean="much"), r"ratios\[0\].mean must be a number"), (changed_ratio(mean=None), "found null"),
    (changed_ratio(deviation=0), "above 0"), (changed_ratio(deviation=-1), "above 0"),
    (changed_ratio(mean=float("nan")), "finite"),
    (changed_ratio(deviation=float("inf")), "finite")])
def test_a_damaged_file_is_refused_in_one_line(tmp_path, change, words):
    path = write_prior(tmp_path / "prior.json", prior_of(cases(), NAMES))
    path.write_text(change(json.loads(path.read_text())))
    with pytest.raises(UserError, match=words) as error:
        read_prior(path, NAMES)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(UserError, match="cannot be read"):
        read_prior(tmp_path / "nothing.json", NAMES)


def test_a_prior_is_fitted_again_with_other_noise(tmp_path):
    found = without(cases(14), {2: [4]})
    prior = read_prior(write_prior(tmp_path / "prior.json", prior_of(found, NAMES)), NAMES)
    again, expected = prior.with_noise(3.0, "prior.json"), prior_of(found, NAMES, noise_mm=3.0)
    for key in ("mean", "deviation", "count"):
        np.testing.assert_array_equal(getattr(again.fitted, key), getattr(expected.fitted, key))
    assert prior.with_noise(0.0, "prior.json") is prior
    older = FacePrior(NAMES, prior.graph, prior.fitted)  # as a file of the release before
    assert "faces_mm" not in write_prior(tmp_path / "older.json", older).read_text()
    with pytest.raises(UserError, match="^prior.json: prior_noise_mm needs the faces"):
        read_prior(tmp_path / "older.json", NAMES).with_noise(3.0, "prior.json")


# --- whether it is used


def run_of(folder, errors=None, at_test=(), **values):
    settings = choose(config_of_face.FACE, "quick", "ig_rpn").replaced("a test", landmark_names=NAMES, **values)
    folder.mkdir(exist_ok=True)
    if errors:
        (folder / CHOICE).write_text(json.dumps({"cases": 3, "mre_mm": dict(zip(("without", "with"), errors))}))
    return Run(folder, settings.set_at_test(dict(at_test)), {"validation": []}, {})


@pytest.mark.parametrize("errors, values, used, words", [
    ((4.2, 3.9), {}, True, "4.20 mm without it and 3.90 mm with it on 3 validation cases"),
    ((3.9, 3.9), {}, False, "3.90 mm"), (None, {}, False, "no validation cases"),
    ((3.9, 4.2), {"prior_in_prediction": "always"}, True, "is always"),
    ((4.2, 3.9), {"prior_in_prediction": "never"}, False, "is never"),
    ((4.2, 3.9), {"use_prior": False}, False, "none")])
def test_the_prior_is_used_where_validation_says_so(tmp_path, errors, values, used, words):
    choice = choice_of([run_of(tmp_path / "run", errors, **values)])
    assert choice.used == used and words in choice.reason


def test_the_prior_is_used_where_every_run_gains_by_it_as_it_was_validated(tmp_path):
    gain, loss = run_of(tmp_path / "gain", (4.2, 3.9)), run_of(tmp_path / "loss", (4.2, 4.3))
    assert choice_of([gain, gain]).used and not choice_of([gain, loss]).used
    choice = choice_of([run_of(tmp_path / "gain", at_test={"nms_iou_threshold": 0.5}.items())])
    assert not choice.used and "nms_iou_threshold" in choice.reason
    with pytest.raises(UserError, match="^--set prior_weight: not validated .* prior_in_prediction=always$"):
        choice_of([run_of(tmp_path / "gain", at_test={"prior_weight": 0.3}.items())])
    always = {"prior_weight": 0.3, "prior_in_prediction": "always"}
    assert choice_of([run_of(tmp_path / "gain", at_test=always.items())]).used
    (tmp_path / "gain" / CHOICE).write_text('{"cases": 3, "mre_mm": {"without": 4.2}}')
    with pytest.raises(UserError, match="must have 'with'"):
        choice_of([gain])


def test_what_validation_says_is_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(prior_choice, "mean_radial_error", lambda module, cache, names: (module, None))
    run = run_of(tmp_path / "run")
    prior_choice.keep_choice(run, None, lambda run: 1 / 0)  # no validation cases
    assert not (run.folder / CHOICE).exists() and PRIOR_CHOICE == CHOICE
    run.split["validation"] += ["a", "b"]
    prior_choice.keep_choice(run, None, lambda run: (4.0, 3.0))
    assert capsys.readouterr().out == ("graph prior: used in predictions; 4.00 mm without it and 3.00 mm with it on 2 "
                                       "validation cases\n")
    assert choice_of([run]).used
    prior_choice.keep_choice(run, None, lambda run: 1 / 0)  # once


def test_a_prior_that_cannot_be_written_is_not(tmp_path):
    fitted = GraphPrior(np.array([np.nan]), np.array([1.0]), np.array([10]))
    with pytest.raises(ValueError):
        write_prior(tmp_path / "prior.json", FacePrior(NAMES, face_graph(NAMES)[:1], fitted))
    assert not list(tmp_path.iterdir())


def test_noise_widens_the_ratios_and_moves_no_count():
    """Three points on a line with noise of 1 mm: an edge's length varies by sqrt(2) mm, and so its ratio to another."""
    names = ("a", "b", "c")
    face = np.array([[0.0, 0, 0], [20, 0, 0], [60, 0, 0]])
    cases = [(str(number), face * (1 + 0.001 * number), (1.0, 1.0, 1.0)) for number in range(12)]
    plain, noisy = prior_of(cases, names), prior_of(cases, names, noise_mm=1.0)
    np.testing.assert_array_equal(plain.fitted.count, noisy.fitted.count)
    np.testing.assert_allclose(plain.fitted.deviation, 1e-3)  # the floor: faces of one shape
    ratio = noisy.ratio_names.index("d(a - b) / d(a - c)")
    # d(a - b) / d(a - c) = 1/3: both ends of each edge move, and they share one
    expected = np.sqrt((2 + 2 / 9 - 2 / 3) / 60 ** 2)
    assert noisy.fitted.deviation[ratio] == pytest.approx(expected, rel=0.1)
    again = prior_of(cases, names, noise_mm=1.0)
    np.testing.assert_array_equal(noisy.fitted.deviation, again.fitted.deviation)
