"""A label in neither reference nor prediction: in no mean, counted in a column of its own, said below the table."""

import csv
import json
import math
import shutil

import h5py
import numpy as np
import pytest
import SimpleITK as sitk

from small_caches import TINY, seal, write_small_dataset
from tfsono.__main__ import run as tfsono
from tfsono.errors import UserError
from tfsono.metrics.femur_case import MaskAndPoints, joint_metrics
from tfsono.metrics.surface import segmentation_metrics
from tfsono.report.femur_tables import femur_tables
from tfsono.report.hip_tables import hip_tables
from tfsono.report.plots import _cases_panel, png_figure
from tfsono.report.rows import case_means
from tfsono.report.tables import Metric, case_table, comparison_table, paired_table, to_markdown
from tfsono.training.record import record_files
from wiring import script

pytestmark = pytest.mark.usefixtures("blank_figures")

SPACING = (1.0, 1.0, 1.0)
DICE = (("dice", "DICE", 3),)


def box(start: int, stop: int) -> np.ndarray:
    """A bar of 4 x 4 voxels along x; nothing where start == stop."""
    mask = np.zeros((16, 8, 8), bool)
    mask[start:stop, 2:6, 2:6] = True
    return mask


def rows_of(pairs: dict, empty_is: str = "absent", run: str = "r") -> list[dict]:
    """Rows of cases.csv of a method `m`: {(case, label): (prediction, reference)}, each a (start, stop) of `box`."""
    return [{"method": "m", "run": run, "case": case, "label": label,
             **segmentation_metrics(box(*found), box(*expected), SPACING, empty_is)}
            for (case, label), (found, expected) in pairs.items()]


NONE = (0, 0)
HALF_ABSENT = {  # Dice of a: 0.5, 1, 1, 1; of b: 0.5, absent, absent, missed
    ("1", "a"): ((0, 4), (2, 6)), ("1", "b"): ((8, 12), (10, 14)),
    ("2", "a"): ((0, 4), (0, 4)), ("2", "b"): (NONE, NONE),
    ("3", "a"): ((0, 4), (0, 4)), ("3", "b"): (NONE, NONE),
    ("4", "a"): ((0, 4), (0, 4)), ("4", "b"): (NONE, (8, 12)),
}


def cells(table, row: int = 0) -> dict:
    return dict(zip(table.columns, table.rows[row], strict=True))


def test_the_mean_is_that_over_the_cases_with_the_label():
    tables = hip_tables(rows_of(HALF_ABSENT), ("a", "b"))
    assert "unweighted by area" in tables["table2"].note and "NSD at 2 mm" in tables["label_a"].columns
    older = [{key: value for key, value in row.items() if key != "nsd_2mm"} for row in rows_of(HALF_ABSENT)]
    assert "NSD" not in str(hip_tables(older, ("a", "b"))["table2"].columns), "rows of an evaluation before NSD"
    own = cells(tables["label_b"])
    assert (own["Cases"], own["Undefined"], own["Absent"]) == (4, 1, 2)
    assert own["DICE"].mean == pytest.approx((0.5 + 0) / 2) and (own["DICE"].count, own["DICE"].undefined) == (2, 0)
    diagonal = math.hypot(16, 8, 8)
    assert own["Hausdorff mm"].mean == pytest.approx((2 + diagonal) / 2)
    assert own["Volume error mL"].mean == pytest.approx((0 + 64 / 1000) / 2)
    whole = cells(tables["table2"])
    assert (whole["Cases"], whole["Undefined"], whole["Absent"]) == (4, 1, 2)
    assert whole["DICE"].mean == pytest.approx((0.5 + 1 + 1 + 0.5) / 4)
    other = cells(tables["label_a"])
    assert (other["Undefined"], other["Absent"], other["DICE"].mean) == (0, 0, pytest.approx(3.5 / 4))
    for name in ("table2", "label_a", "label_b"):
        assert "excluded from every mean" in to_markdown(tables[name])


def test_a_network_that_never_finds_the_label_has_nothing():
    pairs = {("1", "b"): (NONE, NONE), ("2", "b"): (NONE, (8, 12)), ("3", "b"): (NONE, NONE)}
    assert cells(hip_tables(rows_of(pairs), ("b",))["table2"])["DICE"].mean == 0
    perfect = hip_tables(rows_of(pairs, "perfect"), ("b",), "perfect")
    assert cells(perfect["table2"])["DICE"].mean == pytest.approx(2 / 3)


