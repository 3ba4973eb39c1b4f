"""The model that is published in pretrained/head: complete, small, and accurate on images that it never saw."""

import csv
import types
from pathlib import Path

import numpy as np
import pytest

from tfsono.__main__ import run
from tfsono.config import choose
from tfsono.configs.head import HEAD, LIKE_ITS_START
from tfsono.export import load_exported, read_manifest
from tfsono.inference.head import head_module
from tfsono.models.head import build
from tfsono.phantoms.dataset import write_head_dataset
from tfsono.systems.first_weights import first_weights
from tfsono.systems.manifest import with_current_keys

FOLDER = Path(__file__).resolve().parents[1] / "pretrained" / "head"


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_it_is_complete_and_small():
    manifest = read_manifest(FOLDER)  # every checksum holds
    assert set(with_current_keys(manifest)["input"]) == {"image"}  # its manifest is of the release before
    assert manifest["system"] == "head" and manifest["source"]["training_cases"] == 390
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) <= 8e6
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(word in card for word in ("CC BY 4.0", "van den Heuvel", "Split", "Limits", "Not for clinical use"))


def test_images_of_the_test_set(shared_data, tmp_path, capsys):
    """Two of the hundred; the card has the means of all."""
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
