"""Broken caches, run folders and exported models: each is refused in one line."""

import functools
import json
import os
import shutil
import tarfile
from collections import Counter
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from corpus import Broken, check_refused
from small_caches import write_small_cache
from tfsono.configs.hip import HIP
from tfsono.data.cache import Cache, checksum_of, stored_arrays, stored_parts
from tfsono.export import load_exported
from tfsono.models.hip import build
from tfsono.training.checkpoint import load_state, save_state
from tfsono.training.record import record_files
from tfsono.training.run import Run, load_weights, read_history, read_run
from tfsono.training.start import initialisation_of

STORED = Path(__file__).resolve().parent / "stored"
SOUND: dict[str, object] = {}
"""What the broken inputs are made from: the paths of a cache, a run, an export and a state, and two networks."""


@pytest.fixture(scope="module", autouse=True)
def sound(tmp_path_factory):
    place = tmp_path_factory.mktemp("sound")
    SOUND["cache"] = write_small_cache(place, ((9, 8, 7), (8, 7, 9)))
    with tarfile.open(STORED / "hip.tar.xz") as archive:
        archive.extractall(place, filter="data")
    SOUND["run"], SOUND["export"] = place / "run", place / "saved_model"
    (place / "run" / "transfer.txt").write_text("without transfer: no --c3d_weights was given\n")
    record_files(place / "run")
    SOUND["small"] = small_network()
    save_state(place / "state.h5", SOUND["small"], 4)
    SOUND["state"] = place / "state.h5"


def small_network(width=3):
    network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(width, name="dense")], name="small")
    network.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss="mse")
    network.optimizer.build(network.trainable_variables)
    return network


def test_the_sound_ones_are_read(tmp_path):
    with Cache(SOUND["cache"], "hip") as cache:
        assert [cache.read(name).name for name in cache.names] == ["case_0", "case_1"]
    run = read_run(SOUND["run"], HIP)
    assert load_weights(run, build(run.config)).name == "best.weights.h5"
    assert read_history(SOUND["run"] / "history.csv") and initialisation_of(SOUND["run"])
    assert load_state(SOUND["state"], SOUND["small"], 10) == 4
    assert load_exported(SOUND["export"])[1]["labels"] == {"head": 1, "body": 2}


# --- damage to bytes

PICKLE = b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R."


def bytes_of(change):
    """Damage to a file's bytes."""
    def damage(path):
        path.write_bytes(change(path.read_bytes()))

    return damage


def zeros(start, count=256):
    """A part of the file, from a share of its length on, becomes zeros."""
    def change(content):
        first = int(start * len(content))
        return content[:first] + bytes(min(count, len(content) - first)) + content[first + count:]

    return bytes_of(change)


def bit(start):
    def change(content):
        place = int(start * len(content))
        return content[:place] + bytes([content[place] ^ 16]) + content[place + 1:]

    return bytes_of(change)


def fifo(path):
    path.unlink()
    os.mkfifo(path)


def folder_instead(path):
    path.unlink()
    path.mkdir()