def test_perfect_gives_the_numbers_of_before():
    """As computed before the rule: both empty Dice 1 and 0 mm, everything in every mean."""
    tables = hip_tables(rows_of(HALF_ABSENT, "perfect"), ("a", "b"), "perfect")
    diagonal = float(np.linalg.norm([16.0, 8.0, 8.0]))
    dice, largest, volume = [0.5, 1.0, 1.0, 0.0], [2.0, 0.0, 0.0, diagonal], [0.0, 0.0, 0.0, 0.064]
    own = cells(tables["label_b"])
    for column, values in (("DICE", dice), ("Hausdorff mm", largest), ("Volume error mL", volume)):
        assert own[column].mean == np.mean(values) and own[column].count == 4, column
    assert cells(tables["table2"])["DICE"].mean == np.mean([0.5, 1.0, 1.0, 0.5])
    assert (own["Undefined"], own["Absent"]) == (1, 2)
    assert "--empty_is perfect" in tables["label_b"].note and "excluded" not in tables["label_b"].note


def test_a_case_without_any_label_is_absent_and_not_undefined():
    pairs = {("1", "a"): ((0, 4), (0, 4)), ("2", "a"): (NONE, NONE)}
    tables = hip_tables(rows_of(pairs), ("a",))
    own = cells(tables["table2"])
    assert (own["Undefined"], own["Absent"], own["DICE"].mean, own["DICE"].undefined) == (0, 1, 1.0, 0)
    patients = tables["table1"]
    assert math.isnan(cells(patients, 1)["DICE"]) and cells(patients, 2)["DICE"].mean == 1
    assert "Here: 2." in patients.note
    assert " – |" in to_markdown(patients) and "undefined" not in to_markdown(patients)
    assert "Absent" not in hip_tables(rows_of({("1", "a"): ((0, 4), (0, 4))}), ("a",))["table1"].note


def test_a_label_absent_in_every_case_has_no_mean():
    own = cells(hip_tables(rows_of({("1", "a"): (NONE, NONE), ("2", "a"): (NONE, NONE)}), ("a",))["table2"])
    assert math.isnan(own["DICE"].mean) and (own["Undefined"], own["Absent"]) == (0, 2)


def test_over_runs_the_absent_ones_are_excluded_and_other_nans_are_not():
    one = rows_of({("1", "a"): (NONE, NONE), ("2", "a"): ((0, 4), (0, 4))}, run="one")
    two = rows_of({("1", "a"): ((0, 4), NONE), ("2", "a"): (NONE, (0, 4))}, run="two")
    means = case_means(one + two, ["dice"], of_masks=True)
    assert [case["dice"] for case in means] == [0.0, 0.5]
    assert [(case["absent"], case["undefined"]) for case in means] == [(1, 1), (0, 1)]
    failed = [{"case": "1", "x": 2.0, "undefined": 0, "absent": 1}, {"case": "1", "x": math.nan, "undefined": 0}]
    assert math.isnan(case_means(failed, ["x"])[0]["x"])  # no mask: a failure is lost in no mean
    assert "absent" not in case_means(failed, ["x"])[0]


def test_paired_differences_drop_the_pairs_without_a_number():
    first = [{"case": str(n), "dice": 0.5, "absent": 0} for n in range(4)]
    second = [{"case": str(n), "dice": math.nan if n < 2 else 0.75, "absent": n < 2} for n in range(4)]
    table = paired_table("T", {"one": first, "two": second}, DICE)
    assert table.rows[0][2] == 2 and table.rows[0][3].mean == pytest.approx(0.25)
    assert "both have a value" in table.note.replace("\n", " ")


def test_only_tables_of_masks_have_the_column():
    cases = {"m": [{"case": "1", "dice": 1.0, "undefined": 0.0}]}
    assert "Absent" not in comparison_table("T", cases, {}, DICE).columns
    table = comparison_table("T", cases, {"p": {"dice": 0.9}}, DICE, empty_is="absent")
    assert table.columns[2:5] == ("Cases", "Undefined", "Absent") and table.rows[1][3:5] == (None, None)
    lacking = case_table("T", [{"case": "1", "dice": math.nan}, {"case": "2", "dice": 0.5}], DICE)
    assert lacking.rows[-1][1].undefined == 1  # without the flag a missing value is still counted


def test_the_figure_counts_them_by_name(tmp_path):
    cases = {"m": [{"dice": 0.5}, {"dice": math.nan}, {"dice": math.nan, "absent": 1.0}]}
    with png_figure(tmp_path / "x.png", 4, 3) as figure:
        axes = figure.subplots()
        _cases_panel(axes, cases, Metric(*DICE[0]))
        assert axes.get_xticklabels()[0].get_text() == "m\nn = 1\n1 undefined\n1 absent"


# --- femur: masks and landmarks in one row -------------------------------------------------------------------

NAMES = ("proximal", "distal")
ENDS = np.array([[0, 3, 3], [3, 3, 3]], float)


def labels(*places) -> np.ndarray:
    """Label 1, 2, ... in the given (start, stop) of `box`."""
    return sum(value * box(*place).astype(np.uint8) for value, place in enumerate(places, 1))


