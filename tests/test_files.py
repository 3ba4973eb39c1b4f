"""A file is there whole or not at all; tables are read, or refused in one line."""

import pytest

from tfsono.errors import UserError
from tfsono.files import read_rows, replacing, write_text


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_text_comes_back_as_it_was(tmp_path):
    text = "Mäße\r\nof ∅\n"
    assert write_text(str(tmp_path / "a.csv"), text) == tmp_path / "a.csv"
    assert (tmp_path / "a.csv").read_bytes() == text.encode()
    write_text(tmp_path / "a.csv", "new")
    assert (tmp_path / "a.csv").read_text(encoding="utf-8") == "new" and names(tmp_path) == ["a.csv"]


def test_the_hidden_name_ends_as_the_files(tmp_path):
    with replacing(tmp_path / "best.weights.h5") as partial:
        assert partial.name.startswith(".") and partial.name.endswith("best.weights.h5")
        partial.write_bytes(b"1")
        assert names(tmp_path) == [partial.name]
    assert names(tmp_path) == ["best.weights.h5"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_failed_leaves_the_old_file_and_nothing_else(tmp_path, error):
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(error), replacing(tmp_path / "a.txt") as partial:
        partial.write_text("ha")
        raise error
    assert names(tmp_path) == ["a.txt"] and (tmp_path / "a.txt").read_text(encoding="utf-8") == "old"


def test_what_a_kill_left_is_overwritten(tmp_path):
    with replacing(tmp_path / "a.txt") as partial:
        partial.write_text("whole")
    partial.write_text("half")
    write_text(tmp_path / "a.txt", "new")
    assert names(tmp_path) == ["a.txt"] and (tmp_path / "a.txt").read_text(encoding="utf-8") == "new"


def test_a_block_that_writes_nothing_is_a_mistake(tmp_path):
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "a.txt"):
        pass


def test_no_folder_is_made(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_text(tmp_path / "typo" / "a.txt", "text")
    assert names(tmp_path) == []


def test_rows_as_spreadsheets_write_them(tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes('\ufeffname,note\r\n\r\n"a, b","two\nlines"\r\nc\r\n'.encode())
    assert read_rows(path) == [["name", "note"], [], ["a, b", "two\nlines"], ["c"]]


@pytest.mark.parametrize("content", [b"name\n\xe4\n", b'name\n"never closed\nb\n', b'name\n"a" b\n', None])
def test_rows_that_cannot_be_read_are_one_line(tmp_path, content):
    path = tmp_path / "table.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match="table.csv: .* CSV .* found: ") as caught:
        read_rows(path)
    assert "\n" not in str(caught.value)
