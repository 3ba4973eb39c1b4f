"""`predict` and `evaluate` of `pose` with a module that reads its landmarks from marked voxels: files, frames, tables.

The module stands in for a trained network, so that the correct prediction is known to the voxel.
"""

from __future__ import annotations

import csv
import json
import sys
import types

import numpy as np
import pytest
import tensorflow as tf

from small_datasets import write_json
from tfsono.config import choose
from tfsono.configs.pose import LANDMARKS, MIRRORED, POSE, SEGMENTS
from tfsono.audit.cache_writer import write_cache
from tfsono.data.layout import open_dataset
from tfsono.data.prepare import CacheSettings
from tfsono.errors import UserError
from tfsono.export import export_module, load_exported
from tfsono.metrics.pose_limits import limits_described
from tfsono.predict.loop import predict_all
from tfsono.predict.confidence import confidence_of
from tfsono.predict.landmarks import coinciding
from tfsono.predict.pose import OUTPUTS, PosePredictor, predictor_of
from tfsono.predict.sources import Model, Options
from tfsono.report.pose_tables import ORDER, PAPER_TABLE_1, PAPER_TABLE_2, in_order
from tfsono.systems.commands import check_options
from tfsono.training.record import record_files
from tfsono.training.run import open_run
from tfsono.volumes.image import Volume, read_volume, write_volume
from tfsono.volumes.landmarks import points_to_mm, read_landmarks, write_markups
from wiring import blank_figures, script

SIZE, SPACING = (25, 21, 23), (0.5, 0.75, 1.25)
LPS = (1.0, 0, 0, 0, 1, 0, 0, 0, 1)
PIR = (0.0, 0, -1, 1, 0, 0, 0, -1, 0)
NAN = float("nan")


class Marks(tf.Module):
    """The voxel nearest to 1000 + 50 k is landmark k; its peak is 1, of the last one `last`."""

    def __init__(self, last=1.0):
        super().__init__()
        self.peaks = tf.constant([1.0] * 15 + [last])

    @tf.function(input_signature=[tf.TensorSpec([None, None, None], tf.float32), tf.TensorSpec([3], tf.float32)])
    def __call__(self, volume, spacing_mm):
        shape = tf.shape(volume)
        away = tf.abs(tf.reshape(volume, [1, -1]) - (1000 + 50 * tf.range(16, dtype=tf.float32))[:, None])
        place = tf.cast(tf.argmin(away, 1), tf.int32)
        return {"points_vox": tf.cast(tf.transpose(tf.unravel_index(place, shape)), tf.float32), "peaks": self.peaks}


def marked_volume(seed, direction=LPS):
    generator = np.random.default_rng(seed)
    array = generator.normal(100, 30, SIZE).astype(np.float32)
    points = np.stack(np.unravel_index(generator.choice(array.size, 16, replace=False), SIZE), 1)
    array[tuple(points.T)] = 1000 + 50 * np.arange(16)
    return Volume(array, SPACING, (10.0, -20.0, 5.5), direction), points.astype(float)


@pytest.fixture
def volume_file(tmp_path):
    """A file in another orientation than the module's, and the LPS places of its marks."""
    volume, points = marked_volume(3, PIR)
    write_volume(tmp_path / "fetus.nii.gz", volume.array, volume)
    return tmp_path / "fetus.nii.gz", points_to_mm(points, volume)


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# --- predict


def test_the_prediction_is_where_the_marks_are(volume_file, tmp_path, capsys):
    path, points_mm = volume_file
    predictor = PosePredictor(Marks(0.1), "key", "LPS", LANDMARKS)
    assert predict_all(OUTPUTS, lambda: predictor, [path], tmp_path / "out") == 0
    printed = capsys.readouterr().out
    assert "16 landmarks, lowest peak 0.10" in printed and "low confidence: ankle_b" in printed
    found = read_landmarks(tmp_path / "out" / "fetus.mrk.json")
    assert list(found) == list(LANDMARKS)
    np.testing.assert_allclose([found[name] for name in LANDMARKS], points_mm, atol=1e-3)
    markups = json.loads((tmp_path / "out" / "fetus.mrk.json").read_text(encoding="utf-8"))["markups"]
    assert [markup["type"] for markup in markups] == ["Fiducial"] + ["Line"] * 15
    landmarks = rows_of(tmp_path / "out" / "landmarks.csv")
    written = [[float(row[f"{axis}_mm"]) for axis in "xyz"] for row in landmarks]
    np.testing.assert_allclose(written, points_mm, atol=1e-3)
    lengths = rows_of(tmp_path / "out" / "segments.csv")
    assert [(row["from"], row["to"]) for row in lengths] == list(SEGMENTS)
    for row in lengths:
        ends = [points_mm[LANDMARKS.index(row[end])] for end in ("from", "to")]
        assert float(row["length_mm"]) == pytest.approx(np.linalg.norm(np.subtract(*ends)), abs=1e-3)
    row = rows_of(tmp_path / "out" / "measurements.csv")[0]
    assert float(row["lowest_peak"]) == pytest.approx(0.1) and row["flags"] == "low confidence: ankle_b"
    assert (row["refined"], row["moved_mm"], row["atlas_mm"]) == ("", "", "")
    assert (tmp_path / "out" / "fetus.png").stat().st_size > 10000