def femur_row(case: str, found, expected, ends=ENDS, **more) -> dict:
    values = joint_metrics(MaskAndPoints(found, ends), MaskAndPoints(expected, ENDS), SPACING, {"a": 1, "b": 2}, NAMES,
                           **more)
    return {"method": "m", "run": "r", "case": case, "region": "reference box", "box_iou": math.nan, **values}


def test_the_means_over_labels_are_those_that_are_there():
    row = femur_row("1", labels((0, 4), NONE), labels((2, 6), NONE))
    assert (row["dice"], row["undefined"], row["absent"]) == (pytest.approx(0.5), 0, 1)
    assert row["volume_ml"] == row["reference_volume_ml"] == pytest.approx(0.064)
    perfect = femur_row("1", labels((0, 4), NONE), labels((2, 6), NONE), empty_is="perfect")
    assert (perfect["dice"], perfect["hausdorff_mm"], perfect["absent"]) == (0.75, 1.0, 1)
    assert perfect["volume_ml"] == pytest.approx(0.032)
    nothing = femur_row("1", labels(NONE, NONE), labels(NONE, NONE))
    assert nothing["absent"] == 2 and math.isnan(nothing["dice"]) and math.isnan(nothing["volume_ml"])
    assert femur_row("1", None, labels((2, 6), NONE))["absent"] == 0


def test_empty_masks_make_no_landmark_undefined():
    rows = [femur_row("1", labels((0, 4), (8, 12)), labels((0, 4), NONE)),  # a false positive
            femur_row("2", labels((0, 4), NONE), labels((0, 4), NONE)),
            femur_row("3", labels(NONE, NONE), labels(NONE, NONE)),
            femur_row("4", labels((0, 4), (8, 12)), labels((0, 4), (8, 12)), ends=ENDS * [math.nan, 1, 1])]
    tables = femur_tables(rows, NAMES)
    masks, points = cells(tables["table1"]), cells(tables["table2"])
    assert (masks["Cases"], masks["Undefined"], masks["Absent"]) == (4, 1, 2)
    assert masks["DSC %"].mean == pytest.approx(100 * (0.5 + 1 + 1) / 3)
    assert (points["Cases"], points["Undefined"]) == (4, 1) and "Absent" not in points  # case 4 alone
    assert "mask" not in tables["table2"].note
    assert cells(tables["contradictions"])["Undefined"] == 2  # 3 has no mask, 4 no landmarks
    assert cells(tables["agreement"])["Cases"] == 3  # of volumes


def test_a_failed_landmark_is_not_excluded_with_an_absent_label():
    runs = [femur_row("1", labels((0, 4), NONE), labels((0, 4), NONE), ends=ends) | {"run": run}
            for run, ends in (("one", ENDS), ("two", ENDS * math.nan))]
    points = cells(femur_tables(runs, NAMES)["table2"])
    assert points["Undefined"] == 1 and math.isnan(points["proximal mm"].mean)


def test_a_method_whose_cases_have_no_label_keeps_its_row():
    tables = femur_tables([femur_row("1", labels(NONE, NONE), labels(NONE, NONE))], NAMES)
    own = cells(tables["table1"])
    assert (own["Variant"], own["Absent"]) == ("m", 1) and math.isnan(own["DSC %"].mean)


# --- through the scripts -------------------------------------------------------------------------------------

