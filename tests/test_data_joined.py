"""Several folders as one dataset."""

from __future__ import annotations

import shutil

import pytest

from small_images_2d import write_heads
from tfsono.data.joined import open_datasets
from tfsono.errors import UserError


@pytest.fixture()
def folders(tmp_path):
    write_heads(tmp_path / "early", ("010_HC", "010_2HC"))
    write_heads(tmp_path / "late", ("520_HC", "521_HC"))
    return tmp_path / "early", tmp_path / "late"


def test_cases_of_two_folders_are_together(folders):
    dataset = open_datasets(folders)
    alone = open_datasets(folders[1:])
    assert [case.name for case in dataset.cases] == ["010_2HC", "010_HC", "520_HC", "521_HC"]
    assert [case.subject for case in dataset.cases] == ["010", "010", "520", "521"]
    assert dataset.cases[2:] == alone.cases and dataset.labels == alone.labels
    assert dataset.root == folders[0].parent.resolve() and dataset.name == "early and late"


def test_a_folder_without_points_adds_cases_without_them(folders):
    for table in folders[1].glob("*.csv"):
        if "bpd" in table.read_text():
            table.unlink()
    dataset = open_datasets(folders[::-1])
    assert len(dataset.landmarks) == 4
    assert [case.landmarks is None for case in dataset.cases] == [False, False, True, True]


def test_a_name_in_two_folders_is_refused(folders):
    shutil.copytree(folders[0], folders[1].parent / "again")
    with pytest.raises(UserError, match="again: has a case '010_2HC', as the folders before it; rename"):
        open_datasets([*folders, folders[1].parent / "again"])


def test_other_labels_are_refused(folders):
    (folders[1] / "dataset.json").write_text('{"labels": {"brain": 255}}')
    with pytest.raises(UserError, match="late: labels must be those of the folders before it, .*'head'.*; found"):
        open_datasets(folders)
