"""A file is there whole or not at all; tables are read, or refused in one line."""

import pytest

from tfsono.errors import UserError
from tfsono.files import is_system_entry, read_json, read_rows, replacing, safe_name, write_text


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


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_json_as_windows_editors_write_it(tmp_path, encoding):
    (tmp_path / "a.json").write_bytes('{"größe": 1}'.encode(encoding))
    assert read_json(tmp_path / "a.json") == {"größe": 1}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe{", b"\xe4", b'{"a": 1, "a": 2}', b"[" * 100_000, None])
def test_json_that_cannot_be_read_is_one_line(tmp_path, content):
    if content is not None:
        (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match="a.json: .*; mend it") as caught:
        read_json(tmp_path / "a.json", "mend it")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("separator", [";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_rows_where_the_comma_is_the_decimal_separator(tmp_path, separator, encoding):
    lines = ["case;pixel size(mm)", "a, b;0,25", "c;-1,5E-3", "d;1,2,3", ""]
    (tmp_path / "a.csv").write_bytes("\r\n".join(lines).replace(";", separator).encode(encoding))
    expected = [["case", "pixel size(mm)"], ["a, b", "0.25"], ["c", "-1.5E-3"], ["d", "1,2,3"]]
    assert read_rows(tmp_path / "a.csv") == expected


def test_semicolons_in_a_table_of_commas(tmp_path):
    (tmp_path / "a.csv").write_text("name,flags\na,b;c\n")
    assert read_rows(tmp_path / "a.csv") == [["name", "flags"], ["a", "b;c"]]


@pytest.mark.parametrize("name, safe", [
    ("femoral head", "femoral head"), ("head/acetabulum", "head_acetabulum"), ("a\\b:c*?", "a_b_c_"),
    ("a\0b\n", "a_b_"), ("..", "_"), ("", "_"),
    (" tip. ", "tip"), ("x" * 260, "x" * 100), ("骨" * 90, "骨" * 60), ("H\udcfcfte", "H_fte")])
def test_names_that_become_files(tmp_path, name, safe):
    assert safe_name(name) == safe == safe_name(safe)
    (tmp_path / f"{safe_name(name)}_mask.nii.gz").touch()
    assert len(names(tmp_path)) == 1


def test_what_systems_leave_behind():
    left = ["@eaDir", "__MACOSX", "lost+found", ".Trash-1000", ".DS_Store", "._a.nii.gz", "Thumbs.db", "desktop.ini",
            "$RECYCLE.BIN", ".AppleDouble"]
    assert all(is_system_entry(f"folder/{name}") for name in left)
    assert not any(is_system_entry(name) for name in ["case_01", "lost", "macosx.nii", "@case", "a.db"])
