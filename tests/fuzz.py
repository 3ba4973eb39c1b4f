"""A mutational fuzzer of every reader: `make fuzz MINUTES=10`, or `python tests/fuzz.py READER MINUTES SEED FOLDER`.

Sound files of a reader (the seeds) are changed in a few places each, and read. A reader must return, or raise
`UserError` with one printable line, soon, with little memory and without a line of a library. Everything else is a
find: the input is kept in FOLDER/finds, named after what happened.

The reading is done by a child process, which writes each input to a file before it reads it. So a crash, a hang
(SIGALRM) or the limit of memory ends the child alone, and the input that did it is still there.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

FINE = ("refused", "accepted")
SECONDS = 10
"""For one input."""
GIGABYTES = 6
"""Of address space that an input may need besides what the libraries have already."""
VOXELS_A_BYTE = 1100
"""A gzip stream of zeros has 1,030 bytes for each of its own."""
NUMBERS = (0, 1, 2, 7, 8, 15, 16, 17, 32, 64, 127, 128, 255)
LONG_NUMBERS = ("0", "-1", "1e999", "1e300", "-0.0", "NaN", "Infinity", "99999999999999999999", "2147483648", "0x10",
                "\u00b2", "9" * 401, "null", "[]", "{}", '""', "true", "1.5")


@dataclass(frozen=True)
class Seed:
    """A sound input: a folder, in which one file is changed.

    Attributes:
      folder: of the input.
      changed: the file in it that is changed.
      read: what is read, below the folder.
    """

    folder: Path
    changed: str
    read: str


@dataclass
class Reader:
    """A reader and its seeds.

    Attributes:
      name: on the command line.
      write: writes the sound inputs below a folder.
      read: reads one of them.
      text: whether changes are of words and numbers rather than bytes.
    """

    name: str
    write: Callable[[Path], list[Seed]]
    read: Callable[[Path], object]
    text: bool = False
    seeds: list[Seed] = field(default_factory=list)


# --- changes


def changed_bytes(content: bytes, chance: random.Random) -> bytes:
    """Between one and eight changes, most of them near the start, where headers are."""
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        if not data:
            break
        place = chance.randrange(min(len(data), 400)) if chance.random() < 0.7 else chance.randrange(len(data))
        size = chance.choice((1, 2, 4, 8, 16, 64))
        kind = chance.randrange(7)
        if kind == 0:
            data[place] ^= 1 << chance.randrange(8)
        elif kind == 1:
            data[place] = chance.choice(NUMBERS)
        elif kind == 2:
            data[place:place + size] = chance.choice((b"\0", b"\xff", b"\x7f", b"\x80")) * size
        elif kind == 3:
            del data[place:place + size]
        elif kind == 4:
            data[place:place] = data[place:place + size] * chance.choice((1, 1, 2, 100))
        elif kind == 5:
            data[place:place + size] = chance.randbytes(size)
        else:
            del data[place:]
    return bytes(data)


def changed_text(content: bytes, chance: random.Random) -> bytes:
    """A number, a word or a line is replaced, repeated, nested or taken out; or bytes change."""
    if chance.random() < 0.3:
        return changed_bytes(content, chance)
    text = content.decode("utf-8", "surrogateescape")
    for _ in range(chance.choice((1, 1, 2, 4))):
        tokens = list(re.finditer(chance.choice((r"-?\d[\d.eE+-]*", r'"[^"]*"', r"[^\s,:\[\]{}]+", r"[^\n]*\n")), text))
        if not tokens:
            break
        found = chance.choice(tokens)
        old = found.group()
        other = chance.choice(tokens).group()
        new = chance.choice((
            chance.choice(LONG_NUMBERS), "", other, old + old, old + other, f"[{old}]", f'{{"a": {old}}}',
            old[:2000] * chance.choice((2, 3000)), "[" * chance.choice((10, 70_000)), f'"{old}"', old[:len(old) // 2],
            "\0", "\x1b[31m", "../" + old, "%s%n", "/", "=1+1", "\u202e",
        ))
        text = text[:found.start()] + new + text[found.end():]
    return text.encode("utf-8", "surrogateescape")


def changed(content: bytes, chance: random.Random, text: bool) -> bytes:
    """Changes the content; that of a gzip stream is changed inside half the time."""
    if content[:2] == b"\x1f\x8b" and chance.random() < 0.5:
        return gzip.compress(changed_bytes(gzip.decompress(content), chance), compresslevel=1)
    return (changed_text if text else changed_bytes)(content, chance)


# --- seeds


def sound_volumes(folder: Path, suffixes) -> list[Seed]:
    import numpy as np
    import SimpleITK as sitk

    seeds = []
    for number, (suffix, packed) in enumerate(suffixes):
        for kind in (np.int16, np.float32, np.uint8):
            place = folder / f"{number}_{np.dtype(kind)}"
            place.mkdir(parents=True)
            image = sitk.GetImageFromArray(np.random.default_rng(3).integers(0, 90, (3, 7, 5)).astype(kind))
            image.SetSpacing((0.5, 0.75, 2.0))
            sitk.WriteImage(image, str(place / f"a{suffix}"), packed)
            seeds.append(Seed(place, f"a{suffix}", f"a{suffix}"))
    return seeds


def sound_series(folder: Path) -> list[Seed]:
    import numpy as np

    from small_dicom import AXES, dataset, save, with_pixels

    place = folder / "series"
    for number in range(3):
        values = np.random.default_rng(number).integers(0, 900, (7, 5)).astype(np.uint16)
        made = dataset("mr", "MR", number=number + 1, ImagePositionPatient=["0", "0", str(2.5 * number)],
                       ImageOrientationPatient=list(AXES), PixelSpacing=["0.5", "0.75"])
        save(with_pixels(made, values), place / f"{number}.dcm")
    return [Seed(place, f"{number}.dcm", ".") for number in range(3)]


def sound_images(folder: Path) -> list[Seed]:
    import cv2
    import numpy as np

    folder.mkdir(parents=True)
    grey = np.random.default_rng(3).integers(0, 256, (37, 51)).astype(np.uint8)
    seeds = []
    for suffix in ("png", "jpg", "tif", "bmp"):
        for kind, pixels in (("grey", grey), ("colour", np.dstack([grey, grey // 2, 255 - grey]))):
            place = folder / f"{suffix}_{kind}"
            place.mkdir()
            cv2.imwrite(str(place / f"a.{suffix}"), pixels)
            seeds.append(Seed(place, f"a.{suffix}", f"a.{suffix}"))
    return seeds


def sound_landmarks(folder: Path) -> list[Seed]:
    import numpy as np

    from tfsono.volumes.landmarks import write_markups

    folder.mkdir(parents=True)
    points = {"left_eye": np.array([1.0, 2.5, -3.0]), "right_eye": np.array([4.0, 0.5, 9.0])}
    write_markups(folder / "a.mrk.json", points)
    fcsv = ("# Markups fiducial file version = 4.11\n# CoordinateSystem = LPS\n"
            "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID\n"
            "1,1.0,2.5,-3.0,0,0,0,1,1,1,0,left_eye,,\n2,4,0.5,9,0,0,0,1,1,1,0,right_eye,,\n")
    (folder / "b.fcsv").write_text(fcsv, encoding="utf-8")
    anno = {"spacing": None, "landmarks": {"left_eye": [1, 2, 3], "right_eye": [4, 0, 2]}}
    (folder / "c.json").write_text(json.dumps(anno), encoding="utf-8")
    table = "case,name,x_mm,y_mm,z_mm\na,left_eye,1,2.5,-3\na,right_eye,4,0.5,9\n"
    (folder / "d.csv").write_text(table, encoding="utf-8")
    return [Seed(folder, name, name) for name in ("a.mrk.json", "b.fcsv", "c.json", "d.csv")]


def sound_dataset(folder: Path) -> list[Seed]:
    from small_datasets import write_cases, write_json

    write_cases(folder, 2, {"head": 1, "neck": 2})
    write_json(folder / "dataset.json", {
        "name": "small", "modality": "MR", "labels": {"head": 1, "neck": 2}, "landmarks": ["left_eye", "right_eye"],
        "subjects": {"case_00": "a", "case_01": "b"}, "left_right": [["left_eye", "right_eye"]]})
    nnunet = folder.with_name(folder.name + "_nnunet")
    shutil.copytree(folder, nnunet)
    write_json(nnunet / "dataset.json", {
        "channel_names": {"0": "T2"}, "labels": {"background": 0, "head": 1}, "numTraining": 2,
        "file_ending": ".nii.gz"})
    return [Seed(folder, "dataset.json", "."), Seed(nnunet, "dataset.json", ".")]


def sound_tables(folder: Path) -> list[Seed]:
    from small_images_2d import write_heads

    write_heads(folder, ["a", "b", "c"])
    return [Seed(folder, name, name) for name in ("pixel_sizes.csv", "points.csv")]


def sound_cache(folder: Path) -> list[Seed]:
    from small_caches import write_small_cache

    folder.mkdir(parents=True)
    write_small_cache(folder, [(11, 9, 7), (9, 11, 7)])
    (folder / "cache").mkdir()
    (folder / "small.h5").rename(folder / "cache" / "small.h5")
    return [Seed(folder / "cache", "small.h5", "small.h5")]


def sound_run(folder: Path) -> list[Seed]:
    import tarfile

    with tarfile.open(Path(__file__).parent / "stored" / "hip.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    run = next(folder.rglob("config.json")).parent
    names = [path.name for path in sorted(run.iterdir()) if path.suffix in (".json", ".csv", ".txt")]
    return [Seed(run, name, ".") for name in names]


def sound_manifest(folder: Path) -> list[Seed]:
    sound_run(folder)
    return [Seed(path.parent, "manifest.json", ".") for path in folder.rglob("manifest.json")]


def sound_c3d(folder: Path) -> list[Seed]:
    """Without TensorFlow's checkpoints, whose writing would load it."""
    from test_c3d_formats import make_kernels, write_keras_2, write_npz, write_original_caffe

    folder.mkdir(parents=True)
    kernels = make_kernels()
    write_original_caffe(folder / "a.caffemodel", kernels)
    write_keras_2(folder / "b.h5", kernels)
    write_npz(folder / "c.npz", kernels)
    return [Seed(folder, name, name) for name in ("a.caffemodel", "b.h5", "c.npz")]


