"""dataset.json: what it says of a dataset, each entry checked.

Names of labels become parts of the names of files, and are refused where they cannot. nnU-Net's label "ignore" stands
for voxels that nobody annotated; it is no class.
"""

from __future__ import annotations

from pathlib import Path

from tfsono.data.names import some
from tfsono.errors import UserError
from tfsono.files import LONGEST_NAME, check_label, read_json, safe_name
from tfsono.structure import shown
from tfsono.volumes.landmarks import MOST_LANDMARKS

OUR_KEYS = (
    "name",
    "modality",
    "labels",
    "landmarks",
    "units",
    "split",
    "subjects",
    "description",
    "reference",
    "licence",
    "phantom",
)
FOREIGN_KEYS = (
    *(
        "channel_names",
        "numTraining",
        "numTest",
        "file_ending",
        "training",
        "test",
        "tensorImageSize",
        "release",
    ),
    *("license", "dataset_name", "overwrite_image_reader_writer", "image_reader_writer", "converted_by"),
    *("citation", "dataset_release", "regions_class_order", "file_endings", "numValidation", "validation"),
)
"""What other programs write into dataset.json: ignored."""

MOST_LABEL_VALUES = 255
IGNORE = "ignore"
BACKGROUND = ("background", "bg", "_background_", "clear label", "exterior", "unlabeled", "unlabelled", "unknown",
              "none", "void", "air")
"""Names that 0 may have without a word; any other name of 0 is reported."""


def read_description(path: Path, notes: list[str]) -> dict:
    """The entries that this package uses, each checked; absent ones are absent. UserError for a wrong one."""
    if not path.exists():
        return {}
    found = read_json(path, "mend it, or remove it: labels and landmarks are then found in the files")
    if not isinstance(found, dict):
        raise UserError(f"{path}: must hold one JSON object; found {shown(found)}")
    unknown = sorted(set(found) - set(OUR_KEYS) - set(FOREIGN_KEYS))
    if unknown:
        notes.append(
            f"{path}: unknown keys were ignored: {some(unknown, 8)}; known are {', '.join(OUR_KEYS)}"
        )
    readers = {
        "name": _name, "modality": _modality, "labels": _labels, "landmarks": _landmarks,
        "units": _units, "subjects": _subjects, "split": _split,
    }  # fmt: skip
    _note_background(found.get("labels"), path, notes)
    described = {key: reader(found[key], f"{path}: {key}") for key, reader in readers.items() if key in found}
    if "channel_names" in found and "modality" not in described:
        described["modality"] = _modality(found["channel_names"], f"{path}: channel_names")
    return described


def _wrong(where: str, rule: str, found) -> UserError:
    return UserError(f"{where} must be {rule}; found {shown(found)}")


def _text(value, where: str) -> str:
    if not isinstance(value, str) or not value.isprintable() or len(value) > 1000:
        raise _wrong(where, "a line of text", value)
    return value


def _name(value, where: str) -> str:
    return check_label(_text(value, where), where)


def _modality(value, where: str) -> str:
    """Text, or nnU-Net's {"0": "MRI"}: the first channel's."""
    return _text(value.get("0", "") if isinstance(value, dict) else value, where)


def _units(value, where: str) -> str:
    if value != "mm":
        raise _wrong(where, '"mm" (files are read in millimetres)', value)
    return value


def without_ignored(labels: dict[str, int] | None, are_2d: bool, path: Path, notes: list[str]
                    ) -> tuple[dict[str, int] | None, int | None]:
    """The labels without nnU-Net's "ignore", and its value in the masks (None where there is none).

    Raises:
        UserError: of 2D images, whose masks have one value inside.
    """
    name = next((name for name in labels or () if name.lower() == IGNORE), None)
    if name is None:
        return labels, None
    if are_2d:
        raise UserError(f"{path}: labels: {name!r} marks pixels that nobody annotated, but all values except 0 of a 2D "
                        "mask are inside; annotate these pixels, and remove it from the labels")
    notes.append(f"{path}: labels: {name!r} ({labels[name]}) marks voxels that nobody annotated and is no class; cases "
                 "with such voxels are errors, as losses and scores cannot leave voxels out")
    return {other: value for other, value in labels.items() if other != name}, labels[name]


