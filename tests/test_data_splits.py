"""Splits by subject: whole subjects, no overlap, and one line for what cannot be split."""

from __future__ import annotations

import json
import random

import pytest

from tfsono.data.splits import (
    check_split,
    hold_out,
    make_fold_split,
    make_folds,
    make_split,
    read_split,
    with_fold_tested,
)
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


def test_a_good_file_is_read(tmp_path):
    split = make_split(NAMES, SUBJECTS, 4, 2, seed=7)
    (tmp_path / "split.json").write_text(json.dumps(split))
    assert read_split(tmp_path / "split.json") == split


NO_LISTS = json.dumps({"train": 1, "validation": [], "test": []})


@pytest.mark.parametrize("content", ["", "[]", json.dumps({"train": ["a"]}), NO_LISTS])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "split.json").write_text(content)
    with pytest.raises(UserError, match="split.json"):
        read_split(tmp_path / "split.json")
    with pytest.raises(UserError, match="none.json"):
        read_split(tmp_path / "none.json")


# --- folds

MANY = [f"{number:03d}_{frame}" for number in range(100) for frame in range(1 + (number % 4 == 0))]
EXAMINATIONS = {name: name[:3] for name in MANY}
LENGTHS = {name: 50.0 + (int(name[:3]) * 37) % 100 + 0.1 * int(name[4]) for name in MANY}


def test_folds_hold_every_case_once_and_no_subject_twice():
    folds = make_folds(MANY, EXAMINATIONS, LENGTHS, 5, seed=3)
    assert sorted(name for fold in folds for name in fold) == sorted(MANY)
    held = [{EXAMINATIONS[name] for name in fold} for fold in folds]
    assert sum(map(len, held)) == 100 == len(set.union(*held))
    assert all(fold == sorted(fold) for fold in folds)


def test_folds_are_even_in_number_and_in_size():
    folds = make_folds(MANY, EXAMINATIONS, LENGTHS, 5, seed=3)
    assert all(abs(len(fold) - 25) <= 2 for fold in folds)
    for low in range(50, 150, 20):  # a quintile of the lengths: 20 subjects, four a fold
        shares = [sum(low <= LENGTHS[name] < low + 20 for name in fold) for fold in folds]
        assert min(shares) >= 3 and max(shares) <= 7
    means = [sum(LENGTHS[name] for name in fold) / len(fold) for fold in folds]
    shuffled = random.Random(3).sample(MANY, len(MANY))
    plain = [sum(LENGTHS[n] for n in shuffled[k::5]) / len(shuffled[k::5]) for k in range(5)]
    assert max(means) - min(means) < 0.5 * (max(plain) - min(plain))


def test_folds_depend_on_the_seed_and_not_on_the_order_of_names():
    one = make_folds(MANY, EXAMINATIONS, LENGTHS, 5, seed=3)
    assert make_folds(MANY[::-1], EXAMINATIONS, LENGTHS, 5, seed=3) == one
    assert make_folds(MANY, EXAMINATIONS, LENGTHS, 5, seed=4) != one


def test_an_odd_case_does_not_always_go_to_the_first_fold():
    largest = {max(range(5), key=[len(f) for f in make_folds(MANY[:6], {}, {}, 5, seed)].__getitem__)
               for seed in range(20)}
    assert len(largest) > 2


def test_unknown_sizes_are_spread_like_a_stratum():
    sizes = {**LENGTHS, **{name: value for name, value in zip(MANY[:20], [None, float("nan")] * 10)}}
    unknown = {EXAMINATIONS[name] for name in MANY[:20]}
    folds = make_folds(MANY, EXAMINATIONS, sizes, 5, seed=1)
    counts = [len({EXAMINATIONS[name] for name in fold} & unknown) for fold in folds]
    assert sum(counts) == len(unknown) and max(counts) - min(counts) <= 2


@pytest.mark.parametrize("folds", [1, 0, -2, 101])
def test_too_few_or_too_many_folds(folds):
    with pytest.raises(UserError, match="--folds .* found 100 subjects"):
        make_folds(MANY, EXAMINATIONS, LENGTHS, folds, seed=1)


def test_the_splits_of_the_folds_share_their_test_part_and_validate_every_other_case_once():
    splits = [make_fold_split(MANY, EXAMINATIONS, LENGTHS, 20, 5, fold, seed=2) for fold in range(5)]
    assert len({tuple(split["test"]) for split in splits}) == 1 and 20 <= len(splits[0]["test"]) <= 21
    validated = sorted(name for split in splits for name in split["validation"])
    assert sorted(validated + splits[0]["test"]) == sorted(MANY)
    for split in splits:
        check_split(split, MANY, EXAMINATIONS)
        assert sum(map(len, split.values())) == len(MANY)


def test_of_one_fold_every_case_trains():
    split = make_fold_split(MANY, EXAMINATIONS, LENGTHS, 20, 1, 0, seed=2)
    of_five = make_fold_split(MANY, EXAMINATIONS, LENGTHS, 20, 5, 1, seed=2)
    assert split["validation"] == [] and split["test"] == of_five["test"]
    assert sorted(split["train"] + split["test"]) == sorted(MANY)


@pytest.mark.parametrize("fold", [-1, 5])
def test_a_fold_that_is_none(fold):
    with pytest.raises(UserError, match="--fold .* 0 to 4"):
        make_fold_split(MANY, EXAMINATIONS, LENGTHS, 20, 5, fold, seed=2)


def held_and_splits(test_cases):
    split = hold_out(MANY, EXAMINATIONS, LENGTHS, test_cases, seed=3)
    return split["test"], [with_fold_tested(split, EXAMINATIONS, LENGTHS, folds=5, fold=fold, seed=3)
                           for fold in range(5)]


def test_folds_that_are_tested_cover_every_case():
    held, splits = held_and_splits(20)
    own = [set(split["test"]) - set(held) for split in splits]
    assert sorted([*held, *(name for fold in own for name in fold)]) == sorted(MANY)
    for split in splits:
        check_split(split, MANY, EXAMINATIONS)
        assert set(split["test"]) >= set(held) and not split["validation"]
        assert sorted(split["train"] + split["test"]) == sorted(MANY)


def test_held_out_cases_have_the_sizes_of_all():
    held, splits = held_and_splits(25)
    assert 20 <= len(held) <= 30
    means = [sum(LENGTHS[name] for name in part) / len(part) for part in (MANY, held, *(s["test"] for s in splits))]
    assert max(means) - min(means) < 6  # of a range of 100
    assert held_and_splits(0)[0] == []


def test_more_held_out_than_left():
    with pytest.raises(UserError, match="at most half of the cases, of which there are 125"):
        hold_out(MANY, EXAMINATIONS, LENGTHS, 63, seed=3)