def test_a_saved_model_gives_the_same_files(volume_file, tmp_path):
    path, _ = volume_file
    io = {"volume": {"orientation": "LPS"}}
    folder = export_module(Marks(), tmp_path / "model", {"system": "pose", "input": io, "output": {},
                                                        "landmarks": list(LANDMARKS)})
    for name, make in (("run", lambda: PosePredictor(Marks(), "k", "LPS", LANDMARKS)),
                       ("export", lambda: predictor_of(Model(folder, *load_exported(folder)), "k"))):
        assert predict_all(OUTPUTS, make, [path], tmp_path / name) == 0
    for name in ("fetus.mrk.json", "landmarks.csv", "segments.csv", "measurements.csv"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "export" / name).read_bytes()
    with pytest.raises(UserError, match="--refine: trains on the volume.*run folder") as error:
        check_options(folder, Options(refine=True))
    assert "\n" not in str(error.value)


def test_a_refined_prediction_and_one_that_fell_back(volume_file, tmp_path):
    path, points_mm = volume_file
    for refined in (True, False):
        out = tmp_path / str(refined)
        predictor = PosePredictor(Refiner(refined, 2.0), "k", "LPS", LANDMARKS, True)
        assert predict_all(OUTPUTS, lambda: predictor, [path], out) == 0
        row = rows_of(out / "measurements.csv")[0]
        found = np.array(list(read_landmarks(out / "fetus.mrk.json").values()))
        apart = np.linalg.norm(found - points_mm, axis=1)
        if refined:
            # Two voxels along the reoriented volume's first axis, which is LPS x: the file's third axis, 1.25 mm.
            np.testing.assert_allclose(apart, 2.5, atol=1e-3)
            assert row["refined"] == "yes" and float(row["moved_mm"]) == pytest.approx(2.5)
            assert float(row["atlas_mm"]) == 1.5 and row["flags"] == ""
        else:
            np.testing.assert_allclose(apart, 0, atol=1e-3)
            assert row["refined"] == "no" and row["moved_mm"] == "" and row["flags"] == "not finite"


class Refiner:
    """Moves every landmark along x by as many voxels, in two steps; or falls back."""

    def __init__(self, refined=True, by=2.0, library=None):
        self.refined, self.by, self.refiner = refined, by, types.SimpleNamespace(poses=library)

    def __call__(self, volume, spacing_mm):
        from tfsono.inference.pose import RefinedPose

        prediction = Marks()(volume, spacing_mm)
        first = prediction["points_vox"].numpy()
        steps = np.array([[0.0, 0, 0], [self.by / 2, 0, 0], [self.by, 0, 0]], np.float32)
        path = first + steps[:, None]
        if not self.refined:
            path[1:] = NAN
        return RefinedPose(path[-1] if self.refined else first, prediction["peaks"].numpy(), path, np.float32([3, 2]),
                           np.float32([2.5, 1.5]), self.refined, "" if self.refined else "not finite")


def test_flags_of_low_confidence_and_coinciding_landmarks():
    points = np.random.default_rng(0).normal(size=(16, 3)) * 50
    peaks = np.ones(16)

    def point_flags(points, peaks, landmarks):
        low = confidence_of({"peaks": peaks}, (1, 1, 1)).flags(landmarks)
        return [*low, *coinciding(points, landmarks, MIRRORED)]

    assert point_flags(points, peaks, LANDMARKS) == []
    points[5] = points[9] + [0.5, 0, 0]  # both wrists
    peaks[[0, 2]] = [0.29, NAN]
    assert point_flags(points, peaks, LANDMARKS) == ["low confidence: head, neck", "wrist_a and wrist_b coincide"]
    peaks[:5] = 0
    assert point_flags(points, peaks, LANDMARKS)[0] == "low confidence: 5 of 16 landmarks"
    assert point_flags(points[:2], np.ones(2), ("x", "y")) == []


