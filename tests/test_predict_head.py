"""`tfsono predict` for `head`: millimetres, points and masks in the image's pixels, ensembles, undefined values."""

from __future__ import annotations

import contextlib
import csv
import importlib
import json
import shutil
import sys
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
import SimpleITK as sitk
import tensorflow as tf

from tfsono.__main__ import run as tfsono
from tfsono.config import choose
from tfsono.configs.head import HEAD
from tfsono.errors import UserError
from tfsono.export import export_module
from tfsono.geometry.ellipse import Ellipse
from tfsono.inference.head import HeadLandmarkModule, HeadSegmentationModule, Preparation
from tfsono.metrics.biometry import gestational_age_by_bpd, gestational_age_by_hc
from tfsono.metrics.growth import bpd_z_score, centile, hc_z_score, weeks_and_days
from tfsono.models import head
from tfsono.predict.head import MEASURING, aligned, found_points, is_input, spread_of
from tfsono.predict.pixel_sizes import read_pixel_sizes
from tfsono.predict.sources import Options
from tfsono.systems.commands import export_run, predict
from tfsono.systems.head import load_runs, manifest_of, measuring_of
from tfsono.training.record import record_files
from tfsono.training.run import Run, open_run
from tfsono.volumes.landmarks import read_landmarks

FRAME = (96, 128)
SIZE = (243, 361)
REFERENCE = Ellipse((170.3, 118.9), 91.0, 70.5, 0.4)
SETTINGS = choose(HEAD, "quick", "unet")


def ellipse_image(ellipse=REFERENCE, size=SIZE, seed=0):
    """A bright ellipse in noise."""
    noise = np.random.default_rng(seed).normal(0, 6, size)
    return np.clip(60 + 120 * ellipse.mask(size) + noise, 0, 255).astype(np.uint8)


def write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)
    return path


