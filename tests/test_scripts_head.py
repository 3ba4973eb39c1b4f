"""`head` end to end through its scripts, on tiny phantoms: what a user types, and what it leaves."""

import csv
import json
import shutil
from types import SimpleNamespace

import cv2
import h5py
import numpy as np
import pytest

from small_caches import TINY_HEAD, write_head_cache, write_small_head_dataset
from tfsono.config import choose
from tfsono.configs.head import HEAD
from tfsono.data.cache import Cache
from tfsono.data.heads import (
    KnownHead,
    known_heads,
    learned_order,
    official_outlines,
    outline_margin_px,
    policy_line,
)
from tfsono.errors import UserError
from tfsono.export import load_exported
from tfsono.geometry.ellipse import Ellipse
from tfsono.geometry.head_labels import DEFAULT_ORDER
from tfsono.merge import merge
from tfsono.inference.head import head_module
from tfsono.models.head import build
from tfsono.systems.commands import export_run
from tfsono.systems.head import load_runs
from tfsono.training.fit import Recorder
from tfsono.training.record import record_files
from tfsono.training.run import load_weights, read_history, read_run
from wiring import modules_once, script

pytestmark = pytest.mark.usefixtures("blank_figures")

EVALUATED = ("unet", "unet_1", "coordinate")
OTHERS = [name for name in HEAD.variants if name not in ("paper", *EVALUATED)]


def train(place, name, *more, cache="small.h5", graphs=False):
    script("train", "head", graphs).main(["--data", str(place / cache), "--run_dir", str(place / "runs" / name),
                                          *TINY_HEAD, *map(str, more)])


