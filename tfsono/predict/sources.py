"""A run folder or an exported one -> the system that it is of, and who answers for it.

The only place where the name of a system chooses code. Each branch imports what it needs: one system's libraries do not
slow down another, and a SavedModel needs no Keras.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tfsono.errors import UserError
from tfsono.export import MANIFEST, check_free, export_module, sha256
from tfsono.files import read_json
from tfsono.predict.loop import Outputs, Predictor, predict_all


@dataclass(frozen=True)
class Options:
    """What may be asked of a prediction; the defaults leave it to the model.

    Attributes:
      tiling: hip: another tiling than the run's: `paper`, `half`, `fast` or `whole`.
      pixel_size_mm: head: millimetres a pixel, or a CSV file with those of many pictures.
      also: hip, head: further sources, which answer together with the first one; for hip run folders alone.
      samples: head: passes with dropout on, for the uncertainty.
      refine: pose: whether each answer is refined on its volume, of a run folder alone.
      candidates: face: how many of each landmark are listed.
    """

    tiling: str = ""
    pixel_size_mm: str = ""
    also: tuple[str, ...] = ()
    samples: int | None = None
    refine: bool = False
    candidates: int | None = None


PRIOR = "prior.json"  # as `tfsono.inference.face_prior` names it, whose import would load Keras
SYSTEMS = ("hip", "femur", "pose", "face", "head")
OWNERS = {"tiling": ("hip",), "pixel_size_mm": ("head",), "also": ("hip", "head"), "samples": ("head",),
          "refine": ("pose",), "candidates": ("face",)}


def predict(source: str | os.PathLike, inputs: Sequence[str | os.PathLike], out_dir: str | os.PathLike,
            options: Options = Options(), again: bool = False) -> int:
    """Predicts every input with the model of a run folder or of an exported folder; see `loop.predict_all`.

    Raises:
      UserError: neither of the two, a damaged one, an option of another system, no input, or no usable `out_dir`.
    """
    system = system_of(source)
    check_options(source, system, options)
    return predict_all(outputs_of(system), lambda: open_predictor(source, options), inputs, out_dir, again)


def export_run(run_dir: str | os.PathLike, out_dir: str | os.PathLike, tiling: str = "",
               also: Sequence[str] = ()) -> Path:
    """Writes a run's SavedModel and manifest and says where.

    Args:
      run_dir: the run folder.
      out_dir: a new or an empty folder.
      tiling: as in `Options`.
      also: hip: further run folders, whose networks answer together with its own in one SavedModel.

    Raises:
      UserError: not a run folder, a run without weights, or `out_dir` is not empty.
    """
    check_free(Path(out_dir))  # before minutes are spent
    system = system_of(run_dir)
    if is_exported(run_dir):
        raise UserError(f"{run_dir}: exported already; give a run folder (with config.json)")
    check_options(run_dir, system, Options(tiling, also=tuple(also)))
    if also and system != "hip":
        raise UserError(f"--also: a SavedModel of {system} holds one run; give several to `tfsono predict`")
    if system == "hip":
        from tfsono.systems import hip

        run, module = hip.load_run(run_dir, tiling, also)
        return export_module(module, out_dir, hip.manifest_of(run, also))
    if system == "head":
        from tfsono.systems import head as one
    elif system == "pose":
        from tfsono.systems import pose as one
    elif system == "face":
        from tfsono.systems import face as one
    else:
        from tfsono.systems import femur as one
    run, module = one.load_run(run_dir)
    return export_module(module, out_dir, one.manifest_of(run))


def open_predictor(source: str | os.PathLike, options: Options = Options()) -> Predictor:
    """The predictor of a run folder or of an exported folder.

    Raises:
      UserError: neither of the two, a damaged one, or an option that it cannot have.
    """
    source, system = Path(source), system_of(source)
    if system == "head":
        from tfsono.predict import head

        members = [source, *map(Path, options.also)]
        return head.open_members(members, [model_key(member) for member in members], options.pixel_size_mm,
                                 options.samples)
    key = model_key(source, options.tiling, options.also)
    if system == "femur":
        from tfsono.predict import femur

        return (femur.from_export if is_exported(source) else femur.from_run)(source, key)
    if system == "pose":
        from tfsono.predict import pose

        return (pose.from_export if is_exported(source) else pose.from_run)(source, key, options.refine)
    if system == "face":
        from tfsono.predict import face

        return (face.from_export if is_exported(source) else face.from_run)(source, key, options.candidates)
    from tfsono.predict import hip

    if not is_exported(source):
        return hip.from_run(source, key, options.tiling, options.also)
    if options.tiling:
        raise UserError(f"--tiling {options.tiling}: fixed at the export of {source}; export again with it")
    return hip.from_export(source, key)


def outputs_of(system: str) -> Outputs:
    """What a system takes and leaves."""
    if system == "hip":
        from tfsono.predict import hip

        return hip.OUTPUTS
    if system == "femur":
        from tfsono.predict import femur

        return femur.OUTPUTS
    if system == "pose":
        from tfsono.predict import pose

        return pose.OUTPUTS
    if system == "face":
        from tfsono.predict import face

        return face.OUTPUTS
    from tfsono.predict import head

    return head.OUTPUTS


def is_exported(source: str | os.PathLike) -> bool:
    """Whether a folder holds a SavedModel."""
    return (Path(source) / "saved_model.pb").is_file()


def system_of(source: str | os.PathLike) -> str:
    """The system of a run folder or of an exported folder.

    Raises:
      UserError: neither of the two, or of a system that is none of ours.
    """
    source = Path(source)
    path = source / (MANIFEST if is_exported(source) else "config.json")
    if not path.is_file():
        if is_exported(source):
            raise UserError(f"{source}: no {MANIFEST}; expected a folder that `tfsono export` wrote")
        raise UserError(f"{source}: expected a run folder (with config.json) or one of `tfsono export`")
    content = read_json(path, "delete its folder and make it again")
    system = content.get("system") if isinstance(content, dict) else None
    if system not in SYSTEMS:
        raise UserError(f"{path}: expected a model of {', '.join(SYSTEMS)}, found one of {system!r}; give another "
                        "folder")
    return system


def check_options(source: str | os.PathLike, system: str, options: Options) -> None:
    """Raises `UserError` for an option of another system, or a further source of another one."""
    for name, owners in OWNERS.items():
        if getattr(options, name) != getattr(Options(), name) and system not in owners:
            raise UserError(f"--{name}: only for a model of {' or '.join(owners)}, and {source} is one of {system}; "
                            "leave it out")
    for other in options.also:
        if system_of(other) != system:
            raise UserError(f"--also {other}: a model of {system_of(other)}, and {source} is one of {system}; "
                            "give models of one system")
        if system == "hip" and (is_exported(source) or is_exported(other)):
            exported = source if is_exported(source) else other
            raise UserError(f"--also {other}: {exported} was exported, and of hip only run folders answer together; "
                            "give run folders, or export them as one: tfsono export RUN DIR --also RUN")


def model_key(source: str | os.PathLike, tiling: str = "", also: Sequence[str] = ()) -> str:
    """What a model's answers depend on, as one SHA-256: an export's manifest, or a run's config, weights and prior.

    `tiling` and `also` as in `Options`.
    """
    source = Path(source)
    if is_exported(source):
        content = [sha256(source / MANIFEST)]
    else:
        weights = [source / f"{name}.weights.h5" for name in ("best", "last")]
        content = [sha256(path) for path in (source / "config.json", *weights, source / PRIOR) if path.is_file()]
    return hashlib.sha256(json.dumps([*content, tiling, *map(model_key, also)]).encode()).hexdigest()
