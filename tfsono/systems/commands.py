"""`tfsono predict` and `tfsono export` for any system."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType

from tfsono.bare_networks import check_extra, differences, write_onnx
from tfsono.doctor import BFLOAT16, probe_cpu_flags
from tfsono.errors import UserError
from tfsono.export import MANIFEST, check_free, export_module, load_exported
from tfsono.files import check_names, read_json
from tfsono.parts import Part
from tfsono.predict.inputs import find_inputs, resolved, unique_names
from tfsono.predict.loop import predict_all
from tfsono.predict.pixel_sizes import check_pixel_sizes
from tfsono.predict.prediction import FilePredictor, Prediction
from tfsono.predict.sources import Model, Options, is_exported, model_key
from tfsono.structure import shown
from tfsono.systems import NAMES, system
from tfsono.systems.manifest import with_current_keys

HALF_WEIGHTS = ("head", "hip")  # the systems that have them
OF_A_RUN = {"set": "is fixed at the export", "tiling": "is fixed at the export", "memory_gb": "is fixed at the export",
            "refine": "trains on the volume, which an exported model cannot"}


def predict(source: str | os.PathLike, inputs: Sequence[str | os.PathLike], out_dir: str | os.PathLike,
            options: Options = Options(), overwrite: bool = False, absolute_paths: bool = False,
            on_case: Callable[[Mapping], None] = lambda case: None, part: Part | None = None) -> int:
    """Predicts every input with the model of a run folder or of an exported folder; see `loop.predict_all`.

    Raises:
      UserError: neither of the two, a damaged one, an option of another system, no input, or no usable `out_dir`.
    """
    check_options(source, options)
    outputs = system(system_of(source)).outputs()
    if options.pixel_size_mm:
        inputs = find_inputs(inputs, Path(out_dir), outputs.what, outputs.is_input)
        for line in check_pixel_sizes(options.pixel_size_mm, inputs):
            print(line, file=sys.stderr)

    def opened() -> FilePredictor:
        predictor = open_predictor(source, options)
        if options.precision == "mixed_bfloat16" and _is_slow_in_bfloat16():
            print("note: --precision mixed_bfloat16: this CPU does not have it in hardware; float32 is faster",
                  file=sys.stderr)
        if predictor.ranges.note:
            print(f"note: {predictor.ranges.note}", file=sys.stderr)
        return predictor

    return predict_all(outputs, opened, inputs, out_dir, overwrite=overwrite, absolute_paths=absolute_paths,
                       on_case=on_case, part=part)


def predict_file(source: str | os.PathLike, path: str | os.PathLike, options: Options = Options()) -> Prediction:
    """Predicts one file and returns objects; nothing is written or printed.

    Args:
      source: a run folder, or an exported model.
      path: a volume, an image, or a folder of one DICOM series.
      options: of the prediction; the default leaves all to the model.

    Raises:
      UserError: an unusable model or file, an option of another system, or a file that is refused.
    """
    path = Path(path)
    check_names(resolved(path))
    check_options(source, options)
    name, = unique_names([path], {}, system(system_of(source)).outputs().name_of)
    predictor = open_predictor(source, options)
    found, note = predictor.of_file(path, name), predictor.ranges.note
    tables = {table: [row | {"file": path.name} if "file" in row else row for row in rows]
              for table, rows in found.tables.items()}  # as `predict_all` writes them
    return dataclasses.replace(found, tables=tables, notes=(note,) if note else ())


def export_run(run_dir: str | os.PathLike, out_dir: str | os.PathLike, options: Options = Options(),
               onnx: bool = False, weights: str = "float32") -> Path:
    """Writes the SavedModel and manifest of a run, and returns the folder.

    Args:
      run_dir: the run folder.
      out_dir: a new or an empty folder.
      options: `tiling`, `precision`, `set`, and `ensemble_with`: additional runs for the SavedModel.
      onnx: also writes the bare networks as ONNX, in float32.
      weights: head and hip: `float16` stores them in half of the space; they are calculated with in float32.

    Raises:
      UserError: not a run folder, a run without weights, runs that cannot form an ensemble, or `out_dir` is not empty;
        or a network that ONNX cannot hold.
    """
    check_free(Path(out_dir))  # first, as the rest takes minutes
    if onnx:
        check_extra()
    one = system(system_of(run_dir))
    if weights != "float32" and one.CHOICES.system not in HALF_WEIGHTS:
        raise UserError(f"--weights {weights}: only for a model of head or hip, and {run_dir} is one of "
                        f"{one.CHOICES.system}; omit it")
    for folder in (run_dir, *options.ensemble_with):
        if is_exported(folder):
            raise UserError(f"{folder}: is exported already; give a run folder (with config.json)")
    check_options(run_dir, options)
    folders = [run_dir, *options.ensemble_with]
    runs, module = one.load_runs(folders, options=options)
    manifest = one.manifest_of(runs) | _folded(one, module)
    if options.precision:
        manifest["network"]["trained_in"] = _trained_in(one, folders, module)
    if weights == "float16":
        module, manifest = one.with_half_weights(module, manifest)
    return export_module(module, out_dir, manifest, partial(_write_onnx, one, folders) if onnx else lambda folder: {})


def _folded(one: ModuleType, module) -> dict:
    """The manifest's entry of the convolutions that `--start_from` unfolds; {} without any."""
    from tfsono.layers.folding import startable_names

    network = one.bare_networks(module).get("network")  # not of an ensemble of head
    names = startable_names(network) if network else []
    return {"folded": names} if names else {}