def evaluate(place, names, out, *more, cache="small.h5"):
    script("evaluate", "head", graphs=True).main(["--data", str(place / cache), "--runs",
                                                  *(str(place / "runs" / name) for name in names),
                                                  "--out", str(place / out), *more])


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A dataset, its cache, and three runs: two folds of a segmentation network, and one that finds landmarks."""
    place = tmp_path_factory.mktemp("head")
    write_small_head_dataset(place / "dataset")
    write_head_cache(place / "dataset", place / "small.h5")
    for name in EVALUATED:
        train(place, name, "--variant", name.split("_")[0], "--fold", name.count("1"))
    return place


@pytest.fixture(scope="module", autouse=True)
def traced_once():
    with modules_once():
        yield


@pytest.mark.parametrize("name", [*EVALUATED, *(
    pytest.param(name, marks=[] if name == "heatmap" else [pytest.mark.slow]) for name in OTHERS)])
def test_every_network_trains_and_is_validated(place, name):
    run = place / "runs" / name
    if name in OTHERS:
        train(place, name, "--variant", name)
    assert {path.name for path in run.iterdir()} >= {
        "config.json", "command.txt", "versions.json", "split.json", "data.json", "history.csv", "run.json",
        "tensorboard", "best.weights.h5", "last.weights.h5", "state.h5", "finished.json", "initialisation.txt"}
    history = read_history(run / "history.csv")
    score = "validation_dice" if read_run(run, HEAD).config.part == "segmentation" else "validation_mre_mm"
    assert [row["step"] for row in history] == [1, 2]
    assert all(np.isfinite(row[score]) and np.isfinite(row["loss"]) for row in history)
    # A restart after each record: the rate is that of the beginning again.
    assert history[0]["learning_rate"] == pytest.approx(1e-3)


def test_folds_share_the_test_part_and_nothing_else(place):
    one, other = (read_run(place / "runs" / name, HEAD).split for name in ("unet", "unet_1"))
    assert one["test"] == other["test"] and len(one["test"]) >= 2
    assert set(one["validation"]) == set(other["train"]) and set(other["validation"]) == set(one["train"])
    with Cache(place / "small.h5", "head") as cache:
        subjects = [{cache.subjects[name] for name in one[part]} for part in ("train", "validation", "test")]
    assert not (subjects[0] & subjects[1] or subjects[0] & subjects[2] or subjects[1] & subjects[2])


def arrays(path):
    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[...]}) if isinstance(item, h5py.Dataset) else None)
    return found


def test_the_best_weights_of_landmarks_are_those_of_the_least_error(place):
    run = place / "runs" / "coordinate"
    errors = [row["validation_mre_mm"] for row in read_history(run / "history.csv")]
    best, last = arrays(run / "best.weights.h5"), arrays(run / "last.weights.h5")
    assert all(np.array_equal(best[name], last[name]) for name in best) == (errors[1] < errors[0])


def test_a_stopped_run_ends_with_the_weights_of_an_undisturbed_one(place, monkeypatch):
    written, record = [], Recorder.on_epoch_end

    def stopped(self, epoch, logs=None):
        record(self, epoch, logs)
        written.append(epoch)
        raise KeyboardInterrupt  # after the first record

    monkeypatch.setattr(Recorder, "on_epoch_end", stopped)
    with pytest.raises(KeyboardInterrupt):
        train(place, "again", "--variant", "coordinate")
    monkeypatch.undo()
    assert written == [0] and not (place / "runs" / "again" / "finished.json").exists()
    train(place, "again", "--variant", "coordinate")
    for name in ("last.weights.h5", "best.weights.h5", "state.h5"):
        one, other = (arrays(place / "runs" / run / name) for run in ("coordinate", "again"))
        assert one.keys() == other.keys() and len(one) > 20
        for key, value in one.items():
            np.testing.assert_array_equal(value, other[key], err_msg=f"{name} {key}")


def test_a_finished_run_is_left_as_it_is(place, capsys):
    before = (place / "runs" / "unet" / "last.weights.h5").read_bytes()
    train(place, "unet", "--variant", "unet")
    assert "nothing to do" in capsys.readouterr().out
    assert (place / "runs" / "unet" / "last.weights.h5").read_bytes() == before
    with pytest.raises(UserError, match="another configuration .fold: 0, 1"):
        train(place, "unet", "--variant", "unet", "--fold", "1")


# ------------------------------------------------------------------------------------------------ evaluation


@pytest.fixture(scope="module")
def results(place):
    evaluate(place, EVALUATED, "results", "--ensemble")
    return place / "results"


def test_a_row_a_case_and_run_and_the_ensembles(results, place):
    rows = rows_of(results / "cases.csv")
    test = read_run(place / "runs" / "unet", HEAD).split["test"]
    methods = {row["run"]: row["method"] for row in rows}
    assert methods == {"unet": "unet", "unet_1": "unet", "coordinate": "coordinate",
                       "ensemble_1": "unet, 2 runs together"}
    assert len(rows) == 4 * len(test)
    members = {row["run"]: row["members"] for row in rows}
    assert members["unet"] == "1" and members["ensemble_1"] == "2"
    assert all(row["hc_sd_dropout_px"] not in ("", "nan") for row in rows if row["run"] == "coordinate")
    assert all(row["hc_sd_members_px"] == "nan" for row in rows if row["run"] == "coordinate")


def test_numbers_are_those_of_the_files(results, place):
    """Against the dataset's own tables and masks, and the written masks and points, by NumPy alone."""
    sizes = {row["image_name"]: row for row in rows_of(place / "dataset" / "pixel_sizes.csv")}
    expected = {row["image_name"]: row for row in rows_of(place / "dataset" / "landmarks.csv")}
    for row in rows_of(results / "cases.csv"):
        name = f"{row['case']}.png"
        pixel, official = (float(sizes[name][key]) for key in ("pixel_size_mm", "head_circumference_mm"))
        assert float(row["hc_reference_mm"]) == pytest.approx(official)
        label = cv2.imread(str(place / "dataset" / "labels" / name), 0) > 0
        if row["mask"]:
            mask = cv2.imread(str(results / "runs" / row["mask"]), 0) > 0
            assert mask.shape == label.shape
            both = mask.sum() + label.sum()
            assert float(row["dice_percent"]) == pytest.approx(100 * 2 * (mask & label).sum() / both)
        if row["part"] == "landmarks":
            found, points = (np.reshape([float(held[f"{key}_{axis}{unit}"]) for key in
                                         ("ofd_1", "ofd_2", "bpd_1", "bpd_2") for axis in "xy"], (4, 2))
                             for held, unit in ((row, "_px"), (expected[name], "")))
            distances = np.linalg.norm(found - points, axis=1)
            # The reference is the mask's ellipse: within a pixel of the phantom's own.
            assert float(row["mre_exchanged_px"]) <= distances.mean() + 1
            lengths = sorted(np.linalg.norm(found[1::2] - found[::2], axis=1))
            assert (float(row["bpd_px"]), float(row["ofd_px"])) == pytest.approx(tuple(lengths), rel=1e-3)
            assert float(row["bpd_mm"]) == pytest.approx(float(row["bpd_px"]) * pixel)
            assert float(row["sdr_4"]) == pytest.approx(
                25 * sum(float(row[f"{key}_mm"]) <= 4 for key in ("ofd_1", "ofd_2", "bpd_1", "bpd_2")))


