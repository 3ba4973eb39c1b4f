"""A dataset of fetal brain MR atlases, each translated, rotated and scaled at random, with masks and seven landmarks.

    python benchmarks/fetal_brain.py ATLASES DATASET [--copies 6] [--test_atlases 3]
        [--validation_atlases 2] [--landmarks tectum ...]

ATLASES holds a folder per atlas with srr.nii.gz (the image), mask.nii.gz and lmks.nii.gz (one voxel a landmark). Copies
of one atlas are one subject and are in one part of the split, which is written to dataset.json. The atlases are
population averages in one pose: they test how well a method follows a motion, not variation between people.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tfsono.volumes.landmarks import write_markups

LANDMARKS = {1: "anterior_horn_right", 2: "anterior_horn_left", 3: "tectum", 4: "cerebellum_left",
             5: "cerebellum_right",
             10: "deep_grey_right", 11: "deep_grey_left"}
DEGREES, SHIFT_MM, SCALES = 30.0, 6.0, (0.85, 1.1)
WHOLE_MOTIONS = 20  # tries to find one that keeps every landmark inside


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks/fetal_brain.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("atlases")
    parser.add_argument("dataset")
    parser.add_argument("--copies", type=int, default=6, help="of each atlas; the first is not moved")
    parser.add_argument("--test_atlases", type=int, default=3)
    parser.add_argument("--validation_atlases", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--landmarks", nargs="+", default=list(LANDMARKS.values()), choices=LANDMARKS.values(),
                        metavar="NAME", help=f"in this order; default: {' '.join(LANDMARKS.values())}")
    arguments = parser.parse_args(argv)
    folders = sorted(path.parent for path in Path(arguments.atlases).glob("*/srr.nii.gz"))
    random = np.random.default_rng(arguments.seed)
    ends = arguments.test_atlases, arguments.test_atlases + arguments.validation_atlases
    test, validation, _ = map(set, np.split(random.permutation(len(folders)), ends))
    root, split, subjects = Path(arguments.dataset), {"train": [], "validation": [], "test": []}, {}
    for number, folder in enumerate(folders):
        part = "test" if number in test else "validation" if number in validation else "train"
        for copy in range(arguments.copies):
            name = f"atlas_{number:02d}_{copy}"
            write_copy(root, name, folder, random, arguments.landmarks, moved=copy > 0)
            split[part].append(name)
            subjects[name] = folder.name
        print(f"{folder.name}: {arguments.copies} copies, {part}", flush=True)
    (root / "dataset.json").write_text(json.dumps({
        "name": "fetal brain atlases", "modality": "MR", "labels": {"brain": 1}, "landmarks": arguments.landmarks,
        "subjects": subjects, "split": split}, indent=2), encoding="utf-8")


def write_copy(root: Path, name: str, folder: Path, random: np.random.Generator, wanted: list[str], moved: bool
               ) -> None:
    """One image with its mask and the wanted landmarks, all moved alike; every landmark stays inside."""
    image, mask, points = (sitk.ReadImage(str(folder / f"{part}.nii.gz")) for part in ("srr", "mask", "lmks"))
    marks = sitk.GetArrayFromImage(points)
    found = {LANDMARKS[value]: points.TransformContinuousIndexToPhysicalPoint(np.argwhere(marks == value).mean(0)[::-1])
             for value in LANDMARKS if (marks == value).any()}
    motion, placed = still(found) if not moved else kept_inside(image, found, random)
    for part, volume, method in (("images", image, sitk.sitkLinear), ("labels", mask > 0, sitk.sitkNearestNeighbor)):
        (root / part).mkdir(parents=True, exist_ok=True)
        resampled = sitk.Resample(volume, referenceImage=image, transform=motion, interpolator=method,
                                  outputPixelType=volume.GetPixelID())
        sitk.WriteImage(resampled, str(root / part / f"{name}.nii.gz"), useCompression=True)
    (root / "landmarks").mkdir(exist_ok=True)
    write_markups(root / "landmarks" / f"{name}.mrk.json", {name: placed[name] for name in wanted if name in placed})


def still(found: dict) -> tuple[sitk.Transform, dict]:
    """No motion."""
    return sitk.Transform(3, sitk.sitkIdentity), {name: np.array(point) for name, point in found.items()}


def kept_inside(image: sitk.Image, found: dict, random: np.random.Generator) -> tuple[sitk.Transform, dict]:
    """A motion that keeps every landmark in the volume: the map from the new volume to the old, and the points."""
    for _ in range(WHOLE_MOTIONS):
        motion = sitk.Similarity3DTransform()
        motion.SetCenter(image.TransformContinuousIndexToPhysicalPoint((np.array(image.GetSize()) - 1) / 2))
        axis = random.normal(size=3)
        motion.SetRotation((axis / np.linalg.norm(axis)).tolist(), np.radians(random.uniform(-DEGREES, DEGREES)))
        motion.SetScale(1 / random.uniform(*SCALES))
        motion.SetTranslation(random.uniform(-SHIFT_MM, SHIFT_MM, 3).tolist())
        back = motion.GetInverse()
        placed = {name: np.array(back.TransformPoint(point)) for name, point in found.items()}
        places = np.array([image.TransformPhysicalPointToContinuousIndex(point.tolist()) for point in placed.values()])
        if (places > 0).all() and (places < np.array(image.GetSize()) - 1).all():
            return motion, placed
    raise RuntimeError(f"no motion in {WHOLE_MOTIONS} keeps every landmark inside")


if __name__ == "__main__":
    main()
