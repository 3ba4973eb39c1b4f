"""NaN and infinity in NIfTI files, which ITK silently reads as 0: every form of the format, written by hand."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from tfsono.errors import UserError
from tfsono.volumes import completeness
from tfsono.volumes.image import read_mask, read_volume
from tfsono.volumes.nifti import NonFiniteCount, parse_header
from tfsono.volumes.volume import NotFiniteError

SIZE = (7, 5, 3)
BAD = (6, 1, 2)
CODES = {"i2": 4, "f4": 16, "f8": 64}


def header(kind: str, order: str = "<", offset: float = 352, slope: float = 0.0, magic: bytes = b"n+1") -> bytes:
    """A header of the format's own layout: size, type, spacing, offset, slope (intercept 3) and magic, all else 0."""
    content = bytearray(352)
    fields = {
        0: ("i", 348),
        40: ("8h", 3, *SIZE, 1, 1, 1, 1),
        70: ("2h", CODES[kind], 8 * int(kind[1])),
        76: ("8f", 1.0, 0.5, 0.75, 1.5, 0, 0, 0, 0),
        108: ("3f", offset, slope, 3.0 if slope else 0.0),
        344: ("4s", magic),
    }
    for place, (layout, *items) in fields.items():
        struct.pack_into(order + layout, content, place, *items)
    return bytes(content)


def values(kind: str, bad: float | None = None) -> np.ndarray:
    """[X, Y, Z]; one voxel is `bad`."""
    array = np.random.default_rng(8).integers(-50, 50, SIZE).astype(kind)
    if bad is not None:
        array[BAD] = bad
    return array


def stored(array: np.ndarray, order: str = "<") -> bytes:
    """x runs fastest."""
    return array.astype(array.dtype.newbyteorder(order)).tobytes(order="F")


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content, mtime=0) if path.name.endswith(".gz") else content)
    return path


def refusal(path: Path, read=read_volume) -> str:
    with pytest.raises(NotFiniteError) as caught:
        read(path)
    text = str(caught.value)
    assert "\n" not in text and str(path) in text
    return text


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["f4", "f8"])
@pytest.mark.parametrize("offset", [352, 361])
def test_single_files(tmp_path, suffix, order, kind, offset):
    """The gap before the voxels and the bytes behind them are full of NaN, and count for nothing."""
    start = header(kind, order, offset)
    gap, tail = b"\xff" * (offset - len(start)), b"\xff" * 16
    sound = write(tmp_path / f"sound{suffix}", start + gap + stored(values(kind), order) + tail)
    np.testing.assert_array_equal(read_volume(sound).array, values(kind))
    for bad in (np.nan, np.inf, -np.inf):
        path = write(tmp_path / f"case{suffix}", start + gap + stored(values(kind, bad), order) + tail)
        text = refusal(path)
        assert "found 1 of 105" in text and "voxel (6, 1, 2)" in text
        assert refusal(path, read_mask) == text


@pytest.mark.parametrize("kind", ["f4", "f8"])
@pytest.mark.parametrize("offset", [0, 16])
def test_pairs_by_either_name(tmp_path, kind, offset):
    write(tmp_path / "case.hdr", header(kind, ">", offset=offset, magic=b"ni1"))
    write(tmp_path / "case.img", b"\xff" * offset + stored(values(kind), ">"))
    np.testing.assert_array_equal(read_volume(tmp_path / "case.hdr").array, values(kind))
    write(tmp_path / "case.img", b"\xff" * offset + stored(values(kind, np.nan), ">"))
    for name in ("case.hdr", "case.img"):
        with pytest.raises(NotFiniteError, match=r"case.img: .* found 1 of 105 .*\(6, 1, 2\)"):
            read_volume(tmp_path / name)