def test_folds_share_a_row_of_the_tables(results):
    lines = (results / "segmentation.csv").read_text(encoding="utf-8").splitlines()
    assert [line.split(",")[:2] for line in lines[1:]] == [["unet", "2"], ["coordinate", "1"],
                                                           ['"unet', ' 2 runs together"']]
    rows = [row for row in rows_of(results / "cases.csv") if row["method"] == "unet"]
    means = [np.mean([float(row["dice_percent"]) for row in rows if row["run"] == run]) for run in ("unet", "unet_1")]
    table = rows_of(results / "segmentation.csv")[0]
    assert float(table["Dice of masks %"]) == pytest.approx(np.mean(means))
    assert float(table["Dice of masks % std"]) == pytest.approx(np.std(means, ddof=1))


def test_tables_page_and_figures(results):
    names = {path.name for path in results.iterdir()}
    assert {f"{stem}.{kind}" for stem in ("segmentation", "landmarks", "measurements", "measurements_percent",
                                          "trimesters", "agreement", "differences", "label_floor")
            for kind in ("csv", "md", "tex")} <= names
    page = (results / "report.html").read_text(encoding="utf-8")
    assert "Label floor" in page and "data:image/png" in page and "landmark policy drop" in page
    figures = {path.name for path in (results / "figures").iterdir()}
    assert {"agreement.png", "methods.png", "1_best.png", "1_median.png", "2_worst.png", "history_unet.png"} <= figures


def test_a_stopped_evaluation_resumes(results, place, capsys):
    rows, path = rows_of(results / "cases.csv"), next((results / "runs").glob("coordinate_*")) / "cases.csv"
    path.write_text("\n".join(path.read_text(encoding="utf-8").splitlines()[:2]) + "\n")  # one of two cases
    evaluate(place, EVALUATED, "results", "--ensemble")
    printed = capsys.readouterr().out
    assert "1/1" in printed and "1/2" not in printed
    again = rows_of(results / "cases.csv")
    for one, other in zip(rows, again, strict=True):
        assert float(one["mre_px"]) == pytest.approx(float(other["mre_px"]), nan_ok=True)


@pytest.fixture(scope="module")
def tested(place):
    """The two folds as --fold_is test makes them: the fold is tested, beside the cases that both test."""
    for fold, name in enumerate(("unet", "unet_1")):
        run = shutil.copytree(place / "runs" / name, place / "runs" / f"tested_{fold}")
        config, split = (json.loads((run / f"{part}.json").read_text(encoding="utf-8")) for part in ("config", "split"))
        split |= {"test": sorted(split["test"] + split["validation"]), "validation": []}
        config["values"]["fold_is"], config["origins"]["fold_is"] = "test", ["command line", ""]
        for part, content in (("config", config), ("split", split)):
            (run / f"{part}.json").write_text(json.dumps(content))
        record_files(run)
    return place