def _labels(value, where: str) -> dict[str, int]:
    """{"femur": 1} or, as in the Decathlon, {"1": "femur"}; background (0) is dropped."""
    if not isinstance(value, dict):
        raise _wrong(where, 'an object such as {"femur": 1}', value)
    if len(value) > MOST_LABEL_VALUES + 2:  # the background and "ignore"
        raise _wrong(where, f"at most {MOST_LABEL_VALUES} labels", value)
    labels: dict[str, int] = {}
    for name, number in _named_values(value):
        place = f"{where}: {name[:40]!r}"
        if isinstance(number, list):
            raise _wrong(place, "one whole number (regions, which are several, are not read)", number)
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= 65535:
            raise _wrong(place, "one whole number from 0 to 65535", number)
        if number in labels.values() or name in labels:
            raise _wrong(where, f"without repetition ({name[:40]!r}, {number})", value)
        if safe_name(name) != name:
            raise UserError(f"{where}: a name becomes part of the names of files: at most {LONGEST_NAME} characters, "
                            f'none of / \\ : * ? " < > |, no control characters; found {name[:40]!r} ({len(name)} '
                            f"characters); rename it, such as {safe_name(name)[:40]!r}")
        labels[name] = number
    labels = {name: number for name, number in sorted(labels.items(), key=lambda item: item[1]) if number}
    if len(labels) > MOST_LABEL_VALUES:
        raise _wrong(where, f"at most {MOST_LABEL_VALUES} labels", value)
    return labels


def _named_values(value: dict):
    """Name and number of each label, in either direction, as far as they can be told."""
    for key, entry in value.items():
        name, number = (entry, key) if isinstance(entry, str) and key.strip().isdecimal() else (key, entry)
        if isinstance(number, str) and number.strip().isdecimal() and len(number) <= 20:
            number = int(number)
        yield name.strip(), number


def _note_background(labels, path: Path, notes: list[str]) -> None:
    for name, number in _named_values(labels) if isinstance(labels, dict) else ():
        if number == 0 and name.lower() == IGNORE:
            raise UserError(f"{path}: labels: {name!r} marks voxels that nobody annotated, and 0 the background; found "
                            "0 for both: give the voxels that nobody annotated another value")
        if number == 0 and name.lower() not in BACKGROUND:
            notes.append(f"{path}: labels: {name[:40]!r} is 0, which is the background of every mask, and is no class; "
                         "give it another value in the masks if it is one")


def _landmarks(value, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise _wrong(where, 'a list of names such as ["proximal", "distal"]', value)
    if len(set(value)) != len(value):
        raise _wrong(where, "a list of different names", value)
    if len(value) > MOST_LANDMARKS:
        raise _wrong(where, f"at most {MOST_LANDMARKS} names", value)
    return tuple(check_label(name, f"{where}: each") for name in value)


def _subjects(value, where: str) -> dict[str, str]:
    if not isinstance(value, dict) or not all(type(name) in (str, int) for name in value.values()):
        raise _wrong(where, 'an object such as {"case_01": "subject_a"}', value)
    return {case: check_label(str(subject), f"{where}: each") for case, subject in value.items()}


def _split(value, where: str) -> dict[str, list[str]] | None:
    """{"train": [...], "validation": [...], "test": [...]}; null counts as absent."""
    if value is None:
        return None
    parts = ("train", "validation", "test")
    if not isinstance(value, dict) or not set(value) <= set(parts):
        raise _wrong(where, 'an object with "train", "validation" and "test"', value)
    for part, names in value.items():
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise _wrong(f"{where}: {part}", "a list of case names", names)
    return {part: list(value.get(part, [])) for part in parts}
