"""Names of tables and files matched with cases, and subjects in names."""

from __future__ import annotations

import pytest

from tfsono.data.names import check_single, match_names
from tfsono.data.subjects import found_subjects
from tfsono.errors import UserError


@pytest.mark.parametrize("given, case", [
    ("001", "001"), (" 001\xa0", "001"), ("001.nii.gz", "001"), ("images/001.nii", "001"), ("C:\\a\\001.NRRD", "001"),
    ("001_0000.nii.gz", "001"), ("1", "001"), ("1.0", "001"), ("CASE_A", "Case_a"), ("case_a.PNG", "Case_a"),
    ("scan.v2.mha", "scan.v2"), ("hu\u0308fte", "hüfte"), ("'001", "001")])
def test_names_as_tables_write_them(given, case):
    known = ["001", "010", "Case_a", "scan.v2", "hüfte"]
    assert match_names([given], known, "t.csv").case_of == {given: case}


@pytest.mark.parametrize("given, known", [("1", ["001", "01"]), ("A", ["a.png", "a.jpg"]), ("case", ["Case", "CASE"])])
def test_a_name_that_fits_several(given, known):
    with pytest.raises(UserError, match=r"t\.csv: .* one image") as error:
        match_names([given], known, "t.csv")
    assert all(name in str(error.value) for name in known)


def test_the_strictest_step_decides():
    names = ["a", "A", "1", "001"]
    assert match_names(names, names, "t").case_of == {name: name for name in names}
    assert match_names(["A.png"], ["a", "A"], "t").case_of == {"A.png": "A"}


def test_what_does_not_fit_is_counted():
    matches = match_names(["001", "2", "9", "x"], ["001", "002"], "t.csv")
    assert matches.unknown == ("9", "x") and matches.changed == ("2",)
    lines = matches.notes("t.csv", "rows")
    assert "2 rows" in lines[0] and "9, x" in lines[0] and "'2' as 002" in lines[1] and len(lines) == 2
    assert match_names(["001.png"], ["001"], "t").notes("t") == []  # a suffix is no part of a name


def test_nothing_fits():
    with pytest.raises(UserError, match=r"t\.csv: .*'001'.* found x, y") as error:
        match_names(["x", "y"], ["001", "002"], "t.csv")
    assert "\n" not in str(error.value)
    assert match_names([], ["001"], "t.csv").case_of == {}


def test_two_names_of_one_case():
    with pytest.raises(UserError, match=r"t\.csv: .*'001' and '1'"):
        check_single(match_names(["1", "001"], ["001"], "t.csv"), "t.csv")


# ------------------------------------------------------------------------------------------------ subjects


def subjects_of(names, given=(), are_2d=False):
    notes = []
    return found_subjects(names, dict(given), are_2d, "images", notes), notes


def test_subjects_of_bids_names():
    names = ["sub-01_ses-1_T2w", "sub-01_ses-2_T2w", "sub-02_run-1", "sub-ab"]
    found, notes = subjects_of(names)
    assert list(found.values()) == ["sub-01", "sub-01", "sub-02", "sub-ab"]
    assert len(notes) == 1 and "4 cases of 3 subjects" in notes[0]


@pytest.mark.parametrize("names", [
    ["MUELLER_visit1", "MUELLER_visit2", "MAIER_visit1"], ["p1_t0", "p1_t1", "p2_t0"], ["7_left", "7_right", "8_left"],
    ["P1-ses-1-T2", "P1-ses-2-T2", "P2-ses-1-T2"], ["12a", "12b", "13a"], ["P01_1", "P01_2", "P02_1"],
    ["x_baseline", "x_followup", "y_baseline"], ["A.tp1", "A.tp2", "B.tp1"]])
def test_names_that_look_like_cases_of_one_subject(names):
    found, notes = subjects_of(names)
    assert found == {name: name for name in names}  # said, not guessed
    assert len(notes) == 1 and notes[0].startswith("warning: images: ") and names[0] in notes[0]
    assert subjects_of(names, dict.fromkeys(names, "one"))[1] == []


@pytest.mark.parametrize("names", [
    ["case_01", "case_02", "case_10"], ["hip_007", "hip_008"], ["001", "002"], ["scan_1", "scan_2"], ["t0", "t1"],
    ["hippocampus_001", "hippocampus_003"], ["study2_001", "study2_002"], ["a_left", "b_right"], ["010_HC", "020_HC"]])
def test_names_of_single_cases(names):
    assert subjects_of(names) == ({name: name for name in names}, [])


def test_examinations_of_hc18_names():
    assert subjects_of(["010_HC", "010_2HC", "011_HC"], are_2d=True)[0]["010_2HC"] == "010"