def test_the_split_of_a_fold_that_is_tested(place):
    module, sizes = script("train", "head"), {}
    with Cache(place / "small.h5", "head") as cache:
        splits = []
        for fold in (0, 1):
            config = choose(HEAD, "quick", "unet", {"fold_is": "test", "fold": f"{fold}", "folds": "2",
                                                    "test_cases": "2"}).config
            start = SimpleNamespace(cache=cache, config=config, split_file=None)
            splits.append(module.split_by_examination(start, sizes))
        one, other = splits
        held = set(one["test"]) & set(other["test"])
        assert sorted([*one["train"], *other["train"], *held]) == sorted(cache.names) and len(held) == 2
        assert all(sorted(split["train"] + split["test"]) == sorted(cache.names) for split in splits)


def test_folds_are_one_table_of_all_images(tested, capsys):
    with pytest.raises(UserError, match="--interval_for .*tested_0: needs 80 images"):
        script("evaluate", "head").main(["--data", str(tested / "small.h5"), "--runs",
                                         *(str(tested / "runs" / f"tested_{fold}") for fold in (0, 1)), "--ensemble",
                                         "--samples", "0", "--out", str(tested / "folds"),
                                         "--interval_for", str(tested / "runs" / "tested_0")])
    rows = rows_of(tested / "folds" / "cases.csv")
    splits = {run: read_run(tested / "runs" / run, HEAD).split["test"] for run in ("tested_0", "tested_1")}
    held = set(splits["tested_0"]) & set(splits["tested_1"])
    for run, names in {**splits, "ensemble_1": held}.items():
        assert sorted(row["case"] for row in rows if row["run"] == run) == sorted(names)
    table = rows_of(tested / "folds" / "sizes.csv")
    first = table[0]
    assert (first["Head"], first["Images"]) == ("all", "8")  # every image of the cache
    of_cases = {}
    for row in rows:
        if row["method"] == first["Method"]:
            of_cases.setdefault(row["case"], []).append(float(row["dsc_percent"]))
    assert float(first["DSC %"]) == pytest.approx(np.mean([np.mean(values) for values in of_cases.values()]))
    assert sum(int(row["Images"]) for row in table if row["Method"] == first["Method"] and "HC" in row["Head"]) == 8
    together = rows_of(tested / "folds" / "held_out.csv")
    assert {row["Cases"] for row in together} == {"2"} and len(together) == 2
    assert not (tested / "runs" / "tested_0" / "interval.json").exists()


# ------------------------------------------------------------------------------------------------ further training


@pytest.fixture(scope="module")
def exported(place):
    """The run as SavedModels with its weights as they are, and in half of the space."""
    for name, weights in (("float32", "float32"), ("float16", "float16")):
        export_run(place / "runs" / "unet", place / name, weights=weights)
    return place


def first_weights_of(place, name, source, *more):
    """The weights that a training starts from, and its report."""
    with pytest.MonkeyPatch.context() as patch:
        kept = []
        patch.setattr("tfsono.training.fit.fit", lambda run, network, *_: kept.append(network.get_weights()))
        train(place, name, "--variant", "unet", "--start_from", source, *more)
    return kept[0], (place / "runs" / name / "initialisation.txt").read_text(encoding="utf-8")


def test_a_training_starts_from_a_run_or_an_exported_model(exported):
    run = read_run(exported / "runs" / "unet", HEAD)
    network = build(run.config)
    load_weights(run, network)
    expected = network.get_weights()
    for name, source, rounding in (("of_run", run.folder, 0), ("of_float32", exported / "float32", 1e-6),
                                   ("of_float16", exported / "float16", 2 ** -10)):
        found, report = first_weights_of(exported, name, source)
        assert report.startswith("from ") and str(source) in report
        for one, other in zip(found, expected, strict=True):  # with the smallest steps of float16, through a scale
            np.testing.assert_allclose(one, other, atol=2 ** -24 if name == "of_float16" else 0, rtol=rounding)