# --- readers


def read_volume(path: Path) -> None:
    import numpy as np

    from tfsono.volumes import image

    volume = image.read_volume(path)
    stored = sum(each.stat().st_size for each in (path.rglob("*") if path.is_dir() else [path]) if each.is_file())
    assert volume.array.size <= VOXELS_A_BYTE * stored, f"{volume.array.size} voxels out of {stored} bytes"
    assert np.isfinite(volume.array).all() and np.isfinite(volume.spacing_mm).all() and min(volume.spacing_mm) > 0


def read_image_2d(path: Path) -> None:
    from tfsono.volumes import image_2d

    assert image_2d.read_image_2d(path).pixels.ndim in (2, 3)


def read_points(path: Path) -> None:
    from tfsono.volumes import landmarks

    (landmarks.read_landmarks_csv if path.suffix == ".csv" else landmarks.read_landmark_names)(path)
    if path.name == "a.mrk.json":
        landmarks.read_landmarks(path)


def read_dataset(path: Path) -> None:
    from tfsono.data.layout import open_dataset

    open_dataset(path)


def read_tables(path: Path) -> None:
    from tfsono.data.image_tables import read_point_table
    from tfsono.predict.pixel_sizes import read_pixel_sizes

    (read_point_table if path.name == "points.csv" else lambda each: read_pixel_sizes(str(each)))(path)


