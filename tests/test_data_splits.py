"""Splits by subject: whole subjects, no overlap, and one line for what cannot be split."""

from __future__ import annotations

import json

import pytest

from tfsono.data.splits import check_split, make_split, read_split, write_split
from tfsono.errors import UserError

NAMES = [f"case_{number:02d}" for number in range(17)]
# Subject 0 has cases 0..2, subject 1 has 3..5, and so on; the last has two.
SUBJECTS = {name: f"subject_{number // 3}" for number, name in enumerate(NAMES)}


def subjects_of(names):
    return {SUBJECTS[name] for name in names}


def test_every_case_is_in_one_part():
    split = make_split(NAMES, {}, 5, 3, seed=1)
    assert sorted(split["train"] + split["validation"] + split["test"]) == NAMES
    assert (len(split["test"]), len(split["validation"])) == (5, 3)


def test_subjects_stay_whole():
    split = make_split(NAMES, SUBJECTS, 4, 2, seed=7)
    train, validation, test = (subjects_of(split[part]) for part in ("train", "validation", "test"))
    assert not (train & validation or train & test or validation & test)
    assert len(split["test"]) in (5, 6) and len(split["validation"]) in (2, 3)


def test_order_of_names_does_not_matter_but_the_seed_does():
    one = make_split(NAMES, {}, 5, 3, seed=1)
    assert make_split(reversed(NAMES), {}, 5, 3, seed=1) == one
    assert any(make_split(NAMES, {}, 5, 3, seed=seed)["test"] != one["test"] for seed in range(2, 5))


def test_no_validation_is_allowed():
    split = make_split(NAMES, {}, 5, 0, seed=1)
    assert split["validation"] == [] and len(split["train"]) == 12


def test_lists_are_sorted():
    split = make_split(NAMES, {}, 6, 5, seed=3)
    assert all(part == sorted(part) for part in split.values())


@pytest.mark.parametrize("test,validation", [(17, 0), (9, 8), (20, 0), (0, 17)])
def test_training_is_never_empty(test, validation):
    with pytest.raises(UserError, match="found 17 cases of 17 subjects"):
        make_split(NAMES, {}, test, validation, seed=1)


def test_too_few_subjects_though_enough_cases():
    with pytest.raises(UserError, match="of 1 subjects"):
        make_split(NAMES, dict.fromkeys(NAMES, "one"), 2, 2, seed=1)


def test_negative_counts():
    with pytest.raises(UserError, match="0 or more"):
        make_split(NAMES, {}, -1, 0, seed=1)


def test_a_good_split_passes():
    check_split(make_split(NAMES, SUBJECTS, 4, 2, seed=7), NAMES, SUBJECTS)


@pytest.mark.parametrize(
    "split,found",
    [
        ({"train": ["case_00"], "test": ["case_00"]}, "'case_00' in train and in test"),
        ({"train": ["case_00"], "test": ["case_01"]}, "'subject_0' in train and test"),
        ({"train": ["case_99"]}, "'case_99'"),
        ({"train": [], "test": ["case_01"]}, "at least one case"),
        ({"training": ["case_01"]}, "found 'training'"),
    ],
)
def test_bad_splits(split, found):
    with pytest.raises(UserError, match=found) as error:
        check_split(split, NAMES, SUBJECTS)
    assert "\n" not in str(error.value)


def test_written_and_read(tmp_path):
    split = make_split(NAMES, SUBJECTS, 4, 2, seed=7)
    write_split(tmp_path / "split.json", split)
    assert read_split(tmp_path / "split.json") == split
    assert [path.name for path in tmp_path.iterdir()] == ["split.json"]


NO_LISTS = json.dumps({"train": 1, "validation": [], "test": []})


@pytest.mark.parametrize("content", ["", "[]", json.dumps({"train": ["a"]}), NO_LISTS])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "split.json").write_text(content)
    with pytest.raises(UserError, match="split.json"):
        read_split(tmp_path / "split.json")
    with pytest.raises(UserError, match="none.json"):
        read_split(tmp_path / "none.json")
