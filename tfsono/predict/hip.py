"""One volume for `hip`: its mask, a preview, and one row of measurements per label.

    OUT/CASE_mask.nii.gz     on the input's own grid, with the dataset's label values
    OUT/CASE.png             preview of three planes; check it before using the numbers
    OUT/measurements.csv     one row per case and label
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tfsono.export import MANIFEST, check_keys
from tfsono.inference.segmentation import segment_volume
from tfsono.predict.loop import Outputs
from tfsono.predict.masks import label_values, postprocessing_left, touches_border
from tfsono.predict.prediction import FilePredictor, Prediction
from tfsono.predict.ranges import Ranges, ranges_of, with_flags
from tfsono.predict.sources import Model, Options
from tfsono.predict.tables import MEASUREMENTS
from tfsono.report.plots import preview_figure
from tfsono.volumes.image import Volume, case_name, is_volume_file, reorient, write_volume

COLUMNS = ("case", "label", "value", "voxels", "volume_ml", "spacing_x_mm", "spacing_y_mm", "spacing_z_mm",
           "flags", "file")
OUTPUTS = Outputs("volume", is_volume_file, case_name, {MEASUREMENTS: COLUMNS},
                  lambda name: (f"{name}_mask.nii.gz", f"{name}.png"))


@dataclasses.dataclass(frozen=True)
class HipPredictor(FilePredictor):
    """A module with its pre- and postprocessing.

    Attributes:
      module: (volume, spacing_mm) -> {"mask"}.
      key: changes with the model and its options.
      orientation: of the volumes that it takes.
      labels: name -> value in the dataset's masks, in the order of the classes from 1.
      largest, holes: what the module leaves to do: keep the largest component, fill holes.
      ranges: what the model was trained on.
    """

    module: Callable
    key: str
    orientation: str
    labels: dict[str, int]
    largest: bool
    holes: bool
    ranges: Ranges = Ranges()

    def of_file(self, path: Path, name: str = "case") -> Prediction:
        """The mask of one input and its measurements."""
        volume, outside = self.ranges.read(path)
        mask = segment_volume(self.module, volume, self.orientation, classes=len(self.labels) + 1,
                              largest=self.largest, holes=self.holes)
        rows = [with_flags(row, self.ranges.of_label(row["label"], row["volume_ml"]))
                for row in measure(name, path, volume, mask, self.labels)]
        shown = [*outside, *(f"{row['label']}: {row['flags']}" for row in rows if row["flags"])]
        values = label_values(mask, self.labels)

        def write(out_dir: Path) -> None:
            mask_path, preview_path = (out_dir / file for file in OUTPUTS.files(name))
            _write_preview(preview_path, volume, mask, tuple(self.labels), shown)
            write_volume(mask_path, values, volume)

        amounts = [f"{row['label']} {row['volume_ml']:.2f} mL" + f" ({row['flags']})" * bool(row["flags"])
                   for row in rows]
        return Prediction(
            image=volume, tables={MEASUREMENTS: [with_flags(row, outside) for row in rows]}, write=write,
            text=f"{name}: {', '.join(amounts)}" + f" ({'; '.join(outside)})" * bool(outside),
            mask=dataclasses.replace(volume, array=values), labels=self.labels)


def predictor_of(model: Model, key: str, options: Options = Options()) -> HipPredictor:
    """The predictor of an opened model."""
    manifest = model.manifest
    check_keys(model.source / MANIFEST, manifest, ("labels", "postprocessing"))
    orientation = manifest["input"]["volume"]["orientation"]
    largest, holes = postprocessing_left(manifest)
    return HipPredictor(
        module=model.module, key=key, orientation=orientation, labels=manifest["labels"],
        largest=largest, holes=holes, ranges=ranges_of([model], options, orientation))


def measure(name: str, path: Path, volume: Volume, mask: np.ndarray, labels: dict[str, int]) -> list[dict]:
    """One row per label: voxels, volume in mL, and the flag `empty` or `touches border` (perhaps truncated)."""
    voxel_ml = float(np.prod(volume.spacing_mm)) / 1000
    spacing = {f"spacing_{axis}_mm": float(step) for axis, step in zip("xyz", volume.spacing_mm, strict=True)}
    rows = []
    for index, (label, value) in enumerate(labels.items(), start=1):
        voxels = mask == index
        count = int(np.count_nonzero(voxels))
        rows.append({
            "case": name, "label": label, "value": value, "voxels": count,
            "volume_ml": round(count * voxel_ml, 6),
            **spacing, "flags": "empty" if count == 0 else "touches border" if touches_border(voxels) else "",
            "file": str(Path(path).resolve()),
        })
    return rows


def _write_preview(path: Path, volume: Volume, mask: np.ndarray, labels: tuple[str, ...], flags: list[str]) -> None:
    image = reorient(volume, "LPS")
    oriented = reorient(dataclasses.replace(volume, array=mask), "LPS").array
    preview_figure(path, image.array, oriented, image.spacing_mm, labels,
                   text="   ".join(filter(None, (path.stem, "; ".join(flags)))))