def read_cache(path: Path) -> None:
    from tfsono.data.cache import Cache

    cache = Cache(path, "hip")
    for name in cache.names:
        cache.read(name)


def read_run_folder(path: Path) -> None:
    from tfsono.configs.hip import HIP
    from tfsono.training.run import read_history, read_run

    with contextlib.redirect_stderr(io.StringIO()):  # the note that the run has no run.json, which would refuse all
        read_run(path, HIP)
    read_history(path / "history.csv")


def read_manifest(path: Path) -> None:
    from tfsono.export import read_manifest as read

    read(path)


def read_weights_of_c3d(path: Path) -> None:
    from test_c3d_formats import WIDTHS
    from tfsono.c3d import read_c3d

    read_c3d(path, widths=WIDTHS)


READERS = (
    Reader("nifti", lambda folder: sound_volumes(folder, ((".nii", False), (".nii.gz", True))), read_volume),
    Reader("metaimage", lambda folder: sound_volumes(folder, ((".mha", False), (".mha", True))), read_volume),
    Reader("nrrd", lambda folder: sound_volumes(folder, ((".nrrd", False), (".nrrd", True))), read_volume),
    Reader("dicom", sound_series, read_volume),
    Reader("images_2d", sound_images, read_image_2d),
    Reader("landmarks", sound_landmarks, read_points, text=True),
    Reader("dataset", sound_dataset, read_dataset, text=True),
    Reader("tables", sound_tables, read_tables, text=True),
    Reader("cache", sound_cache, read_cache),
    Reader("run", sound_run, read_run_folder, text=True),
    Reader("manifest", sound_manifest, read_manifest, text=True),
    Reader("c3d", sound_c3d, read_weights_of_c3d),
)


# --- the child reads, the parent looks after it