def test_an_exported_run_is_folded(exported):
    manifests = [json.loads((exported / name / "manifest.json").read_text(encoding="utf-8"))
                 for name in ("float32", "float16")]
    (run,), module = load_runs([exported / "runs" / "unet"])
    plain = head_module(build(run.config), run.config)
    load_weights(run, plain.network)
    norms = [[layer.name for layer in one.network.layers if layer.name.endswith("_norm")] for one in (plain, module)]
    for manifest in manifests:
        assert [f"{name}_norm" for name in manifest["folded"]] == norms[0] and not norms[1]
    image = np.random.default_rng(0).integers(0, 256, (54, 80)).astype(np.float32)
    found, whole = (one(image)["probability"].numpy() for one in (load_exported(exported / "float32")[0], module))
    np.testing.assert_array_equal(found, whole)
    np.testing.assert_allclose(whole, plain(image)["probability"], atol=1e-5)


@pytest.mark.parametrize("source, more, message", [
    ("runs/unet", ("--unet_widths", "4,6,10"), "of another network or data .unet_widths"),
    ("runs/coordinate", (), "of another network or data .network"),
    ("float32", ("--unet_widths", "4,6,10"), "--start_from .*float32: its network is another one"),
    ("runs/unet", ("--seed", "5"), "--start_from .*was trained on head_00., a test case here")])
def test_other_networks_and_tested_cases_are_no_start(exported, source, more, message):
    with pytest.raises(UserError, match=message):
        train(exported, "refused", "--variant", "unet", "--start_from", exported / source, *more)
    assert not (exported / "runs" / "refused").exists()


def test_weights_in_half_of_the_space_predict_the_same(exported):
    image = np.random.default_rng(0).integers(0, 256, (54, 80)).astype(np.float32)
    (whole, manifest), (half, of_half) = (load_exported(exported / name) for name in ("float32", "float16"))
    one, other = (model(image)["probability"].numpy() for model in (whole, half))
    np.testing.assert_allclose(one, other, atol=2e-3)
    assert (one != other).any()
    assert of_half["network"]["weights"] == "float16" and of_half["measuring"]["dropout"] == 0
    sizes = [(exported / name / "variables" / "variables.data-00000-of-00001").stat().st_size
             for name in ("float32", "float16")]
    assert sizes[1] < 0.8 * sizes[0]


# ------------------------------------------------------------------------------------------------ what data may lack


@pytest.fixture(scope="module")
def bare(place):
    """The dataset without pixel sizes and masks: a table of points, with the two names exchanged in every row."""
    shutil.copytree(place / "dataset", place / "bare")
    (place / "bare" / "pixel_sizes.csv").unlink()
    shutil.rmtree(place / "bare" / "labels")
    entry = json.loads((place / "bare" / "dataset.json").read_text(encoding="utf-8"))
    (place / "bare" / "dataset.json").write_text(json.dumps({**entry, "labels": {}}))
    text = (place / "bare" / "landmarks.csv").read_text(encoding="utf-8")
    header, rest = text.split("\n", 1)
    header = header.replace("ofd", "x_x").replace("bpd", "ofd").replace("x_x", "bpd")
    (place / "bare" / "landmarks.csv").write_text(f"{header}\n{rest}")
    write_head_cache(place / "bare", place / "bare.h5")
    return place


def test_without_pixel_sizes_and_masks_points_and_pixels_remain(bare, capsys):
    train(bare, "bare", "--variant", "coordinate", cache="bare.h5")
    printed = capsys.readouterr().out
    assert "8 of 8 cases have no pixel size" in printed and "(0 of 8 cases)" in printed and "names exchanged" in printed
    assert "validation_mre_px" in read_history(bare / "runs" / "bare" / "history.csv")[0]
    evaluate(bare, ("bare",), "bare_results", "--samples", "0", "--set", "heatmap_decode=centroid",
             cache="bare.h5")
    for table in (bare / "bare_results").glob("*.csv"):
        if table.name != "cases.csv":
            assert " mm" not in table.read_text(encoding="utf-8").splitlines()[0]
    assert not (bare / "bare_results" / "label_floor.csv").exists()
    assert {row["reference"] for row in rows_of(bare / "bare_results" / "cases.csv")} == {"points"}


