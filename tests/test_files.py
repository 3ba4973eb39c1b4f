"""A file is there whole or not at all; tables are read, or refused in one line."""

import csv
import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tfsono.errors import UserError, printable, reason_of
from tfsono.files import (
    _host,
    check_once,
    check_regular,
    csv_text,
    check_names,
    is_system_entry,
    make_folder,
    open_regular,
    read_json,
    read_regular,
    read_rows,
    replacing,
    safe_name,
    write_text,
)

ROOT = Path(__file__).resolve().parents[1]


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


LEAVE = """
import os, sys
from pathlib import Path
from tfsono.files import replacing
with replacing(sys.argv[1]) as partial:
    partial.write_text("half")
    if sys.argv[2:]:
        (partial.parent / f".case.{os.getpid()}.partial.nii").write_text("half")  # as a volume is written
        os._exit(9)
    print(partial.name, flush=True)
    sys.stdin.read()
"""


def test_what_a_kill_left_is_removed(tmp_path):
    (tmp_path / ".partial_a.txt").write_text("of the release before")
    code = [sys.executable, "-c", LEAVE, str(tmp_path / "a.txt")]
    assert subprocess.run([*code, "killed"], cwd=ROOT, check=False).returncode == 9
    assert len(names(tmp_path)) == 2 and not (tmp_path / ".partial_a.txt").exists()
    write_text(tmp_path / "b.txt", "new")
    assert names(tmp_path) == ["b.txt"]


def test_two_processes_never_write_one_file(tmp_path):
    other = ".partial_1_0000_b.txt" if _host() != "0000" else ".partial_1_0001_b.txt"
    (tmp_path / other).write_text("of another machine")
    code = [sys.executable, "-c", LEAVE, str(tmp_path / "a.txt")]
    with subprocess.Popen(code, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8") as process:
        partial = process.stdout.readline().strip()
        write_text(tmp_path / "a.txt", "first")
        assert {partial, other} < set(names(tmp_path)) and (tmp_path / partial).read_text(encoding="utf-8") == "half"
        process.communicate()
    assert process.returncode == 0 and (tmp_path / "a.txt").read_text(encoding="utf-8") == "half"
    assert partial not in names(tmp_path)


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "other.txt").write_text("mine")
    with replacing(tmp_path / "a.txt") as partial:
        partial.write_text("1")
    for name in (partial.name, "a.txt"):
        (tmp_path / name).unlink(missing_ok=True)
        (tmp_path / name).symlink_to(tmp_path / "other.txt")
    write_text(tmp_path / "a.txt", "2")
    assert names(tmp_path) == ["a.txt", "other.txt"] and not (tmp_path / "a.txt").is_symlink()
    assert (tmp_path / "other.txt").read_text(encoding="utf-8") == "mine"


def test_a_full_disk_is_an_error_with_the_name_of_the_file(tmp_path):
    with pytest.raises(OSError, match="No space.*a.txt") as caught, replacing(tmp_path / "a.txt"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert reason_of(caught.value).startswith(f"{tmp_path / 'a.txt'}: No space left on device; make room")


def test_the_mode_is_that_of_any_new_file(tmp_path):
    write_text(tmp_path / "a.txt", "1")
    (tmp_path / "b.txt").write_text("1")
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "b.txt").stat().st_mode


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


def test_what_systems_leave_behind():
    left = ["@eaDir", "__MACOSX", "lost+found", ".Trash-1000", ".DS_Store", "._a.nii.gz", "Thumbs.db", "desktop.ini",
            "$RECYCLE.BIN", ".AppleDouble"]
    assert all(is_system_entry(f"folder/{name}") for name in left)
    assert not any(is_system_entry(name) for name in ["case_01", "lost", "macosx.nii", "@case", "a.db"])


# --- names


@pytest.mark.parametrize("text", ["case_01", "Hüfte (2)", "a.b-c d", "x" * 100, "ü" * 50, "50% + 1, [k] = 3", "股関節"])
def test_a_safe_name_is_unchanged(text):
    assert safe_name(text) == text


