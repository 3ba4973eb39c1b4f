"""The model that is published in pretrained/head: complete, small, accurate, and in doubt where it should be."""

import csv
import types
from pathlib import Path

import cv2
import numpy as np
import pytest

from no_heads import as_image, damaged_heads, drawn_images, other_anatomy
from tfsono.__main__ import run
from tfsono.config import choose
from tfsono.configs.head import HEAD, LIKE_ITS_START
from tfsono.export import load_exported, read_manifest
from tfsono.inference.head import head_module
from tfsono.models.head import build
from tfsono.phantoms.dataset import write_head_dataset
from tfsono.predict.sources import Options
from tfsono.systems.commands import open_predictor
from tfsono.systems.first_weights import first_weights
from tfsono.volumes.image import read_volume

FOLDER = Path(__file__).resolve().parents[1] / "pretrained" / "head"


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_it_is_complete_and_small():
    manifest = read_manifest(FOLDER)  # every checksum holds
    assert set(manifest["input"]) == {"image"}
    assert manifest["system"] == "head" and manifest["source"]["training_cases"] == 787
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) <= 8e6
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(word in card for word in ("CC BY 4.0", "van den Heuvel", "Split", "Limits", "Not for clinical use"))


def test_images_that_it_learned_from(shared_data, tmp_path, capsys):
    """Two of the 787; the card has the errors of its folds, each on images that it did not see."""
    table = shared_data / "hc18" / "pixel_size_and_hc.csv"
    known = {row[next(iter(row))]: [float(value) for value in list(row.values())[1:3]] for row in rows_of(table)}
    for name in ("261_HC", "417_HC"):
        pixel_mm, hc_mm = known[f"{name}.png"]
        image = shared_data / "hc18" / "images" / f"{name}.png"
        assert run(["predict", str(FOLDER), str(image), "--pixel_size_mm", str(pixel_mm), "--samples", "0",
                    "--out", str(tmp_path / name)]) == 0
        row = rows_of(tmp_path / name / "measurements.csv")[0]
        assert float(row["hc_mm"]) == pytest.approx(hc_mm, abs=5), capsys.readouterr().out
        assert (tmp_path / name / f"{name}.png").is_file()


@pytest.fixture(scope="module")
def predictor():
    """Opened once; it writes nothing."""
    return open_predictor(FOLDER, Options(pixel_size_mm="0.12", samples=0, gestational_age="20w0d"))


def test_what_is_no_head_has_a_word(predictor, tmp_path):
    """None of 26 images without a whole head is measured as if it were one."""
    images = drawn_images() | other_anatomy() | damaged_heads()
    assert len(images) == 26
    check_flagged(predictor, images, tmp_path)


def test_slices_of_mr_have_a_word(predictor, shared_data, tmp_path):
    """Of three atlases of fetal brains, whose outline is a head's."""
    atlases = sorted((shared_data / "fetal_brain_mr").glob("*/srr.nii.gz"))[::5]
    volumes = {path.parent.name: read_volume(path).array for path in atlases}
    check_flagged(predictor, {f"{name}_{axis}": as_image(np.rot90(np.take(volume, volume.shape[axis] // 2, axis)))
                              for name, volume in volumes.items() for axis in range(3)}, tmp_path)


def check_flagged(predictor, images, folder):
    """Each is predicted without an ellipse, or flagged, and says so; none has an age or a z-score."""
    for name, pixels in images.items():
        found = predictor.of_file(written(folder / f"{name}.png", pixels), name)
        row, = found.measurements
        assert row["flagged"] and row["flags"] and row["no_gestational_age"] in ("flagged", "undefined"), found.text
        assert not any(row[key] for key in ("gestational_age", "gestational_age_bpd_weeks", "hc_z_score"))
        assert "FLAGGED" in found.text or "undefined" in found.text


def test_a_border_around_a_head(predictor, shared_data, tmp_path):
    """Black, and as wide as the image on each side, with a line of text: within a per cent."""
    pixels = cv2.imread(str(shared_data / "hc18" / "images" / "261_HC.png"), cv2.IMREAD_GRAYSCALE)
    screen = np.pad(pixels, ((540, 540), (800, 800)))
    cv2.putText(screen, "OB 2/3 Trim 12:34", (60, 120), 0, 2.0, color=220, thickness=4)
    plain, screen = (predictor.of_file(written(tmp_path / f"{name}.png", image)).measurements[0]
                     for name, image in (("plain", pixels), ("screen", screen)))
    assert screen["hc_mm"] == pytest.approx(plain["hc_mm"], rel=0.01) and screen["cut_to_px"]
    assert plain["flags"] == screen["flags"] and plain["gestational_age"] and plain["hc_z_score"]


def written(path, pixels):
    assert cv2.imwrite(str(path), pixels)
    return path


def test_a_synthetic_head(tmp_path):
    write_head_dataset(tmp_path / "phantom", 1, 3, (540, 800), (0.15, 0.16))
    reference = rows_of(tmp_path / "phantom" / "pixel_sizes.csv")[0]
    assert run(["predict", str(FOLDER), str(tmp_path / "phantom" / "images"), "--pixel_size_mm",
                reference["pixel_size_mm"], "--samples", "0", "--out", str(tmp_path / "out")]) == 0
    found = float(rows_of(tmp_path / "out" / "measurements.csv")[0]["hc_mm"])
    assert found == pytest.approx(float(reference["head_circumference_mm"]), rel=0.1)


def test_it_is_a_start_for_a_training(tmp_path):
    """As the card says: preset quick has its network, which then predicts what the model does."""
    config = choose(HEAD, "quick", "unet", {"start_from": str(FOLDER)}).config
    network = build(config)
    start = types.SimpleNamespace(config=config, run_dir=tmp_path)
    assert first_weights(network, start, HEAD, {}, LIKE_ITS_START).startswith("from the exported model ")
    image = np.random.default_rng(0).integers(0, 256, (200, 300)).astype(np.float32)
    one, other = (model(image)["probability"] for model in (head_module(network, config), load_exported(FOLDER)[0]))
    np.testing.assert_allclose(one, other, atol=1e-5)
