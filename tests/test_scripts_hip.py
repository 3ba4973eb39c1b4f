"""`hip` end to end through the commands and scripts, on tiny volumes: what a user types, and what it leaves."""

import csv
import json
import shutil
import sys
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import SimpleITK as sitk
import tensorflow as tf

from small_caches import TINY, write_small_dataset
from test_c3d_formats import make_kernels, write_npz
from tfsono.__main__ import run as tfsono
from tfsono.errors import UserError
from tfsono.report.tables import read_cases
from tfsono.training.record import record_files
from wiring import eagerly, opened_once, script, unannounced

pytestmark = pytest.mark.usefixtures("blank_figures")

SIZES = ((17, 15, 13), (15, 17, 13), (13, 15, 17), (15, 13, 17), (17, 13, 15))  # two tiles each


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A dataset, its cache, and three runs: two seeds, and one that starts from the first one's encoder."""
    place = tmp_path_factory.mktemp("scripts")
    write_small_dataset(place / "dataset", SIZES)
    assert tfsono(["audit", str(place / "dataset")]) == 0
    tfsono(["cache", "hip", str(place / "dataset"), str(place / "small.h5"), "--preset", "quick", "--verify"])
    split = place / "runs" / "one" / "split.json"
    for name, more in (("one", []), ("two", ["--seed", "1", "--split", split]),
                       ("three", ["--c3d_weights", place / "runs" / "one", "--split", split])):
        script("train", graphs=name == "one").main(["--data", str(place / "small.h5"), "--run_dir",
                                                    str(place / "runs" / name), *TINY, *map(str, more)])
    return place


@pytest.fixture(scope="module", autouse=True)
def opened():
    with opened_once():
        yield


def test_a_run_records_its_settings(place):
    run = place / "runs" / "one"
    assert {path.name for path in run.iterdir()} >= {
        "config.json", "command.txt", "versions.json", "split.json", "data.json", "history.csv", "run.json",
        "tensorboard", "last.weights.h5", "state.h5", "finished.json", "initialisation.txt"}
    assert "without transfer" in (run / "initialisation.txt").read_text(encoding="utf-8")
    assert "stand-in, not from C3D" in (place / "runs" / "three" / "initialisation.txt").read_text(encoding="utf-8")


def test_a_finished_run_is_left_as_it_is(place, capsys):
    before = (place / "runs" / "one" / "last.weights.h5").read_bytes()
    script("train").main(["--data", str(place / "small.h5"), "--run_dir", str(place / "runs" / "one"), *TINY])
    assert "nothing to do" in capsys.readouterr().out
    assert (place / "runs" / "one" / "last.weights.h5").read_bytes() == before


def test_the_command_trains_and_evaluates_as_the_scripts_do(place, capsys):
    one, run = place / "runs" / "one", place / "runs" / "command"
    data = ("--data", str(place / "small.h5"))
    assert not unannounced(tfsono)(["train", "hip", *data, "--run_dir", str(run), "--split", str(one / "split.json"),
                                    *TINY])
    weights = [read_arrays(each / "last.weights.h5") for each in (one, run)]
    assert weights[0].keys() == weights[1].keys() and weights[0]
    for name, value in weights[0].items():
        np.testing.assert_array_equal(weights[1][name], value, err_msg=name)
    assert sys.modules["tfsono.train.hip"].batches.__module__ == "tfsono.train.hip"  # where AutoGraph looks
    printed, log = capsys.readouterr().out, (run / "log.txt").read_text(encoding="utf-8")
    lines = [line for line in printed.splitlines() if not line.startswith("this training takes")]  # before the run
    assert lines == log.splitlines()[1:] and "step 1/" in printed and log.startswith("--- 20")
    with eagerly():
        assert not tfsono(["evaluate", "hip", *data, "--runs", str(run), "--out", str(place / "results_of_command"),
                           "--json"])
    assert (place / "results_of_command" / "report.html").is_file()
    found, (out, err) = read_cases(place / "results_of_command" / "cases.csv"), capsys.readouterr()
    rows = [json.loads(line) for line in out.splitlines()]
    assert [(row["case"], row["label"]) for row in rows] == [(row["case"], row["label"]) for row in found]
    assert [row["dice"] for row in rows] == [row["dice"] if row["dice"] == row["dice"] else None for row in found]
    assert "report.html" in err