def _trained_in(one: ModuleType, folders: Sequence[str | os.PathLike], module) -> dict:
    """The precision of the training, and how far the module's networks are from it on standard normal input."""
    runs, trained = one.load_runs(folders)
    return {"precision": runs[0].config.precision,
            "differences_on_noise": differences(one.bare_networks(module), one.bare_networks(trained))}


def _write_onnx(one: ModuleType, folders: Sequence[str | os.PathLike], folder: Path) -> dict:
    """Writes the runs' networks in float32, and returns the manifest's entry."""
    runs, module = one.load_runs(folders, options=Options(precision="float32"))
    return {"onnx": {"around": one.AROUND, "sides_multiple_of": getattr(runs[0].config, "stride", None),
                     "networks": write_onnx(one.bare_networks(module), folder)}}


def _is_slow_in_bfloat16() -> bool:
    from tfsono.training.start import has_gpu

    return not probe_cpu_flags() & BFLOAT16 and not has_gpu()


def open_predictor(source: str | os.PathLike, options: Options = Options()) -> FilePredictor:
    """The predictor of a run folder or of an exported folder: `of_file(path)` predicts one file after the other.

    Raises:
      UserError: neither of the two, a damaged one, or an option that the model does not have.
    """
    one, sources = system(system_of(source)), [source, *options.ensemble_with]
    groups = [sources] if one.TOGETHER == "networks" else [[each] for each in sources]
    return one.predictor((_opened(one, group, options) for group in groups), model_key(sources, options), options)


def _opened(one: ModuleType, folders: Sequence[str | os.PathLike], options: Options) -> Model:
    """An exported folder, or one or more run folders as one module."""
    if is_exported(folders[0]):
        module, manifest = load_exported(folders[0])
        return Model(Path(folders[0]), module, with_current_keys(manifest))
    runs, module = one.load_runs(folders, options=options)
    return Model(Path(folders[0]), module, one.manifest_of(runs))


def system_of(source: str | os.PathLike) -> str:
    """The system of a run folder or of an exported folder.

    Raises:
      UserError: neither of the two, or of an unknown system.
    """
    source = Path(source)
    path = source / (MANIFEST if is_exported(source) else "config.json")
    if not path.is_file():
        if is_exported(source):
            raise UserError(f"{source}: no {MANIFEST}; expected a folder that `tfsono export` wrote")
        raise UserError(f"{source}: expected a run folder (with config.json) or one of `tfsono export`")
    content = read_json(path, "delete its folder and create it again")
    name = content.get("system") if isinstance(content, dict) else None
    if not isinstance(name, str) or name not in NAMES:
        raise UserError(f"{path}: expected a model of {', '.join(NAMES)}, found one of {shown(name)}; give another "
                        "folder")
    return name


def check_options(source: str | os.PathLike, options: Options) -> None:
    """Raises `UserError` for an option of another system or only for runs, or models that cannot form an ensemble."""
    name = system_of(source)
    if options.spacing_mm_of_file and system(name).TAKES == "images":
        raise UserError(f"--spacing_mm_of_file: only for volumes, and {source} is a model of {name}; give "
                        "--pixel_size_mm")
    if options.precision and is_exported(source):
        raise UserError(f"--precision: is fixed at the export; found {source}, give the run folder that it was "
                        "exported from")
    for owner in NAMES:
        for option in system(owner).OPTIONS:
            if getattr(options, option) == getattr(Options(), option):
                continue
            if owner != name:
                raise UserError(f"--{option}: only for a model of {owner}, and {source} is one of {name}; omit it")
            if option in OF_A_RUN and is_exported(source):
                raise UserError(f"--{option}: {OF_A_RUN[option]}; found {source}, give the run folder that it was "
                                "exported from")
    for other in options.ensemble_with:
        if system_of(other) != name:
            raise UserError(f"--ensemble_with {other}: a model of {system_of(other)}, and {source} is one of {name}; "
                            "give models of one system")
        if system(name).TOGETHER == "networks" and (is_exported(source) or is_exported(other)):
            exported = source if is_exported(source) else other
            raise UserError(f"--ensemble_with {other}: {exported} was exported, and for {name} only run folders can "
                            "form an ensemble; give run folders, or export them as one: tfsono export RUN DIR "
                            "--ensemble_with RUN")
