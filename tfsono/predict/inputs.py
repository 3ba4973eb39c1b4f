"""The files to predict, each once, and a unique name for each."""

from __future__ import annotations

import collections
import hashlib
import itertools
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tfsono.data.layout import MASK_ENDINGS
from tfsono.data.names import some
from tfsono.errors import UserError, printable
from tfsono.files import is_system_entry, safe_name
from tfsono.volumes.dicom import is_series_folder
from tfsono.volumes.image import case_name, is_volume_file
from tfsono.volumes.image_2d import image_2d_name

DATA_SUFFIXES = (".raw", ".zraw", ".img")
"""Voxels whose header is another file."""


def find_inputs(inputs: Sequence[str | os.PathLike], out_dir: Path, what: str = "volume",
                is_input: Callable[[Path], bool] = is_volume_file) -> list[Path]:
    """Files, DICOM folders, and those directly in the given folders; each once.

    A file that is named is not checked here, unless none exists; a wrong one is reported when it is predicted. What a
    folder contains besides inputs is skipped, with a line on stderr.

    Args:
      inputs: paths from the command line.
      out_dir: the output folder.
      what: `volume` or `image`, for messages.
      is_input: whether a file in a folder is an input, by its name.

    Raises:
      UserError: no input, none that exists, or a folder of inputs that is also the output folder.
    """
    found: dict[Path, Path] = {}
    if inputs and not any(map(os.path.lexists, inputs)):  # the model need not be loaded
        raise UserError(f"{inputs[0]}: the file must exist; found none; correct the path")
    for each in map(Path, inputs):
        members = _members(each, is_input, out_dir, what) if os.path.isdir(each) else [each]
        if members != [each] and resolved(each) == resolved(out_dir):
            raise UserError(f"--out {out_dir}: must not be the folder of the inputs; choose another one")
        for member in members:
            found.setdefault(resolved(member), member)
    if not found:
        raise UserError(f"INPUT: no {what} found; expected files, DICOM folders, or folders of them")
    return list(found.values())


def _members(folder: Path, is_input: Callable[[Path], bool], out_dir: Path, what: str) -> list[Path]:
    """The inputs directly in a folder, files and DICOM folders; else the folder itself (DICOM).

    If it has nothing but sub-folders, it is all of these: a wrong one is reported when it is predicted.
    """
    content = [path for path in _entries(folder)
               if resolved(path) != resolved(out_dir) and path.suffix.lower() not in DATA_SUFFIXES]
    folders = [path for path in content if os.path.isdir(path) and _entries(path)]
    members = [path for path in content if os.path.isfile(path) and is_input(path)]
    if folders and not any(os.path.isfile(path) for path in content):
        members = folders
    elif folders and is_input is is_volume_file and (members or not is_series_folder(folder)):
        members += [path for path in folders if is_series_folder(path)]
    passed = [path.name for path in (content if members else folders)
              if path not in members and not image_2d_name(path).endswith(MASK_ENDINGS)]
    if passed:
        print(f"{printable(str(folder))}: {len(passed)} files or folders are no {what} and were skipped: "
              f"{some(passed)}", file=sys.stderr)
    return members or [folder]


def _entries(folder: Path) -> list[Path]:
    """What is in a folder besides system entries; none where it may not be read, as reading it as DICOM reports why."""
    try:
        return [path for path in sorted(folder.iterdir()) if not is_system_entry(path)]
    except OSError:
        return []


def resolved(path: Path) -> Path:
    """The absolute path without links; also of a path that cannot be, such as a loop of links or one too long."""
    return Path(os.path.realpath(path))


def place_of(path: Path) -> str:
    """A number of the place of a file, in place of the place itself: it tells files of one name apart."""
    return hashlib.sha256(os.fsencode(resolved(path))).hexdigest()[:16]


def unique_names(paths: Sequence[Path], taken: dict[str, str],
                 name_of: Callable[[Path], str] = case_name) -> list[str]:
    """A unique case name for each path, safe for files: equal names get the names of their folders in front.

    Args:
      paths: different files or folders.
      taken: names of earlier cases -> their files, or the `place_of` these; a file keeps its earlier name, which no
        other file gets.
      name_of: path -> name without suffix.
    """
    earlier = {file: name for name, file in taken.items()}
    used = {name.lower() for name in taken}
    wanted = collections.Counter(
        name.lower() for path in paths for name in set(_names_with_folders(path, name_of)))
    names = []
    for path in paths:
        free = [name for name in _names_with_folders(path, name_of)
                if wanted[name.lower()] == 1 and name.lower() not in used]
        name = (earlier.get(place_of(path)) or earlier.get(str(resolved(path)))
                or earlier.pop(path.name, "")  # its row was written, and then the process was killed
                or (free[0] if free else _numbered(safe_name(name_of(path)), used)))
        used.add(name.lower())
        names.append(name)
    return names


def _names_with_folders(path: Path, name_of: Callable[[Path], str]) -> list[str]:
    """The case's name alone, with one folder in front, with two folders, and so on; each safe for a file's name."""
    folders = resolved(path).parent.parts[1:]
    return [safe_name("_".join([*folders[len(folders) - depth:], name_of(path)])) for depth in range(len(folders) + 1)]


def _numbered(name: str, used: set[str]) -> str:
    """The first free one of a, a_2, a_3, ...: for files of one name in one folder (`a.nii.gz` and `a.mha`)."""
    candidates = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))
    return next(candidate for candidate in candidates if candidate.lower() not in used)
