"""What a prediction is made with: the options, and what the folder of a model is.

Neither TensorFlow nor Keras is imported, so that a command line can name the options.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

PRIOR = "prior.json"  # as `tfsono.inference.face_prior` names it, whose import would load Keras


@dataclasses.dataclass(frozen=True)
class Options:
    """What may be asked of a prediction; the defaults leave it to the model.

    Attributes:
      tiling: hip: another tiling than the run's: `paper`, `half`, `fast` or `whole`.
      pixel_size_mm: head: millimetres a pixel, or a CSV file with those of many images.
      ensemble_with: further sources, which predict together with the first one.
      samples: head: passes with dropout on, for the uncertainty.
      refine: pose: whether each prediction is refined on its volume.
      candidates: face: how many of each landmark are listed.
    """

    tiling: str = ""
    pixel_size_mm: str = ""
    ensemble_with: tuple[str, ...] = ()
    samples: int | None = None
    refine: bool = False
    candidates: int | None = None


@dataclasses.dataclass(frozen=True)
class Model:
    """An opened model, of a run or of an exported folder alike.

    Attributes:
      source: its folder, for messages.
      module: what the manifest's "input" and "output" describe.
      manifest: that of the exported folder, or what an export of the run would say.
    """

    source: Path
    module: Callable
    manifest: dict


def is_exported(source: str | os.PathLike) -> bool:
    """Whether a folder holds a SavedModel."""
    return (Path(source) / "saved_model.pb").is_file()


def model_key(sources: Sequence[str | os.PathLike], options: Options) -> str:
    """What predictions depend on, as one SHA-256: the files of each source, and the options."""
    files = [path for source in sources for path in _model_files(Path(source))]
    table = Path(options.pixel_size_mm)
    content = [_sha256(path) for path in (*files, *([table] if table.is_file() else []))]
    asked = dataclasses.asdict(dataclasses.replace(options, ensemble_with=()))
    return hashlib.sha256(json.dumps([content, asked]).encode()).hexdigest()


def _model_files(source: Path) -> list[Path]:
    """An export's manifest, which holds the checksums of the others; a run's config, weights and prior."""
    from tfsono.export import MANIFEST

    if is_exported(source):
        return [source / MANIFEST]
    names = ("config.json", "best.weights.h5", "last.weights.h5", PRIOR)
    return [path for path in (source / name for name in names) if path.is_file()]


def _sha256(path: Path) -> str:
    from tfsono.export import sha256

    return sha256(path)
