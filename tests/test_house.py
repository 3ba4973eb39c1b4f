"""The house rules that a machine can check: which room imports which, and how large a function grows."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tfsono.systems import NAMES as PAPERS

ROOT = Path(__file__).resolve().parent.parent

# Imports go down only, or stay inside one room: a folder or file directly under tfsono/, or a script folder.
FLOORS = (
    ("errors", "__init__"),
    ("files", "progress"),
    ("config",),
    ("configs", "geometry"),
    ("layers", "losses", "augment", "augment_picture", "contrast", "metrics", "volumes", "c3d"),
    ("data", "phantoms", "models", "training", "report"),
    ("inference",),
    ("export", "doctor"),
    ("predict",),
    ("systems",),
    ("demo",),
    ("__main__", "train", "evaluate"),
)
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
SCRIPTS = ("train", "evaluate")

# Without TensorFlow a room runs on Keras's other backends; without Keras it loads at once, as `--help` must.
NO_TENSORFLOW = (
    "errors", "files", "progress", "config", "__init__", "configs", "geometry", "layers", "losses", "models",
    "metrics", "volumes", "phantoms", "report", "c3d",
)
# One operation that Keras lacks, where TensorFlow is its backend; the others take Keras's own.
TENSORFLOW_BESIDE = ("tfsono.layers.batch_normalization",)
NO_KERAS = ("errors", "files", "progress", "config", "__init__", "configs", "metrics", "volumes", "phantoms", "report")
STANDARD_LIBRARY_ONLY = ("errors", "files", "progress", "config", "__init__", "configs")
# Files that run code when they are loaded. Only c3d reads such a format, and without running it.
UNSAFE = ("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve")
BANNED_NAMES = ("utils", "util", "helpers", "helper", "common", "misc", "registry")

LONGEST_FUNCTION = 70
MOST_ARGUMENTS = 9


# --- reading the tree


def modules(root: Path) -> dict[str, Path]:
    """Dotted name -> file, for each Python file of the package and the script folders."""
    found = {}
    for top in ("tfsono", *SCRIPTS):
        for path in sorted((root / top).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def room_of(name: str) -> str:
    """tfsono.volumes.image -> volumes, tfsono.config -> config, tfsono -> __init__, train.hip -> train."""
    parts = name.split(".")
    if parts[0] in SCRIPTS:
        return parts[0]
    return parts[1] if len(parts) > 1 else "__init__"


def paper_of(name: str) -> str:
    """tfsono.models.hip -> hip; "" for a module of no paper."""
    last = name.split(".")[-1]
    return last if last in PAPERS else ""


def imported_names(tree: ast.AST, name: str, is_package: bool) -> Iterator[tuple[str, int]]:
    """Every import of a module, wherever it stands: the dotted name with what is taken from it, and the line.

    `from a.b import c` gives a.b.c, of which c may be a module or a name in one; `import a.b` gives a.b.* .
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((f"{alias.name}.*", node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = name.split(".")
                above = parts[: len(parts) - node.level + is_package]
                base = ".".join([*above, *([base] if base else [])])
            yield from ((f"{base}.{alias.name}", node.lineno) for alias in node.names)


def resolve(target: str, known: dict[str, Path]) -> str:
    """The longest beginning of a dotted name that is a module of ours; "" for somebody else's."""
    parts = target.split(".")
    for length in range(len(parts), 0, -1):
        if ".".join(parts[:length]) in known:
            return ".".join(parts[:length])
    return ""


def imports(root: Path) -> Iterator[tuple[str, str, str, int]]:
    """Each import: the importing module, our module that it names or "", the dotted name, the line."""
    known = modules(root)
    for name, path in known.items():
        for target, line in imported_names(parse(path), name, path.name == "__init__.py"):
            yield name, resolve(target, known), target, line


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


# --- the rules; each gives one line per violation


def unknown_rooms(root: Path) -> list[str]:
    """Rooms that the table of floors does not name."""
    rooms = {room_of(name) for name in modules(root)}
    return [f"{room} stands on no floor" for room in sorted(rooms - set(FLOOR_OF))]


def upward_imports(root: Path) -> list[str]:
    """Imports of a higher floor, or of another room on the same one."""
    return [
        f"{name}:{line} imports {ours}, which is not below it"
        for name, ours, _, line in imports(root)
        if ours and not may_import(room_of(name), room_of(ours))
    ]


def may_import(here: str, there: str) -> bool:
    """Whether one room may import another; `config` may raise errors, and all may ask for the version."""
    if here == there or there == "__init__" or (here, there) == ("config", "errors"):
        return True
    return FLOOR_OF.get(there, 99) < FLOOR_OF.get(here, -1)


def imports_between_papers(root: Path) -> list[str]:
    """Imports of one paper's module by another's, in any room."""
    return [
        f"{name}:{line} imports {ours}: a paper imports no other paper"
        for name, ours, _, line in imports(root)
        if ours and paper_of(name) and paper_of(ours) and paper_of(name) != paper_of(ours)
    ]


def circles(root: Path) -> list[str]:
    """Circles among the modules, each once."""
    below: dict[str, set[str]] = {name: set() for name in modules(root)}
    for name, ours, _, _ in imports(root):
        if ours and ours != name:
            below[name].add(ours)
    found, done = [], set()

    def walk(name: str, trail: tuple[str, ...]) -> None:
        if name in trail:
            found.append(" -> ".join((*trail[trail.index(name) :], name)))
        elif name not in done:
            for target in sorted(below[name]):
                walk(target, (*trail, name))
            done.add(name)

    for name in below:
        walk(name, ())
    return found


def forbidden_libraries(root: Path) -> list[str]:
    """TensorFlow, Keras, pickle and the like in a room that must do without."""
    violations = []
    for name, ours, target, line in imports(root):
        room, library = room_of(name), target.split(".")[0]
        if ours:
            continue
        own = room in STANDARD_LIBRARY_ONLY and library not in sys.stdlib_module_names
        if (
            own
            or library in ("tensorflow", "tf_keras") and room in NO_TENSORFLOW and name not in TENSORFLOW_BESIDE
            or library == "keras" and room in NO_KERAS
            or library in UNSAFE and room != "c3d"
        ):
            violations.append(f"{name}:{line} imports {library}, and {room} must not")
    return violations


def missing_modules(root: Path) -> list[str]:
    """Imports of a module of ours that does not exist."""
    return [
        f"{name}:{line} imports {target.removesuffix('.*')}, which does not exist"
        for name, ours, target, line in imports(root)
        if target.split(".")[0] in ("tfsono", *SCRIPTS) and ours not in (target, target.rpartition(".")[0])
    ]


def functions(root: Path) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function and method, with its module's name."""
    for name, path in modules(root).items():
        for node in ast.walk(parse(path)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield name, node


def overgrown_functions(root: Path) -> list[str]:
    """Functions of too many lines or arguments."""
    violations = []
    for name, node in functions(root):
        lines, arguments = node.end_lineno - node.lineno + 1, count_arguments(node)
        if lines > LONGEST_FUNCTION:
            violations.append(f"{name}:{node.lineno} {node.name} has {lines} lines of {LONGEST_FUNCTION}")
        if arguments > MOST_ARGUMENTS:
            violations.append(f"{name}:{node.lineno} {node.name} takes {arguments} of {MOST_ARGUMENTS}")
    return violations


def count_arguments(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """How many arguments a caller may give; `self` and `cls` are not the caller's."""
    every = function.args
    names = [argument.arg for argument in (*every.posonlyargs, *every.args, *every.kwonlyargs)]
    stars = [argument for argument in (every.vararg, every.kwarg) if argument]
    return len(names) + len(stars) - (names[:1] in (["self"], ["cls"]))


def passed_through(root: Path) -> list[str]:
    """Functions that take `**anything` and hand it on, so that no signature says what may be given."""
    return [
        f"{name}:{call.lineno} {node.name} passes **{node.args.kwarg.arg} on"
        for name, node in functions(root)
        if node.args.kwarg
        for call in ast.walk(node)
        if isinstance(call, ast.Call) and node.args.kwarg.arg in unpacked_names(call)
    ]


def unpacked_names(call: ast.Call) -> set[str]:
    """The names that a call unpacks with two stars."""
    if isinstance(call.func, ast.Attribute) and call.func.attr == "replace":
        return set()  # dataclasses.replace: the fields say what may be given, and it checks
    values = [keyword.value for keyword in call.keywords if keyword.arg is None]
    return {value.id for value in values if isinstance(value, ast.Name)}


def missing_docstrings(root: Path) -> list[str]:
    """Modules that do not say what they are."""
    found = modules(root)
    return [f"{name} has no docstring" for name in found if not ast.get_docstring(parse(found[name]))]


def banned_names(root: Path) -> list[str]:
    """Modules and rooms whose name says nothing."""
    return [name for name in modules(root) if set(name.split(".")) & set(BANNED_NAMES)]


# A folder of somebody's own machine, at the start of a path.
MACHINE_PATH = re.compile(r"(?<![\w.~/$}-])/(?:home|root|Users|work|workspace|scratch|mnt|private)/\w")
TEXT_FILES = ("*.py", "*.md", "*.cfg", "Makefile", "Dockerfile", ".ci/run")
SKIPPED = (".git", ".venv", "build", "runs")


def machine_paths(root: Path) -> list[str]:
    """Lines that name a folder of the machine on which they were written."""
    violations = []
    for path in sorted({path for pattern in TEXT_FILES for path in root.rglob(pattern)}):
        if path.relative_to(root).parts[0] in SKIPPED:
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if MACHINE_PATH.search(line):
                violations.append(f"{path.relative_to(root)}:{number} {line.strip()[:80]}")
    return violations


RULES = (
    unknown_rooms,
    upward_imports,
    imports_between_papers,
    circles,
    forbidden_libraries,
    missing_modules,
    overgrown_functions,
    passed_through,
    missing_docstrings,
    banned_names,
    machine_paths,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house(rule):
    violations = rule(ROOT)
    assert not violations, "\n" + "\n".join(violations)


def test_the_tree_is_found():
    found = modules(ROOT)
    assert {"tfsono", "tfsono.errors", "tfsono.doctor"} <= set(found)
    assert sum(1 for _ in imports(ROOT)) > 20


# --- the rules themselves, on a small tree that breaks one at a time


@pytest.fixture
def tree(tmp_path):
    """Writes files below a fresh folder, beside a sound minimum, and returns the folder."""

    def write(files: dict[str, str]) -> Path:
        sound = {
            "tfsono/__init__.py": '"""Map."""\n__version__ = "0"\n',
            "tfsono/errors.py": '"""Errors."""\nimport sys\n',
            "tfsono/config.py": '"""Numbers."""\nfrom tfsono.errors import UserError\n',
            "tfsono/volumes/__init__.py": '"""Files."""\n',
            "tfsono/volumes/image.py": '"""."""\nimport numpy as np\nfrom tfsono.errors import UserError\n',
            "tfsono/data/cache.py": '"""."""\nimport tensorflow\nfrom tfsono.volumes.image import read\n',
            "train/hip.py": '"""."""\nfrom tfsono import __version__\nfrom tfsono.data import cache\n',
        }
        written = {f"{name}.py": f'"""."""\n{text}\n' if text else "" for name, text in files.items()}
        for name, text in {**sound, **written}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


# Modules that the cases below import.
NEIGHBOURS = {
    "tfsono/metrics/overlap": "import numpy",
    "tfsono/models/hip": "import keras",
    "tfsono/models/femur": "import keras",
    "tfsono/volumes/landmarks": "from tfsono.volumes.image import read",
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_sound_tree_passes(rule, tree):
    assert rule(tree(NEIGHBOURS)) == []


BROKEN = [
    (upward_imports, "tfsono/volumes/image", "from tfsono.data.cache import Cache", "not below"),
    (upward_imports, "tfsono/volumes/image", "from tfsono.data import cache", "not below"),
    (upward_imports, "tfsono/volumes/image", "from ..data import cache", "not below"),
    (upward_imports, "tfsono/volumes/image", "import tfsono.data.cache", "not below"),
    (upward_imports, "tfsono/volumes/image", "def f():\n    from tfsono.data import cache", "not below"),
    (upward_imports, "tfsono/volumes/image", "from tfsono.metrics import overlap", "not below"),
    (upward_imports, "tfsono/data/cache", "from train import hip", "not below"),
    (upward_imports, "evaluate/hip", "from train.hip import main", "not below"),
    (upward_imports, "tfsono/errors", "from tfsono.config import paper", "not below"),
    (imports_between_papers, "tfsono/models/hip", "from tfsono.models.femur import build", "no other paper"),
    (imports_between_papers, "tfsono/models/hip", "from .femur import build", "no other paper"),
    (imports_between_papers, "train/hip", "from tfsono.models import femur", "no other paper"),
    (circles, "tfsono/volumes/image", "from tfsono.volumes import landmarks", "image -> tfsono.volumes.land"),
    (forbidden_libraries, "tfsono/metrics/overlap", "import tensorflow as tf", "imports tensorflow"),
    (forbidden_libraries, "tfsono/models/hip", "def f():\n    import tensorflow.nn", "imports tensorflow"),
    (forbidden_libraries, "tfsono/losses", "from tensorflow import nn", "imports tensorflow"),
    (forbidden_libraries, "tfsono/report/plots", "from keras import ops", "imports keras"),
    (forbidden_libraries, "tfsono/configs/hip", "import numpy", "imports numpy"),
    (forbidden_libraries, "tfsono/data/cache", "import pickle", "imports pickle"),
    (missing_modules, "tfsono/data/cache", "from tfsono.volumes.nothing import read", "does not exist"),
    (missing_modules, "tfsono/data/cache", "import tfsono.nothing", "does not exist"),
    (unknown_rooms, "tfsono/cellar/rats", "x = 1", "cellar stands on no floor"),
    (overgrown_functions, "tfsono/losses", "def f():\n" + "    x = 1\n" * 70, "f has 71 lines"),
    (overgrown_functions, "tfsono/losses", "def f(a, b, c, d, e, f, g, *, h, i, **j): ...", "takes 10"),
    (passed_through, "tfsono/losses", "def f(**others):\n    return dict(a=1, **others)", "**others"),
    (missing_docstrings, "tfsono/metrics/__init__", "", "tfsono.metrics has no docstring"),
    (banned_names, "tfsono/volumes/utils", "x = 1", "utils"),
    (machine_paths, "tfsono/losses", "PLACE = '/" + "home/me/data'", "losses.py:2"),
]


@pytest.mark.parametrize("rule, name, text, words", BROKEN)
def test_a_broken_tree_is_caught(rule, name, text, words, tree):
    violations = rule(tree({**NEIGHBOURS, name: text}))
    assert len(violations) == 1, violations
    assert words in violations[0]


ALLOWED = [
    (upward_imports, "tfsono/config", "from tfsono.errors import UserError"),
    (upward_imports, "tfsono/volumes/image", "from tfsono.volumes.landmarks import points"),
    (upward_imports, "tfsono/volumes/image", "from tfsono.config import paper"),
    (imports_between_papers, "train/hip", "from tfsono.models.hip import build"),
    (circles, "tfsono/volumes/image", "from tfsono.errors import UserError"),
    (forbidden_libraries, "tfsono/layers/blocks", "import keras\nfrom keras import ops"),
    (forbidden_libraries, "tfsono/c3d", "import pickle\nimport keras"),
    (forbidden_libraries, "tfsono/configs/hip", "import dataclasses\nfrom tfsono.config import paper"),
    (overgrown_functions, "tfsono/losses", "class A:\n    def f(self, a, b, c, d, e, f, g, h, i): ..."),
    (passed_through, "tfsono/losses", "def f(**others):\n    return sorted(others)"),
    (passed_through, "tfsono/config", "def f(a, **fields):\n    return dataclasses.replace(a, **fields)"),
    (machine_paths, "tfsono/losses", "A = '~/data'; B = 'https://x.org/home/me'; C = '/tmp/x', 'a/work/b'"),
]


@pytest.mark.parametrize("rule, name, text", ALLOWED)
def test_what_is_allowed_passes(rule, name, text, tree):
    files = {"tfsono/volumes/landmarks": "import numpy", "tfsono/models/hip": "import keras", name: text}
    assert rule(tree(files)) == []
