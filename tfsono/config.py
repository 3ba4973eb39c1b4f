"""Numbers that say where they come from, presets and variants of them, and the command line made of them.

A config is a frozen flat dataclass whose fields are `paper(value, source)`, `ours(value, reason)` or
`differs(value, "paper: ...; reason")`. A preset or a variant is a dictionary of such fields. Standard library only:
`--help` must not wait for TensorFlow.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import json
import math
import os
import sys
import textwrap
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tfsono.errors import UserError, printable
from tfsono.files import LONGEST_NAME, RESERVED, check_label, read_json, safe_name, write_text
from tfsono.parts import HELP, part_of
from tfsono.structure import check_structure, shown, type_hints

LAST_WITH_THEM = "an earlier tfsono 0.1.0"  # the version that still had the fields in `Choices.removed`


def paper(value, source: str):
    """A number that the paper states; `source` is the section, equation or table."""
    return _field(value, "paper", source)


def ours(value, reason: str):
    """A number that the paper does not state; `reason` says why this one."""
    return _field(value, "ours", reason)


def differs(value, note: str):
    """A number that is not the paper's; `note` begins with `paper:` and the paper's own, then says why."""
    return _field(value, "differs", note)


def _field(value, origin: str, note: str):
    return dataclasses.field(default=value, metadata={"origin": origin, "note": note})


Rule = tuple[bool, str, str]


def one_of(config, name: str, allowed: Sequence[str]) -> Rule:
    """A rule: the field is one of these texts."""
    return getattr(config, name) in allowed, name, f"{', '.join(allowed[:-1])} or {allowed[-1]}"


def check_rules(config, *groups: Iterable[Rule]) -> None:
    """Raises `UserError` for the first rule that does not hold: whether it holds, its field, what is allowed."""
    for holds, name, rule in itertools.chain(*groups, _general_rules(config)):
        if not holds:
            raise UserError(f"--{name}: expected {rule}, found {printable(str(getattr(config, name)))[:80]}")


LARGEST = 10**9  # of steps, cases and seeds; more is a slip
MOST = 10_000  # of all other integers: batches, sides, candidates
WIDEST = 4096  # channels of a layer: two such layers take 1.8 GB with kernels of 3x3x3
MOST_VOXELS = 2**27  # of a patch or an image: 512x512x512
_OF_STEPS = ("iterations", "_every", "_stopping", "cases", "seed", "_part", "patches_in_a_row")
_OF_LAYERS = ("widths", "_width", "channels", "_fused", "_hidden")
_OF_IMAGES = ("_size", "patch")


def _general_rules(config) -> Iterable[Rule]:
    """What holds for the fields of every config: numbers in sane limits, names that can be written and drawn."""
    for name, hint in type_hints(type(config)).items():
        value = getattr(config, name)
        values, kind = value if isinstance(value, tuple) else (value,), (*typing.get_args(hint), hint)[0]
        yield len(values) <= MOST, name, f"at most {MOST} values"
        if kind is str:
            yield all(one.isprintable() and len(one) <= 1000 for one in values), name, "printable text, not a long one"
        elif kind is int:
            most = LARGEST if name.endswith(_OF_STEPS) else WIDEST if name.endswith(_OF_LAYERS) else MOST
            least = int(name.endswith((*_OF_LAYERS, *_OF_IMAGES)))
            yield all(least <= one <= most for one in values), name, f"integers from {least} to {most}"
        elif kind is float:
            yield all(0 <= one <= LARGEST for one in values), name, "finite numbers from 0"
        if kind is int and name.endswith(_OF_IMAGES):
            yield math.prod(values) <= MOST_VOXELS, name, f"at most {MOST_VOXELS} voxels or pixels in all"
    axes = getattr(config, "orientation", "LPS")
    yield (len(axes) == 3 and all(sum(letter in pair for letter in axes) == 1 for pair in ("LR", "PA", "SI")),
           "orientation", "three letters, one each of LR, PA and SI, such as LPS")
    for name in ("label_names", "landmark_names"):
        names = getattr(config, name, ())
        yield len(set(names)) == len(names), name, "different names"
        yield all(0 < len(one.encode()) <= LONGEST_NAME for one in names), name, f"names of 1 to {LONGEST_NAME} bytes"
    yield (all(safe_name(one) == one for one in getattr(config, "label_names", ())), "label_names",
           f"names without {' '.join(RESERVED)}, as they become parts of files' names")


@dataclasses.dataclass(frozen=True)
class Choices:
    """What a system offers: its name, its config class, and changes of it under a name.

    `presets` are sizes (`paper`, `quick`), `variants` are methods (the paper's ablation rows and our options).
    `renamed` and `removed` are of the previous release: old names with their new ones, and removed fields with the only
    value that the code still has. Command lines and runs with them keep working for this release. `added` are fields
    that the previous release did not have, with the value that its runs are taken to have. `at_test` are the fields
    that change no weight: `evaluate --set` sets them for a trained run.
    """

    system: str
    config: type
    presets: Mapping[str, Mapping[str, dataclasses.Field]]
    variants: Mapping[str, Mapping[str, dataclasses.Field]]
    renamed: Mapping[str, str] = dataclasses.field(default_factory=dict)
    removed: Mapping[str, typing.Any] = dataclasses.field(default_factory=dict)
    added: Mapping[str, typing.Any] = dataclasses.field(default_factory=dict)
    at_test: tuple[str, ...] = ()

    def by_current_names(self, values: Mapping[str, typing.Any]) -> dict[str, typing.Any]:
        """Values by field of the previous release, under the names of this one; without the removed fields."""
        return {self.renamed.get(name, name): value for name, value in values.items() if name not in self.removed}


@dataclasses.dataclass(frozen=True)
class Settings:
    """A config with the preset and variant that it was made from, and the origin and note of every field.

    `at_test` are the fields that were set after the training (`evaluate --set`), with their values.
    """

    choices: Choices = dataclasses.field(repr=False)
    preset: str
    variant: str
    config: typing.Any
    origins: Mapping[str, tuple[str, str]]
    at_test: Mapping[str, typing.Any] = dataclasses.field(default_factory=dict)

    @property
    def system(self) -> str:
        return self.choices.system

    def replaced(self, note: str, **values) -> Settings:
        """These settings with some values set by the program (what it found in the data), marked with `note`."""
        origins = {**self.origins, **{name: ("ours", note) for name in values}}
        return dataclasses.replace(self, config=dataclasses.replace(self.config, **values), origins=origins)

    def set_at_test(self, values: Mapping[str, typing.Any]) -> Settings:
        """These settings with values of fields that change no weight; raises `UserError` where a rule forbids one."""
        try:
            settings = self.replaced("set after the training", **values)
        except UserError as error:
            raise UserError(f"--set {str(error).removeprefix('--')}") from None
        return dataclasses.replace(settings, at_test=dict(values))

    def words_at_test(self) -> list[str]:
        """What was set after the training, as `field value`."""
        return [f"{name} {value_text(value)}" for name, value in self.at_test.items()]


def choose(choices: Choices, preset: str, variant: str, overrides: Mapping[str, str] | None = None,
           planned: Mapping[str, PlannedValue] | None = None) -> Settings:
    """The paper's values, then the preset, the variant, the plan, the command line; each wins over the one before.

    Raises:
      UserError: a preset, a variant or a field that does not exist, or a text that is not of the field's type.
    """
    values: dict[str, typing.Any] = {}
    origins = {}
    for field in dataclasses.fields(choices.config):
        values[field.name] = field.default
        origins[field.name] = (field.metadata["origin"], field.metadata["note"])
    for kind, table, name in (("preset", choices.presets, preset), ("variant", choices.variants, variant)):
        if name not in table:
            raise UserError(f"--{kind} {name}: {choices.system} has {', '.join(table)}")
        for key, field in table[name].items():
            values[key] = field.default
            origins[key] = (field.metadata["origin"], field.metadata["note"])
    for key, given in (planned or {}).items():
        values[key] = tuple(given["value"]) if isinstance(given["value"], list) else given["value"]
        origins[key] = ("plan", given["reason"])
    for key, text in (overrides or {}).items():
        values[key] = parse_value(choices.config, key, text)
        origins[key] = ("command line", "")
    return Settings(choices, preset, variant, choices.config(**values), origins)


def parse_value(config: type, name: str, text: str):
    """A field's value from the text of the command line: `12`, `0.5`, `true`, `name`, or `64,64,64` for a tuple."""
    hints = type_hints(config)
    if name not in hints:
        raise UserError(f"--{name}: no such field; --help lists the fields")
    hint = hints[name]
    if typing.get_origin(hint) is tuple:
        kind = typing.get_args(hint)[0]
        return tuple(_parse_one(name, part.strip(), kind) for part in text.split(",") if part.strip())
    return _parse_one(name, text, hint)


def _parse_one(name: str, text: str, kind: type):
    if kind is bool:
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        raise UserError(f"--{name}: expected true or false, found {text!r}")
    try:
        return kind(text)
    except ValueError:
        raise UserError(f"--{name}: expected {kind.__name__}, found {text!r}") from None


def describe(settings: Settings) -> str:
    """The table of every field: name, value, where the value comes from."""
    lines = [f"{settings.system}: preset {settings.preset}, variant {settings.variant}"]
    for field in dataclasses.fields(settings.config):
        origin, note = settings.origins[field.name]
        head = f"  --{field.name} {value_text(getattr(settings.config, field.name))}"
        lines += textwrap.wrap(f"{origin}: {note}" if note else origin, 74, initial_indent=f"{head:<42} ",
                               subsequent_indent=" " * 43, break_on_hyphens=False, break_long_words=False)
    return "\n".join(lines)


def value_text(value) -> str:
    """A value as the command line takes it."""
    if isinstance(value, tuple):
        return ",".join(value_text(item) for item in value) or '""'
    return str(value).lower() if isinstance(value, bool) else str(value) or '""'


OF_FILES = ("roi_run", "finder_run", "start_from", "c3d_weights", "backbone_weights")
"""Fields that name a file or a run folder."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are `UserError`s: one line, as all others."""

    def error(self, message: str) -> typing.NoReturn:
        raise UserError(f"{message}; see `{self.prog} --help`")


class _FileParser(Parser):
    """A parser that refuses missing files, before TensorFlow is loaded.

    Attributes:
      needed: option -> what to do where its file or folder, or one of several, is missing.
    """

    needed: Mapping[str, str] = {}

    def parse_args(self, args=None, namespace=None):
        found = super().parse_args(args, namespace)
        needed = dict(self.needed)
        if not os.path.exists(os.path.join(getattr(found, "run_dir", ""), "state.h5")):
            needed |= dict.fromkeys(OF_FILES, "correct the path")  # a resumed training has what it took of them
        for name, advice in needed.items():
            value = getattr(found, name, None) or []
            for path in [value] if isinstance(value, str) else value:
                if not os.path.lexists(path):
                    raise UserError(f"--{name} {path}: must exist; found no such file or folder; {advice}")
        return found


def add_config_arguments(parser: argparse.ArgumentParser, choices: Choices) -> None:
    """Adds `--preset`, `--variant` and one `--FIELD VALUE` per field; `--help` prints the table of every preset."""
    parser.add_argument("--preset", default=None, choices=sorted(choices.presets), help="sizes; default: paper")
    parser.add_argument("--variant", default=None, choices=list(choices.variants),
                        help=f"method: the paper's rows and our options; default: {next(iter(choices.variants))}")
    for name in (*(field.name for field in dataclasses.fields(choices.config)), *choices.renamed, *choices.removed):
        parser.add_argument(f"--{name}", default=None, help=argparse.SUPPRESS, metavar="VALUE")
    parser.allow_abbrev = False  # an abbreviation might name another field in a later release
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "fields, each set by --FIELD VALUE:\n" + "\n".join(
        describe(choose(choices, name, next(iter(choices.variants)))) for name in choices.presets)


def settings_from(arguments: argparse.Namespace, choices: Choices) -> Settings:
    """The settings of the command line."""
    names = [field.name for field in dataclasses.fields(choices.config)]
    given = {name: getattr(arguments, name) for name in (*names, *choices.renamed, *choices.removed)}
    overrides = _by_new_names({name: text for name, text in given.items() if text is not None}, choices)
    preset, variant, planned = "paper", next(iter(choices.variants)), {}
    if getattr(arguments, "plan", None):
        training = read_plan(arguments.plan, choices, arguments.variant)
        preset, variant, planned = training["preset"], training["variant"], training["values"]
    return choose(choices, arguments.preset or preset, arguments.variant or variant, overrides, planned)


class PlannedValue(typing.TypedDict):
    """A field of a plan."""

    value: object
    reason: str


class PlannedTraining(typing.TypedDict):
    """One training of a plan: `run` is the name of its run folder."""

    run: str
    preset: str
    variant: str
    values: dict[str, PlannedValue]


class Plan(typing.TypedDict):
    """What `train` reads of a plan.json; `tfsono.planning` writes it."""

    system: str
    trainings: list[PlannedTraining]


def read_plan(path: str | os.PathLike, choices: Choices, variant: str | None = None) -> PlannedTraining:
    """The training of a plan whose variant it is; without one the last, which the others only prepare.

    Raises:
      UserError: no plan, one of another system, without this variant, or with a value that its field does not take.
    """
    content = read_json(path, f"write it with `tfsono plan {choices.system} DATASET --out FILE.json`")
    check_structure(content, Plan, path)
    if content["system"] != choices.system or not content["trainings"]:
        raise UserError(f"{path}: must be a plan of {choices.system}; found one of {shown(content['system'])} with "
                        f"{len(content['trainings'])} trainings; write it with `tfsono plan {choices.system}`")
    named = [training["variant"] for training in content["trainings"]]
    if variant is not None and variant not in named:
        raise UserError(f"--variant {variant}: the plan {path} has {shown(named)}; leave --plan out, or take one of "
                        "these")
    training = content["trainings"][named.index(variant) if variant is not None else -1]
    hints, place = type_hints(choices.config), f"trainings: {training['run'][:40]!a}"
    for name, given in training["values"].items():
        if name not in hints:
            raise UserError(f"{path}: {place}: no such field: {printable(name)[:40]}; plan again")
        check_structure(given["value"], hints[name], path, f"{place}.{name}")
        if not given["reason"].isprintable():
            raise UserError(f"{path}: {place}.{name}: the reason must be one line of text; plan again")
    return training


def _by_new_names(overrides: Mapping[str, str], choices: Choices) -> dict[str, str]:
    """Overrides under the current names; a note on stderr for each option of the previous release."""
    for old in sorted(choices.renamed.keys() & overrides.keys()):
        if choices.renamed[old] in overrides:
            raise UserError(f"--{old}: is now --{choices.renamed[old]}; give that one alone")
        print(f"note: --{old} is now --{choices.renamed[old]}", file=sys.stderr)
    for name in sorted(choices.removed.keys() & overrides.keys()):
        kept = choices.removed[name]
        if _parse_one(name, overrides[name], type(kept)) != kept:
            raise UserError(f"--{name}: was removed, it is always {value_text(kept)}; found {overrides[name]}; omit "
                            f"it, or use {LAST_WITH_THEM}")
        print(f"note: --{name} was removed; it is always {value_text(kept)}", file=sys.stderr)
    return choices.by_current_names(overrides)


MIRRORED = ("ours: mirrored trains on all GPUs of the machine, each with its part of every batch; the weights are "
            "those of one GPU but for rounding, and a run may be resumed on another number of them; for folds and "
            "seeds run one training on each GPU instead (docs/scaling.md)")


def training_parser(choices: Choices, description: str, mirrored: bool = False) -> Parser:
    """Options of every training script: a cache, a run folder, a split, and every field of its system's config.

    `mirrored` adds `--strategy`, which is no field, as it changes no result.
    """
    advice = (f"For your own data: `tfsono plan {choices.system} DATASET --out plan.json`, then --plan plan.json.\n"
              "The default preset, paper, is for the reproduction.")
    parser = _FileParser(prog=f"tfsono train {choices.system}", description=f"{description}\n{advice}")
    parser.needed = {"data": f"write it with `tfsono cache {choices.system}`", "split": "give a file",
                     "plan": f"write it with `tfsono plan {choices.system}`"}
    parser.add_argument("--data", required=True,
                        help=f"cache written by `tfsono cache {choices.system} DATASET FILE.h5`")
    parser.add_argument("--run_dir", required=True, help="folder of the run; created, or resumed if it exists")
    parser.add_argument("--split", default=None,
                        help="JSON file with train, validation, test; default: the dataset's split, or a random one")
    if mirrored:
        parser.add_argument("--strategy", default="", choices=("", "mirrored"), help=MIRRORED)
    parser.add_argument("--plan", default=None, metavar="FILE.json",
                        help=f"settings of `tfsono plan {choices.system}`; they stand between preset and options")
    parser.add_argument("--force", action="store_true", help="train even where the memory does not suffice")
    parser.add_argument("--dry_run", action="store_true",
                        help="measure a few steps and their memory, write no run folder; the last line is JSON")
    add_config_arguments(parser, choices)
    return parser


def evaluation_parser(choices: Choices, description: str, kept: str) -> Parser:
    """Options of every evaluation: a cache, runs, which of their weights, and where tables and `kept` go."""
    parser = _FileParser(prog=f"tfsono evaluate {choices.system}", description=description,
                         formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.needed = {"data": "give the cache that the runs were trained on",
                     "runs": f"train it with `tfsono train {choices.system}`"}
    parser.add_argument("--data", required=True, help="cache with the test cases of the runs")
    parser.add_argument("--runs", required=True, nargs="+", help=f"run folders of train/{choices.system}.py")
    parser.add_argument("--out", required=True, help=f"folder for tables, figures, {kept} and the page")
    parser.add_argument("--part", type=part_of, default=None, metavar="I/N", help=HELP)
    parser.add_argument("--weights", default="auto", choices=("auto", "best", "last"),
                        help="auto: the best if the run had validation cases, else the last")
    parser.add_argument("--ensemble", action="store_true",
                        help="also evaluate the ensemble of each row's runs, and of all runs: one more row each")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="FIELD=VALUE",
                        type=functools.partial(assignment, choices),
                        help="evaluate the runs with other values of fields that change no weight, which then are in "
                             f"the rows' names: {', '.join(choices.at_test)}")
    parser.add_argument("--as_trained", action="store_true",
                        help="with --set: also evaluate the runs with the values of their training, in other rows")
    add_json(parser, "a row of cases.csv")
    return parser


def assignment(choices: Choices, text: str) -> tuple[str, typing.Any]:
    """The field and the value of a `FIELD=VALUE` of `--set`.

    Raises:
      UserError: no such text, a field that is not in `at_test`, or a value of another type.
    """
    name, separator, value = text.partition("=")
    if not separator or name not in choices.at_test:
        raise UserError(f"--set: expected FIELD=VALUE, with one of the fields {', '.join(choices.at_test)}; found "
                        f"{printable(text)[:80]}")
    try:
        return name, parse_value(choices.config, name, value)
    except UserError as error:
        raise UserError(f"--set {str(error).removeprefix('--')}") from None


def each_once(values: Iterable[tuple[str, typing.Any]]) -> dict[str, typing.Any]:
    """The values of `--set` by field; raises `UserError` for one that is set twice."""
    found: dict[str, typing.Any] = {}
    for name, value in values:
        if name in found:
            raise UserError(f"--set {name}: given 2 times; give it once")
        found[name] = value
    return found


def add_json(parser: argparse.ArgumentParser, what: str) -> None:
    """`--json`; `what` each object is."""
    parser.add_argument("--json", action="store_true",
                        help=f"write {what} a line as JSON to stdout, and words to stderr; see docs/commands.md")


def add_mask_metrics(parser: argparse.ArgumentParser) -> None:
    """`--empty_is` and `--nsd_mm`, for the systems whose masks are measured."""
    parser.add_argument("--empty_is", default="absent", choices=("absent", "perfect"),
                        help="what a label in neither reference nor prediction is: absent, excluded from every mean "
                             "and counted; or perfect, Dice 1 and 0 mm")
    parser.add_argument("--nsd_mm", type=positive, default=2.0, metavar="MM",
                        help="tolerance of the surface Dice (NSD), default 2; choose no less than the voxels' largest "
                             "side, and the same for all evaluations that you compare")


def mask_scoring(arguments: argparse.Namespace) -> dict[str, typing.Any]:
    """The values of `add_mask_metrics`, as `tfsono.metrics.surface.segmentation_metrics` takes them."""
    return {"empty_is": arguments.empty_is, "nsd_mm": arguments.nsd_mm}


def add_speed(parser: argparse.ArgumentParser) -> None:
    """Options of prediction that trade time and memory for exactness; "" and 0 leave them to the run."""
    parser.add_argument("--tiling", default="", choices=("", "paper", "half", "fast", "whole"),
                        help="hip; default: fast, where the run has measured that it gives what the paper's gives; "
                             "else the run's")
    parser.add_argument("--memory_gb", type=positive, default=0.0, metavar="GB",
                        help="hip: memory that the tiling fast may take; default: 12 on a GPU, else half of the "
                             "machine's, at most 12")
    parser.add_argument("--precision", default="", choices=("", "float32", "mixed_bfloat16"),
                        help="default: that of the training; `tfsono doctor` says whether this machine has bfloat16 "
                             "in hardware")


def positive(text: str) -> float:
    """A positive number; argparse reports a `ValueError` as one line."""
    number = float(text)
    if not 0 < number < math.inf:
        raise ValueError(text)
    return number


def save_settings(path: str | os.PathLike, settings: Settings) -> None:
    """Writes every value, and which were overridden on the command line; atomically."""
    overridden = [name for name, (origin, _) in settings.origins.items() if origin == "command line"]
    content = {"system": settings.system, "preset": settings.preset, "variant": settings.variant,
               "values": dataclasses.asdict(settings.config), "overridden": overridden,
               "origins": {name: list(origin) for name, origin in settings.origins.items()}}
    write_text(path, json.dumps(content, indent=2) + "\n")


def load_settings(path: str | os.PathLike, choices: Choices) -> Settings:
    """Reads what `save_settings` wrote.

    Raises:
      UserError: the file is absent, belongs to another system, has other fields than this version, or a removed field
        with a value that this version no longer has.
    """
    if not Path(path).exists():
        raise UserError(f"{path}: no such file; is its folder a run folder of `train/{choices.system}.py`?")
    content = read_json(path, "delete its folder and train again")
    check_structure(content, _Saved, path)
    if content["system"] != choices.system:
        raise UserError(f"{path}: expected a run of {choices.system}, found one of {shown(content['system'])}; "
                        "give another folder")
    for key in ("preset", "variant"):
        check_label(content[key], f"{path}: {key}")
    values = _values_by_field(path, content["values"], choices)
    origins = {name: tuple(origin) for name, origin in choices.by_current_names(content["origins"]).items()}
    for field in dataclasses.fields(choices.config):
        if field.name in choices.added:
            origins.setdefault(field.name, (field.metadata["origin"], field.metadata["note"]))
    missing = sorted(values.keys() - origins)
    if missing:
        raise UserError(f"{path}: origins must have every field; found no {missing[0]!r}; train again")
    try:
        config = choices.config(**values)
    except UserError as error:
        raise UserError(f"{path}: values.{str(error).removeprefix('--')}; train again") from None
    return Settings(choices, content["preset"], content["variant"], config, origins)


class _Saved(typing.TypedDict):
    """The content of config.json."""

    system: str
    preset: str
    variant: str
    values: dict[str, object]
    origins: dict[str, tuple[str, str]]


def _values_by_field(path: str | os.PathLike, saved: dict[str, typing.Any], choices: Choices) -> dict[str, typing.Any]:
    """The values of every field of this version, each of its type."""
    for name in sorted(choices.removed.keys() & saved.keys()):
        if saved[name] != choices.removed[name]:
            raise UserError(f"{path}: {name} is {shown(saved[name])}, and in this version always "
                            f"{value_text(choices.removed[name])}; train again, or use {LAST_WITH_THEM}")
    values = {**choices.added, **choices.by_current_names(saved)}
    hints = type_hints(choices.config)
    if odd := sorted(values.keys() ^ hints.keys()):
        named = ", ".join(printable(name)[:40] for name in odd[:5]) + f" and {len(odd) - 5} more" * (len(odd) > 5)
        raise UserError(f"{path}: written by another version of tfsono; the fields {named} do not match; "
                        "train again, or use that version")
    for name, hint in hints.items():
        if name in saved or name not in choices.added:
            check_structure(values[name], hint, path, f"values.{name}")
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def differences(one, other) -> list[str]:
    """The fields in which two configs of one class differ, as `name: value, value`."""
    names = [field.name for field in dataclasses.fields(one)]
    return [f"{name}: {value_text(getattr(one, name))}, {value_text(getattr(other, name))}"
            for name in names if getattr(one, name) != getattr(other, name)]