UNSAFE = ["", ".", "..", "head/acetabulum", "head\\acetabulum", "head:acetabulum", "a\nb", "a\x00b", "a\x7fb",
          "x" * 260, "x" * 261, "ü" * 200, "H\udcfcfte", ".hidden", "ends.", " ends ", "../../etc", "a\u2028b",
          "C:\\a*?\"<>|"]


@pytest.mark.parametrize("text", UNSAFE)
def test_any_name_becomes_one_that_can_be_written(text, tmp_path):
    name = safe_name(text)
    assert safe_name(name) == name and len(name.encode()) <= 100 and name.isprintable()
    write_text(tmp_path / f"{name}_landmarks.mrk.json", "{}")
    assert names(tmp_path) == [f"{name}_landmarks.mrk.json"]


def test_different_names_stay_different():
    assert len({safe_name(text) for text in [*UNSAFE, "head_acetabulum", "a_b"]}) == len(UNSAFE) + 2
    assert safe_name("head/acetabulum").startswith("head_acetabulum_")


def test_a_name_that_is_not_utf_8_is_one_line(tmp_path):
    bad = os.fsdecode(os.fsencode(tmp_path) + b"/H\xfcfte")
    for check in (check_names, make_folder):
        with pytest.raises(UserError, match=r"H\\xfcfte: .*UTF-8.*rename") as error:
            check(bad)
        assert str(error.value).isprintable()
    assert names(tmp_path) == []
    check_names(tmp_path / "Hüfte")
    os.mkdir(tmp_path / "series")
    open(os.fsencode(tmp_path) + b"/series/IM\xe4", "wb").close()
    with pytest.raises(UserError, match="rename"):
        check_names(tmp_path / "series")


def test_a_name_in_an_encoding_that_is_not_utf_8_is_one_line(monkeypatch):
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "iso-8859-1")
    check_names("case.nii.gz")
    with pytest.raises(UserError, match="PYTHONUTF8"):
        check_names("Hüfte.nii.gz")


# --- only regular files are opened


def special(kind, folder):
    path = folder / "it"
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    return path


@pytest.mark.parametrize("kind", ["FIFO", "socket", "folder", "device"])
@pytest.mark.parametrize("read", [check_regular, open_regular, read_regular])
def test_special_files_are_refused_without_waiting(read, kind, tmp_path):
    with pytest.raises(UserError, match=kind):
        read(special(kind, tmp_path))


def test_a_file_and_a_link_to_it_are_read(tmp_path):
    (tmp_path / "a").write_bytes(b"content")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert read_regular(tmp_path / "a") == read_regular(tmp_path / "link") == b"content"
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "none")


# --- output that is safe to open

RUN_BY_SPREADSHEETS = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\tx", "\rx", "\n=1", "\uff1d1", "'=1+1",
                       "''=1"]


def test_no_cell_is_run_by_a_spreadsheet_and_all_are_read_back(tmp_path):
    harmless = ["case_01", "-3.5", "+1e-5", "-inf", "a=b", "'quoted'", "", "a,b", 'say "it"']
    rows = [["name", "value"], *([text, -3.5] for text in [*RUN_BY_SPREADSHEETS, *harmless])]
    write_text(tmp_path / "a.csv", csv_text(rows))
    with open(tmp_path / "a.csv", newline="", encoding="utf-8") as file:
        written = list(csv.reader(file))
    assert [row[0] for row in written[1:]] == [f"'{text}" for text in RUN_BY_SPREADSHEETS] + harmless
    assert {row[1] for row in written[1:]} == {"-3.5"}
    assert read_rows(tmp_path / "a.csv") == [[str(cell) for cell in row] for row in rows]


def test_printable_names():
    assert printable("H\u00fcfte (2)") == "H\u00fcfte (2)"
    assert printable("a\x1b[2J\n\u202e\udcff") == r"a\x1b[2J\n\u202e\udcff"


def test_a_column_that_occurs_twice():
    check_once("a.csv", ["a", "b", "c", "c"], ("a", "b"))
    with pytest.raises(UserError, match="a.csv: .*found c twice"):
        check_once("a.csv", ["a", "b", "c", "c"], ("b", "c"))


def test_a_row_with_more_cells_than_columns(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n1,2,,\n1,5,2\n")
    with pytest.raises(UserError, match="row 3 must have at most 2 cells"):
        read_rows(tmp_path / "a.csv")