def read_arrays(path):
    """Every array of a weights file by its name."""
    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


def test_the_transferred_run_started_from_the_first_ones_encoder(place):
    from tfsono.configs.hip import HIP
    from tfsono.models.hip import build
    from tfsono.training.run import load_weights, read_run

    run = read_run(place / "runs" / "three", HIP)
    network = build(run.config)
    script("train").transfer(network, run.config)
    source = build(run.config)
    load_weights(read_run(place / "runs" / "one", HIP), source)
    for name in ("conv1", "conv4b"):
        np.testing.assert_array_equal(network.get_layer(name).kernel.numpy(), source.get_layer(name).kernel.numpy())
    assert np.abs(network.get_layer("dec1a").kernel.numpy() - source.get_layer("dec1a").kernel.numpy()).max() > 0


def test_the_encoder_starts_from_a_file_of_c3d(tmp_path):
    from tfsono.config import choose
    from tfsono.configs.hip import HIP
    from tfsono.models.hip import TRANSFERRED, build

    kernels = make_kernels(widths=(4, 4, 6, 6))
    write_npz(tmp_path / "c3d.npz", kernels)
    config = choose(HIP, "quick", next(iter(HIP.variants)), {"widths": "4,4,6,6", "c3d_weights": str(
        tmp_path / "c3d.npz")}).config
    network = build(config)
    report = script("train").initialise(network, SimpleNamespace(config=config, run_dir=tmp_path / "run"))
    assert str(tmp_path / "c3d.npz") in report and "stand-in" not in report
    for name in TRANSFERRED:  # its axes are time (z), rows (x) and columns (y); a grey image has its three colours
        wanted = kernels[name].transpose(1, 2, 0, 3, 4)
        wanted = wanted.sum(axis=3, keepdims=True) if name == "conv1" else wanted
        np.testing.assert_allclose(network.get_layer(name).kernel.numpy(), wanted, rtol=1e-6, atol=1e-6)


@pytest.fixture(scope="module")
def results(place):
    runs = [str(place / "runs" / name) for name in ("one", "two", "three")]
    script("evaluate").main(["--data", str(place / "small.h5"), "--runs", *runs, "--out", str(place / "results"),
                             "--ensemble"])
    return place / "results"


def test_tables_have_the_papers_rows_beside_ours(results):
    table = (results / "table2.md").read_text(encoding="utf-8")
    assert "without transfer" in table and "with transfer (stand-in, not C3D)" in table
    assert "0.987" in table and "12.4" in table and "paper" in table
    assert "Pat09 (paper)" in (results / "table1_1.md").read_text(encoding="utf-8")
    assert r"\toprule" in (results / "table2.tex").read_text(encoding="utf-8")
    assert "DICE" in (results / "differences.md").read_text(encoding="utf-8")
    assert (results / "label_head.csv").is_file() and (results / "label_body.csv").is_file()