def test_what_a_policy_makes_of_the_labels(bare):
    with Cache(bare / "bare.h5", "head") as cache:
        heads = known_heads(cache, cache.names)
    right = {row["image_name"][:-4]: np.reshape([float(row[f"{key}_{axis}"]) for key in
                                                ("bpd_1", "bpd_2", "ofd_1", "ofd_2") for axis in "xy"], (4, 2))
             for row in rows_of(bare / "bare" / "landmarks.csv")}
    order = learned_order(heads, heads, "drop")
    for name, head in heads.items():
        assert head.ellipse is None and head.pixel_size_mm is None and head.size is None
        np.testing.assert_allclose(head.learned_points("drop", order), order.ordered(right[name]), atol=1e-3)
        np.testing.assert_allclose(head.learned_points("keep"), right[name][[2, 3, 0, 1]], atol=1e-3)
        assert head.learned_points("ellipse") is None
    assert "8 of 8 cases; of the labels used, 8 names exchanged" in policy_line(heads, list(heads), "repair")
    assert "0 of 8 cases, 8 excluded" in policy_line(heads, list(heads), "ellipse")


def test_kept_labels_are_validated_with_and_others_are_not(place):
    module = script("train", "head")
    ellipse = Ellipse((50.0, 50.0), 40.0, 30.0, 0.1)
    wrong = ellipse.end_points()[[2, 3, 1, 0]] + 1.0  # names exchanged, ends too
    head, order = KnownHead(ellipse, wrong, 0.5, None), DEFAULT_ORDER
    found = {}
    for policy in ("drop", "keep"):
        config = choose(HEAD, "quick", "heatmap", {"landmark_policy": policy}).config
        found[policy] = [module.points_of(head, part, config, order) for part in ("train", "validation")]
    np.testing.assert_allclose(found["drop"], [ellipse.end_points() + 1, ellipse.end_points()])
    np.testing.assert_allclose(found["keep"][0], found["keep"][1])
    assert np.linalg.norm(found["keep"][0][1] - found["keep"][0][0]) == pytest.approx(60)  # named OFD, and is BPD
    masked = choose(HEAD, "quick", "unet").config
    assert module.points_of(head, "train", masked, order) is None  # the mask is better
    assert module.points_of(KnownHead(None, wrong, 0.5, None), "train", masked, order) is not None


def test_a_mask_is_drawn_where_there_are_points_alone(bare, place):
    module, config = script("train", "head"), read_run(place / "runs" / "unet", HEAD).config
    masks = []
    for name in ("small.h5", "bare.h5"):
        with Cache(place / name, "head") as cache:
            heads = known_heads(cache, cache.names)
            split = {"train": cache.names, "validation": []}
            labels = module.Labels(heads, module.end_order(heads, cache.names, config), None)
            train_part, validation = module.load_parts(cache, labels, split, config)
        assert validation is None and train_part.points_px.shape == (8, 0, 2)
        masks.append(train_part.masks > 0)
    overlap = 2 * (masks[0] & masks[1]).sum((1, 2)) / (masks[0].sum((1, 2)) + masks[1].sum((1, 2)))
    assert overlap.min() > 0.93  # of heads some 15 pixels wide


def test_the_margin_of_a_drawn_outline():
    def head(official_px, pixel=0.5):
        ellipse = Ellipse((50.0, 50.0), 40.0, 30.0, 0.0)
        return KnownHead(ellipse, None, pixel, official_px and official_px * pixel)

    inner = Ellipse((50.0, 50.0), 38.5, 28.5, 0.0).circumference_px()
    heads = {str(i): head(inner, 0.2 + 0.1 * i) for i in range(5)}
    assert outline_margin_px(heads, heads) == pytest.approx(1.5, abs=0.01)
    assert outline_margin_px({**heads, "4": head(None)}, heads) is None  # four cases are too few
    exact = {str(i): head(Ellipse((50.0, 50.0), 40.0, 30.0, 0.0).circumference_px()) for i in range(5)}
    assert outline_margin_px(exact, exact) is None


