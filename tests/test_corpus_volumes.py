"""Broken volumes and 2D images: each is refused in one line, before a library in C++ can crash on it or make up voxels.

Sound files of the same kinds are read with every voxel right.
"""

from __future__ import annotations

import gzip
import os
import socket
import struct
import zlib
from functools import partial
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import SimpleITK as sitk
from corpus import Broken, check_refused
from small_dicom import dataset, save, with_pixels, write_slices

from tfsono.errors import UserError
from tfsono.volumes.image import read_mask, read_volume
from tfsono.volumes.image_2d import read_image_2d

SIZE = (13, 11, 7)
VOXELS = np.random.default_rng(3).integers(-900, 900, SIZE[::-1]).astype(np.int16)
PLACES = 20
BROKEN: list[Broken] = []


def add(reader: str, kind: str, name: str, write, match: str = "", read=read_volume) -> None:
    """Appends to BROKEN; `write` takes the folder and returns the path, or is (name, content)."""
    if isinstance(write, tuple):
        write = partial(lambda folder, file, content: put(folder / file, content), file=write[0], content=write[1])
    BROKEN.append(Broken(reader, kind, name, write, read, match or "."))


def put(path: Path, content: bytes) -> Path:
    """Writes the bytes and returns the path."""
    path.write_bytes(content)
    return path


def flipped(content: bytes, first: int = 0, last: int | None = None, places: int = PLACES):
    """`places` copies of the content, each with one bit flipped from `first` to `last`."""
    for place in np.linspace(first, (len(content) if last is None else last) - 1, places).astype(int):
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(place) % 8
        yield place, bytes(damaged)


def cut(content: bytes, count: int = 6):
    """Copies that end early."""
    for length in np.linspace(0, len(content) - 1, count).astype(int):
        yield length, content[:length]


# ---------------------------------------------------------------------------------------------- MetaImage


def meta(data: bytes = b"", name: str = "LOCAL", **fields) -> bytes:
    """A MetaImage header with its data behind; fields replace or follow the usual ones, None removes one."""
    usual = {"ObjectType": "Image", "NDims": "3", "BinaryData": "True", "BinaryDataByteOrderMSB": "False",
             "Offset": "1 2 3", "TransformMatrix": "1 0 0 0 1 0 0 0 1", "ElementSpacing": "0.5 0.6 0.7",
             "DimSize": " ".join(map(str, SIZE)), "ElementType": "MET_SHORT"}
    lines = [f"{key} = {value}\n" for key, value in {**usual, **fields}.items() if value is not None]
    return "".join([*lines, f"ElementDataFile = {name}\n"]).encode() + data


PLAIN = VOXELS.tobytes()
PACKED = zlib.compress(PLAIN)
PACKED_META = meta(PACKED, CompressedData="True", CompressedDataSize=len(PACKED))


def packed_meta(stream: bytes, size: int | None = None, **fields) -> tuple[str, bytes]:
    """A compressed .mha."""
    return "a.mha", meta(stream, CompressedData="True", CompressedDataSize=len(stream) if size is None else size,
                         **fields)


for place, content in flipped(PACKED):
    add("mha", "bits", f"compressed, byte {place}", packed_meta(content))
    add("mha", "bits", f"compressed without its size, byte {place}", ("a.mha", meta(content, CompressedData="True")))
for place, content in cut(PACKED):
    add("mha", "truncated", f"stream of {place} bytes", packed_meta(content))
    add("mha", "truncated", f"stream without its size, {place}", ("a.mha", meta(content, CompressedData="True")))
for place, content in cut(meta(PLAIN), 8):
    add("mha", "truncated", f"{place} bytes", ("a.mha", content))