def test_cases_are_what_simpleitk_measures_on_the_masks(results, place):
    with open(results / "cases.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5 * 2 * 2  # runs and ensembles, test cases, labels
    for row in rows:
        mask = sitk.GetArrayFromImage(sitk.ReadImage(str(results / "runs" / row["mask"])))
        path = place / "dataset" / "labels" / f"{row['case']}.nii.gz"
        reference = sitk.GetArrayFromImage(sitk.DICOMOrient(sitk.ReadImage(str(path)), "LPS"))
        value = {"head": 1, "body": 2}[row["label"]]
        overlap = 2 * np.sum((mask == value) & (reference == value))
        total = np.sum(mask == value) + np.sum(reference == value)
        assert float(row["dice"]) == pytest.approx(overlap / total if total else 1)


def test_seeds_share_a_row(results):
    with open(results / "cases.csv", newline="", encoding="utf-8") as file:
        methods = {row["run"]: row["method"] for row in csv.DictReader(file)}
    assert methods["one"] == methods["two"] != methods["three"]
    assert methods["ensemble_1"] == f"{methods['one']}, 2 runs together"
    assert methods["ensemble_2"] == "all 3 together"


def test_an_ensembles_mask_is_that_of_the_mean_probabilities(results, place):
    from tfsono.configs.hip import HIP
    from tfsono.data.cache import Cache
    from tfsono.inference.segmentation import postprocess_mask
    from tfsono.systems.hip import load_runs
    from tfsono.training.run import read_run

    folders = [place / "runs" / name for name in ("one", "two", "three")]
    with open(results / "cases.csv", newline="", encoding="utf-8") as file:
        row = next(row for row in csv.DictReader(file) if row["run"] == "ensemble_2")
    with Cache(place / "small.h5", "hip") as cache:
        case = cache.read(row["case"])
    config = read_run(folders[0], HIP).config
    modules = [load_runs([folder])[1] for folder in folders]
    single = [module.probabilities(tf.constant(case.image)).numpy() for module in modules]
    assert np.abs(single[0] - single[1]).max() > 0.01
    expected = postprocess_mask(np.mean(single, 0).argmax(-1).astype(np.uint8), config.classes)
    found = sitk.GetArrayFromImage(sitk.ReadImage(str(results / "runs" / row["mask"]))).transpose(2, 1, 0)
    assert (found == expected).mean() > 0.999  # but for ties in rounding
    assert int(row["members"]) == 3
    assert float(row["case_dice"]) <= float(row["shifted_dice"])


def test_page_and_figures(results):
    page = (results / "report.html").read_text(encoding="utf-8")
    assert "data:image/png" in page and "Table 2" in page and "NSD at 2 mm" in page
    assert page.index("<h2>Verdicts") < page.index("<caption>Table 2") < page.index("Overlay of")
    names = {path.name for path in (results / "figures").iterdir()}
    assert {"1_worst_slices.png", "1_median_slices.png", "1_best_slices.png", "methods.png"} <= names


def test_a_stopped_evaluation_resumes(results, place, capsys):
    runs = [str(place / "runs" / name) for name in ("one", "two", "three")]
    script("evaluate").main(["--data", str(place / "small.h5"), "--runs", *runs, "--out", str(results), "--ensemble"])
    assert "1/2" not in capsys.readouterr().out


@pytest.fixture(scope="module")
def saved(place):
    tfsono(["export", str(place / "runs" / "one"), str(place / "saved")])
    return place / "saved"


def test_export_and_predict_agree_with_the_evaluation(place, saved):
    for source, out in ((saved, "a"), (place / "runs" / "one", "b")):
        image = place / "dataset" / "images" / "case_0.nii.gz"
        assert tfsono(["predict", str(source), str(image), "--out", str(place / out)]) == 0
    one, other = (sitk.ReadImage(str(place / out / "case_0_mask.nii.gz")) for out in "ab")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(one), sitk.GetArrayFromImage(other))
    given = sitk.ReadImage(str(image))
    assert (one.GetSize(), one.GetOrigin(), one.GetDirection()) == (
        given.GetSize(), given.GetOrigin(), given.GetDirection())
    assert (place / "a" / "measurements.csv").is_file()


def test_a_volume_at_half_its_voxel_size_is_refused_unless_allowed(place, saved, tmp_path, capsys):
    image = sitk.ReadImage(str(place / "dataset" / "images" / "case_0.nii.gz"))
    (tmp_path / "in").mkdir()
    part = image[2:10, 2:10, 2:10]  # one tile
    sitk.WriteImage(sitk.Expand(part, [2, 2, 2]), str(tmp_path / "in" / "fine.nii.gz"))
    sitk.WriteImage(image, str(tmp_path / "in" / "same.nii.gz"))
    for source, out in ((saved, "saved"), (place / "runs" / "one", "run")):
        words = ["predict", str(source), str(tmp_path / "in"), "--out", str(tmp_path / out)]
        assert tfsono(words) == 2
        printed = capsys.readouterr()
        refused, total = printed.err.splitlines()
        assert "fine.nii.gz: spacing 0.25 x 0.4 x 0.75 mm (LPS), trained on 0.5 x 0.8 x 1.5; " in refused
        assert "about 0.5 x 0.8 x 1.5 mm" in refused and "--outside allow" in refused and "1 of 2 failed" in total
        assert "spacing" not in printed.out
        assert tfsono([*words, "--outside", "allow"]) == 0
        printed = capsys.readouterr()
        assert "same: predicted already" in printed.out and "(spacing 0.25 x 0.4 x 0.75 mm (LPS)" in printed.out
        with open(tmp_path / out / "measurements.csv", newline="", encoding="utf-8") as file:
            flags = {(row["case"], row["label"]): row["flags"] for row in csv.DictReader(file)}
        assert all(flags["fine", label].startswith("spacing 0.25") for label in ("head", "body"))
        assert "spacing" not in flags["same", "head"]
    trained = json.loads((saved / "manifest.json").read_text(encoding="utf-8"))["trained_on"]
    held = json.loads((place / "runs" / "one" / "data.json").read_text(encoding="utf-8"))["trained_on"]
    assert trained == {**held, "outside_factor": 2.0} and held["cases"] == 3


