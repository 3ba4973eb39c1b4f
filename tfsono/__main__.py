"""The command `tfsono`: from a dataset to predictions. See `tfsono COMMAND --help`."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path
from typing import NoReturn

from tfsono import __version__
from tfsono.config import Parser, add_config_arguments, add_json, add_speed, choose, positive, settings_from
from tfsono.configs.hip import HIP
from tfsono.errors import UserError, end_at_once, run_command
from tfsono.locks import locked
from tfsono.parts import HELP, part_of
from tfsono.progress import json_lines
from tfsono.surroundings import own_settings, prepare_tensorflow, quiet_stderr
from tfsono.systems import NAMES, system

# Options of the release before; they work for this release.
RENAMED = {"--also": "--ensemble_with", "--again": "--overwrite", "--leave_out_bad": "--exclude_bad"}
OF_PHANTOMS = ("phantom_size", "phantom_spacing_mm", "phantom_weeks", "phantom_rotation_degrees", "phantom_variety",
               "phantom_pixel_size_mm", "phantom_wrong_points")


def main() -> NoReturn:
    """Runs the command line; any error is one line, and an exit status of `run_command`. Ends the process."""
    own_settings()
    end_at_once(run_command(lambda: run(sys.argv[1:])))


def run(argv: list[str]) -> int | None:
    """Runs one command, given as the arguments after `tfsono`; raises `UserError` for a user's mistake."""
    parser = Parser(prog="tfsono", description=__doc__)
    parser.add_argument("--version", action=_Version, nargs=0, help="of tfsono, TensorFlow and Keras")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (_add_phantom, _add_audit, _add_cache, _add_scripts, _add_export, _add_predict, _add_merge,
                _add_doctor, _add_plan, _add_fit, _add_demo):
        add(commands)
    arguments = parser.parse_args(by_current_names(argv))
    return arguments.run(arguments)


def by_current_names(argv: list[str]) -> list[str]:
    """The arguments with `RENAMED` options under their current names; one note on stderr for each."""
    found = []
    for word in argv:
        name, *value = word.split("=", 1)
        if name in RENAMED:
            print(f"note: {name} is now {RENAMED[name]}", file=sys.stderr)
        found.append("=".join((RENAMED.get(name, name), *value)))
    return found


class _Version(argparse.Action):
    """Prints the installed versions without loading TensorFlow; reads them only when they are requested."""

    def __call__(self, parser, *_) -> None:
        from tfsono.doctor import installed_version

        others = (f"{name} {installed_version(name) or 'not installed'}" for name in ("tensorflow", "keras"))
        print(", ".join((f"tfsono {__version__}", *others)))
        parser.exit()


def _add_phantom(commands) -> None:
    parser = commands.add_parser("phantom", help="write a dataset of synthetic volumes or images")
    parser.add_argument("system", choices=[*NAMES, "shapes"],
                        help="anatomy; shapes: simple bodies, to pre-train an encoder on")
    parser.add_argument("folder", help="dataset folder; created, or resumed if it exists")
    parser.add_argument("--cases", type=int, default=None, help="number of cases; default: the paper's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--preset", default="paper", choices=sorted(HIP.presets), help="image size")
    for name in OF_PHANTOMS:
        parser.add_argument(f"--{name}", default=None, metavar="VALUE",
                            help="where `tfsono train SYSTEM --help` has it; default: the preset's")
    parser.set_defaults(run=_phantom)


def _phantom(arguments) -> None:
    quiet_stderr()
    shapes = arguments.system == "shapes"
    choices = HIP if shapes else system(arguments.system).CHOICES
    given = {name: getattr(arguments, name) for name in OF_PHANTOMS if getattr(arguments, name) is not None}
    config = choose(choices, arguments.preset, next(iter(choices.variants)), given).config
    cases = config.phantom_cases if arguments.cases is None else arguments.cases
    with locked(arguments.folder) as folder:
        if shapes:
            from tfsono.phantoms.dataset import write_shapes_dataset

            write_shapes_dataset(folder, cases, arguments.seed, config.phantom_size, config.phantom_spacing_mm)
        else:
            system(arguments.system).write_phantoms(folder, cases, arguments.seed, config)


def _add_audit(commands) -> None:
    parser = commands.add_parser("audit", help="check every case of a dataset and report errors")
    parser.add_argument("dataset")
    parser.add_argument("--out", default=None, help="folder for audit.json and audit.png; default: DATASET/audit")
    _add_spacing(parser)
    _add_absolute_paths(parser)
    parser.set_defaults(run=_audit)


