"""Options of a prediction, an opened model, and the key of a model.

Imports neither TensorFlow nor Keras, so that the command line can use it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

TILING = "tiling.json"  # as `tfsono.training.tilings` names it
CONFIDENCE = "confidence.json"  # as `tfsono.training.confidence` does
INTERVAL = "interval.json"  # as `tfsono.training.intervals` does
PRIOR = "prior.json"  # as `tfsono.inference.face_prior` names it, whose import would load Keras
PRIOR_CHOICE = "prior_choice.json"  # as `tfsono.inference.prior_choice` does


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of a prediction; the defaults leave them to the model.

    Attributes:
      tiling: hip: replaces the run's: `paper`, `half`, `fast` or `whole`.
      pixel_size_mm: head: millimetres per pixel, or a CSV file of them.
      ensemble_with: additional models to ensemble with the first one.
      samples: head: forward passes with dropout, for the uncertainty.
      gestational_age: head: the known age, such as 20w3d, for z-scores and centiles.
      refine: pose: whether to refine each prediction on its volume.
      candidates: face: boxes of each landmark in candidates.csv.
      set: face: `FIELD=VALUE` of fields that change no weight, as of `evaluate --set`.
      outside: inputs far outside of what the model was trained on: `refuse` or `allow`.
      spacing_mm_of_file: replaces the spacing of every volume's file, x, y, z; () takes the file's.
      precision: replaces the runs': `float32` or `mixed_bfloat16`.
      memory_gb: hip: memory that the tiling `fast` may take.
    """

    tiling: str = ""
    pixel_size_mm: str = ""
    ensemble_with: tuple[str, ...] = ()
    samples: int | None = None
    refine: bool = False
    candidates: int | None = None
    set: tuple[str, ...] = ()
    outside: str = "refuse"
    spacing_mm_of_file: tuple[float, ...] = ()
    precision: str = ""
    memory_gb: float = 0.0
    gestational_age: str = ""


@dataclasses.dataclass(frozen=True)
class Model:
    """An opened model, of a run or of an exported folder.

    Attributes:
      source: its folder, for messages.
      module: its arguments and outputs are described in the manifest.
      manifest: of the exported folder, or what an export of the run would write.
    """

    source: Path
    module: Callable
    manifest: dict


def is_exported(source: str | os.PathLike) -> bool:
    """Whether a folder holds a SavedModel."""
    return (Path(source) / "saved_model.pb").is_file()


def model_key(sources: Sequence[str | os.PathLike], options: Options) -> str:
    """One SHA-256 of all that predictions depend on: the files of each source, and the options."""
    files = [path for source in sources for path in _model_files(Path(source))]
    table = Path(options.pixel_size_mm)
    content = [_sha256(path) for path in (*files, *([table] if table.is_file() else []))]
    given = dataclasses.asdict(dataclasses.replace(options, ensemble_with=()))
    del given["outside"]  # a prediction does not depend on it
    for name in ("precision", "memory_gb", "set", "gestational_age"):  # which earlier keys do not have
        if not given[name]:
            del given[name]
    return hashlib.sha256(json.dumps([content, given]).encode()).hexdigest()


def _model_files(source: Path) -> list[Path]:
    """An export's manifest, with the checksums of the others; a run's config, weights, and what belongs to them."""
    from tfsono.export import MANIFEST

    if is_exported(source):
        return [source / MANIFEST]
    names = ("config.json", "best.weights.h5", "last.weights.h5", PRIOR, PRIOR_CHOICE, TILING, CONFIDENCE, INTERVAL,
             *(f"{kept}/{which}.weights.h5" for kept in ("roi", "finder") for which in ("best", "last")))
    return [path for path in (source / name for name in names) if path.is_file()]


def _sha256(path: Path) -> str:
    from tfsono.export import sha256

    return sha256(path)