def test_landmarks_of_another_anatomy_have_no_segments(volume_file, tmp_path):
    path, _ = volume_file
    names = tuple(f"p{number}" for number in range(16))
    predictor = PosePredictor(Marks(), "k", "LPS", names)
    assert predictor.segments == () and predict_all(OUTPUTS, lambda: predictor, [path], tmp_path / "out") == 0
    assert rows_of(tmp_path / "out" / "segments.csv") == []


# --- evaluate


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A cache of five marked volumes, of which one lacks a landmark, and runs without networks."""
    place = tmp_path_factory.mktemp("pose")
    for number in range(5):
        volume, points = marked_volume(number)
        name = f"fetus_{number}"
        for folder in ("images", "landmarks"):
            (place / "dataset" / folder).mkdir(parents=True, exist_ok=True)
        write_volume(place / "dataset" / "images" / f"{name}.nii.gz", volume.array, volume)
        points_mm = points_to_mm(points, read_volume(place / "dataset" / "images" / f"{name}.nii.gz"))
        if number == 4:
            points_mm[6] = NAN  # the spine
        named = dict(zip(LANDMARKS, points_mm, strict=True))
        write_markups(place / "dataset" / "landmarks" / f"{name}.mrk.json", named)
    write_json(place / "dataset" / "dataset.json", {"name": "marks", "modality": "US", "labels": {},
                                                    "landmarks": list(LANDMARKS)})
    write_cache(open_dataset(place / "dataset"), place / "pose.h5", CacheSettings("pose"), progress=lambda text: None)
    split = {"train": ["fetus_0", "fetus_1"], "validation": [], "test": ["fetus_2", "fetus_3", "fetus_4"]}
    for name, variant, seed in (("r4", "land_r4", 0), ("gcp", "land_gcp", 0), ("gcp_1", "land_gcp", 1),
                                ("gan", "gan_gcp", 0)):
        settings = choose(POSE, "quick", variant).replaced("test", landmark_names=LANDMARKS, seed=seed)
        run = open_run(place / "runs" / name, settings, split, {
            "dataset": "marks", "cases": [f"fetus_{number}" for number in range(5)], "landmarks": list(LANDMARKS)})
        for file in ("last.weights.h5", "library.json", "initialisation.txt"):
            (run.folder / file).write_text(name, encoding="utf-8")
        (run.folder / "history.csv").write_text("step,loss\n1,2.0\n2,1.0\n", encoding="utf-8")
        record_files(run.folder)
    return place


@pytest.fixture
def systems(monkeypatch):
    """`tfsono.systems.pose` with marks instead of networks; counts what is opened."""
    from tfsono.inference.atlases import AtlasSet

    opened = []

    def module_of(runs, which="auto"):
        opened.append(runs[0].folder)
        return Shifted(1.0 if runs[0].folder.name == "r4" else 3.0)

    def load_refiner(run, module):
        pose = np.random.default_rng(0).normal(size=(1, 16, 3)) * 10
        return Refiner(True, 0.0 if run.folder.name == "r4" else 2.0, AtlasSet(LANDMARKS, pose))

    stand_in = types.SimpleNamespace(module_of=module_of, module_to_refine=module_of, load_refiner=load_refiner,
                                     check_together=lambda runs: None,
                                     limits_of=lambda run: limits_described({}), FINDER="finder")
    monkeypatch.setitem(sys.modules, "tfsono.systems.pose", stand_in)
    return opened


class Shifted(Marks):
    """The marks, all moved along y by so many voxels of 0.75 mm."""

    def __init__(self, by):
        super().__init__()
        self.by = by

    def __call__(self, volume, spacing_mm):
        prediction = super().__call__(volume, spacing_mm)
        return {**prediction, "points_vox": prediction["points_vox"] + [0.0, self.by, 0.0]}


def evaluate(place, out, *more, runs=("gcp", "r4", "gan", "gcp_1"), figures=True):
    module = script("evaluate", "pose")
    if not figures:
        module.write_figures = lambda out, rows, runs, cache: []
    module.main(["--data", str(place / "pose.h5"), "--out", str(out), *more, "--runs",
                 *(str(place / "runs" / name) for name in runs)])


@blank_figures()
def test_an_evaluation_with_refinement(place, systems, tmp_path, capsys):
    evaluate(place, tmp_path / "out", "--refine")
    out = tmp_path / "out"
    rows = rows_of(out / "cases.csv")
    assert len(rows) == 3 * (4 + 3)  # four runs, three of them refined too
    names = list(dict.fromkeys(row["method"] for row in rows))
    assert names == ["Land-R4", "LandGCP", "GANGCP", "SSL-R4", "SSLGCP"]
    table = {(row["Variant"], row["Source"]): row for row in rows_of(out / "table1.csv")}
    assert len(table) == 5 + 8
    for name, error in (("Land-R4", 0.75), ("LandGCP", 2.25), ("SSL-R4", 0), ("SSLGCP", 1.0)):
        assert float(table[name, "ours"]["Mean mm"]) == pytest.approx(error, abs=1e-4)
        assert float(table[name, "ours"]["L7 spine"]) == pytest.approx(error, abs=1e-4)
    assert table["SSLGCP", "ours"]["Cases"] == "3" and table["SSLGCP", "ours"]["Missing"] == "1"
    assert float(table["SSLGCP", "paper"]["Mean mm"]) == 4.92 and float(table["RNN-R4", "paper"]["L6 wrist_a"]) == 22.6
    area = {(row["Variant"], row["Source"]): row for row in rows_of(out / "table2.csv")}
    assert float(area["LandGCP", "ours"]["Mean %"]) == pytest.approx(77.5, abs=1e-3)
    refined = next(row for row in rows if row["method"] == "SSLGCP")
    steps = [float(refined[f"iteration_{step}_mm"]) for step in range(3)]
    assert steps == pytest.approx([0, 0.5, 1.0], abs=1e-4) and float(refined["initial_mm"]) == pytest.approx(2.25)
    groups = rows_of(out / "refinement.csv")
    assert {row["Variant"] for row in groups} == {"SSL-R4", "SSLGCP"}
    whole = next(row for row in groups if row["Variant"] == "SSLGCP" and row["Group"] == "all")
    assert (whole["Number"], whole["Cases"]) == ("6", "3")
    assert float(whole["Change mm"]) == pytest.approx(-1.25, abs=1e-4)
    figures = {path.name for path in (out / "figures").iterdir()}
    assert {"pck.png", "poses.png", "skeletons_best.png", "skeletons_worst.png", "refinement.png", "methods.png",
            "history_gan.png"} <= figures
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "SSLGCP" in page and "Paired differences" in page
    markups = read_landmarks(out / "runs" / refined["file"])
    assert set(markups) == set(LANDMARKS)
    capsys.readouterr()
    before, known = len(systems), (out / "table2.csv").read_bytes()
    evaluate(place, out, "--refine", figures=False)
    assert len(systems) == before and (out / "table2.csv").read_bytes() == known  # read back, nothing opened
    assert len(rows_of(out / "cases.csv")) == 21


def test_a_single_run_without_refinement(place, systems, tmp_path):
    evaluate(place, tmp_path / "out", runs=("gcp",), figures=False)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"table1.csv", "table2.tex", "lengths.md", "flaws.csv"} <= names
    assert not {"refinement.csv", "differences.csv"} & names


@pytest.mark.parametrize("change, runs, words", [
    ({}, ("gan",), "--refine: refines runs of land"),
    ({"split": {"train": [], "validation": [], "test": ["fetus_2"]}}, ("gcp", "r4"), "other test cases"),
    ({"split": {"train": [], "validation": [], "test": []}}, ("r4",), "no test cases"),
    ({"split": {"train": [], "validation": [], "test": ["fetus_9"]}}, ("r4",), "found 'fetus_9', which is none"),
])
def test_bad_input_is_one_line(place, systems, tmp_path, change, runs, words):
    path = place / "runs" / "r4" / "split.json"
    kept = path.read_text(encoding="utf-8")
    try:
        if "split" in change:
            write_json(path, change["split"])
            record_files(path.parent)
        with pytest.raises(UserError, match=words) as error:
            evaluate(place, tmp_path / "out", "--refine", runs=runs)
    finally:
        path.write_text(kept, encoding="utf-8")
        record_files(path.parent)
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_the_papers_tables_agree_with_themselves():
    """Printed means are those of their columns within rounding; SSL is best of nine landmarks (ten, says the text)."""
    for table in (PAPER_TABLE_1, PAPER_TABLE_2):
        assert tuple(table) == ORDER
        for values in table.values():
            assert len(values) == 17 and np.mean(values[:16]) == pytest.approx(values[16], abs=0.1)
    best = [min(ORDER, key=lambda name: PAPER_TABLE_1[name][place]) for place in range(16)]
    assert sum(name.startswith("SSL") for name in best) == 9
    assert script("evaluate", "pose").CURVES == ("shoulder_a", "wrist_a", "wrist_b", "knee_a", "hip_b")


def test_names_of_rows():
    module = script("evaluate", "pose")
    assert module.refined_name("Land-R4") == "SSL-R4" and module.refined_name("quick, LandGCP") == "quick, SSLGCP"
    rows = [{"method": name} for name in ("SSLGCP", "Land-R4", "other", "GANGCP, seed")]
    assert [row["method"] for row in in_order(rows)] == ["Land-R4", "GANGCP, seed", "SSLGCP", "other"]