def rows_of(out_dir, name="measurements.csv"):
    with open(out_dir / name, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def manifest(variant="unet", **changes):
    settings = choose(HEAD, "quick", variant).replaced("test", monte_carlo_samples=4, **changes)
    mirrored = {"ofd_direction": [-1.0, 0.0], "bpd_direction": [0.0, 1.0]}  # OFD 1 on the right
    run = Run(Path("run"), settings, {}, {"end_order": mirrored})
    return {"system": "head", "input": {}, "output": {}, "measuring": measuring_of(run)}


def brightness_module(offset=-1.9, noise=0.5):
    """Segments what is bright: -1.9 puts the edge half way. Its dropout is noise, and `offset` moves its edge."""
    image = keras.Input((*FRAME, 1))
    x = keras.layers.GaussianNoise(noise, seed=1)(image)
    return HeadSegmentationModule(keras.Model(image, {"mask": keras.layers.Rescaling(3.0, offset)(x)}),
                                  Preparation(FRAME, 0, 8))


def point_module(points_px):
    """Predicts the same points for each image of `SIZE`."""
    from tfsono.geometry.letterbox import Letterbox

    image = keras.Input((*FRAME, 1))
    flat = keras.layers.Dense(8, kernel_initializer="zeros")(keras.layers.Flatten()(image))
    network = keras.Model(image, {"points": keras.layers.Reshape((4, 2))(flat)})
    network.layers[-2].bias.assign(Letterbox(SIZE, FRAME).points_to_target(points_px).ravel())
    return HeadLandmarkModule(network, Preparation(FRAME, 0, 8))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Exported models: three that segment, two that find points."""
    place = tmp_path_factory.mktemp("models")
    points = REFERENCE.end_points()
    made = {"one": brightness_module(), "two": brightness_module(-1.0), "three": brightness_module(-2.8, 0.3)}
    for name, module in made.items():
        export_module(module, place / name, manifest())
    export_module(point_module(points), place / "points", manifest("coordinate", dropout=0.0))
    moved = points[[1, 0, 2, 3]] + [[2.0, -1.0]]  # the ends of a pair exchanged
    export_module(point_module(moved), place / "moved", manifest("coordinate", dropout=0.0))
    return place


@pytest.fixture
def image(tmp_path):
    return write(tmp_path / "in" / "head_1.png", ellipse_image())


def test_millimetres_points_and_mask(models, image, tmp_path, capsys):
    out = tmp_path / "out"
    assert tfsono(["predict", str(models / "one"), str(image), "--out", str(out), "--pixel_size_mm", "0.2"]) == 0
    row, = rows_of(out)
    expected = {"bpd": 2 * REFERENCE.semi_minor_px, "ofd": 2 * REFERENCE.semi_major_px,
                "hc": REFERENCE.circumference_px()}
    for key, length in expected.items():
        assert float(row[f"{key}_px"]) == pytest.approx(length, rel=0.01)
        assert float(row[f"{key}_mm"]) == pytest.approx(float(row[f"{key}_px"]) * 0.2, abs=1e-3)
        assert 0 < float(row[f"{key}_sd_dropout_mm"]) < 0.03 * length * 0.2
        assert row[f"{key}_sd_members_mm"] == ""
    assert (row["case"], row["flags"], row["samples"], row["members"]) == ("head_1", "", "4", "1")
    assert float(row["angle_degrees"]) == pytest.approx(np.degrees(REFERENCE.angle_rad), abs=2)
    mask = cv2.imread(str(out / "head_1_mask.png"), cv2.IMREAD_UNCHANGED)
    assert mask.shape == SIZE and set(np.unique(mask)) == {0, 255}
    reference = REFERENCE.mask(SIZE)
    assert 2 * ((mask > 0) & reference).sum() / ((mask > 0).sum() + reference.sum()) > 0.99
    point_row, = rows_of(out, "landmarks.csv")
    assert point_row["image_name"] == "head_1.png"
    points = np.array([float(point_row[f"{name}_{axis}"]) for name in ("ofd_1", "ofd_2", "bpd_1", "bpd_2")
                       for axis in "xy"]).reshape(4, 2)
    assert np.abs(points - REFERENCE.end_points()[[1, 0, 2, 3]]).max() < 3
    marked = read_landmarks(out / "head_1_landmarks.mrk.json")
    np.testing.assert_allclose([marked[name] for name in ("ofd_1", "ofd_2", "bpd_1", "bpd_2")],
                               np.pad(points * 0.2, ((0, 0), (0, 1))), atol=1e-3)
    assert cv2.imread(str(out / "head_1.png")).shape[1] == 960
    curve = next(one for one in json.loads((out / "head_1_landmarks.mrk.json").read_text())["markups"]
                 if one["type"] == "ClosedCurve")
    places = np.array([point["position"] for point in curve["controlPoints"]])
    assert REFERENCE.distances(places[:, :2] / 0.2).max() < 3 and not places[:, 2].any()
    shown = sitk.ReadImage(str(out / "head_1_image.mha"))  # on which they lie in Slicer
    assert shown.GetSpacing() == pytest.approx((0.2, 0.2, 1.0)) and not any(shown.GetOrigin())
    np.testing.assert_array_equal(sitk.GetArrayFromImage(shown)[0], ellipse_image())
    challenge, = rows_of(out, "hc18.csv")
    assert list(challenge) == ["filename", "center_x_mm", "center_y_mm", "semi_axes_a_mm", "semi_axes_b_mm",
                               "angle_rad"]
    assert challenge.pop("filename") == "head_1.png"
    np.testing.assert_allclose([float(value) for value in challenge.values()],
                               [170.3 * 0.2, 118.9 * 0.2, 91.0 * 0.2, 70.5 * 0.2, 0.4], atol=0.2)
    printed = capsys.readouterr().out
    assert "HC" in printed and "dropout" not in printed


def test_without_a_pixel_size_there_are_no_millimetres(models, image, tmp_path, capsys):
    assert predict(models / "one", [image], tmp_path / "out") == 0
    row, = rows_of(tmp_path / "out")
    assert row["flags"] == "no pixel size" and float(row["hc_px"]) > 0
    assert all(row[key] == "" for key in row if key.endswith(("_mm", "_weeks")))
    assert not (tmp_path / "out" / "head_1_landmarks.mrk.json").exists()
    printed = capsys.readouterr().out
    assert "no pixel size" in printed and " px" in printed and " mm" not in printed


def test_dicom_brings_its_pixel_size(models, tmp_path):
    image = sitk.GetImageFromArray(ellipse_image()[None])
    for tag, value in {"0008|0060": "US", "0008|0016": "1.2.840.10008.5.1.4.1.1.6.1",  # ultrasound image storage
                       "0028|0030": "0.25\\0.25"}.items():
        image.SetMetaData(tag, value)
    path = tmp_path / "in" / "head_1.dcm"
    path.parent.mkdir()
    sitk.WriteImage(image, str(path))
    assert predict(models / "one", [path.parent], tmp_path / "out", Options(samples=0)) == 0
    row, = rows_of(tmp_path / "out")
    assert float(row["pixel_size_mm"]) == 0.25 and "no pixel size" not in row["flags"]
    assert float(row["ofd_mm"]) == pytest.approx(2 * REFERENCE.semi_major_px * 0.25, rel=0.01)
    assert predict(models / "one", [path], tmp_path / "out", Options(pixel_size_mm="0.2", samples=0)) == 0
    row, = rows_of(tmp_path / "out")
    assert float(row["pixel_size_mm"]) == 0.2 and "the file says 0.25" in row["flags"]


def test_a_table_of_pixel_sizes(models, image, tmp_path):
    other = write(tmp_path / "in" / "head_2.png", ellipse_image(seed=1))
    table = tmp_path / "sizes.csv"
    table.write_text("filename,pixel size(mm),head circumference (mm)\nhead_1.png,0.1,44\n")
    assert predict(models / "one", [image, other], tmp_path / "out", Options(pixel_size_mm=str(table))) == 0
    assert [row["pixel_size_mm"] for row in rows_of(tmp_path / "out")] == ["0.1", ""]


@pytest.mark.parametrize("ellipse, flag", [
    (None, "undefined: no ellipse fits"), (Ellipse((330.0, 118.0), 91.0, 70.5, 0.0), "extends beyond the image"),
    (Ellipse((180.0, 121.0), 110.0, 50.0, 0.0), "unusual shape")])
def test_flags(models, tmp_path, capsys, ellipse, flag):
    far_too_small = Ellipse((180.0, 121.0), 12.0, 10.0, 0.0)
    path = write(tmp_path / "in" / "odd.png", ellipse_image(ellipse or far_too_small))
    assert predict(models / "one", [path], tmp_path / "out", Options(pixel_size_mm="0.2", samples=0)) == 0
    row, = rows_of(tmp_path / "out")
    assert flag in row["flags"] and row["flagged"] == "1" and row["no_gestational_age"] == (
        "undefined" if ellipse is None else "flagged")
    assert not any(row[key] for key in row if "age_" in key and key.endswith("weeks")) and not row["gestational_age"]
    printed = capsys.readouterr().out
    assert flag in printed and ("undefined" if ellipse is None else "FLAGGED, not to be relied on") in printed
    red = np.array([34, 34, 178])  # BGR, of the frame and behind the words
    overlay = cv2.imread(str(tmp_path / "out" / "odd.png"))
    assert (np.abs(overlay[400, :3].astype(int) - red) < 3).all()
    assert rows_of(tmp_path / "out", "hc18.csv") == [] if ellipse is None else True
    if ellipse is None:
        assert all(row[key] == "" for key in row if key.endswith(("_px", "_weeks", "_index", "_degrees")))
        point_row, = rows_of(tmp_path / "out", "landmarks.csv")
        assert point_row["ofd_1_x"] == "" and point_row["case"] == "odd"
        assert not (tmp_path / "out" / "odd_landmarks.mrk.json").exists()
    assert (tmp_path / "out" / "odd.png").is_file()


def test_ages_and_the_size_for_a_known_age(models, image, tmp_path, capsys):
    given = Options(pixel_size_mm="0.34", samples=0, gestational_age="20w3d")
    assert predict(models / "one", [image], tmp_path / "out", given) == 0
    row, = rows_of(tmp_path / "out")
    hc, bpd = float(row["hc_mm"]), float(row["bpd_mm"])
    weeks = gestational_age_by_hc(hc)
    assert float(row["gestational_age_hc_weeks"]) == pytest.approx(weeks, abs=0.01)
    assert float(row["gestational_age_bpd_weeks"]) == pytest.approx(
        gestational_age_by_bpd(-0.403458 + 0.9714153 * bpd), abs=0.01)
    assert row["gestational_age"] == weeks_and_days(weeks) and row["no_gestational_age"] == ""
    assert float(row["gestational_age_2sd_weeks"]) == pytest.approx(0.08 * weeks, abs=0.01)
    assert row["given_age"] == "20w3d" and float(row["hc_z_score"]) == pytest.approx(hc_z_score(hc, 143), abs=0.01)
    assert float(row["bpd_centile"]) == pytest.approx(centile(bpd_z_score(bpd, 143)), abs=0.1)
    printed = capsys.readouterr().out
    assert f"age {weeks_and_days(weeks)} ± " in printed and "at 20w3d: HC z " in printed and "INTERGROWTH" in printed
    assert predict(models / "one", [image], tmp_path / "small", Options(pixel_size_mm="0.1", samples=0)) == 0
    row, = rows_of(tmp_path / "small")
    assert row["no_gestational_age"] == "outside 14 to 42 weeks" and row["gestational_age"] == row["given_age"] == ""
    assert "no gestational age: outside 14 to 42 weeks" in capsys.readouterr().out


@pytest.mark.parametrize("source", ["one", "points"])
def test_a_border_changes_nothing(models, tmp_path, source):
    """The image of a screen capture is measured as without the border, and its predictions lie where the head is."""
    plain = write(tmp_path / "in" / "plain.png", ellipse_image())
    screen = write(tmp_path / "in" / "screen.png", np.pad(ellipse_image(), ((100, 60), (200, 90))))
    given = Options(pixel_size_mm="0.34", samples=0)
    assert predict(models / source, [plain, screen], tmp_path / "out", given) == 0
    plain, screen = rows_of(tmp_path / "out")
    assert (plain["cut_to_px"], screen["cut_to_px"]) == ("", "x 200 to 561, y 100 to 343")
    moved = {"case", "file", "center_x_px", "center_y_px", "cut_to_px"}
    assert {key: value for key, value in plain.items() if key not in moved} == {
        key: value for key, value in screen.items() if key not in moved}
    assert float(screen["center_x_px"]) == pytest.approx(float(plain["center_x_px"]) + 200, abs=2e-3)
    assert float(screen["center_y_px"]) == pytest.approx(float(plain["center_y_px"]) + 100, abs=2e-3)
    points = [[float(row[f"{name}_x"]) for name in ("ofd_1", "bpd_2")] for row in rows_of(tmp_path / "out",
                                                                                         "landmarks.csv")]
    np.testing.assert_allclose(np.subtract(*points[::-1]), 200, atol=2e-3)
    if source == "one":
        masks = [cv2.imread(str(tmp_path / "out" / f"{name}_mask.png"), -1) for name in ("plain", "screen")]
        np.testing.assert_array_equal(np.pad(masks[0], ((100, 60), (200, 90))), masks[1])


def test_an_ensemble_of_several_models(models, image, tmp_path):
    others = Options(pixel_size_mm="0.2", ensemble_with=tuple(str(models / name) for name in ("two", "three")))
    assert predict(models / "one", [image], tmp_path / "together", others) == 0
    together, = rows_of(tmp_path / "together")
    single = []
    for name in ("one", "two", "three"):
        assert predict(models / name, [image], tmp_path / name, Options(pixel_size_mm="0.2")) == 0
        single.append(rows_of(tmp_path / name)[0])
    assert (together["members"], together["samples"]) == ("3", "12")
    lengths = [float(row["hc_mm"]) for row in single]
    assert float(together["hc_sd_members_mm"]) == pytest.approx(np.std(lengths, ddof=1), abs=2e-3)
    assert min(lengths) < float(together["hc_mm"]) < max(lengths)
    within = [float(row["hc_sd_dropout_mm"]) for row in single]
    assert float(together["hc_sd_dropout_mm"]) == pytest.approx(np.sqrt(np.mean(np.square(within))), abs=2e-3)


def test_points_of_several_models_have_one_order(models, image, tmp_path):
    with_other = Options(pixel_size_mm="0.5", ensemble_with=(str(models / "moved"),))
    assert predict(models / "points", [image], tmp_path / "out", with_other) == 0
    row, = rows_of(tmp_path / "out")
    assert float(row["ofd_mm"]) == pytest.approx(REFERENCE.semi_major_px, abs=0.01)
    assert float(row["bpd_mm"]) == pytest.approx(REFERENCE.semi_minor_px, abs=0.01)
    point_row, = rows_of(tmp_path / "out", "landmarks.csv")
    assert float(point_row["ofd_1_x"]) == pytest.approx(REFERENCE.end_points()[0, 0] + 1, abs=0.01)
    assert not (tmp_path / "out" / "head_1_mask.png").exists() and row["samples"] == "0"
    with pytest.raises(UserError, match="one kind"):
        predict(models / "points", [image], tmp_path / "out", Options(ensemble_with=(str(models / "one"),)))


def test_a_rerun_does_only_what_has_changed(models, image, tmp_path, capsys):
    out, options = tmp_path / "out", Options(pixel_size_mm="0.2", samples=0)

    def printed(source="one", options=options, overwrite=False):
        assert predict(models / source, [image.parent], out, options, overwrite) == 0
        return capsys.readouterr().out

    assert "HC" in printed()
    before = (out / "head_1_mask.png").stat().st_mtime_ns
    assert "already" in printed() and (out / "head_1_mask.png").stat().st_mtime_ns == before
    assert "already" not in printed(overwrite=True)
    assert "already" not in printed(options=Options(pixel_size_mm="0.3", samples=0))
    assert float(rows_of(out)[0]["pixel_size_mm"]) == 0.3
    assert "already" not in printed("two", Options(pixel_size_mm="0.3", samples=0))
    write(image, ellipse_image(seed=3))
    assert "already" not in printed("two", Options(pixel_size_mm="0.3", samples=0))
    (out / "head_1.png").unlink()
    assert "already" not in printed("two", Options(pixel_size_mm="0.3", samples=0))
    write(image.parent / "head_2.png", ellipse_image(seed=4))
    text = printed("two", Options(pixel_size_mm="0.3", samples=0))
    assert text.count("already") == 1 and len(rows_of(out)) == 2
    # points instead of a mask: the mask of before is gone
    printed("points", Options(pixel_size_mm="0.3"))
    assert not (out / "head_1_mask.png").exists()


def test_one_bad_image_does_not_stop_the_others(models, image, tmp_path, capsys):
    folder = image.parent
    (folder / "letter.png").write_text("This is a letter.\n" * 40)
    (folder / "cut.png").write_bytes(image.read_bytes()[:2000])
    write(folder / "grey.png", np.full(SIZE, 7, np.uint8))
    write(folder / "head_1_Annotation.png", np.zeros(SIZE, np.uint8))
    write(folder / "colour.png", np.stack([ellipse_image(seed=channel) for channel in range(3)], -1))
    assert predict(models / "one", [folder, tmp_path / "absent.png"], tmp_path / "out", Options(samples=0)) == 2
    note, *printed = capsys.readouterr().err.strip().splitlines()
    assert "does not say what it was trained on" in note
    assert len(printed) == 5 and "4 of 6 failed" in printed[-1]
    assert all(any(name in line for line in printed) for name in ("letter.png", "cut.png", "grey.png", "absent.png"))
    rows = {row["case"]: row for row in rows_of(tmp_path / "out")}
    assert set(rows) == {"head_1", "colour"}
    assert len(rows["colour"]["flags"].split("; ")) == 2  # no pixel size, and what was done to the colours


def test_files_of_the_user_are_not_overwritten(models, image, tmp_path, capsys):
    before = image.read_bytes()
    assert predict(models / "one", [image], image.parent, Options(samples=0)) == 2
    assert "choose another --out" in capsys.readouterr().err and image.read_bytes() == before
    with pytest.raises(UserError, match="folder of the inputs"):
        predict(models / "one", [image.parent], image.parent)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "hc18.csv").write_text("filename,mine\na.png,1\n")
    with pytest.raises(UserError, match="hc18.csv: not the hc18 of an earlier prediction"):
        predict(models / "one", [image], tmp_path / "mine", Options(samples=0))


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A run with random weights: what matters here is around the network."""
    settings = SETTINGS.replaced("test", input_size=(64, 96), unet_widths=(4, 6, 8), monte_carlo_samples=2)
    folder = tmp_path_factory.mktemp("runs") / "small"
    run = open_run(folder, settings, {"train": ["a"], "validation": [], "test": ["b"]},
                   {"dataset": "phantom", "cases": ["a", "b"], "labels": {"head": 1}})
    keras.utils.set_random_seed(3)
    network = head.build(run.config)
    network.get_layer("mask").set_weights([40 * w for w in network.get_layer("mask").get_weights()])
    network.save_weights(folder / "last.weights.h5")
    record_files(folder)
    return folder


def test_a_run_and_its_export_give_the_same_files(run_dir, image, tmp_path):
    exported = export_run(run_dir, tmp_path / "model")
    content = json.loads((exported / "manifest.json").read_text(encoding="utf-8"))
    assert content["system"] == "head" and content["measuring"]["part"] == "segmentation"
    assert content["source"]["variant"] == "unet" and "clinical use" in content["use"]
    assert content == {**content, **json.loads(json.dumps(manifest_of(load_runs([run_dir])[0])))}
    signature = tf.saved_model.load(str(exported)).signatures["serving_default"]
    assert set(signature.structured_input_signature[1]) == set(content["input"]) == {"image"}
    for source, out in ((run_dir, "from_run"), (exported, "from_export")):
        assert predict(source, [image], tmp_path / out, Options(pixel_size_mm="0.2")) == 0
    assert rows_of(tmp_path / "from_run") == rows_of(tmp_path / "from_export")
    names = [sorted(path.name for path in (tmp_path / out).iterdir()) for out in ("from_run", "from_export")]
    assert names[0] == names[1]
    masks = [(tmp_path / out / "head_1_mask.png").read_bytes() for out in ("from_run", "from_export")]
    assert masks[0] == masks[1]


def test_a_card_next_to_an_export_is_no_damage(models, image, tmp_path):
    folder = shutil.copytree(models / "one", tmp_path / "model")
    (folder / "README.md").write_text("# Card")
    assert predict(folder, [image], tmp_path / "out", Options(samples=0)) == 0
    (folder / "other.md").write_text("x")
    with pytest.raises(UserError, match="not in the manifest"):
        predict(folder, [image], tmp_path / "out2")


@pytest.mark.parametrize("missing", ["measuring", "end_order", "threshold"])
def test_a_manifest_that_lacks_something(models, image, tmp_path, missing):
    folder = shutil.copytree(models / "one", tmp_path / "model")
    content = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    for holder in (content, content["measuring"]):
        holder.pop(missing, None)
    del content["sha256"]  # which would be refused first
    (folder / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"{missing} is missing; export the run again|measuring must have '{missing}'"):
        predict(folder, [image], tmp_path / "out")


def test_an_export_of_the_release_before(models, image, tmp_path):
    folder = shutil.copytree(models / "one", tmp_path / "model")
    content = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    del content["sha256"]  # which it did not have
    content["input"] = {"picture": {"dtype": "float32"}}
    for kind in ("none", "median"):
        content["measuring"]["denoise"] = kind
        (folder / "manifest.json").write_text(json.dumps(content))
        if kind == "none":
            assert predict(folder, [image], tmp_path / "out", Options(samples=0)) == 0
    with pytest.raises(UserError, match="manifest.json: .*denoise median.*0.1.0"):
        predict(folder, [image], tmp_path / "out2")


def test_the_measuring_that_is_written_is_the_one_that_is_read():
    assert set(manifest()["measuring"]) == set(MEASURING)


@contextlib.contextmanager
def imported_without_keras():
    """tfsono is imported anew, and no module of Keras can be; afterwards all are those of before."""
    names = [name for name in sys.modules if name.split(".")[0] in ("keras", "tfsono")]
    held = {name: sys.modules.pop(name) for name in names}
    sys.modules.update({name: None for name in ("keras", *names) if name.startswith("keras")})
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "tfsono"]:
            del sys.modules[name]
        sys.modules.update(held)