@pytest.mark.parametrize("offset", [0.0, 100.0, float("nan")])
def test_an_offset_into_the_header_is_refused(tmp_path, offset):
    """ITK takes byte 348, where voxels begin only if the four bytes for extensions are missing; else they are shifted.
    """
    start = header("f4", offset=offset)
    for name, content in (("long.nii", start), ("short.nii", start[:348])):
        with pytest.raises(UserError, match=f"{name}: .*vox_offset {offset:g}"):
            read_volume(write(tmp_path / name, content + stored(values("f4"))))


def test_a_slope_changes_neither_numbers_nor_the_finding(tmp_path):
    start = header("f4", ">", slope=2.5)
    sound = write(tmp_path / "sound.nii", start + stored(values("f4"), ">"))
    np.testing.assert_allclose(read_volume(sound).array, 2.5 * values("f4") + 3)
    assert "found 1 of 105" in refusal(write(tmp_path / "case.nii", start + stored(values("f4", np.nan), ">")))
    whole = write(tmp_path / "whole.nii", header("i2", slope=0.5) + stored(values("i2", -1)))
    np.testing.assert_allclose(read_volume(whole).array, 0.5 * values("i2", -1) + 3)


def test_too_large_for_32_bits_is_refused_too(tmp_path):
    large = write(tmp_path / "large.nii", header("f8") + stored(values("f8", 1e300)))
    assert "found 1 of 105" in refusal(large) and "(6, 1, 2)" in refusal(large)
    scaled = write(tmp_path / "scaled.nii", header("f4", slope=1e30) + stored(values("f4", 1e20)))
    assert "found 1 of 105" in refusal(scaled)


@pytest.mark.parametrize("piece", [1, 7, 353, 4096])
def test_pieces_of_any_length(tmp_path, monkeypatch, piece):
    """A voxel may begin in one piece and end in the next."""
    array = values("f8", np.nan)
    array[0, 0, 0] = array[3, 4, 2] = np.inf
    content = header("f8", ">") + stored(array, ">") + b"\xff" * 9
    count = NonFiniteCount(parse_header(content))
    for begin in range(0, len(content), piece):
        assert count.add(content[begin : begin + piece]) == len(content[begin : begin + piece])
    assert (count.bad, count.first) == (3, (0, 0, 0))
    monkeypatch.setattr(completeness, "_PIECE_BYTES", max(piece, 400))
    assert "found 3 of 105" in refusal(write(tmp_path / "case.nii.gz", content))


def test_the_file_is_unpacked_once(tmp_path, monkeypatch):
    opened = []
    whole = gzip.open
    monkeypatch.setattr(gzip, "open", lambda *arguments: opened.append(arguments) or whole(*arguments))
    read_volume(write(tmp_path / "case.nii.gz", header("f4") + stored(values("f4"))))
    assert len(opened) == 1


def test_a_truncated_file_of_floats_is_called_truncated(tmp_path):
    content = header("f4") + stored(values("f4", np.nan))
    for suffix in (".nii", ".nii.gz"):
        with pytest.raises(UserError, match="truncated"):
            read_volume(write(tmp_path / f"case{suffix}", content[:-3]))


@pytest.mark.parametrize("name", ["case.img.gz", "case.hdr.gz"])
def test_names_under_which_nothing_is_checked_are_refused(tmp_path, name):
    write(tmp_path / "case.hdr.gz", header("f4", offset=0, magic=b"ni1"))
    write(tmp_path / "case.img.gz", stored(values("f4", np.nan)))
    with pytest.raises(UserError, match="must end with .nii, .nii.gz"):
        read_volume(tmp_path / name)


def test_nifti_2_is_refused_by_name(tmp_path):
    start = struct.pack("<i8s2h8q", 540, b"n+2\0\r\n\x1a\n", 16, 32, 3, *SIZE, 1, 1, 1, 1).ljust(544, b"\0")
    with pytest.raises(UserError, match="found NIfTI-2"):
        read_volume(write(tmp_path / "case.nii.gz", start + stored(values("f4"))))
