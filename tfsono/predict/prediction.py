"""One prediction as objects, and how a predictor writes it to files."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tfsono.geometry.ellipse import Ellipse
from tfsono.predict.tables import MEASUREMENTS
from tfsono.volumes.landmarks import Box
from tfsono.volumes.volume import Volume


@dataclass(frozen=True)
class Prediction:
    """What a model predicts for one file, with the file's geometry.

    Attributes:
      image: the input as it was read; an image of `head` is [X, Y, 1], in pixels where its pixel size is unknown.
      tables: table's name -> rows, as `tfsono predict` writes them; "measurements.csv" first.
      text: the line that `tfsono predict` prints, without the time.
      write: writes the files of the case into a folder, as `tfsono predict` does.
      mask: the values of `labels` on the image's grid; None where the model predicts none.
      labels: name -> value in the mask.
      landmarks_vox: name -> (x, y, z) on the image's grid, the first voxel's centre is 0; NaN where not found.
      landmarks_mm: name -> (x, y, z) in LPS millimetres.
      boxes_mm: face: name -> the landmark's box in LPS millimetres.
      ellipse: head: the outline in pixels; None where undefined.
      notes: about the model, such as that it does not say what it was trained on, so that nothing is flagged.
    """

    image: Volume
    tables: dict[str, list[dict]]
    text: str
    write: Callable[[Path], None] = field(repr=False)
    mask: Volume | None = None
    labels: Mapping[str, int] = field(default_factory=dict)
    landmarks_vox: Mapping[str, np.ndarray] = field(default_factory=dict)
    landmarks_mm: Mapping[str, np.ndarray] = field(default_factory=dict)
    boxes_mm: Mapping[str, Box] = field(default_factory=dict)
    ellipse: Ellipse | None = None
    notes: tuple[str, ...] = ()

    @property
    def measurements(self) -> list[dict]:
        """The rows of measurements.csv: one, or for `hip` one a label; undefined values are ""."""
        return self.tables[MEASUREMENTS]

    @property
    def flags(self) -> tuple[str, ...]:
        """The warnings of all measurements, each once."""
        texts = [text for row in self.measurements for text in row["flags"].split("; ") if text]
        return tuple(dict.fromkeys(texts))


class FilePredictor:
    """What the predictors share: `of_file` computes, `predict` also writes."""

    def of_file(self, path: Path, name: str = "case") -> Prediction:
        """The prediction of one file; nothing is written.

        Args:
          path: a file or a DICOM folder.
          name: of the case, for the tables and files.
        """
        raise NotImplementedError

    def predict(self, path: Path, name: str, out_dir: Path) -> tuple[dict[str, list[dict]], str]:
        """Predicts one input, writes its files, and returns its rows by table and a line to print."""
        began = time.monotonic()
        found = self.of_file(path, name)
        found.write(out_dir)
        return found.tables, f"{found.text}; {time.monotonic() - began:.1f} s"