NO_HDF5 = {
    "truncated: empty": bytes_of(lambda content: b""),
    "truncated: half": bytes_of(lambda content: content[:len(content) // 2]),
    "truncated: the last 100 bytes": bytes_of(lambda content: content[:-100]),
    "wrong content: pickle": bytes_of(lambda content: PICKLE),
    "wrong content: text": bytes_of(lambda content: b"hello " * 50),
    "wrong content: its first bytes zeros": bytes_of(lambda content: bytes(64) + content[64:]),
    "special file: FIFO": fifo,
    "special file: folder": folder_instead,
}

# --- damage to HDF5


def in_file(change):
    """Damage to an open HDF5 file."""
    def damage(path):
        with h5py.File(path, "r+") as file:
            change(file)

    return damage


def replaced(name, make):
    """Another array in the place of one; `make` is given the old."""
    def change(file):
        array = file[name][...]
        del file[name]
        file[name] = make(array)

    return in_file(change)


def missing(name):
    return in_file(lambda file: file.__delitem__(name))


def linked(name, link):
    def change(file):
        file.move(name, "/elsewhere")
        file[name] = link

    return in_file(change)


def external(name):
    def damage(path):
        (path.parent / "raw.bin").write_bytes(bytes(1 << 16))
        with h5py.File(path, "r+") as file:
            shape, kind = file[name].shape, file[name].dtype
            del file[name]
            file.create_dataset(name, shape, kind, external=[("raw.bin", 0, h5py.h5f.UNLIMITED)])

    return damage


def virtual(name):
    def change(file):
        shape, kind = file[name].shape, file[name].dtype
        del file[name]
        layout = h5py.VirtualLayout(shape, kind)
        layout[...] = h5py.VirtualSource("other.h5", "x", shape, kind)
        file.create_virtual_dataset(name, layout)

    return in_file(change)


def bomb(name, shape=(1000, 1000, 1000)):
    def change(file):
        kind = file[name].dtype
        del file[name]
        file.create_dataset(name, shape, kind, chunks=shape if len(shape) > 1 else None, compression="gzip")

    return in_file(change)


def contiguous_bomb(name):
    def change(file):
        kind = file[name].dtype
        del file[name]
        file.create_dataset(name, (2000, 2000, 2000), kind)

    return in_file(change)


ELSEWHERE = {
    "links: soft": lambda name: linked(name, h5py.SoftLink("/elsewhere")),
    "links: soft, dangling": lambda name: linked(name, h5py.SoftLink("/nowhere")),
    "links: external": lambda name: linked(name, h5py.ExternalLink("other.h5", "/x")),
    "links: external storage": external,
    "links: virtual": virtual,
    "shape bomb: gzip": bomb,
    "shape bomb: contiguous": contiguous_bomb,
    "types: text": lambda name: replaced(name, lambda array: np.bytes_("a" * 100)),
    "types: compound": lambda name: replaced(name, lambda array: np.zeros(3, [("a", "f4"), ("b", "i4")])),
}

# --- the cache


def sealed(change):
    """Damage to a case whose checksum is then made to fit, so that the other checks have to find it."""
    def in_cache(file):
        change(file["cases/case_0"])
        group = file["cases/case_0"]
        group.attrs["checksum"] = checksum_of(stored_parts(group, stored_arrays(group)))

    return in_file(in_cache)


def put(name, make):
    def change(group):
        array = group[name][...]
        del group[name]
        group[name] = make(array)

    return sealed(change)


def attribute(name, value):
    return in_file(lambda file: file["cases/case_0"].attrs.__setitem__(name, value))


def header(name, value):
    return in_file(lambda file: file.attrs.__setitem__(name, value))


def element(value, place=0):
    def make(array):
        array = array.copy()
        array.flat[place] = value
        return array

    return make


CACHE = {
    **NO_HDF5,
    **{f"zeros: {name}": replaced(f"cases/case_0/{name}", np.zeros_like)
       for name in ("image", "label", "foreground/1")},
    **{f"missing: {name}": missing(f"cases/case_0/{name}")
       for name in ("image", "label", "foreground/1", "foreground")},
    "missing: all cases": missing("cases"),
    "shape: label": put("label", lambda array: array[:-1]),
    "shape: image of 2 axes": put("image", lambda array: array[0]),
    "shape: foreground of 2 columns": put("foreground/1", lambda array: array[:, :2]),
    "types: image float64": put("image", lambda array: array.astype(np.float64)),
    "types: label int16": put("label", lambda array: array.astype(np.int16)),
    "types: another array": sealed(lambda group: group.__setitem__("more", np.zeros(3))),
    "NaN: image": put("image", element(np.nan, 5)),
    "infinity: image": put("image", element(np.inf, 5)),
    "label: 9 of 2": put("label", element(9)),
    "foreground: outside": put("foreground/1", element(10**6)),
    "foreground: negative": put("foreground/1", element(-1)),
    **{f"geometry: {name} {value}": attribute(name, value) for name, value in (
        ("spacing_mm", np.array([np.nan, 1, 1])), ("spacing_mm", np.zeros(3)), ("spacing_mm", -np.ones(3)),
        ("spacing_mm", np.ones(2)), ("spacing_mm", "one"), ("spacing_mm", 1.0), ("origin_mm", np.full(3, np.inf)),
        ("direction", np.ones(8)), ("native_spacing_mm", np.array([1, 0, 1.0])))},
    "attributes: subject a number": attribute("subject", 3),
    "attributes: subject of numbers": attribute("subject", np.arange(3)),
    "attributes: checksum a number": attribute("checksum", 3.5),
    "attributes: complete a text": attribute("complete", "yes"),
    "attributes: pixel size infinite": attribute("pixel_size_mm", np.inf),
    "attributes: pixel size a text": attribute("pixel_size_mm", "small"),
    **{f"attributes: {name} {str(value)[:20]}": header(name, value) for name, value in (
        ("format_version", "one"), ("format_version", np.ones(2)), ("complete", 0.5), ("labels", "[1, 2]"),
        ("labels", "{half"), ("labels", '{"a": 1, "b": 1}'), ("labels", '{"a": "x"}'), ("labels", "[" * 5000),
        ("labels", 5), ("landmarks", "{}"), ("landmarks", '["a", "a"]'), ("split", '{"train": 3}'), ("split", "[]"),
        ("name", 7), ("system", 4), ("system", "\x1b[2J"), ("orientation", 2),
        ("spacing_mm", np.array([1.0, np.nan, 1.0])), ("spacing_mm", np.ones(4)))},
    **{kind: damage("cases/case_0/image") for kind, damage in ELSEWHERE.items()},
    "links: soft, a case": linked("cases/case_0", h5py.SoftLink("/elsewhere")),
    "links: external, all cases": linked("cases", h5py.ExternalLink("other.h5", "/cases")),
    "links: external storage, label": external("cases/case_0/label"),
}


def broken_cache(damage):
    def write(folder):
        path = Path(shutil.copyfile(SOUND["cache"], folder / "small.h5"))
        damage(path)
        return path

    return write


def read_cache(path):
    with Cache(path, "hip") as cache:
        for name in cache.names:
            cache.read(name)


# --- a run


def broken_run(damage, known=True):
    """A run with a damage of which run.json knows nothing, or which the training is made to have written itself."""
    def write(folder):
        run = Path(shutil.copytree(SOUND["run"], folder / "run"))
        damage(run)
        if known:
            record_files(run)
        return run

    return write


def at(name, damage):
    return lambda run: damage(run / name)


def changed_json(name, change):
    """A change of what a JSON file holds."""
    def damage(run):
        content = json.loads((run / name).read_text(encoding="utf-8"))
        content = change(content) or content
        (run / name).write_text(json.dumps(content), encoding="utf-8")

    return damage


def setting(**values):
    return lambda content: content.update(values)


def text(name, content):
    return lambda run: (run / name).write_bytes(content.encode("utf-8", "surrogateescape"))


AXES, ONE = ({key: value for key in ("min", "median", "max")} for value in ([1.0, 1.0, 1.0], 1.0))
TRAINED = {"cases": 2, "spacing_mm": AXES, "extent_mm": AXES, "intensity_1_percent": ONE, "intensity_99_percent": ONE,
           "intensity_width": ONE}
NOT_OF_THE_RUN = {
    **{f"checksum: a blank in {name}": at(name, bytes_of(lambda content: content + b" ")) for name in (
        "config.json", "split.json", "data.json", "history.csv", "transfer.txt", "best.weights.h5", "finished.json")},
    **{f"missing: {name}": at(name, os.unlink)
       for name in ("split.json", "data.json", "history.csv", "best.weights.h5")},
    **{f"another run: {name} added": at(name, lambda path: path.write_bytes(b"x")) for name in (
        "last.weights.h5", "state.h5", "prior.json", "atlases.json", "initialisation.txt")},
    **{f"special file: weights, {kind}": at("best.weights.h5", damage)
       for kind, damage in (("FIFO", fifo), ("folder", folder_instead))},
    "bits: best.weights.h5": at("best.weights.h5", bit(0.6)),
    "zeros: best.weights.h5": at("best.weights.h5", zeros(0.6, 1024)),
    "exchanged names: labels": changed_json("data.json", setting(labels={"head": 2, "body": 1})),
    "another fold: a training case is tested": changed_json(
        "split.json", setting(train=["case_4"], test=["case_1", "case_2", "case_3"])),
    "run.json: text": text("run.json", "hello"),
    "run.json: a list": text("run.json", "[]"),
    "run.json: without files": changed_json("run.json", lambda content: content.pop("files") and None),
    "run.json: files a list": changed_json("run.json", setting(files=[])),
    "run.json: files null": changed_json("run.json", setting(files=None)),
    "run.json: no texts": changed_json("run.json", setting(files={"config.json": 3})),
    "run.json: outside of the folder": changed_json("run.json", setting(pending={"../other": "0"})),
    "run.json: another version": changed_json("run.json", setting(format_version=99)),
    "run.json: nested": text("run.json", "[" * 60000),
    "run.json: FIFO": at("run.json", fifo),
    "run.json: lost": lambda run: (text("versions.json", '{"record": "run.json"}')(run), (run / "run.json").unlink()),
}

CONTRADICTING = {
    **{f"split.json: {name}": text("split.json", content) for name, content in {
        "a list": "[]", "null": "null", "a part is missing": '{"train": [], "test": []}',
        "a part is text": '{"train": "abc", "validation": [], "test": []}',
        "a part more": '{"train": [], "validation": [], "test": [], "more": []}',
        "numbers": '{"train": [1], "validation": [], "test": []}'}.items()},
    "split.json: trained on and tested": changed_json("split.json", setting(test=["case_3"])),
    "split.json: a case twice": changed_json("split.json", setting(test=["case_1", "case_1"])),
    "split.json: an unknown case": changed_json("split.json", setting(test=["knee"])),
    "split.json: fewer than were trained on": lambda run: (
        changed_json("data.json", setting(trained_on={"cases": 2}))(run),
        changed_json("split.json", setting(train=["case_4"], test=["case_1", "case_2", "case_3"]))(run)),
    **{f"data.json: {name}": changed_json("data.json", change) for name, change in {
        "a list": lambda content: [1], "without labels": lambda content: content.pop("labels") and None,
        "without cases": lambda content: content.pop("cases") and None, "cases a number": setting(cases=5),
        "labels a list": setting(labels=["head", "body"]), "labels null": setting(labels=None),
        "values are text": setting(labels={"head": "1", "body": 2}),
        "values are equal": setting(labels={"head": 1, "body": 1}),
        "a negative value": setting(labels={"head": -1, "body": 2}),
        "value 10^12": setting(labels={"head": 10**12, "body": 2}),
        "value 0": setting(labels={"head": 0, "body": 2}), "names exchanged": setting(labels={"body": 2, "head": 1}),
        "one of two": setting(labels={"head": 1}), "another name": setting(labels={"head": 1, "knee": 2}),
        **{f"trained_on {name}": setting(trained_on=TRAINED | value) for name, value in {
            "a number": {"spacing_mm": 3}, "empty": {"extent_mm": {}}, "labels a list": {"labels_ml": []},
            "labels text": {"labels_ml": {"head": {"min": "x", "median": 1, "max": 2}}},
            "two axes": {"spacing_mm": {"min": [1, 1], "median": [1, 1], "max": [1, 1]}},
            "null": {"intensity_width": None}}.items()},
        "trained_on the cases alone": setting(trained_on={"cases": 2}),
        **{f"{key} {json.dumps(value)}": setting(**{key: value}) for key, value in (
            ("end_order", []), ("end_order", {}), ("end_order", {"ofd_direction": ["x", 1], "bpd_direction": [0, 1]}),
            ("end_order", {"ofd_direction": [1, 0], "bpd_direction": [1]}), ("outline_margin_px", "x"),
            ("outline_margin_px", []), ("labels_used", "x"), ("labels_used", [1]), ("dataset", "\x1b[2J"))},
        "trained_on a text": setting(trained_on="x"), "dataset a number": setting(dataset=3)}.items()},
    "config.json: names exchanged": changed_json(
        "config.json", lambda content: content["values"].update(label_names=["body", "head"])),
    "config.json: one name more": changed_json(
        "config.json", lambda content: content["values"].update(label_names=["head", "body", "leg"])),
    "config.json: a name twice": changed_json(
        "config.json", lambda content: content["values"].update(label_names=["head", "head"])),
}


KERNEL = "layers/dense/vars/0"
WEIGHTS = {
    **NO_HDF5,
    "NaN: one": replaced(KERNEL, element(np.nan)), "infinity: one": replaced(KERNEL, element(-np.inf)),
    "shape: twice as many": replaced(KERNEL, lambda array: np.repeat(array, 2, 0)),
    "shape: flat": replaced(KERNEL, np.ravel),
    "missing: an array": missing(KERNEL), "missing: a layer": missing("layers/dense"),
    "missing: all": missing("layers"),
    "another network": lambda path: (path.unlink(), small_network(5).save_weights(path)),
    "wrong content: a state": lambda path: shutil.copyfile(SOUND["state"], path),
    **{kind: damage(KERNEL) for kind, damage in ELSEWHERE.items()},
    "links: soft, a layer": linked("layers/dense", h5py.SoftLink("/elsewhere")),
}


def broken_weights(damage):
    def write(folder):
        path = folder / "best.weights.h5"
        SOUND["small"].save_weights(path)
        damage(path)
        return path

    return write


def read_weights(path):
    return load_weights(Run(path.parent, settings=None, split={}, data={}), SOUND["small"])


# --- the state


STATE = {
    **NO_HDF5,
    "missing: step": in_file(lambda file: file.attrs.__delitem__("step")),
    **{f"step: {name}": in_file(functools.partial(lambda value, file: file.attrs.__setitem__("step", value), value))
       for name, value in {"10^9": 10**9, "past the end": 11, "negative": -2, "text": "four", "a fraction": 4.5,
                           "a list": np.arange(2), "NaN": np.nan}.items()},
    "missing: the optimizer": missing("optimizer"),
    "missing: an array": missing("network/0000"),
    "shape: flat": replaced("network/0000", np.ravel),
    "NaN: one": replaced("network/0000", element(np.nan)),
    "another network": lambda path: save_state(path, small_network(5), 4),
    "wrong content: a cache": lambda path: shutil.copyfile(SOUND["cache"], path),
    **{kind: damage("network/0000") for kind, damage in ELSEWHERE.items()},
    "links: soft, a group": linked("network", h5py.SoftLink("/elsewhere")),
}


def broken_state(damage):
    def write(folder):
        path = Path(shutil.copyfile(SOUND["state"], folder / "state.h5"))
        damage(path)
        return path

    return write


# --- texts

HISTORY = {
    "empty": "", "cut": "step,seconds,loss\n2,0.5", "words": "step,seconds\ntwo,half\n", "NUL": "step,seconds\n2,\0\n",
    "400 digits": "step,seconds\n2," + "9" * 400 + "\n",
    "a long field": "step,seconds\n2," + "1" * 200_000 + "\n", "a row too long": "step,seconds\n2,1,3\n",
    "infinity": "step,seconds\n2,inf\n", "without a header": "2,0.5\n", "a column twice": "step,step\n2,2\n",
    "no UTF-8": "step,seconds\n2,\udcff\n", "an open quote": 'step,seconds\n"2,1\n'}
TRANSFER = {"empty": "", "no UTF-8": "\udcff\udcfex", "NUL": "a\0b", "many lines": "a\nb\nc\n",
            "an escape": "a\x1b[2J"}

# --- exported models


def broken_export(damage):
    def write(folder):
        path = Path(shutil.copytree(SOUND["export"], folder / "saved_model"))
        damage(path)
        return path

    return write


def manifest(**values):
    return changed_json("manifest.json", setting(**values))


def without(*keys):
    return changed_json("manifest.json", lambda content: [content.pop(key) for key in keys] and None)


def linked_file(path):
    shutil.move(path, path.with_name("moved"))
    path.symlink_to(path.with_name("moved"))


RANGE = {"min": [1, 1, 1], "median": [1, 1, 1], "max": [1, 1, 1]}
MANIFEST = {
    **{f"files: {name}": manifest(files=value) for name, value in {
        "null": None, "a list": [], "numbers": {"saved_model.pb": 3}, "none": {}, "another": {"x": "0"}}.items()},
    **{f"labels: {name}": manifest(labels=value) for name, value in {
        "null": None, "a list": ["head", "body"], "texts": {"head": "1", "body": "2"}, "equal": {"head": 1, "body": 1},
        "negative": {"head": -1, "body": 2}, "10^12": {"head": 10**12, "body": 2}, "none": {}}.items()},
    **{f"cleaning: {name}": manifest(cleaning=value) for name, value in {
        "null": None, "text": "yes", "numbers": {"largest_component": 1, "fill_holes": 0},
        "half": {"largest_component": True}}.items()},
    **{f"input: {name}": manifest(input=value) for name, value in {
        "null": None, "a list": [], "a number": {"volume": 3}, "no orientation": {"volume": {}},
        "another orientation": {"volume": {"orientation": "LLS"}},
        "a number of it": {"volume": {"orientation": 5}}}.items()},
    **{f"output: {name}": manifest(output=value) for name, value in {
        "null": None, "text": "mask", "a number": {"mask": 3}, "a shape": {"mask": {"shape": "XYZ"}},
        "landmarks that are not named": {"points_vox": {"shape": [3, 3]}},
        "another count": {"mask": {"labels": 1}}}.items()},
    **{f"measuring: {name}": manifest(measuring=value) for name, value in {
        "null": None, "a list": [], "half": {"part": "landmarks"}}.items()},
    "measuring: missing": manifest(input={"picture": {"shape": ["Y", "X"]}}),
    **{f"landmarks: {name}": manifest(landmarks=value) for name, value in {"null": None, "numbers": [1, 2]}.items()},
    **{f"landmarks: {name}": manifest(output={"points_vox": {"shape": [2, 3]}}, landmarks=value)
       for name, value in {"one of two": ["a"], "twice": ["a", "a"]}.items()},
    **{f"trained_on: {name}": manifest(trained_on=value) for name, value in {
        "text": "x", "half": {"cases": 3}, "no ranges": {"cases": 3, "outside_factor": 2, **dict.fromkeys(
            ("spacing_mm", "extent_mm", "intensity_1_percent", "intensity_99_percent", "intensity_width"), 3)},
        "another label": {"cases": 3, "outside_factor": 2, "labels_ml": {"knee": RANGE}}}.items()},
    **{f"missing: {key}": without(key) for key in ("format_version", "input", "output", "labels", "cleaning", "files")},
    "version: text": manifest(format_version="1"), "version: 99": manifest(format_version=99),
    "network: null": manifest(network=None), "files: a long name": manifest(files={"x" * 5000: "0" * 64}),
    "checksum: of the description": manifest(sha256="0" * 64),
    "wrong content: text": text("manifest.json", "hello"), "wrong content: a list": text("manifest.json", "[]"),
    "nested": text("manifest.json", "[" * 60000), "special file: FIFO": at("manifest.json", fifo),
    "bits: the graph": at("saved_model.pb", bit(0.5)), "bits: variables": at("variables/variables.index", bit(0.5)),
    "zeros: variables": at("variables/variables.data-00000-of-00001", zeros(0.4)),
    "truncated: the graph": at("saved_model.pb", bytes_of(lambda content: content[:100])),
    "missing: variables": at("variables/variables.index", os.unlink),
    "another file": text("assets/more.txt", "x"),
    "links: the graph": at("saved_model.pb", linked_file),
}


def broken(reader, inputs, writer, read):
    return [Broken(reader, *name.partition(": ")[::2], writer(damage), read) for name, damage in inputs.items()]


BROKEN = [
    *broken("cache", CACHE, broken_cache, read_cache),
    *broken("run.json", NOT_OF_THE_RUN, functools.partial(broken_run, known=False), lambda run: read_run(run, HIP)),
    *broken("run", CONTRADICTING, broken_run, lambda run: read_run(run, HIP)),
    *broken("weights", WEIGHTS, broken_weights, read_weights),
    *broken("state", STATE, broken_state, lambda path: load_state(path, SOUND["small"], 10)),
    *(Broken("history.csv", name, "", broken_run(text("history.csv", content)),
             lambda run: read_history(run / "history.csv")) for name, content in HISTORY.items()),
    *(Broken("transfer.txt", name, "", broken_run(text("transfer.txt", content)), initialisation_of)
      for name, content in TRANSFER.items()),
    Broken("transfer.txt", "missing", "", broken_run(at("transfer.txt", os.unlink)), initialisation_of),
    *broken("manifest", MANIFEST, broken_export, load_exported),
]


@pytest.mark.parametrize("broken", BROKEN, ids=str)
def test_refused(broken, tmp_path, capfd):
    check_refused(broken, tmp_path, capfd)


def test_there_are_enough_of_them():
    counts = Counter(one.reader for one in BROKEN)
    assert counts["cache"] >= 40 and counts["weights"] >= 20 and counts["state"] >= 15 and counts["manifest"] >= 20