def test_a_masks_margin_is_taken_off_its_ellipse_and_the_mask_is_redrawn():
    train_module, evaluate_module = script("train", "head"), script("evaluate", "head")
    heads = {"a": KnownHead(Ellipse((50.0, 52.0), 40.0, 30.0, 0.3), None, 0.5, None),
             "small": KnownHead(Ellipse((50.0, 52.0), 4.0, 1.4, 0.3), None, 0.5, None),
             "none": KnownHead(None, None, 0.5, None)}
    assert official_outlines(heads, None) == heads
    found = official_outlines(heads, 1.5)
    smaller = Ellipse((50.0, 52.0), 38.5, 28.5, 0.3)
    assert found["a"].ellipse == smaller and found["a"].margin_px == 1.5
    assert found["small"].ellipse is None and found["none"].ellipse is None
    config = choose(HEAD, "quick", "unet").config
    drawn = train_module.points_of(found["a"], "train", config, DEFAULT_ORDER)
    np.testing.assert_allclose(drawn, smaller.end_points())
    case = SimpleNamespace(label=heads["a"].ellipse.mask((101, 103)).T[:, :, None].astype(np.uint8))
    assert evaluate_module.reference_mask(case, heads["a"]).sum() == case.label.sum()
    np.testing.assert_array_equal(evaluate_module.reference_mask(case, found["a"]), smaller.mask((101, 103)))


# ------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize("more, message", [
    (["--precision", "mixed_float16"], "--precision mixed_float16"),
    (["--fold", "2"], "--fold: expected 0 to 1"),
    (["--test_cases", "9"], "--test_cases 9"),
    (["--folds", "9"], "--folds 9"),
    (["--backbone_weights", "none.h5"], "--backbone_weights"),
])
def test_what_cannot_be_leaves_no_folder(place, more, message):
    with pytest.raises(UserError, match=message):
        train(place, "bad", "--variant", "heatmap", *more)
    assert not (place / "runs" / "bad").exists()


def test_a_policy_that_accepts_nothing_is_refused(bare):
    with pytest.raises(UserError, match="none of the .* training cases has points that --landmark_policy ellipse"):
        train(bare, "bad", "--variant", "heatmap", "--landmark_policy", "ellipse", cache="bare.h5")


def test_runs_that_cannot_be_compared(place):
    shutil.copytree(place / "runs" / "unet", place / "runs" / "other")
    split = json.loads((place / "runs" / "other" / "split.json").read_text(encoding="utf-8"))
    split["test"], split["train"] = split["test"][1:], split["train"] + split["test"][:1]
    (place / "runs" / "other" / "split.json").write_text(json.dumps(split))
    record_files(place / "runs" / "other")
    with pytest.raises(UserError, match="other test cases"):
        evaluate(place, ("unet", "other"), "bad")
    with pytest.raises(UserError, match="--samples -1"):
        evaluate(place, ("unet",), "bad", "--samples", "-1")
    with pytest.raises(UserError, match="found no such file or folder"):
        evaluate(place, ("nowhere",), "bad")
    assert not (place / "bad").exists()


def test_parts_of_an_evaluation_give_the_tables_of_one_process(place, tmp_path):
    names, out = ["unet"], tmp_path / "out"
    evaluate(place, names, tmp_path / "one", "--samples", "0")
    for number in (2, 1):
        evaluate(place, names, out, "--samples", "0", "--part", f"{number}/2")
    assert not (out / "cases.csv").exists() and not (out / "report.html").exists(), "no tables of a part"
    assert merge(out)[1] == []
    evaluate(place, names, out, "--samples", "0")
    written = {path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file()}
    assert {path for path in written if (out / path).read_bytes() != (tmp_path / "one" / path).read_bytes()} == set()
    assert not list((out / "part_1_of_2").glob("*.md"))