SIZES = ((19, 17, 21), (17, 21, 19), (21, 19, 17), (17, 17, 21), (23, 19, 17), (19, 19, 19))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A cache whose last cases lack `body`, and the very last `head` too; and a short run."""
    place = tmp_path_factory.mktemp("absent")
    write_small_dataset(place / "dataset", SIZES)
    for number in (3, 4):
        path = str(place / "dataset" / "labels" / f"case_{number}.nii.gz")
        mask = sitk.ReadImage(path)
        sitk.WriteImage(mask * sitk.Cast(mask < 2, mask.GetPixelID()), path)
    tfsono(["cache", "hip", str(place / "dataset"), str(place / "small.h5"), "--preset", "quick"])
    with h5py.File(place / "small.h5", "r+") as file:  # no dataset may have it, but small labels vanish in resampling
        group = file["cases/case_5"]
        group["label"][...] = 0
        for value in "12":
            del group[f"foreground/{value}"]
            group[f"foreground/{value}"] = np.zeros((0, 3), np.int32)
        seal(file)
    write_split(place / "split.json", ["case_2"])
    train(place, "run", place / "split.json")
    return place


def write_split(path, validation):
    names = [f"case_{number}" for number in range(len(SIZES))]
    test = [name for name in names[3:] if name not in validation]
    path.write_text(json.dumps({"train": names[:2], "validation": validation, "test": test}))


def train(place, run, split):
    script("train").main(["--data", str(place / "small.h5"), "--run_dir", str(place / run), *TINY,
                          "--iterations", "2", "--split", str(split)])


def evaluated(place, out, *more):
    script("evaluate").main(["--data", str(place / "small.h5"), "--runs", str(place / "run"), "--out",
                             str(place / out), *more])
    with open(place / out / "cases.csv", newline="", encoding="utf-8") as file:
        return {(row["case"], row["label"]): row for row in csv.DictReader(file)}


@pytest.fixture
def empty_predictions(monkeypatch):
    """A network that finds nothing: every label is absent or missed."""
    monkeypatch.setattr("tfsono.inference.segmentation.segment_array",
                        lambda module, image, spacing: np.zeros(image.shape, np.uint8))


def test_an_evaluation_excludes_and_counts_them(place, empty_predictions, capsys):
    rows = evaluated(place, "absent")
    assert {key: row["absent"] for key, row in rows.items()} == {
        ("case_3", "head"): "0", ("case_3", "body"): "1", ("case_4", "head"): "0", ("case_4", "body"): "1",
        ("case_5", "head"): "1", ("case_5", "body"): "1"}
    assert rows["case_3", "body"]["dice"] == "nan" and float(rows["case_3", "head"]["dice"]) == 0
    text = capsys.readouterr().out
    assert "head 0.000, body absent" in text and "excluded from every mean" in text
    with open(place / "absent" / "table2.csv", newline="", encoding="utf-8") as file:
        row = next(csv.DictReader(file))
    assert (row["Absent"], row["Undefined"], float(row["DICE"])) == ("3", "2", 0.0)
    page = (place / "absent" / "report.html").read_text(encoding="utf-8")
    assert "best of 2, case_4" in page and "of 3, case" not in page  # case_5 is neither best nor worst

    old = evaluated(place, "absent", "--empty_is", "perfect")  # into the same folder: measured again
    assert float(old["case_3", "body"]["dice"]) == 1 and float(old["case_5", "head"]["hausdorff_mm"]) == 0
    with open(place / "absent" / "table2.csv", newline="", encoding="utf-8") as file:
        assert float(next(csv.DictReader(file))["DICE"]) == np.mean([0.5, 0.5, 1.0])
    assert "--empty_is perfect" in (place / "absent" / "report.html").read_text(encoding="utf-8")


def test_an_evaluation_of_nothing_but_absent_labels_ends_well(place, empty_predictions):
    shutil.copytree(place / "run", place / "alone")
    split = json.loads((place / "alone" / "split.json").read_text())
    (place / "alone" / "split.json").write_text(json.dumps(split | {"test": ["case_5"]}))
    record_files(place / "alone")
    script("evaluate").main(["--data", str(place / "small.h5"), "--runs", str(place / "alone"), "--out",
                             str(place / "nothing")])
    assert (place / "nothing" / "report.html").is_file()
    assert not list((place / "nothing" / "figures").glob("*_slices.png"))


def test_the_validation_score_is_over_the_labels_that_are_there(place, monkeypatch):
    from tfsono.configs.hip import HIP
    from tfsono.data.cache import Cache
    from tfsono.inference.hip import HipModule
    from tfsono.training.run import read_run

    class Nothing:
        def __call__(self, image, spacing_mm):
            mask = np.zeros(image.shape, np.uint8)
            return {"mask": type("Tensor", (), {"numpy": lambda self: mask})()}

    monkeypatch.setattr(HipModule, "build", lambda network, config: Nothing())
    monkeypatch.setattr("tfsono.models.hip.main_network", lambda network: network)
    with Cache(place / "small.h5", "hip") as cache:
        config = read_run(place / "run", HIP).config
        _, validate = script("train").validation(None, config, cache, ["case_3", "case_5"])
        assert validate()[0] == 0.0


def test_a_validation_without_labels_is_refused_at_the_start(place):
    write_split(place / "nothing.json", ["case_5"])
    with pytest.raises(UserError, match="--validation_cases 0") as error:
        train(place, "refused", place / "nothing.json")
    assert "\n" not in str(error.value) and not (place / "refused").exists()


def test_the_field_case_is_measured(shared_data):
    case = shared_data / "field_cases" / "dataset" / "label_missing"
    if not case.is_dir():
        pytest.skip(f"no real data at {case}")
    masks = [sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in sorted((case / "labels").iterdir())]
    rows = [{"method": "never finds the neck", "run": "r", "case": f"{number}", "label": label,
             **segmentation_metrics(mask * (mask < 2) == value, mask == value, SPACING)}
            for number, mask in enumerate(masks) for value, label in ((1, "head"), (2, "neck"))]
    own = cells(hip_tables(rows, ("head", "neck"))["label_neck"])
    assert (own["Cases"], own["Absent"], own["Undefined"], own["DICE"].mean) == (8, 4, 4, 0.0)
