"""`femur` end to end through the commands and scripts, on tiny volumes: what a user types, and what it leaves."""

import csv
import dataclasses
import json
import shutil

import numpy as np
import pytest
import SimpleITK as sitk

from small_femur import NAMES, SPACING, TINY_FEMUR, write_femur_cache, write_small_femur_dataset
from tfsono.__main__ import run as tfsono
from tfsono.configs.femur import FEMUR
from tfsono.errors import UserError
from tfsono.systems.femur import first_stage_of, load_runs
from tfsono.training.run import read_history, read_run
from tfsono.volumes.landmarks import read_landmarks
from wiring import eagerly, networks_once, script

pytestmark = pytest.mark.usefixtures("blank_figures")


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def train(place, name, *more, cache="small.h5", graphs=False):
    script("train", "femur", graphs).main(["--data", str(place / cache), "--run_dir", str(place / "runs" / name),
                                           *TINY_FEMUR, *map(str, more)])


def evaluate(place, names, out, *more, cache="small.h5"):
    """Eagerly; test_wiring_femur.py evaluates as users do."""
    script("evaluate", "femur").main(["--data", str(place / cache), "--runs", *(
        str(place / "runs" / name) for name in names), "--out", str(place / out), *more])


@pytest.fixture(scope="module", autouse=True)
def loaded_once():
    with networks_once():
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A dataset, its cache, the first stage, and runs of the second one: refined, in reference boxes, of one branch."""
    place = tmp_path_factory.mktemp("femur")
    write_small_femur_dataset(place / "dataset")
    assert tfsono(["audit", str(place / "dataset")]) == 0
    tfsono(["cache", "femur", str(place / "dataset"), str(place / "small.h5"), "--preset", "quick", "--verify"])
    train(place, "roi", "--variant", "unet_roi")
    split = place / "runs" / "roi" / "split.json"
    first = ["--split", split, "--roi_run", place / "runs" / "roi"]
    train(place, "brndc", *first)
    train(place, "refined", *first, "--variant", "brndc_d", "--start_from", place / "runs" / "brndc",
          graphs=True)
    train(place, "unet_s", "--split", split, "--variant", "unet_s")
    train(place, "unet_l", "--split", split, "--variant", "unet_l")
    return place


@pytest.fixture(scope="module")
def results(place):
    evaluate(place, ("roi", "brndc", "refined", "unet_s", "unet_l"), "results")
    return place / "results"


def test_a_run_records_its_settings_and_is_complete_by_itself(place):
    run = place / "runs" / "brndc"
    assert {path.name for path in run.iterdir()} >= {"config.json", "split.json", "data.json", "history.csv", "roi",
                                                    "last.weights.h5", "initialisation.txt"}
    assert {path.name for path in (run / "roi").iterdir()} == {"config.json", "data.json", "split.json",
                                                              "last.weights.h5"}
    _, module = load_runs([run])
    assert module.finder is not None and load_runs([place / "runs" / "unet_s"])[1].finder is None
    assert read_run(run, FEMUR).config.landmark_names == NAMES


def test_the_refined_run_started_from_the_other(place):
    run = place / "runs" / "refined"
    assert "after 2 steps" in (run / "initialisation.txt").read_text(encoding="utf-8")
    history = read_history(run / "history.csv")
    assert [row["step"] for row in history] == [1] and history[0]["discriminator_loss"] > 0


def test_tables_have_the_papers_rows_beside_ours(results):
    table = rows_of(results / "table1.csv")
    ours = [row["Variant"] for row in table if row["Source"] == "ours"]
    assert ours == ["Unet-ROI", "BRNDC", "BRNDC-D", "Unet-S, in reference boxes"]
    assert {"BRN", "BRND", "BRNDC"} <= {row["Variant"] for row in table if row["Source"] == "paper"}
    paper = next(row for row in table if row["Variant"] == "BRNDC-D" and row["Source"] == "paper")
    assert float(paper["DSC %"]) == 91.03 and float(paper["DSC % std"]) == 3.0
    assert 0 <= float(table[0]["NSD at 2 mm %"]) <= 100 and paper["NSD at 2 mm %"] == "nan"
    landmarks = rows_of(results / "table2.csv")
    assert [row["Variant"] for row in landmarks if row["Source"] == "ours"] == ["BRNDC", "BRNDC-D",
                                                                               "Unet-L, in reference boxes"]
    assert {"proximal mm", "distal mm", "Lerr mm"} <= set(landmarks[0])
    regions = rows_of(results / "regions.csv")
    assert [row["Region"] for row in regions] == ["found by the first stage"] * 3 + ["reference box"] * 2
    assert {"IoU %", "Mask inside %", "All landmarks inside %"} <= set(regions[0])
    order = rows_of(results / "order.csv")
    assert [float(row["In the better order mm"]) <= float(row["As named mm"]) for row in order] == [True] * 3


def test_cases_pages_and_figures(results):
    rows = rows_of(results / "cases.csv")
    assert len(rows) == 10 and {row["run"] for row in rows} == {"roi", "brndc", "refined", "unet_s", "unet_l"}
    for row in rows:
        assert (row["mask"] == "") == (row["run"] == "unet_l")
        assert (row["proximal_x_vox"] == "") == (row["run"] in ("roi", "unet_s"))
    page = (results / "report.html").read_text(encoding="utf-8")
    assert page.count("<tbody><tr><th") == 5 * 2 and "Overlay of" in page, "methods, cases"
    figures = {path.name for path in (results / "figures").iterdir()}
    assert {"agreement.png", "methods1.png", "methods2.png", "1_01.png", "5_02.png", "history_brndc.png"} <= figures
    row = next(row for row in rows if row["run"] == "brndc")
    folder = (results / "runs" / row["mask"]).parent
    reference = sitk.ReadImage(str(results.parent / "dataset" / "images" / f"{row['case']}.nii.gz"))
    found = sitk.ReadImage(str(results / "runs" / row["mask"]))
    assert found.GetSize() == reference.GetSize() and np.allclose(found.GetSpacing(), reference.GetSpacing())
    assert set(read_landmarks(folder / f"{row['case']}.mrk.json")) == set(NAMES)


def test_in_reference_boxes_the_same_runs_are_other_rows(place, capsys):
    for _ in range(2):  # the second time they are read back
        capsys.readouterr()
        evaluate(place, ("roi", "brndc"), "boxes", "--region", "reference", "--set", "fill_holes=false",
                 "heatmap_decode=wide_centroid")
    assert " left" not in capsys.readouterr().out
    rows, words = rows_of(place / "boxes" / "cases.csv"), "fill_holes false, heatmap_decode wide_centroid"
    assert {(row["method"], row["region"]) for row in rows} == {
        (f"Unet-ROI, {words}", "found by the first stage"), (f"BRNDC, in reference boxes, {words}", "reference box")}
    folders = {path.name.rsplit("_", 1)[0] for path in (place / "boxes" / "runs").iterdir()}
    assert folders == {"roi", "brndc_reference_boxes"}


@pytest.mark.slow
def test_runs_are_measured_together(place):
    evaluate(place, ("roi", "brndc", "refined"), "together", "--ensemble")
    rows = rows_of(place / "together" / "cases.csv")
    assert {(row["method"], row["members"]) for row in rows} == {
        ("Unet-ROI", "1"), ("BRNDC", "1"), ("BRNDC-D", "1"), ("all 2 of mask and heatmaps together", "2")}
    mean = next(row for row in rows if row["members"] == "2")
    assert float(mean["length_spread_mm"]) >= 0 and float(mean["spread_distal_mm"]) > 0
    assert [row["Of"] for row in rows_of(place / "together" / "spread.csv")] == ["proximal", "distal", "length"]
    assert mean["region"] in ("found by the first stage", "nothing found: the whole volume") and mean["mask"]


@eagerly()
def test_a_run_predicts_the_mask_the_ends_and_the_length(place, capsys):
    """In a graph, and its export with the same files: test_savedmodels_page.py."""
    volume = place / "dataset" / "images" / "bone_1.nii.gz"
    assert tfsono(["predict", str(place / "runs" / "brndc"), str(volume), "--out", str(place / "from_run")]) == 0
    mask = sitk.GetArrayFromImage(sitk.ReadImage(str(place / "from_run" / "bone_1_mask.nii.gz")))
    row = rows_of(place / "from_run" / "measurements.csv")[0]
    assert float(row["volume_ml"]) == pytest.approx((mask > 0).sum() * np.prod(SPACING) / 1000, abs=1e-4)
    ends = rows_of(place / "from_run" / "landmarks.csv")
    apart = np.subtract(*([float(end[f"{axis}_mm"]) for axis in "xyz"] for end in ends))
    assert float(row["length_mm"]) == pytest.approx(np.linalg.norm(apart), abs=1e-3)
    voxels = sitk.ReadImage(str(volume)).TransformPhysicalPointToContinuousIndex([float(ends[0][f"{a}_mm"])
                                                                                  for a in "xyz"])
    assert voxels == pytest.approx([float(ends[0][f"{axis}_vox"]) for axis in "xyz"], abs=1e-2)
    markups = json.loads((place / "from_run" / "bone_1.mrk.json").read_text())
    assert [markup["type"] for markup in markups["markups"]] == ["Fiducial", "Line"]
    assert (place / "from_run" / "bone_1.png").is_file() and "length" in capsys.readouterr().out


@pytest.mark.parametrize("run", ["roi", "unet_s", "unet_l"])
@eagerly()
def test_networks_of_one_output_predict_it(place, run):
    volume = place / "dataset" / "images" / "bone_2.nii.gz"
    assert tfsono(["predict", str(place / "runs" / run), str(volume), "--out", str(place / f"only_{run}")]) == 0
    names = {path.name for path in (place / f"only_{run}").iterdir()}
    assert ("bone_2_mask.nii.gz" in names) == (run != "unet_l") and ("bone_2.mrk.json" in names) == (run == "unet_l")
    row = rows_of(place / f"only_{run}" / "measurements.csv")[0]
    assert (row["length_mm"] == "") == (run != "unet_l") and (row["volume_ml"] == "") == (run == "unet_l")
    if run != "roi":
        assert "searched the whole volume" in row["flags"]


def test_cases_with_one_of_the_two_are_trained_and_scored_on_it(place):
    shutil.copytree(place / "dataset", place / "partial")
    for number in (0, 3):
        (place / "partial" / "landmarks" / f"bone_{number}.mrk.json").unlink()
        (place / "partial" / "labels" / f"bone_{number + 1}.nii.gz").unlink()
    write_femur_cache(place / "partial", place / "partial.h5")
    (place / "partial.json").write_text(json.dumps({"train": ["bone_0", "bone_1"], "validation": ["bone_2"],
                                                    "test": ["bone_3", "bone_4"]}))
    train(place, "partial", "--split", place / "partial.json", "--record_every", "2", cache="partial.h5")
    history = read_history(place / "runs" / "partial" / "history.csv")
    assert all(np.isfinite(row["loss"]) and 0 <= row["validation_dice"] <= 1 for row in history)
    assert (place / "runs" / "partial" / "best.weights.h5").is_file()
    evaluate(place, ("partial",), "partial_results", cache="partial.h5")
    rows = {row["case"]: row for row in rows_of(place / "partial_results" / "cases.csv")}
    assert float(rows["bone_3"]["dice"]) >= 0 and rows["bone_4"]["dice"] in ("nan", "")
    assert rows["bone_3"]["mre_mm"] in ("nan", "") and float(rows["bone_4"]["mre_mm"]) >= 0


@pytest.mark.parametrize("more, words", [
    (["--roi_run", "runs/brndc"], "expected a run of --variant unet_roi"),
    (["--variant", "brndc_d", "--start_from", "runs/unet_s"], "of another network"),
    (["--label_names", "tibia"], "leave the option out"), (["--spacing_mm", "1,1,1"], "tfsono cache femur"),
    (["--precision", "mixed_float16"], "needs a GPU"), (["--test_cases", "9"], "test_cases"),
    (["--precision", "mixed_bfloat16", "--region_jitter", "0"], "16 voxels wide"),
])
def test_bad_input_is_one_line_and_leaves_no_folder(place, more, words):
    more = [str(place / word) if word.startswith("runs/") else word for word in more]
    with pytest.raises(UserError, match=words) as error:
        train(place, "bad", *more)
    assert "\n" not in str(error.value) and not (place / "runs" / "bad").exists()


def test_a_first_stage_that_saw_the_test_cases_is_refused(place):
    test = read_run(place / "runs" / "roi", FEMUR).split["train"][:1]
    others = [f"bone_{number}" for number in range(5) if f"bone_{number}" not in test]
    (place / "leak.json").write_text(json.dumps({"train": others, "validation": [], "test": test}))
    with pytest.raises(UserError, match="a test case here"):
        train(place, "leak", "--split", place / "leak.json", "--roi_run", place / "runs" / "roi")


def test_runs_of_other_test_cases_do_not_share_a_table(place):
    with pytest.raises(UserError, match="other test cases"):
        evaluate(place, ("brndc", "partial"), "mixed")


def test_what_is_set_at_the_evaluation_reaches_the_first_stage(place):
    run = read_run(place / "runs" / "brndc", FEMUR)
    run = dataclasses.replace(run, settings=run.settings.set_at_test({"roi_part": "all"}))
    first, = first_stage_of(run)
    assert first.config.roi_part == "all" != read_run(first.folder, FEMUR).config.roi_part
    with pytest.raises(UserError, match="--set roi_part: expected all, largest or large"):
        run.settings.set_at_test({"roi_part": "none"})


def test_the_lines_name_an_error_of_a_length_as_one():
    row = {"dice": 0.5, "mre_mm": 60.53, "length_error_mm": -54.98, "box_iou": 0.25, "absent": 0.0}
    assert script("evaluate", "femur").summary_text(row) == (
        "Dice 0.500, landmarks 60.53 mm, length error -54.98 mm, box IoU 0.25")