def _add_absolute_paths(parser) -> None:
    """`--absolute_paths`; without it no output says where the files are, as folders may be named after patients."""
    parser.add_argument("--absolute_paths", action="store_true",
                        help="write whole paths into the output; default: paths in the dataset, names of inputs")


def _add_spacing(parser) -> None:
    """`--spacing_mm_of_file`, for files that do not say their spacing."""
    parser.add_argument("--spacing_mm_of_file", type=three_numbers, default=(), metavar="X,Y,Z",
                        help="spacing of the volumes in mm, for files that do not say it, or say it wrongly; recorded")


def three_numbers(text: str) -> tuple[float, ...]:
    """0.5,0.5,2 as three positive numbers; argparse reports a `ValueError` as one line."""
    numbers = tuple(float(number) for number in text.split(","))
    if len(numbers) != 3 or not all(0 < number < float("inf") for number in numbers):
        raise ValueError(text)
    return numbers


def _audit(arguments) -> int:
    quiet_stderr()
    from tfsono.audit.dataset import audit_dataset, errors_of
    from tfsono.data.layout import open_dataset, with_spacing_of_files

    dataset = with_spacing_of_files(open_dataset(arguments.dataset), arguments.spacing_mm_of_file)
    report = audit_dataset(dataset, Path(arguments.out or Path(arguments.dataset) / "audit"),
                           absolute_paths=arguments.absolute_paths)
    bad = [entry for entry in report["cases"] if errors_of(entry)]
    if bad:
        raise UserError(f"{arguments.dataset}: {len(bad)} of {len(report['cases'])} cases have errors, listed above; "
                        "fix them, or exclude them with `tfsono cache --exclude_bad`")
    return 0


def _add_cache(commands) -> None:
    parser = commands.add_parser("cache", help="write the training data of a dataset to one HDF5 file")
    systems = parser.add_subparsers(dest="system", required=True, metavar="SYSTEM")
    for name in NAMES:
        one = systems.add_parser(name)
        one.add_argument("dataset", nargs="+", help="folder of cases; several are one dataset that comes in parts")
        one.add_argument("file", help="FILE.h5; appears only when it is complete")
        one.add_argument("--audit", default=None, help="audit.json; default: that in DATASET/audit, of a single folder")
        one.add_argument("--exclude_bad", action="store_true", help="exclude cases with errors instead of refusing")
        one.add_argument("--verify", action="store_true", help="check the checksums of the file after writing")
        if system(name).TAKES == "volumes":
            _add_spacing(one)
        _add_absolute_paths(one)
        add_config_arguments(one, system(name).CHOICES)
        one.set_defaults(run=_cache, spacing_mm_of_file=())


def _cache(arguments) -> None:
    quiet_stderr()
    from tfsono.audit.dataset import read_audit
    from tfsono.data.cache import verify_cache
    from tfsono.audit.cache_writer import write_cache
    from tfsono.data.joined import open_datasets
    from tfsono.data.layout import with_spacing_of_files
    from tfsono.data.prepare import CacheSettings

    one = system(arguments.system)
    config = settings_from(arguments, one.CHOICES).config
    settings = CacheSettings(arguments.system)  # images are not resampled
    if one.TAKES == "volumes":
        settings = CacheSettings(arguments.system, config.orientation, config.spacing_mm)
    path = Path(arguments.audit or Path(arguments.dataset[0]) / "audit" / "audit.json")
    audit = read_audit(path) if arguments.audit or path.is_file() and len(arguments.dataset) == 1 else None
    dataset = with_spacing_of_files(open_datasets(arguments.dataset), arguments.spacing_mm_of_file)
    unfit = [case.name for case in dataset.cases if case.is_2d != (one.TAKES == "images")]
    if unfit:
        found = "volumes" if one.TAKES == "images" else "images"
        raise UserError(f"{dataset.root}: {arguments.system} takes {one.TAKES}; found {found}, such as "
                        f"{unfit[0]}")
    write_cache(dataset, Path(arguments.file), settings, audit, exclude_bad=arguments.exclude_bad,
                absolute_paths=arguments.absolute_paths)
    if arguments.verify:
        problems = verify_cache(arguments.file)
        if problems:
            raise UserError(f"{arguments.file}: {'; '.join(problems)}; delete it and run `tfsono cache` again")
        print(f"{arguments.file}: all checksums match")


def _add_scripts(commands) -> None:
    """`train` and `evaluate`; all that follows the system's name is for its script."""
    for command, text in (("train", "train a system on a cache"), ("evaluate", "measure runs on their test cases")):
        parser = commands.add_parser(command, help=f"{text}; `tfsono {command} SYSTEM --help` lists the options")
        parser.add_argument("system", choices=NAMES)
        parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...",
                            help=f"as of {command}/SYSTEM.py, which this runs")
        parser.set_defaults(run=_run_script)