@pytest.mark.slow
def test_runs_are_ensembled_and_so_is_their_export(place):
    one, *others = (str(place / "runs" / name) for name in ("one", "two", "three"))
    image = place / "dataset" / "images" / "case_0.nii.gz"
    tfsono(["export", one, str(place / "saved_together"), "--ensemble_with", *others])
    tfsono(["predict", one, str(image), "--out", str(place / "c"), "--ensemble_with", *others])
    tfsono(["predict", str(place / "saved_together"), str(image), "--out", str(place / "d")])
    masks = [sitk.GetArrayFromImage(sitk.ReadImage(str(place / out / "case_0_mask.nii.gz"))) for out in "cd"]
    np.testing.assert_array_equal(*masks)
    manifest = json.loads((place / "saved_together" / "manifest.json").read_text(encoding="utf-8"))
    assert [source["run"] for source in manifest["together_with"]] == ["two", "three"]


def test_runs_that_cannot_be_ensembled_are_refused(place, saved):
    one, two = (str(place / "runs" / name) for name in ("one", "two"))
    image = str(place / "dataset" / "images" / "case_0.nii.gz")
    with pytest.raises(UserError, match="was exported"):
        tfsono(["predict", one, image, "--out", str(place / "e"), "--ensemble_with", str(saved)])
    coarse = place / "runs" / "coarse"
    shutil.copytree(two, coarse)
    config = json.loads((coarse / "config.json").read_text(encoding="utf-8"))
    config["values"]["spacing_mm"] = [2.0, 2.0, 2.0]
    (coarse / "config.json").write_text(json.dumps(config), encoding="utf-8")
    record_files(coarse)
    with pytest.raises(UserError, match="coarse: spacing_mm"):
        tfsono(["export", one, str(place / "saved_odd"), "--ensemble_with", str(coarse)])
    assert not (place / "saved_odd").exists()


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_a_precision_that_a_cpu_gets_wrong_is_refused(place, precision):
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("a GPU can do it")
    with pytest.raises(UserError, match=f"--precision {precision}"):
        script("train").main(["--data", str(place / "small.h5"), "--run_dir", str(place / "runs" / "half"), *TINY,
                              "--precision", precision])
    assert not (place / "runs" / "half").exists()


def test_early_stopping_and_bfloat16(place, capsys):
    script("train").main(["--data", str(place / "small.h5"), "--run_dir", str(place / "runs" / "brief"),
                          *TINY[:-2],  # the tilings are compared
                          "--patch", "24,16,16", "--precision", "mixed_bfloat16", "--validation_cases", "1",
                          "--early_stopping", "1"])
    assert "finished.json" in {path.name for path in (place / "runs" / "brief").iterdir()}
    assert "validation dice" in capsys.readouterr().out
    run = place / "runs" / "brief"
    names = json.loads((run / "split.json").read_text(encoding="utf-8"))["validation"]
    compared = json.loads((run / "tiling.json").read_text(encoding="utf-8"))
    assert set(compared["dice"]) <= set(names) and all(0 <= dice <= 1 for dice in compared["dice"].values())
    assert "tiling.json" in json.loads((run / "run.json").read_text(encoding="utf-8"))["files"]


def test_pretrained_widths_that_do_not_fit_are_refused(place):
    with pytest.raises(UserError, match="conv4a"):
        script("train").main(["--data", str(place / "small.h5"), "--run_dir", str(place / "runs" / "wide"), *TINY,
                              "--widths", "4,4,6,8", "--c3d_weights", str(place / "runs" / "one")])