def words_of(error: BaseException) -> str:
    """Type and place of an error, the same for all inputs that meet the same fault."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "tfsono" in frame.filename]
    place = f"{Path(frames[-1].filename).stem}_{frames[-1].lineno}" if frames else "outside"
    return f"{type(error).__name__}_{place}"


def outcome(reader: Reader, path: Path, noise: Path) -> str:
    """"refused", "accepted", or what is wrong."""
    from tfsono.errors import UserError

    found = "accepted"
    try:
        reader.read(path)
    except UserError as error:
        text = str(error)
        found = "refused" if text.isprintable() and len(text) < 1000 else "a line that is long or not printable"
    except Exception as error:
        found = words_of(error)
    if noise.stat().st_size:
        os.truncate(noise, 0)
        return f"noise of a library and {found}"
    return found


def child(name: str, seed: int, folder: Path) -> None:
    """Reads changed inputs until it is killed; a line for each on stdout."""
    (reader,) = (each for each in READERS if each.name == name)
    seeds = reader.write(folder / f"seeds_{seed}")
    noise = folder / f"noise_{seed}"
    report = os.fdopen(os.dup(1), "w", buffering=1)
    file = os.open(noise, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    for each in seeds:
        reader.read(each.folder / each.read)  # an error ends the child
    os.truncate(noise, 0)  # what libraries write when they are loaded
    with open("/proc/self/statm", encoding="ascii") as memory:
        held = int(memory.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + GIGABYTES * 2 ** 30, resource.RLIM_INFINITY))
    chance = random.Random(seed)
    originals = {(each.folder, each.changed): (each.folder / each.changed).read_bytes() for each in seeds}
    print("ready", file=report)
    while True:
        one = chance.choice(seeds)
        path = one.folder / one.changed
        path.write_bytes(changed(originals[one.folder, one.changed], chance, reader.text))
        print(f"reading {path}", file=report)
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        state = outcome(reader, one.folder / one.read, noise)
        signal.setitimer(signal.ITIMER_REAL, 0)
        keep(state, path)
        print(f"done {state}", file=report)
        path.write_bytes(originals[one.folder, one.changed])


def fuzz(name: str, minutes: float, seed: int, folder: Path, most: int | None = None) -> dict[str, int]:
    """Counts of outcomes by their words; inputs that are finds are kept in FOLDER/finds."""
    folder.mkdir(parents=True, exist_ok=True)
    counts: dict[str, int] = {}
    end = time.monotonic() + 60 * minutes
    while time.monotonic() < end and (most is None or sum(counts.values()) < most):
        _one_child([name, str(seed), str(folder)], counts, end, most)
        seed += 1000
    return counts


def _one_child(words: list[str], counts: dict[str, int], end: float, most: int | None) -> None:
    """Until the time is over, or the child dies of an input."""
    path, folder = None, Path(words[2])
    with subprocess.Popen([sys.executable, __file__, "--child", *words], stdout=subprocess.PIPE, encoding="utf-8",
                          env=os.environ | {"MALLOC_ARENA_MAX": "2", "TF_CPP_MIN_LOG_LEVEL": "3"}) as process:
        ready = False
        for line in process.stdout:
            word, _, rest = line.rstrip("\n").partition(" ")
            ready = ready or word == "ready"
            if word == "reading":
                path = Path(rest)
            elif word == "done":
                counts[rest] = counts.get(rest, 0) + 1
                path = None
                if time.monotonic() > end or (most is not None and sum(counts.values()) >= most):
                    process.kill()
                    return
        process.wait()
        assert ready, (folder / f"noise_{words[1]}").read_text(encoding="utf-8", errors="replace")
    died = {-signal.SIGALRM: f"hang of {SECONDS} s", -signal.SIGSEGV: "SIGSEGV", -signal.SIGABRT: "SIGABRT"}
    state = died.get(process.returncode, f"ended with {process.returncode}")
    counts[state] = counts.get(state, 0) + 1
    if path is not None:
        keep(state, path)


def keep(state: str, path: Path) -> None:
    """Keeps an input that is a find, unless there are three of its kind."""
    if state in FINE:
        return
    kept = next(each for each in path.parents if each.name.startswith("seeds_")).parent / "finds"
    kept.mkdir(exist_ok=True)
    name = re.sub(r"\W+", "_", state)[:80]
    number = len(list(kept.glob(f"{name}_*")))
    if number < 3:
        shutil.copyfile(path, kept / f"{name}_{number}_{path.name}")


def finds_of(counts: dict[str, int]) -> dict[str, int]:
    """The outcomes that are faults."""
    return {state: count for state, count in counts.items() if state not in FINE}


if __name__ == "__main__":
    root = Path(__file__).resolve().parents[1]
    sys.path[:0] = [str(root), str(root / "tests")]
    if sys.argv[1] == "--child":
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        child(sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
    else:
        found = fuzz(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
        for state, count in sorted(found.items(), key=lambda pair: -pair[1]):
            print(f"{count:8d}  {state}")
        sys.exit(1 if finds_of(found) else 0)