def _run_script(arguments) -> int | None:
    """Runs the script of a command: a wheel has the folders train/ and evaluate/ in the package, a checkout beside it.
    """
    package = Path(__file__).resolve().parent
    folder = package if (package / arguments.command).is_dir() else package.parent
    path = folder / arguments.command / f"{arguments.system}.py"
    spec = importlib.util.spec_from_file_location(f"tfsono.{arguments.command}.{arguments.system}", path)
    script = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # AutoGraph looks a function's module up
    spec.loader.exec_module(script)
    return script.main(arguments.arguments)


def _add_export(commands) -> None:
    parser = commands.add_parser("export", help="export a run as a SavedModel with its pre- and postprocessing")
    parser.add_argument("run_dir")
    parser.add_argument("folder")
    parser.add_argument("--ensemble_with", nargs="+", action="extend", default=[], metavar="RUN_DIR",
                        help="additional runs to ensemble with RUN_DIR in one SavedModel")
    add_speed(parser)
    _add_set(parser)
    parser.add_argument("--onnx", action="store_true",
                        help="also write the bare network as ONNX, checked against TensorFlow; needs the extra `onnx`")
    parser.add_argument("--weights", default="float32", choices=("float32", "float16"),
                        help="head, hip: how weights are stored; float16 takes half the space, and head's has no "
                             "dropout samples")
    parser.set_defaults(run=_export)


def _export(arguments) -> None:
    prepare_tensorflow()  # after parsing, as --help must not wait for TensorFlow
    from tfsono.predict.sources import Options
    from tfsono.systems.commands import export_run

    options = Options(tiling=arguments.tiling, ensemble_with=tuple(arguments.ensemble_with), set=tuple(arguments.set),
                      precision=arguments.precision, memory_gb=arguments.memory_gb)
    written = export_run(arguments.run_dir, arguments.folder, options, arguments.onnx, arguments.weights)
    print(f"wrote {written}")


def _add_set(parser: argparse.ArgumentParser) -> None:
    """`--set`, as of `evaluate`."""
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="FIELD=VALUE",
                        help="face, run folders only: other values of fields that change no weight, such as "
                             "prior_in_prediction=always nms_iou_threshold=0.5")


def _add_predict(commands) -> None:
    parser = commands.add_parser("predict", help="predict masks or landmarks of files, with measurements and previews")
    parser.add_argument("source", help="a run folder, or an exported model")
    parser.add_argument("inputs", nargs="+", help="volumes or images, DICOM folders, or folders of these")
    parser.add_argument("--out", required=True, help="output folder")
    parser.add_argument("--part", type=part_of, default=None, metavar="I/N", help=HELP)
    parser.add_argument("--overwrite", action="store_true",
                        help="process inputs again even if this model has already processed them")
    add_speed(parser)
    parser.add_argument("--pixel_size_mm", default="", metavar="MM",
                        help="head: millimetres per pixel, or a CSV file of them; default: that of a DICOM "
                             "file, otherwise measurements are in pixels only")
    parser.add_argument("--ensemble_with", nargs="+", action="extend", default=[], metavar="SOURCE",
                        help="additional models to ensemble with SOURCE: runs, for head also exported models")
    parser.add_argument("--samples", type=int, default=None,
                        help="head: forward passes with dropout, for the uncertainty; 0 is off; default: the run's")
    parser.add_argument("--gestational_age", default="", metavar="20w3d",
                        help="head: the known age of all images, for z-scores and centiles of HC and BPD by "
                             "INTERGROWTH-21st, which has 14w0d to 40w0d; not for clinical use")
    parser.add_argument("--refine", action="store_true",
                        help="pose: fine-tune the network on each volume, with the run's atlas set; run folders only")
    parser.add_argument("--candidates", type=int, default=None, metavar="N",
                        help="face: boxes of each landmark in candidates.csv, best first; default: 2")
    _add_set(parser)
    parser.add_argument("--outside", default="refuse", choices=("refuse", "allow"),
                        help="inputs far outside of what the model was trained on (--outside_factor of its training); "
                             "allow: predict and flag them")
    _add_spacing(parser)
    _add_absolute_paths(parser)
    add_json(parser, "a case")
    parser.set_defaults(run=_predict)