def test_an_export_predicts_without_keras(models, image, tmp_path):
    """Keras takes seconds to load, and a SavedModel has no use for it."""
    with imported_without_keras():
        assert importlib.import_module("tfsono") is not tfsono, "imported anew"
        run = importlib.import_module("tfsono.__main__").run
        assert not run(["predict", str(models / "one"), str(image), "--out", str(tmp_path / "out")])
    assert len(rows_of(tmp_path / "out")) == 1


@pytest.mark.parametrize("options, words", [
    ({"tiling": "fast"}, "--tiling: only for a model of hip"), ({"samples": -1}, "--samples -1"),
    ({"pixel_size_mm": "none.csv"}, "found neither"), ({"pixel_size_mm": "120"}, "millimetres"),
    ({"ensemble_with": ("nowhere",)}, "nowhere: expected a run folder"),
    ({"gestational_age": "20.4"}, "--gestational_age '20.4': expected weeks and days")])
def test_options_that_cannot_be(models, image, tmp_path, options, words):
    with pytest.raises(UserError, match=words):
        predict(models / "one", [image], tmp_path / "out", Options(**options))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text, words", [
    ("", "image_name and pixel_size_mm are needed"), ("image_name,size\na.png,1\n", "are needed"),
    ("image_name,pixel_size_mm\na.png,wide\n", "line 2: the pixel size must be a number; found 'wide'"),
    ("image_name,pixel_size_mm\na.png,0.1\na.png,0.2\n", "line 3: .*'a.png' twice"),
    ("image_name,pixel_size_mm\n,0.1\n", "as its name"), ("image_name,pixel_size_mm\na.png,-0.1\n", "line 2"),
    ("image_name,pixel_size_mm\na.png\n", "must be a number")])
