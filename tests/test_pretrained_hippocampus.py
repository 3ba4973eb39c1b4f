"""The model that is published in pretrained/hippocampus: complete, small, and accurate on volumes that it never saw."""

from pathlib import Path

import SimpleITK as sitk

from tfsono.__main__ import run
from tfsono.export import read_manifest

FOLDER = Path(__file__).resolve().parents[1] / "pretrained" / "hippocampus"


def test_it_is_complete_and_small():
    manifest = read_manifest(FOLDER)  # every checksum holds
    assert manifest["system"] == "hip" and manifest["source"]["training_cases"] == 171
    assert manifest["labels"] == {"anterior": 1, "posterior": 2}
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) <= 8e6
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(word in card for word in ("CC BY-SA 4.0", "1902.09063", "Split", "Limits", "Not for clinical use"))


def test_volumes_of_the_test_set(shared_data, tmp_path):
    """Two of the 43; the card has the means of all."""
    names = [f"hippocampus_{number}.nii.gz" for number in ("060", "143")]
    images = [str(shared_data / "hippocampus_mr" / "images" / name) for name in names]
    assert run(["predict", str(FOLDER), *images, "--out", str(tmp_path)]) == 0
    for name in names:
        mask = sitk.ReadImage(str(tmp_path / name.replace(".nii.gz", "_mask.nii.gz")))
        label = sitk.ReadImage(str(shared_data / "hippocampus_mr" / "labels" / name))
        assert mask.GetSize() == label.GetSize() and mask.GetOrigin() == label.GetOrigin()
        overlap = sitk.LabelOverlapMeasuresImageFilter()
        overlap.Execute(sitk.Cast(label, mask.GetPixelID()), mask)
        assert min(overlap.GetDiceCoefficient(value) for value in (1, 2)) > 0.85
