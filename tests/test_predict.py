"""`tfsono predict` from a run and from its export: geometry, labels, names, failures, what is added to."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil

import keras
import numpy as np
import pytest

from tfsono.__main__ import run as tfsono
from tfsono.config import choose
from tfsono.configs.hip import HIP
from tfsono.errors import UserError
from tfsono.inference.segmentation import segment_volume
from tfsono.models import hip
from tfsono.predict.hip import measure
from tfsono.predict.inputs import find_inputs, unique_names
from tfsono.predict.masks import label_values
from tfsono.predict.sources import Options, model_key
from tfsono.systems.commands import export_run, predict
from tfsono.systems.hip import load_runs, manifest_of
from tfsono.training.record import record_files
from tfsono.training.run import open_run
from tfsono.training.tilings import write_compared
from tfsono.volumes.image import Volume, read_mask, read_volume, write_volume
from wiring import eagerly, opened_once

pytestmark = pytest.mark.usefixtures("blank_figures")

LPS = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
PIR = (0.0, 0.0, -1.0, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0)


def make_volume(seed=0, size=(21, 13, 17), direction=LPS):
    array = np.random.default_rng(seed).normal(300, 50, size).astype(np.float32)
    array[5:12, 4:9, 6:11] += 300
    return Volume(array, (0.5, 0.75, 2.0), (10.0, -20.0, 5.5), direction)


def write(path, volume):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(path, volume.array, volume)
    return path


def rows_of(out_dir):
    with open(out_dir / "measurements.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A run with random weights: what matters here is around the network."""
    settings = choose(HIP, "quick", "paper").replaced(
        "test", label_names=("femur", "pelvis"), patch=(16, 16, 16), widths=(4, 4, 4, 4), lower_widths=(4, 2),
        middle_widths=(2,), initial_deviation=0.0)
    folder = tmp_path_factory.mktemp("runs") / "small"
    run = open_run(folder, settings, {"train": ["a"], "validation": [], "test": ["b"]},
                   {"dataset": "phantom", "cases": ["a", "b"], "labels": {"femur": 3, "pelvis": 7}})
    keras.utils.set_random_seed(3)
    network = hip.build(run.config)
    kernel = np.random.default_rng(0).normal(size=(1, 1, 1, 4, 3))
    network.get_layer("upper_cls").set_weights([kernel, np.zeros(3)])
    network.save_weights(folder / "last.weights.h5")
    record_files(folder)
    return folder


@pytest.fixture(scope="module", autouse=True)
def opened():
    with opened_once() as opened:
        yield opened


@pytest.fixture(scope="module")
def exported(run_dir, tmp_path_factory):
    return export_run(run_dir, tmp_path_factory.mktemp("export") / "model")


def test_a_run_and_its_export_give_the_same_files(run_dir, exported, opened, tmp_path):
    """Their pictures have pixels in test_wiring_hip.py."""
    path = write(tmp_path / "case.nii.gz", make_volume(direction=PIR))
    for source, out in ((run_dir, "from_run"), (exported, "from_export")):
        assert predict(source, [path], tmp_path / out) == 0
    volume = read_volume(path)
    paths = [tmp_path / out / "case_mask.nii.gz" for out in ("from_run", "from_export")]
    masks = [read_mask(path, volume).array for path in paths]
    assert (masks[0] == masks[1]).all() and set(np.unique(masks[0])) <= {0, 3, 7} and masks[0].any()
    assert rows_of(tmp_path / "from_run") == rows_of(tmp_path / "from_export")
    assert (tmp_path / "from_run" / "case.png").is_file()
    expected = segment_volume(opened(run_dir).module, volume, "LPS", 3)
    assert (masks[0] == np.array([0, 3, 7])[expected]).all()
    voxels = [int((expected == label).sum()) for label in (1, 2)]
    rows = rows_of(tmp_path / "from_run")
    assert [int(row["voxels"]) for row in rows] == voxels
    np.testing.assert_allclose([float(row["volume_ml"]) for row in rows], np.array(voxels) * 0.75 / 1000)