def test_a_bad_table_of_pixel_sizes(tmp_path, text, words):
    (tmp_path / "sizes.csv").write_text(text)
    with pytest.raises(UserError, match=words):
        read_pixel_sizes(str(tmp_path / "sizes.csv"))


def test_pixel_sizes(tmp_path):
    (tmp_path / "sizes.csv").write_text("\ufeffimage_name,pixel_size_mm\na.png, 0.1\n\na.png,0.1\n")
    sizes = read_pixel_sizes(str(tmp_path / "sizes.csv"))
    assert sizes.of(tmp_path / "a.png", 0.3) == 0.1 and sizes.of(tmp_path / "b.png", 0.3) == 0.3
    assert read_pixel_sizes("0.25").of(tmp_path / "a.png", 0.3) == 0.25
    assert read_pixel_sizes("").of(tmp_path / "a.png", None) is None
    for text in ("nan", "inf", "0", "-1"):
        with pytest.raises(UserError):
            read_pixel_sizes(text)


def test_the_order_of_ends_and_the_spread_by_hand():
    points = np.array([[0.0, 0.0], [10, 0], [5, -3], [5, 3]])
    np.testing.assert_array_equal(aligned(points[[1, 0, 2, 3]], points), points)
    np.testing.assert_array_equal(aligned(points[[0, 1, 3, 2]], points), points)
    wide = found_points(points * [[1.0], [1.0], [2.0], [2.0]] - [[0, 0], [0, 0], [5, 0], [5, 0]])
    assert wide.lengths()[:2] == pytest.approx([10, 12])  # the longer pair is OFD, whatever it is called
    spread = spread_of([found_points(points), wide, found_points(np.full((4, 2), np.nan))])
    assert (spread.count, spread.undefined) == (3, 1)
    assert spread.deviation_px[:2] == pytest.approx([np.std([6, 10], ddof=1), np.std([10, 12], ddof=1)])
    assert np.isnan(spread_of([found_points(points)]).deviation_px).all()


def test_images_in_a_folder(tmp_path):
    assert is_input(tmp_path / "010_HC.png") and is_input(tmp_path / "a.jpg")
    assert not is_input(tmp_path / "010_HC_Annotation.png") and not is_input(tmp_path / "a_mask.png")
    assert not is_input(tmp_path / "table.csv")