add("mha", "declared size", "half of the voxels", packed_meta(zlib.compress(PLAIN[:len(PLAIN) // 2])))
add("mha", "declared size", "more than the voxels", packed_meta(zlib.compress(PLAIN + b"more")))
add("mha", "declared size", "more behind the stream", packed_meta(PACKED + b"more"))
add("mha", "declared size", "a stream of 0 bytes", packed_meta(PACKED, 0))
add("mha", "declared size", "a stream of 10^14 bytes", packed_meta(PACKED, 10**14))
add("mha", "declared size", "a stream of -5 bytes", packed_meta(PACKED, -5))
add("mha", "checksum", "zlib", packed_meta(PACKED[:-4] + b"\0\0\0\0"))
add("mha", "checksum", "gzip", packed_meta(gzip.compress(PLAIN)[:-8] + b"\0" * 8))
for value in ("0", "1", "5", "99", "-3", "1" * 20, "\u00b3", "3.0", "x", ""):
    add("mha", "dimensions", f"NDims {value}", ("a.mha", meta(PLAIN, NDims=value)), "NDims")
for value in ("13 11", "13 11 7 1", "13 0 7", "13 -11 7", "13 11 \u00b2\u00b3", "13 11 7.5", "a b c", "1" * 30 + " 2 2",
              "2147483648 2 2", "65536 65536 65536", "13 11 +7", "13 11 0x7", "13 11 9"):
    add("mha", "dimensions", f"DimSize {value}", ("a.mha", meta(PLAIN, DimSize=value)))
for value in ("MET_OTHER", "MET_NONE", "", "short", "MET_CHAR_ARRAY", "MET_DOUBLE", "MET_STRING"):
    add("mha", "wrong types", f"ElementType {value}", ("a.mha", meta(PLAIN, ElementType=value)))
for name, value in (("Offset", "nan 0 0"), ("Offset", "1 2"), ("Offset", "inf 0 0"), ("Position", "0 0 -inf"),
                    ("Origin", "a b c"), ("TransformMatrix", "nan 0 0 0 1 0 0 0 1"), ("TransformMatrix", "1 0 0"),
                    ("TransformMatrix", "0 0 0 0 0 0 0 0 0"), ("Rotation", "inf 0 0 0 1 0 0 0 1"),
                    ("ElementSpacing", "nan 1 1"), ("ElementSpacing", "inf 1 1"), ("ElementSpacing", "0 1 1"),
                    ("ElementSpacing", None), ("CenterOfRotation", "nan nan nan")):
    add("mha", "NaN and infinity", f"{name} {value}", ("a.mha", meta(PLAIN, **{name: value})))
for name, value in (("ElementNumberOfChannels", "3"), ("ElementNumberOfChannels", "-1"),
                    ("ElementNumberOfChannels", "9" * 30), ("HeaderSize", "-7"), ("HeaderSize", "10000000000"),
                    ("HeaderSize", "x"), ("Comment", "x" * 501), ("x" * 100_000, "1"), ("ObjectType", "y" * 5000),
                    ("Comment", "nul\0letter"), ("BinaryData", "False")):
    add("mha", "wrong content", f"{name[:20]} {str(value)[:20]}", ("a.mha", meta(PLAIN, **{name: value})))
add("mha", "duplicate keys", "DimSize twice", ("a.mha", b"DimSize = 3 3 3\n" + meta(PLAIN)), "twice")
add("mha", "very large", "3000^3", ("a.mha", meta(PLAIN, DimSize="3000 3000 3000")), "TFSONO_MAX_VOXELS")
add("mha", "very large", "1100^3, compressed", packed_meta(PACKED, DimSize="1100 1100 1100"), "TFSONO_MAX_VOXELS")
add("mha", "very large", "a stored byte for 10^5 voxels", packed_meta(PACKED, DimSize="700 700 700"), "a byte")
for name, value in (("ElementSpacing", "1e300 1 1"), ("Offset", "1e300 0 0"), ("Offset", "0 -2e6 0"),
                    ("TransformMatrix", "1e30 0 0 0 1 0 0 0 1")):
    add("mha", "huge numbers", f"{name} {value}", ("a.mha", meta(PLAIN, **{name: value})))
add("mha", "declared size", "voxels in the header", ("a.mha", meta(PLAIN, HeaderSize="100")), "behind the header")
add("mha", "declared size", "the header as its own data", ("a.mha", meta(PLAIN, name="a.mha")), "another file")
add("mha", "declared size", "a slice more", ("a.mha", meta(PLAIN + PLAIN[:286])), "declares")
add("mha", "declared size", "5 slices of 7", ("a.mha", meta(PLAIN, DimSize="13 11 5")), "declares")
add("mha", "declared size", "text of more numbers", ("a.mha", meta(b"1 2 " * 1001, BinaryData="False")), "declares")
for name in ("x%s%s%s%n", "LOCA%dx%s", "%n", "%", "%99999999d", "%d%d", "slice%03d.raw", "%5$d", "%lld", "%%", "%*d"):
    add("mhd", "printf names", name, ("a.mhd", meta(name=name)))
for name in ("/etc/hostname", "../a.raw", "folder/a.raw", "..", ".", "/dev/zero", "missing.raw", "x" * 300, "C:\\a.raw",
             "LIST", "LIST 2D\n../a.raw", "LIST\n" + "/etc/hostname\n" * 7, "LIST\na.raw\n", "http://a/b.raw"):
    add("mhd", "paths outside", name[:24].replace("\n", " "), ("a.mhd", meta(name=name)))


def beside(content: bytes, data: bytes, name: str = "a.mhd", data_name: str = "a.raw"):
    """Writes a header and its data file."""
    def write(folder: Path) -> Path:
        put(folder / data_name, data)
        return put(folder / name, content)
    return write


def special(header: tuple[str, bytes] | None, kind: str, name: str):
    """Writes a special file, and perhaps a header that names it."""
    def write(folder: Path) -> Path:
        path = folder / name
        if kind == "fifo":
            os.mkfifo(path)
        elif kind == "socket":
            here = Path.cwd()
            os.chdir(folder)  # the names of sockets are short
            try:
                with socket.socket(socket.AF_UNIX) as one:
                    one.bind(name)
            finally:
                os.chdir(here)
        elif kind == "folder":
            path.mkdir()
        else:
            path.symlink_to("/dev/zero")
        return put(folder / header[0], header[1]) if header else path
    return write


def sparse(header: bytes, name: str, data_name: str = "", length: int = 200 << 30):
    """A file of 200 GB that takes no room, perhaps behind a small header."""
    def write(folder: Path) -> Path:
        path = put(folder / name, header)
        with open(folder / data_name if data_name else path, "ab") as file:
            file.truncate(length)
        return path
    return write


for place, content in cut(PLAIN, 4):
    add("mhd", "truncated", f"raw of {place} bytes", beside(meta(name="a.raw"), content), "truncated")
add("mhd", "declared size", "a raw file of two volumes", beside(meta(name="a.raw"), 2 * PLAIN), "declares")
add("mhd", "declared size", "a longer file of a slice", beside(meta(name="a%d.raw 1 1 1", DimSize="13 11 1"), PLAIN,
                                                              data_name="a1.raw"))
for place, content in flipped(PACKED, places=6):
    add("mhd", "bits", f"zraw, byte {place}", beside(meta(name="a.zraw", CompressedData="True"), content,
                                                    data_name="a.zraw"))
add("mhd", "very large", "sparse zraw of 200 GB", sparse(meta(name="a.zraw", CompressedData="True"), "a.mhd", "a.zraw"))
add("mha", "very large", "sparse file of 200 GB", sparse(PACKED_META, "a.mha"))
for kind in ("fifo", "socket", "folder", "zero"):
    for name in ("a.mha", "a.mhd", "a.nrrd", "a.nii", "a.nii.gz", "a.mnc", "a.dcm"):
        if kind != "folder":
            add(name[2:], "special files", kind, special(None, kind, name))
    add("mhd", "special files", f"{kind} as data", special(("a.mhd", meta(name="a.raw")), kind, "a.raw"))
    add("nhdr", "special files", f"{kind} as data",
        special(("a.nhdr", b"NRRD0004\ntype: short\ndimension: 3\nsizes: 13 11 7\nspacings: 1 1 1\nendian: little\n"
                           b"encoding: raw\ndata file: a.raw\n"), kind, "a.raw"))


# ---------------------------------------------------------------------------------------------- NRRD


def nrrd(data: bytes = b"", more: str = "", **fields) -> bytes:
    """A NRRD header with its data behind; fields replace the usual ones, None removes one."""
    usual = {"type": "short", "dimension": "3", "sizes": " ".join(map(str, SIZE)), "spacings": "0.5 0.6 0.7",
             "endian": "little", "encoding": "raw"}
    fields = {key.replace("_", " "): value for key, value in fields.items()}
    lines = [f"{key}: {value}\n" for key, value in {**usual, **fields}.items() if value is not None]
    return "".join(["NRRD0005\n", *lines, more, "\n"]).encode() + data


GZIPPED = gzip.compress(PLAIN, mtime=0)
DIRECTED = {"spacings": None, "space": "left-posterior-superior",
            "space_directions": "(0.5,0,0) (0,0.6,0) (0,0,0.7)", "space_origin": "(1,2,3)"}
for place, content in flipped(GZIPPED, 10):
    add("nrrd", "bits", f"gzip, byte {place}", ("a.nrrd", nrrd(content, encoding="gzip")))
for place, content in cut(GZIPPED):
    add("nrrd", "truncated", f"gzip of {place} bytes", ("a.nrrd", nrrd(content, encoding="gzip")))
for place, content in cut(nrrd(PLAIN), 8):
    add("nrrd", "truncated", f"{place} bytes", ("a.nrrd", content))
add("nrrd", "checksum", "gzip", ("a.nrrd", nrrd(GZIPPED[:-8] + b"\0" * 8, encoding="gzip")))
add("nrrd", "declared size", "half of the voxels", ("a.nrrd", nrrd(gzip.compress(PLAIN[:999]), encoding="gzip")))
add("nrrd", "declared size", "twice the voxels", ("a.nrrd", nrrd(gzip.compress(2 * PLAIN), encoding="gzip")))
add("nrrd", "declared size", "more behind the stream", ("a.nrrd", nrrd(GZIPPED + b"more", encoding="gzip")))
add("nrrd", "declared size", "text of fewer numbers", ("a.nrrd", nrrd(b"1 2 3", encoding="ascii")))
add("nrrd", "wrong content", "text of words", ("a.nrrd", nrrd(b"a " * 1001, encoding="ascii")))
add("nrrd", "wrong content", "text of large numbers", ("a.nrrd", nrrd(b"70000 1 " * 501, encoding="ascii")))
add("nrrd", "wrong content", "hex of other letters", ("a.nrrd", nrrd(b"zz" * 2002, encoding="hex")))
for value in ("0", "1", "5", "-3", "99", "17", "1" * 20, "\u00b3", "x"):
    add("nrrd", "dimensions", f"dimension {value}", ("a.nrrd", nrrd(PLAIN, dimension=value)), "dimension")
for value in ("13 11", "13 11 7 2", "0 11 7", "13 -11 7", "13 11 \u00b2", "1.5 2 2", "9" * 25 + " 2 2",
              "65536 65536 65536",
              "13 11 8", "13 11 x"):
    add("nrrd", "dimensions", f"sizes {value}", ("a.nrrd", nrrd(PLAIN, sizes=value)))
for name, values in {"type": ("block", "", "half", "complex", "x" * 3000), "endian": ("", "middle", None),
                     "encoding": ("bzip2", "zip", "", None, "x" * 2000), "line_skip": ("-1", "9" * 20, "5000", "x"),
                     "byte_skip": ("-2", "10000000", "9" * 30, "x")}.items():
    for value in values:
        add("nrrd", "wrong types", f"{name} {str(value)[:20]}", ("a.nrrd", nrrd(PLAIN, **{name: value})))
for name, value in (("space_origin", "(nan,0,0)"), ("space_origin", "(inf,0,0)"), ("space_origin", "(a,b,c)"),
                    ("space_directions", "(nan,0,0) (0,1,0) (0,0,1)"),
                    ("space_directions", "(inf,0,0) (0,1,0) (0,0,1)"), ("space_directions", None),
                    ("space_directions", "(0 5,0,0) (0,1,0) (0,0,1)"),
                    ("space_directions", "(0,0,0) (0,1,0) (0,0,1)"), ("measurement_frame", "(nan,0,0) (0,1,0) (0,0,1)"),
                    ("space", "x" * 1500), ("space", "x" * 100_000), ("space", "nowhere"), ("content", "y" * 5000)):
    add("nrrd", "NaN and infinity", f"{name} {str(value)[:45]} of {len(str(value))}",
        ("a.nrrd", nrrd(PLAIN, **{**DIRECTED, name: value})))
for name, value in (("space_directions", "(1e300,0,0) (0,1,0) (0,0,1)"), ("space_origin", "(1e300,0,0)"),
                    ("space_origin", "(1,2,3) (4,5,6)"), ("space_origin", "1,2,3"), ("space_origin", "")):
    add("nrrd", "huge numbers", f"{name} {value}", ("a.nrrd", nrrd(PLAIN, **{**DIRECTED, name: value})))
add("nrrd", "huge numbers", "spacings 1e300", ("a.nrrd", nrrd(PLAIN, spacings="1e300 1 1")))
add("nrrd", "declared size", "6 slices of 7", ("a.nrrd", nrrd(PLAIN, sizes="13 11 6")), "declares")
add("nhdr", "declared size", "the header as its own data", ("a.nhdr", nrrd(PLAIN, data_file="a.nhdr")), "another file")
for value in ("nan 1 1", "inf 1 1", "0 1 1", "1 1", "a b c", "-1 1 1"):
    add("nrrd", "NaN and infinity", f"spacings {value}", ("a.nrrd", nrrd(PLAIN, spacings=value)))
for line in ("x" * 1200, "unknown: 1", "type: float", "x" * 100_000 + ": 1", "no colon", "sizes: 1 1 1", ": 5"):
    add("nrrd", "very long lines", f"{line[:20]} of {len(line)}", ("a.nrrd", nrrd(PLAIN, line + "\n")))
for value in ("/etc/hostname", "../a.raw", "folder/a.raw", "LIST", "LIST 2\na.raw", "a%03d.raw 1 7 1", "%s%n",
              "missing.raw",
              "/dev/zero", "", "x" * 300):
    add("nhdr", "paths outside", value[:20].replace("\n", " "), ("a.nhdr", nrrd(data_file=value)))
for place, content in cut(PLAIN, 4):
    add("nhdr", "truncated", f"raw of {place} bytes", beside(nrrd(data_file="a.raw"), content, "a.nhdr"), "truncated")
add("nrrd", "very large", "3000^3", ("a.nrrd", nrrd(PLAIN, sizes="3000 3000 3000")), "TFSONO_MAX_VOXELS")
add("nrrd", "very large", "a bomb", ("a.nrrd", nrrd(gzip.compress(bytes(1 << 24)), encoding="gzip")))
add("nhdr", "very large", "sparse gzip of 200 GB", sparse(nrrd(data_file="a.gz", encoding="gzip"), "a.nhdr", "a.gz"))
add("nrrd", "wrong content", "a header without end", ("a.nrrd", b"NRRD0004\n" + b"#" * (1 << 21)))


# ---------------------------------------------------------------------------------------------- NIfTI


def nifti(data: bytes = PLAIN, magic: bytes = b"n+1", *changes) -> bytes:
    """A NIfTI-1 header by its own layout, with its data behind; changes are (offset, layout, values...)."""
    header = bytearray(352)
    for place, layout, *items in (
            (0, "i", 348), (40, "8h", 3, *SIZE, 1, 1, 1, 1), (70, "2h", 4, 16), (76, "4f", 1, 0.5, 0.6, 0.7),
            (108, "3f", 352 if magic == b"n+1" else 0, 1, 0), (123, "B", 2), (254, "h", 1),
            (280, "12f", 0.5, 0, 0, 1, 0, 0.6, 0, 2, 0, 0, 0.7, 3), (344, "4s", magic), *changes):
        struct.pack_into("<" + layout, header, place, *items)
    return bytes(header) + data


NIFTI_CHANGES = {
    "bits": ((70, "2h", 4, 8), (70, "2h", 4, -16), (70, "2h", 4, 0), (70, "2h", 4, 32), (70, "2h", 16, 16)),
    "wrong types": ((70, "2h", 0, 0), (70, "2h", 1, 1), (70, "2h", 99, 16), (70, "2h", -4, 16), (70, "2h", 255, 8),
                    (70, "2h", 128, 24), (70, "2h", 32, 64), (70, "2h", 1536, 128), (0, "i", 349)),
    "place of the voxels": tuple((108, "f", value) for value in (-1, 0, 348, 352.5, np.nan, np.inf, 3e9)),
    "scale": ((112, "f", np.inf), (112, "f", -np.inf), (116, "f", np.nan), (116, "f", np.inf), (112, "f", 1e38)),
    "no forms": ((344, "4s", b"\0\0\0\0"), (344, "4s", b"n+1x"), (344, "4s", b"abc")),
    "qform": tuple((252, "2h3f", 1, 0, *quaternion)
                   for quaternion in ((2, 2, 2), (0.6, 0.8, 0.5), (1e30, 0, 0), (np.nan, 0, 0))),
    "declared size": ((44, "h", 5), (46, "h", 6), (40, "h4h", 3, 13, 11, 5, 7)),
    "dimensions": ((40, "h", 0), (40, "h", 8), (40, "h", -3), (42, "h", 0), (42, "h", -13), (42, "h", 32767),
                   (40, "8h", 7, 13, 11, 7, 2, 2, 2, 2), (42, "3h", 32767, 32767, 32767), (40, "h", 2)),
    "NaN and infinity": ((80, "f", np.nan), (80, "f", np.inf), (84, "f", 0), (280, "f", np.nan), (292, "f", np.inf),
                         (280, "f", 0), (108, "f", 1e30), (280, "f", 50)),
}  # fmt: skip
for kind, changes in NIFTI_CHANGES.items():
    for change in changes:
        for name, pack in (("a.nii", bytes), ("a.nii.gz", partial(gzip.compress, mtime=0))):
            add(name[2:], kind, f"{change[0]} {change[2:]}", (name, pack(nifti(PLAIN, b"n+1", change))))
for place, content in cut(nifti(), 8):
    add("nii", "truncated", f"{place} bytes", ("a.nii", content))
    add("nii.gz", "truncated", f"{place} bytes, unpacked", ("a.nii.gz", gzip.compress(content)))
for place, content in cut(gzip.compress(nifti(), mtime=0), 8):
    add("nii.gz", "truncated", f"{place} bytes", ("a.nii.gz", content))
for place, content in flipped(gzip.compress(nifti(), mtime=0), 10):
    add("nii.gz", "bits", f"byte {place}", ("a.nii.gz", content))
for place, content in cut(PLAIN, 4):
    add("hdr", "truncated", f"img of {place} bytes", beside(nifti(b"", b"ni1"), content, "a.hdr", "a.img"))
add("hdr", "bits", "bitpix 8", beside(nifti(b"", b"ni1", (70, "2h", 4, 8)), PLAIN[:1001], "a.hdr", "a.img"))
add("hdr", "missing", "no img", ("a.hdr", nifti(b"", b"ni1")))
add("hdr", "special files", "img is a FIFO", special(("a.hdr", nifti(b"", b"ni1")), "fifo", "a.img"))
add("nii.gz", "very large", "a bomb behind the voxels", ("a.nii.gz", gzip.compress(nifti(PLAIN + bytes(1 << 25)))))
add("nii.gz", "very large", "a bomb without header", ("a.nii.gz", gzip.compress(bytes(1 << 26))))
add("nii.gz", "very large", "1100^3", ("a.nii.gz", gzip.compress(nifti(PLAIN, b"n+1", (42, "3h", *[1100] * 3)))),
    "MAX_VOXELS")
add("nii", "declared size", "45 MB of voxels out of 589 bytes",
    ("a.nii", nifti(bytes(237), b"n+1", (40, "4h", 3, 300, 300, 500), (70, "2h", 2, 0))))


# ---------------------------------------------------------------------------------------------- DICOM


def slices(folder: Path, **fields) -> Path:
    """Five slices; fields replace those of the third, `pixels` its bytes."""
    write_slices(folder / "s", np.abs(VOXELS[:5]).astype(np.uint16), [str(2 * one) for one in range(5)])
    made = dataset("mr", "MR", number=3, ImagePositionPatient=["0", "0", "4"],
                   ImageOrientationPatient=["1", "0", "0", "0", "1", "0"], PixelSpacing=["0.7", "0.5"])
    made = with_pixels(made, np.abs(VOXELS[2]).astype(np.uint16))
    pixels = fields.pop("pixels", made.PixelData)
    for keyword, value in fields.items():
        if value is None:
            delattr(made, keyword)
        else:
            setattr(made, keyword, value)
    made.PixelData = pixels
    made["PixelData"].VR = "OW"
    save(made, folder / "s" / "4_2.dcm")
    return folder / "s"


def shortened(folder: Path, length: int) -> Path:
    """The slices with the third cut."""
    put(folder / "4_2.dcm", (folder / "4_2.dcm").read_bytes()[:length])
    return folder


def nested(levels: int) -> bytes:
    """A sequence in a sequence, each of a stated length, as GDCM reads them one inside another."""
    parts, length = [], 0
    for _ in range(levels):
        length += 8
        item = struct.pack("<HHI", 0xFFFE, 0xE000, length - 8)
        length += 12
        parts.append(struct.pack("<HH2sHI", 0x0040, 0xA730, b"SQ", 0, length - 12) + item)
    return b"".join(reversed(parts))


def undefined(levels: int) -> bytes:
    """The same without lengths."""
    begin = struct.pack("<HH2sHI", 0x0040, 0xA730, b"SQ", 0, 0xFFFFFFFF)
    begin += struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    return begin * levels + struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0) * levels


def deep(folder: Path, sequences: bytes, alone: bool = False) -> Path:
    """Slices of which the third has these sequences before its pixels."""
    path = slices(folder) / "4_2.dcm"
    content = path.read_bytes()
    place = content.index(b"\xe0\x7f\x10\x00OW")
    put(path, content[:place] + sequences + content[place:])
    return path if alone else path.parent


def rescaled(folder: Path, old: bytes, new: bytes) -> Path:
    """Slices with a slope of 1.5 and an intercept of 7.25, of which one has other bytes there."""
    write_slices(folder / "s", np.abs(VOXELS[:5]).astype(np.uint16), [str(2 * one) for one in range(5)],
                 slopes=[("1.5", "7.25")] * 5)
    path = folder / "s" / "4_2.dcm"
    assert path.read_bytes().count(old) == 1
    put(path, path.read_bytes().replace(old, new))
    return folder / "s"


def behind(folder: Path, more: bytes) -> Path:
    """Slices of which the third has bytes behind its pixels."""
    path = slices(folder) / "4_2.dcm"
    put(path, path.read_bytes() + more)
    return path.parent


ONE = VOXELS[2].tobytes()
for name, more in {"element of 4 GB": b"\xe1\x7f\x10\x00OB\0\0\xf0\xff\xff\xff", "noise": b"\xb7\x29" * 21}.items():
    add("dicom", "declared size", f"{name} behind the pixels", partial(behind, more=more))
for name, fields in {
    "half of the pixels": {"pixels": ONE[:len(ONE) // 2]}, "one row": {"pixels": ONE[:26]},
    "no pixels": {"pixels": b""},
    "twice the pixels": {"pixels": 2 * ONE}, "BitsAllocated 255": {"BitsAllocated": 255},
    "BitsAllocated 0": {"BitsAllocated": 0}, "BitsAllocated 12": {"BitsAllocated": 12},
    "BitsAllocated 64": {"BitsAllocated": 64},
    "BitsStored 17": {"BitsStored": 17}, "BitsAllocated 32": {"BitsAllocated": 32}, "3 samples": {"SamplesPerPixel": 3},
    "Rows 0": {"Rows": 0}, "Rows 65535": {"Rows": 65535}, "Columns 1": {"Columns": 1}, "no Rows": {"Rows": None},
    "PixelSpacing 0": {"PixelSpacing": ["0", "0"]}, "no PixelSpacing": {"PixelSpacing": None},
    "NumberOfFrames 9": {"NumberOfFrames": 9}, "NumberOfFrames 10^9": {"NumberOfFrames": 10**9},
    "no position": {"ImagePositionPatient": None}, "no BitsAllocated": {"BitsAllocated": None},
    "a slope of 0": {"RescaleSlope": "0", "RescaleIntercept": "0"}, "HighBit 3": {"HighBit": 3},
    "HighBit 20": {"HighBit": 20}, "PixelRepresentation 2": {"PixelRepresentation": 2},
    "colours of one sample": {"PhotometricInterpretation": "RGB"}, "XXX": {"PhotometricInterpretation": "XXX"},
    "one slice inverted": {"PhotometricInterpretation": "MONOCHROME1"},
    "a position at 1e300": {"ImagePositionPatient": ["1e300", "0", "4"]},
}.items():  # fmt: skip
    add("dicom", "DICOM", name, partial(slices, **fields))
for old, new in ((b"1.5 ", b"nan "), (b"1.5 ", b"abc "), (b"1.5 ", b"inf "), (b"1.5 ", b"1\\2 "), (b"7.25", b"nan "),
                 (b"7.25", b"1e39")):
    add("dicom", "scale", f"{old.decode()} is {new.decode()}", partial(rescaled, old=old, new=new))
for levels in (100, 5000, 60_000):
    for name, sequences in (("stated lengths", nested), ("no lengths", undefined)):
        for alone in (False, True):
            add("dicom", "deeply nested", f"{levels}, {name}{', one file' * alone}",
                partial(lambda folder, one, sequences, alone: deep(folder, sequences(one), alone),
                        one=levels, sequences=sequences, alone=alone), "nested|damaged")
add("dicom image", "deeply nested", "60000", partial(deep, sequences=nested(60_000), alone=True), read=read_image_2d)
for length in (0, 100, 200, 400, 500, 560):
    add("dicom", "truncated", f"{length} bytes",
        partial(lambda folder, length: shortened(slices(folder), length), length=length))


# ---------------------------------------------------------------------------------------------- MINC


def minc(folder: Path, change=None, damage=None) -> Path:
    """A small MINC 2 file by h5py, with what ITK needs of one."""
    path = folder / "a.mnc"
    with h5py.File(path, "w") as file:
        for name, side in zip(("zspace", "yspace", "xspace"), SIZE[::-1], strict=True):
            axis = file.require_group("minc-2.0/dimensions").create_dataset(name, data=np.int32(0))
            axis.attrs.update({"length": np.uint32(side), "step": 1.0, "start": 0.0, "units": np.bytes_("mm")})
        place = file.create_group("minc-2.0/image/0")
        stored = place.create_dataset("image", data=np.abs(VOXELS), chunks=VOXELS.shape, compression=4, fletcher32=True)
        stored.attrs["dimorder"] = np.bytes_("zspace,yspace,xspace")
        if change:
            change(place)
    if damage:
        put(path, damage(path.read_bytes()))
    return path


def _replace(place, **arguments) -> None:
    del place["image"]
    place.create_dataset("image", **arguments)


def _link(place) -> None:
    del place["image"]
    place["image"] = h5py.ExternalLink("/etc/hostname", "/image")


def _middle(content: bytes) -> bytes:
    middle = content.index(zlib.compress(np.abs(VOXELS).tobytes(), 4)[:20]) + 300
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1:]


for length in (0, 8, 100, 1000, 3000):
    add("minc", "truncated", f"{length} bytes", partial(minc, damage=lambda content, length=length: content[:length]))
add("minc", "bits", "a chunk", partial(minc, damage=_middle))
add("minc", "links", "an external link", partial(minc, change=_link), "link")
add("minc", "missing", "no image", partial(minc, change=lambda place: place.pop("image")))
add("minc", "dimensions", "a side of 0", partial(minc, change=partial(_replace, shape=(0, 4, 4), dtype="i2")))
add("minc", "dimensions", "one axis", partial(minc, change=partial(_replace, shape=(4,), dtype="i2")))
add("minc", "very large", "10^12 voxels", partial(minc, change=partial(
    _replace, shape=(10**4,) * 3, dtype="i2", chunks=(1, 100, 100))), "TFSONO_MAX_VOXELS")
add("minc", "wrong content", "no HDF5", ("a.mnc", b"text " * 500))


# ---------------------------------------------------------------------------------------------- 2D images


PIXELS = np.random.default_rng(4).integers(0, 255, (37, 41)).astype(np.uint8)


def encoded(suffix: str, pixels=PIXELS, *options) -> bytes:
    """The file's bytes by OpenCV."""
    return cv2.imencode(suffix, pixels, options)[1].tobytes()


def png(columns: int = 41, rows: int = 37, bits: int = 8, colour: int = 0, data: bytes | None = None) -> bytes:
    """A PNG whose chunks have right checksums."""
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in PIXELS)) if data is None else data
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", columns, rows, bits, colour, 0, 0, 0)), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks)


def picture(kind: str, fault: str, name: str, content: bytes, match: str = "", suffix: str = "") -> None:
    """Appends an image."""
    add(kind, fault, name, (f"a.{suffix or kind}", content), match, read_image_2d)


ROWS = b"".join(b"\0" + row.tobytes() for row in PIXELS)
for suffix in ("png", "jpg", "tif", "bmp"):
    for place, content in cut(encoded(f".{suffix}"), 5):
        picture(suffix, "truncated", f"{place} bytes", content)
    for kind in ("fifo", "zero", "folder", "socket"):
        add(suffix, "special files", kind, special(None, kind, f"a.{suffix}"), read=read_image_2d)
for place, content in flipped(png(), 8):
    picture("png", "bits", f"byte {place}", content)
picture("png", "very large", "18000 x 18000", png(18000, 18000), "TFSONO_MAX_PIXELS")
picture("png", "very large", "30000 x 30000 colours", png(30000, 30000, 8, 2), "TFSONO_MAX_PIXELS")
picture("png", "very large", "8000 x 8000 of nothing", png(8000, 8000, data=zlib.compress(b"")), "a byte")
for columns, rows, bits, colour in ((0, 37, 8, 0), (41, 0, 8, 0), (2**31, 2**31, 8, 0), (41, 99, 8, 0), (41, 37, 8, 9),
                                    (41, 37, 16, 0), (41, 37, 7, 3)):
    picture("png", "dimensions", f"{columns} x {rows}, {bits} bits, colour {colour}", png(columns, rows, bits, colour))
picture("png", "declared size", "half of the rows", png(data=zlib.compress(ROWS[:700])))
picture("png", "checksum", "of the rows", png(data=zlib.compress(ROWS)[:-4] + b"\0\0\0\0"))
picture("png", "truncated", "rows in a whole file", png(data=zlib.compress(ROWS)[:-300]))
JPEG = encoded(".jpg")
SCAN = JPEG.index(b"\xff\xda")
FRAME = JPEG.index(b"\xff\xc0")
for place in (SCAN + 60, SCAN + 200, len(JPEG) // 2, len(JPEG) - 300):
    picture("jpg", "truncated", f"scan of {place} bytes, with its end", JPEG[:place] + b"\xff\xd9")
picture("jpg", "very large", "65000 x 65000", JPEG[:FRAME + 5] + struct.pack(">HH", 65000, 65000) + JPEG[FRAME + 9:],
        "TFSONO_MAX_PIXELS")
picture("jpg", "dimensions", "0 rows", JPEG[:FRAME + 5] + struct.pack(">HH", 0, 41) + JPEG[FRAME + 9:])
picture("jpg", "wrong content", "no frame", JPEG[:FRAME] + JPEG[FRAME + 2 + 11:])
BMP = encoded(".bmp")
for columns, rows in ((0, 37), (41, 0), (2**31 - 1, 2), (41, -2**31), (41, 370), (-41, 37)):
    picture("bmp", "dimensions", f"{columns} x {rows}", BMP[:18] + struct.pack("<ii", columns, rows) + BMP[26:])
for start in (0, 20, 1078 + 60):
    picture("bmp", "declared size", f"rows from {start}", BMP[:10] + struct.pack("<I", start) + BMP[14:])
for rows in (20, -36):
    picture("bmp", "declared size", f"{rows} of 37 rows", BMP[:22] + struct.pack("<i", rows) + BMP[26:])
picture("bmp", "declared size", "1 bit of 8", BMP[:28] + b"\1\0" + BMP[30:])
picture("bmp", "very large", "30000 x 30000", BMP[:18] + struct.pack("<ii", 30000, 30000) + BMP[26:], "MAX_PIXELS")


def tiff(*changes, data: bytes = PIXELS.tobytes(), following: int = 0) -> bytes:
    """An uncompressed TIFF of one strip; changes are (tag, value)."""
    fields = {256: 41, 257: 37, 258: 8, 259: 1, 262: 1, 273: 200, 277: 1, 278: 37, 279: len(data), **dict(changes)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value)
                       for tag, value in sorted(fields.items()) if value is not None)
    return (struct.pack("<4sI", b"II*\0", 8) + struct.pack("<H", len(entries) // 12) + entries
            + struct.pack("<I", following)).ljust(200, b"\0") + data


ROWS_PACKED = zlib.compress(PIXELS.tobytes())
for change in ((256, 0), (257, 0), (256, 2**32 - 1), (257, 370), (273, 10**9), (279, 10**9), (279, 100), (273, None),
               (256, None), (258, 16), (277, 3), (257, 20), (256, 20), (258, 1), (273, 0), (273, 8), (262, 3)):
    picture("tif", "dimensions", str(change), tiff(change))
picture("tif", "very large", "30000 x 30000", tiff((256, 30000), (257, 30000)), "TFSONO_MAX_PIXELS")
for following in (2**31, 1716):
    picture("tif", "wrong content", f"a next page at {following}", tiff(following=following))
picture("tif", "wrong content", "two pages", tiff(data=PIXELS.tobytes() + tiff()[8:], following=200 + PIXELS.size), "2")
for place, content in flipped(ROWS_PACKED, 2, places=8):
    picture("tif", "bits", f"deflated, byte {place}", tiff((259, 8), data=content))
THREE_PACKED = zlib.compress(3 * PIXELS.tobytes())
picture("tif", "declared size", "deflated rows of three images", tiff((259, 8), data=THREE_PACKED))
picture("tif", "orientation", "as a long number", tiff((274, 6)), "orientation 6")
picture("tif", "wrong types", "stored as LZW, which it is not", tiff((259, 5)), "damaged")
picture("tif", "wrong types", "an unknown compression", tiff((259, 999)), "damaged")
picture("tif", "truncated", "deflated", tiff((259, 8), data=ROWS_PACKED[:-200]))
for name, fields in {"half of the pixels": {"pixels": ONE[:60]}, "BitsAllocated 255": {"BitsAllocated": 255},
                     "Rows 65535": {"Rows": 65535, "Columns": 65535}}.items():
    add("dicom image", "DICOM", name,
        partial(lambda folder, fields: slices(folder, **fields) / "4_2.dcm", fields=fields), read=read_image_2d)


def test_there_are_enough():
    assert len(BROKEN) > 400 and len({str(broken) for broken in BROKEN}) == len(BROKEN)


@pytest.mark.parametrize("broken", BROKEN, ids=str)
def test_refused(broken, tmp_path, capfd):
    check_refused(broken, tmp_path, capfd)


# ---------------------------------------------------------------------------------------------- sound files


SOUND = {
    "mha": ("a.mha", meta(PLAIN)), "mha compressed": ("a.mha", PACKED_META),
    "mha compressed without its size": ("a.mha", meta(PACKED, CompressedData="True")),
    "mha of gzip": ("a.mha", meta(GZIPPED, CompressedData="True")),
    "mha big-endian": ("a.mha", meta(VOXELS.astype(">i2").tobytes(), BinaryDataByteOrderMSB="True")),
    "mha of text": ("a.mha", meta(" ".join(map(str, VOXELS.ravel())).encode(), BinaryData="False")),
    "mha with bytes in front": ("a.mha", meta(PLAIN, HeaderSize="-1")),
    "nrrd": ("a.nrrd", nrrd(PLAIN)), "nrrd gzip": ("a.nrrd", nrrd(GZIPPED, encoding="gzip")),
    "nrrd of two gzip streams": ("a.nrrd", nrrd(gzip.compress(PLAIN[:99]) + gzip.compress(PLAIN[99:]), encoding="gz")),
    "nrrd big-endian": ("a.nrrd", nrrd(VOXELS.astype(">i2").tobytes(), endian="big")),
    "nrrd of text": ("a.nrrd", nrrd(" ".join(map(str, VOXELS.ravel())).encode(), encoding="ascii")),
    "nrrd hex": ("a.nrrd", nrrd(PLAIN.hex().encode(), encoding="hex")),
    "nrrd with skips": ("a.nrrd", nrrd(b"a\nb\nxyz" + PLAIN, line_skip="2", byte_skip="3")),
    "nrrd at the end": ("a.nrrd", nrrd(b"a\nb\nxyz" + PLAIN, byte_skip="-1")),
    "nrrd with long keys": ("a.nrrd", nrrd(PLAIN, "Segmentation_ConversionParameters:=" + "x" * 3000 + "\n")),
    "nii": ("a.nii", nifti()), "nii.gz": ("a.nii.gz", gzip.compress(nifti())),
    "nii.gz of two streams": ("a.nii.gz", gzip.compress(nifti()[:500]) + gzip.compress(nifti()[500:])),
}  # fmt: skip


@pytest.mark.parametrize("name", SOUND)
def test_sound_files_are_read(tmp_path, capfd, name):
    volume = read_volume(put(tmp_path / SOUND[name][0], SOUND[name][1]))
    np.testing.assert_array_equal(volume.array, VOXELS.transpose(2, 1, 0))
    np.testing.assert_allclose(volume.spacing_mm, (0.5, 0.6, 0.7), rtol=1e-6)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("named", ["a%02d.raw 1 7 1", "a%02d.raw",
                                   "LIST\n" + "".join(f"a{one:02d}.raw\n" for one in range(1, 8))])
def test_a_file_for_each_slice(tmp_path, named):
    for number, one in enumerate(VOXELS, 1):
        put(tmp_path / f"a{number:02d}.raw", one.tobytes())
    volume = read_volume(put(tmp_path / "a.mhd", meta(name=named)))
    np.testing.assert_array_equal(volume.array, VOXELS.transpose(2, 1, 0))


@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "f4", "f8"])
@pytest.mark.parametrize("suffix", [".mha", ".mhd", ".nrrd", ".nhdr", ".nii", ".nii.gz", ".hdr"])
@pytest.mark.parametrize("packed", [False, True])
def test_what_simpleitk_writes_is_read_as_simpleitk_reads_it(tmp_path, kind, suffix, packed):
    image = sitk.GetImageFromArray((VOXELS // 9).astype(kind))
    image.SetSpacing((0.5, 0.625, 0.75))
    image.SetOrigin((-10, 20, 30.5))
    image.SetDirection((0, -1, 0, 1, 0, 0, 0, 0, 1))
    path = tmp_path / f"a{suffix}"
    sitk.WriteImage(image, str(path), packed and suffix not in (".nii", ".hdr"))
    read, volume = sitk.ReadImage(str(path)), read_volume(path)
    np.testing.assert_array_equal(volume.array, sitk.GetArrayFromImage(read).transpose(2, 1, 0))
    assert (volume.spacing_mm, volume.origin_mm) == (read.GetSpacing(), read.GetOrigin())
    assert volume.direction == read.GetDirection()


def test_sound_images_are_read(tmp_path):
    for suffix in ("png", "bmp", "tif", "tiff"):
        path = put(tmp_path / f"a.{suffix}", encoded(f".{suffix}"))
        np.testing.assert_array_equal(read_image_2d(path).pixels, PIXELS)
    for name, content in (("b.png", png()), ("b.tif", tiff()), ("c.tif", tiff((259, 8), data=ROWS_PACKED))):
        np.testing.assert_array_equal(read_image_2d(put(tmp_path / name, content)).pixels, PIXELS)
    assert read_image_2d(put(tmp_path / "a.jpg", JPEG)).pixels.shape == PIXELS.shape


def test_a_sound_series_is_read(tmp_path):
    np.testing.assert_array_equal(read_volume(slices(tmp_path)).array, np.abs(VOXELS[:5]).transpose(2, 1, 0))
    np.testing.assert_array_equal(read_volume(deep(tmp_path / "b", nested(5))).array[0], np.abs(VOXELS[:5, :, 0]).T)


def test_a_sound_minc_file_is_read(tmp_path):
    """Without image-min and image-max it is scaled to 0..1 from the range of its type."""
    array = read_volume(minc(tmp_path)).array
    assert array.shape == SIZE
    assert np.corrcoef(array.ravel(), np.abs(VOXELS).transpose(2, 1, 0).ravel())[0, 1] > 0.999999


def test_a_linked_data_file_in_the_folder_is_read(tmp_path):
    put(tmp_path / "elsewhere", PLAIN)
    (tmp_path / "case").mkdir()
    (tmp_path / "case/a.raw").symlink_to(tmp_path / "elsewhere")
    read_volume(put(tmp_path / "case/a.mhd", meta(name="a.raw")))


def test_an_empty_mask_of_many_voxels_is_read(tmp_path, monkeypatch):
    """Zeros pack a thousand to one; the limit is above that."""
    monkeypatch.setenv("TFSONO_MAX_VOXELS", str(2**24))
    image = sitk.Image((250, 250, 250), sitk.sitkUInt8)
    for suffix in (".nii.gz", ".nrrd", ".mha"):
        sitk.WriteImage(image, str(tmp_path / f"a{suffix}"), True)
        assert not read_mask(tmp_path / f"a{suffix}").array.any()
    monkeypatch.setenv("TFSONO_MAX_VOXELS", "1000000")
    with pytest.raises(UserError, match="1000000 voxels are read"):
        read_mask(tmp_path / "a.mha")
    monkeypatch.setenv("TFSONO_MAX_VOXELS", "many")
    with pytest.raises(UserError, match="whole number"):
        read_mask(tmp_path / "a.mha")