def _predict(arguments) -> int:
    prepare_tensorflow()  # after parsing, as --help must not wait for TensorFlow
    from tfsono.predict.sources import Options
    from tfsono.systems.commands import predict

    options = Options(
        tiling=arguments.tiling, pixel_size_mm=arguments.pixel_size_mm, ensemble_with=tuple(arguments.ensemble_with),
        samples=arguments.samples, refine=arguments.refine, candidates=arguments.candidates,
        set=tuple(arguments.set), outside=arguments.outside, spacing_mm_of_file=arguments.spacing_mm_of_file,
        precision=arguments.precision, memory_gb=arguments.memory_gb, gestational_age=arguments.gestational_age)
    with json_lines(arguments.json) as on_case:
        return predict(arguments.source, arguments.inputs, arguments.out, options, overwrite=arguments.overwrite,
                       absolute_paths=arguments.absolute_paths, on_case=on_case, part=arguments.part)


def _add_merge(commands) -> None:
    parser = commands.add_parser("merge", help="join what `predict` or `evaluate` wrote with --part")
    parser.add_argument("folder", metavar="OUT", help="their --out, with the folders part_I_of_N")
    parser.set_defaults(run=_merge)


def _merge(arguments) -> int:
    from tfsono.data.names import some
    from tfsono.merge import DERIVED, merge
    from tfsono.predict.head import write_derived

    count, missing = merge(arguments.folder)
    if any(list(Path(arguments.folder).glob(f"part_*/{name}")) for name in DERIVED):
        write_derived(Path(arguments.folder))
    print(f"{arguments.folder}: merged {count} cases")
    if missing:
        print(f"{len(missing)} of them have no prediction, as the log of their part says: {some(missing)}",
              file=sys.stderr)
    return 2 if missing else 0


def _add_doctor(commands) -> None:
    parser = commands.add_parser("doctor", help="check versions, devices and memory of this machine")
    parser.add_argument("--expect", choices=("cpu", "gpu"), default="cpu",
                        help="gpu: exit status 1 where TensorFlow would not use one; without a driver, as when an "
                             "image is built, it opens the libraries of CUDA and cuDNN")
    add_json(parser, "a check")
    parser.set_defaults(run=_doctor)


def _doctor(arguments) -> int:
    from tfsono.doctor import run_doctor

    return run_doctor(arguments.json, arguments.expect)


def _add_plan(commands) -> None:
    parser = commands.add_parser("plan", help="settings for your data and machine, with reasons and the commands")
    parser.add_argument("system", choices=sorted(NAMES))
    parser.add_argument("source", metavar="CACHE_OR_DATASET", help="of a cache the spacing is fixed")
    parser.add_argument("--out", default=None, metavar="FILE.json", help="for `tfsono train SYSTEM --plan FILE.json`")
    parser.add_argument("--devices", default="auto", choices=("auto", "cpu", "gpu"),
                        help="that train; they are measured here")
    _add_means(parser)
    parser.set_defaults(run=_plan)


def _add_means(parser) -> None:
    """What a training may take."""
    parser.add_argument("--minutes", type=positive, default=30.0, help="of all trainings; default: 30")
    parser.add_argument("--memory_gb", type=positive, default=12.0, help="of a training; default: 12")


def _plan(arguments) -> None:
    quiet_stderr()
    from tfsono.plan import Wanted, plan

    plan(arguments.system, arguments.source, Wanted(arguments.minutes, arguments.memory_gb, arguments.devices),
         arguments.out)


def _add_fit(commands) -> None:
    parser = commands.add_parser("fit", help="audit, plan, cache, train, evaluate and export a dataset in one go")
    parser.add_argument("system", choices=sorted(NAMES))
    parser.add_argument("dataset")
    parser.add_argument("--out", required=True, help="folder of all that is written; the same command resumes")
    parser.add_argument("--exclude_bad", action="store_true", help="exclude cases with errors instead of refusing")
    _add_means(parser)
    parser.set_defaults(run=_fit)


def _fit(arguments) -> None:
    from tfsono.demo import fit

    fit(arguments.system, arguments.dataset, Path(arguments.out), arguments.minutes, arguments.memory_gb,
        exclude_bad=arguments.exclude_bad)


def _add_demo(commands) -> None:
    parser = commands.add_parser("demo", help="what fit does, on phantoms, and a prediction; in minutes")
    parser.add_argument("system", nargs="?", default="hip", choices=sorted(NAMES))
    parser.add_argument("--out", default=None, help="folder; default: demo/SYSTEM; the same command resumes")
    parser.add_argument("--minutes", type=positive, default=3.0, help="of all trainings; default: 3")
    parser.set_defaults(run=_demo)


def _demo(arguments) -> None:
    from tfsono.demo import demo

    demo(arguments.system, Path(arguments.out or f"demo/{arguments.system}"), arguments.minutes)


if __name__ == "__main__":
    main()