def test_the_manifest_of_a_run(exported):
    manifest = json.loads((exported / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["labels"] == {"femur": 3, "pelvis": 7}
    assert manifest["source"]["run"] == "small" and manifest["source"]["weights"] == "last.weights.h5"
    assert manifest["input"]["volume"]["orientation"] == "LPS"
    assert manifest["network"]["tiling"] == "half" and manifest["network"]["patch"] == [16, 16, 16]
    assert "not a medical device" in manifest["use"]


def test_an_export_of_the_release_before_gives_the_same_files(exported, tmp_path):
    old = shutil.copytree(exported, tmp_path / "old")
    manifest = json.loads((old / "manifest.json").read_text(encoding="utf-8"))
    del manifest["sha256"]  # which it did not have
    new = manifest.pop("postprocessing")
    assert new["in_graph"] and new["largest_component"] and new["fill_holes"]
    manifest["cleaning"] = {"largest_component": True, "fill_holes": True}  # by `predict`: twice is as once
    (old / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    path = write(tmp_path / "case.nii.gz", make_volume())
    for source, out in ((exported, "new_out"), (old, "old_out")):
        assert predict(source, [path], tmp_path / out) == 0
    assert rows_of(tmp_path / "old_out") == rows_of(tmp_path / "new_out")


def test_one_bad_file_does_not_stop_the_others(exported, tmp_path, capsys):
    folder = tmp_path / "in"
    for name in ("a", "c"):
        write(folder / f"{name}.nii.gz", make_volume())
    (folder / "b.nii.gz").write_text("no volume")
    assert predict(exported, [folder, tmp_path / "absent.mha"], tmp_path / "out") == 2
    printed = capsys.readouterr()
    note, *lines = printed.err.strip().splitlines()
    assert len(lines) == 3 and "does not say what it was trained on" in note  # two files and the sum
    assert "b.nii.gz" in printed.err and "absent.mha" in printed.err and "2 of 4 failed" in printed.err
    assert {row["case"] for row in rows_of(tmp_path / "out")} == {"a", "c"}
    assert "left" in printed.out


def test_equal_names_stay_apart_and_a_second_call_adds(exported, tmp_path):
    paths = [write(tmp_path / site / "case.nii.gz", make_volume()) for site in ("one", "two")]
    assert predict(exported, paths, tmp_path / "out") == 0
    assert {row["case"] for row in rows_of(tmp_path / "out")} == {"one_case", "two_case"}
    other = write(tmp_path / "x" / "one_case.nii.gz", make_volume(5))
    assert predict(exported, [other, paths[0]], tmp_path / "out") == 0
    files = {row["case"]: row["file"] for row in rows_of(tmp_path / "out")}
    assert files == {"one_case": "case.nii.gz", "two_case": "case.nii.gz", "x_one_case": "one_case.nii.gz"}
    assert len(rows_of(tmp_path / "out")) == 6
    assert (tmp_path / "out" / "x_one_case_mask.nii.gz").is_file()


def test_a_mask_of_the_users_is_not_overwritten(exported, tmp_path, capsys):
    path = write(tmp_path / "case.nii.gz", make_volume())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "case_mask.nii.gz").write_text("drawn by hand")
    assert predict(exported, [path], tmp_path / "out") == 2
    assert "choose another --out" in capsys.readouterr().err
    assert (tmp_path / "out" / "case_mask.nii.gz").read_text(encoding="utf-8") == "drawn by hand"


@eagerly()
def test_a_rerun_does_only_what_has_changed(run_dir, exported, tmp_path, capsys):
    in_a_tile = (16, 13, 16)
    path, out = write(tmp_path / "case.nii.gz", make_volume(size=in_a_tile)), tmp_path / "out"

    def printed(source, options=Options(), overwrite=False):
        assert predict(source, [path], out, options, overwrite) == 0
        return capsys.readouterr().out

    assert " mL" in printed(exported)
    before = (out / "case_mask.nii.gz").stat().st_mtime_ns
    assert "already" in printed(exported)
    assert (out / "case_mask.nii.gz").stat().st_mtime_ns == before and len(rows_of(out)) == 2
    assert " mL" in printed(exported, overwrite=True)
    for option in ("--overwrite", "--again"):  # the second is its name of the release before
        assert tfsono(["predict", str(exported), str(path), "--out", str(out), option]) == 0
        assert " mL" in capsys.readouterr().out
    assert " mL" in printed(run_dir)
    assert " mL" in printed(run_dir, Options(tiling="fast"))
    write(path, make_volume(1, in_a_tile))
    assert " mL" in printed(run_dir, Options(tiling="fast"))
    (out / "case_mask.nii.gz").unlink()
    assert " mL" in printed(run_dir, Options(tiling="fast"))
    path.write_text("no volume")
    assert predict(run_dir, [path], out) == 2
    capsys.readouterr()
    (record,) = json.loads((out / "predictions.json").read_text(encoding="utf-8")).values()
    assert record["state"] == "begun"  # its earlier files are still there, and known as ours
    write(path, make_volume(1, in_a_tile))
    assert " mL" in printed(run_dir, Options(tiling="fast"))
    (out / "predictions.json").write_text("[]")
    with pytest.raises(UserError, match="predictions.json"):
        predict(run_dir, [path], out)


def test_what_only_another_system_has(exported, tmp_path):
    path = write(tmp_path / "case.nii.gz", make_volume())
    for options, owner in ((Options(pixel_size_mm="0.2"), "head"), (Options(samples=0), "head"),
                           (Options(refine=True), "pose"), (Options(candidates=3), "face")):
        with pytest.raises(UserError, match=f"only for a model of {owner}, and .* is one of hip"):
            predict(exported, [path], tmp_path / "out", options)
    with pytest.raises(UserError, match="was exported"):
        predict(exported, [path], tmp_path / "out", Options(ensemble_with=(str(exported),)))


def test_fast_is_the_default_where_the_run_measured_that_it_gives_what_the_papers_tiles_give(run_dir, tmp_path):
    run = shutil.copytree(run_dir, tmp_path / "run")
    keys = [model_key([run], Options())]
    for dice, tiling in ((0.9985, "half"), (0.9995, "fast")):
        write_compared(run, {"a": dice, "b": dice}, memory_gb=3.0)
        (prepared_run,), module = load_runs([run])
        assert module.tiling.kind == prepared_run.config.tiling == tiling
        keys.append(model_key([run], Options()))
    assert len(set(keys)) == 3  # earlier predictions are not taken for those of another tiling
    network = manifest_of([prepared_run])["network"]
    assert (network["tiling"], network["memory_gb"], network["margin"]) == ("fast", 3.0, None)
    assert network["most_voxels_of_a_tile"] == module.tiling.tile_voxels
    (given,), more = load_runs([run], options=Options(memory_gb=5.0))
    assert more.tiling.tile_voxels == pytest.approx(2 * module.tiling.tile_voxels, abs=2)
    assert load_runs([run], options=Options(tiling="paper"))[1].tiling.kind == "paper"
    assert load_runs([run, run_dir])[1].tiling.kind == "half"  # the other one measured nothing
    (run / "tiling.json").write_text('{"dice": {"a": 1.0}, "memory_gb": 3.0}')
    with pytest.raises(UserError, match="tiling.json: is not the file"):
        load_runs([run])


def test_another_tiling(run_dir, exported, tmp_path):
    assert load_runs([run_dir], options=Options(tiling="fast"))[1].tiling.kind == "fast"
    with pytest.raises(UserError, match="tiling"):
        load_runs([run_dir], options=Options(tiling="third"))
    with pytest.raises(UserError, match="fixed at"):
        predict(exported, [write(tmp_path / "case.nii.gz", make_volume())], tmp_path / "out", Options(tiling="fast"))
    for options in (Options(memory_gb=3.0), Options(precision="float32")):
        with pytest.raises(UserError, match="fixed at the export"):
            predict(exported, [tmp_path / "case.nii.gz"], tmp_path / "out", options)
    assert load_runs([run_dir], options=Options(precision="mixed_bfloat16"))[0][0].config.precision == "mixed_bfloat16"


def test_sources_and_inputs_that_cannot_be(run_dir, tmp_path):
    path = write(tmp_path / "case.nii.gz", make_volume())
    with pytest.raises(UserError, match="expected a run folder"):
        predict(tmp_path, [path], tmp_path / "out")
    with pytest.raises(UserError, match="no volume found"):
        predict(run_dir, [], tmp_path / "out")
    with pytest.raises(UserError, match="folder of the inputs"):
        predict(run_dir, [tmp_path], tmp_path)
    with pytest.raises(UserError, match="must be a folder"):
        predict(run_dir, [path], path)
    (tmp_path / "measurements.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="not the measurements"):
        predict(run_dir, [path], tmp_path)


def test_inputs_found(tmp_path):
    volumes = [write(tmp_path / "volumes" / name, make_volume()) for name in ("b.nii.gz", "a.mha")]
    (tmp_path / "volumes" / "notes.txt").write_text("x")
    for series in ("s1", "s2"):
        (tmp_path / "dicom" / series).mkdir(parents=True)
        (tmp_path / "dicom" / series / "IM0001").write_text("x")
    out = tmp_path / "out"
    assert find_inputs([tmp_path / "volumes", volumes[0]], out) == sorted(volumes)
    assert find_inputs([tmp_path / "dicom"], out) == [tmp_path / "dicom" / series for series in ("s1", "s2")]
    assert find_inputs([tmp_path / "dicom" / "s1"], out) == [tmp_path / "dicom" / "s1"]


def test_unique_names(tmp_path):
    texts = ("p/s1/img.nii.gz", "q/s1/img.nii.gz", "q/s2/img.nii.gz", "q/other.mha", "r/same.mha",
             "r/same.nii", "u/IMG.mha")
    paths = [tmp_path / text for text in texts]
    names = unique_names(paths, {})
    assert names[:4] == ["p_s1_img", "q_s1_img", "s2_img", "other"]
    assert names[4:6] == ["same", "same_2"] and names[6] == "u_IMG"
    assert unique_names([paths[3]], {"other": "/elsewhere/other.mha"}) == ["q_other"]
    assert unique_names([paths[3]], {"mine": str(paths[3])}) == ["mine"]


def test_label_values_and_flags():
    mask = np.zeros((5, 7, 9), np.uint8)
    mask[0, 3, 4] = 1
    mask[2:4, 3, 4] = 2
    labels = {"femur": 1000, "pelvis": 2, "sacrum": 5}
    values = label_values(mask, labels)
    assert values.dtype == np.int32 and values[0, 3, 4] == 1000 and values[2, 3, 4] == 2
    assert label_values(mask, {"femur": 4, "pelvis": 2}).dtype == np.uint8
    volume = dataclasses.replace(make_volume(), array=mask)
    rows = measure("case", "case.nii.gz", volume, mask, labels)
    assert [row["flags"] for row in rows] == ["touches border", "", "empty"]
    np.testing.assert_allclose([row["volume_ml"] for row in rows], [0.00075, 0.0015, 0])
