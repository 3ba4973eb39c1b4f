"""The rules of the architecture that can be checked: directions of imports, sizes of functions, the maps."""

from __future__ import annotations

import ast
import functools
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tfsono.systems import NAMES

ROOT = Path(__file__).resolve().parent.parent

SCRIPTS = ("train", "evaluate", "benchmarks", "workflow")

# Imports go down only, or stay in one package: a folder or file directly under tfsono/, or a folder of scripts.
LAYERS = (
    ("errors", "__init__"),
    ("files", "parts", "progress", "sides", "structure", "surroundings"),
    ("locks", "config", "hdf5"),
    ("configs", "geometry", "merge"),
    ("layers", "losses", "augment", "augment_2d", "contrast", "metrics", "volumes", "c3d", "reproduction"),
    ("data", "phantoms", "models", "report", "manifest"),
    ("training",),
    ("audit", "inference", "evaluation"),
    ("export", "bare_networks", "doctor"),
    ("predict", "planning"),
    ("systems",),
    ("demo", "plan"),
    ("__main__", "train", "evaluate"),
    ("benchmarks", "workflow"),
)
# `tfsono.predict(...)`, the call from Python: what its name leads to is imported when it is called.
FRONT = (("tfsono", "tfsono.predict"), ("tfsono.predict", "tfsono.systems.commands"))
LAYER_OF = {package: number for number, packages in enumerate(LAYERS) for package in packages}

# Without TensorFlow a package runs on Keras's other backends; without Keras it loads fast, as `--help` must.
NO_TENSORFLOW = (
    "errors", "files", "locks", "hdf5", "progress", "sides", "structure", "surroundings", "config", "__init__",
    "configs", "geometry", "layers", "losses", "models", "metrics", "volumes", "phantoms", "report", "c3d",
    "reproduction",
)
# Exceptions: one operation that Keras lacks on TensorFlow (other backends take Keras's), and TensorFlow checkpoints.
MAY_IMPORT_TENSORFLOW = ("tfsono.layers.batch_normalization", "tfsono.c3d.checkpoint")
NO_KERAS = ("errors", "files", "locks", "hdf5", "progress", "sides", "structure", "surroundings", "config",
            "__init__", "configs", "metrics", "volumes", "phantoms", "report", "reproduction")
STANDARD_LIBRARY_ONLY = ("errors", "files", "locks", "progress", "sides", "structure", "surroundings", "config",
                         "__init__", "configs", "reproduction")
# Files that run code when they are loaded.
UNSAFE = ("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve")
BANNED_NAMES = ("utils", "util", "helpers", "helper", "common", "misc", "registry")

LONGEST_FUNCTION = 70
LONGEST_MAIN = 15  # of train/ and evaluate/: the steps of the method, one a line
MOST_ARGUMENTS = 9
MOST_POSITIONAL = 5


# --- reading the tree


def modules(root: Path) -> dict[str, Path]:
    """Dotted name -> file, for each Python file of the package and the script folders."""
    found = {}
    for top in ("tfsono", *SCRIPTS):
        for path in sorted((root / top).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def package_of(name: str) -> str:
    """tfsono.volumes.image -> volumes, tfsono.config -> config, tfsono -> __init__, train.hip -> train."""
    parts = name.split(".")
    if parts[0] in SCRIPTS:
        return parts[0]
    return parts[1] if len(parts) > 1 else "__init__"


def paper_of(name: str) -> str:
    """tfsono.models.hip -> hip, tfsono.phantoms.face_flesh -> face; "" for a module of no paper."""
    for part in name.split(".")[1:]:
        if part.split("_")[0] in NAMES:
            return part.split("_")[0]
    return ""


def imported_names(tree: ast.AST, name: str, is_package: bool) -> Iterator[tuple[str, int]]:
    """Every import of a module, also inside functions: the dotted name of what is imported, and the line.

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
    """The longest beginning of a dotted name that is a module of this project; "" for other libraries."""
    parts = target.split(".")
    for length in range(len(parts), 0, -1):
        if ".".join(parts[:length]) in known:
            return ".".join(parts[:length])
    return ""


def imports(root: Path) -> Iterator[tuple[str, str, str, int]]:
    """Each import: the importing module, the imported module of this project or "", the dotted name, the line."""
    known = modules(root)
    for name, path in known.items():
        for target, line in imports_of(path.read_text(encoding="utf-8"), name, path.name == "__init__.py"):
            yield name, resolve(target, known), target, line


def parse(path: Path) -> ast.Module:
    return parsed(path.read_text(encoding="utf-8"))


parsed = functools.cache(ast.parse)  # once for all rules


@functools.cache
def imports_of(text: str, name: str, is_package: bool) -> tuple[tuple[str, int], ...]:
    return tuple(imported_names(parsed(text), name, is_package))


# --- the rules; each gives one line per violation


def unknown_packages(root: Path) -> list[str]:
    """Packages that the table of layers does not name."""
    packages = {package_of(name) for name in modules(root)}
    return [f"{package} is in no layer" for package in sorted(packages - set(LAYER_OF))]


def upward_imports(root: Path) -> list[str]:
    """Imports of a higher layer, or of another package in the same one."""
    return [
        f"{name}:{line} imports {ours}, which is not below it"
        for name, ours, _, line in imports(root)
        if ours and (name, ours) not in FRONT and not may_import(package_of(name), package_of(ours))
    ]


def may_import(here: str, there: str) -> bool:
    """Whether one package may import another; `config` may raise errors, and all may read the version."""
    if here == there or there == "__init__" or (here, there) == ("config", "errors"):
        return True
    return LAYER_OF.get(there, 99) < LAYER_OF.get(here, -1)


def imports_between_papers(root: Path) -> list[str]:
    """Imports of one paper's module by another's, in any package."""
    return [
        f"{name}:{line} imports {ours}: a paper imports no other paper"
        for name, ours, _, line in imports(root)
        if ours and paper_of(name) and paper_of(ours) and paper_of(name) != paper_of(ours)
    ]


def circles(root: Path) -> list[str]:
    """Circles among the modules, each once."""
    below: dict[str, set[str]] = {name: set() for name in modules(root)}
    for name, ours, _, _ in imports(root):
        if ours and ours != name and (name, ours) not in FRONT:
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
    """TensorFlow, Keras, pickle and the like in a package that must not import them."""
    violations = []
    for name, ours, target, line in imports(root):
        package, library = package_of(name), target.split(".")[0]
        if ours:
            continue
        own = package in STANDARD_LIBRARY_ONLY and library not in sys.stdlib_module_names
        if (
            own
            or library in ("tensorflow", "tf_keras") and package in NO_TENSORFLOW and name not in MAY_IMPORT_TENSORFLOW
            or library == "keras" and package in NO_KERAS
            or library in UNSAFE
        ):
            violations.append(f"{name}:{line} imports {library}, and {package} must not")
    return violations


def missing_modules(root: Path) -> list[str]:
    """Imports of a module of this project that does not exist."""
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
    """Functions with too many lines or arguments."""
    violations = []
    for name, node in functions(root):
        lines, arguments = node.end_lineno - node.lineno + 1, count_arguments(node)
        if lines > LONGEST_FUNCTION:
            violations.append(f"{name}:{node.lineno} {node.name} has {lines} lines of {LONGEST_FUNCTION}")
        if arguments > MOST_ARGUMENTS:
            violations.append(f"{name}:{node.lineno} {node.name} takes {arguments} of {MOST_ARGUMENTS}")
    return violations


def long_mains(root: Path) -> list[str]:
    """Scripts of the systems whose `main` has too many lines."""
    return [f"{name}:{node.lineno} main has {node.end_lineno - node.lineno + 1} lines of {LONGEST_MAIN}"
            for name, node in functions(root)
            if package_of(name) in ("train", "evaluate") and node.name == "main"
            and node.end_lineno - node.lineno >= LONGEST_MAIN]


def count_arguments(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """How many arguments a caller may pass; without `self` and `cls`."""
    every = function.args
    names = [argument.arg for argument in (*every.posonlyargs, *every.args, *every.kwonlyargs)]
    stars = [argument for argument in (every.vararg, every.kwarg) if argument]
    return len(names) + len(stars) - (names[:1] in (["self"], ["cls"]))


def passed_through(root: Path) -> list[str]:
    """Functions that take `**anything` and pass it on, so that no signature says what is allowed."""
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
        return set()  # dataclasses.replace checks the names against the fields
    values = [keyword.value for keyword in call.keywords if keyword.arg is None]
    return {value.id for value in values if isinstance(value, ast.Name)}


def positional_values(root: Path) -> list[str]:
    """Calls that pass more than five values by position."""
    return [
        f"{name}:{call.lineno} passes {len(call.args)} values without names"
        for name, path in modules(root).items()
        for call in ast.walk(parse(path))
        if isinstance(call, ast.Call) and len(call.args) > MOST_POSITIONAL
    ]


def incomplete_maps(root: Path) -> list[str]:
    """Packages whose docstring, the map of their modules, does not name each of them."""
    found, violations = modules(root), []
    for name, path in found.items():
        if path.name != "__init__.py" or name.split(".")[0] != "tfsono":
            continue
        named = set(re.findall(r"\w+", ast.get_docstring(parse(path)) or ""))
        parts = {other.split(".")[name.count(".") + 1] for other in found if other.startswith(f"{name}.")}
        violations += [f"{name} does not name {part}" for part in sorted(parts - named)]
    return violations


def missing_docstrings(root: Path) -> list[str]:
    """Modules without a docstring."""
    found = modules(root)
    return [f"{name} has no docstring" for name in found if not ast.get_docstring(parse(found[name]))]


def banned_names(root: Path) -> list[str]:
    """Modules and packages with a name that does not describe them."""
    return [name for name in modules(root) if set(name.split(".")) & set(BANNED_NAMES)]


# A folder of one user's machine, at the start of a path.
MACHINE_PATH = re.compile(r"(?<![\w.~/$}-])/(?:home|root|Users|work|workspace|scratch|mnt|private)/\w")
TEXT_FILES = ("*.py", "*.md", "*.cfg", "*.sh", "*.sbatch", "*.yaml", "Makefile", "Dockerfile", "Snakefile", ".ci/run")
SKIPPED = (".git", ".venv", "build", "runs")


def machine_paths(root: Path) -> list[str]:
    """Lines that name a folder of one user's machine."""
    violations = []
    for path in sorted({path for pattern in TEXT_FILES for path in root.rglob(pattern)}):
        if path.relative_to(root).parts[0] in SKIPPED:
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if MACHINE_PATH.search(line):
                violations.append(f"{path.relative_to(root)}:{number} {line.strip()[:80]}")
    return violations


RULES = (
    unknown_packages,
    upward_imports,
    imports_between_papers,
    circles,
    forbidden_libraries,
    missing_modules,
    overgrown_functions,
    long_mains,
    passed_through,
    positional_values,
    incomplete_maps,
    missing_docstrings,
    banned_names,
    machine_paths,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_architecture(rule):
    violations = rule(ROOT)
    assert not violations, "\n" + "\n".join(violations)


def test_the_tree_is_found():
    found = modules(ROOT)
    assert {"tfsono", "tfsono.errors", "tfsono.doctor"} <= set(found)
    assert sum(1 for _ in imports(ROOT)) > 20


# --- tests of the rules, on a small tree that breaks one at a time


@pytest.fixture
def tree(tmp_path):
    """Writes files below a fresh folder, with a minimal valid tree, and returns the folder."""

    def write(files: dict[str, str]) -> Path:
        valid = {
            "tfsono/__init__.py": '"""errors config volumes data metrics models losses."""\n__version__ = "0"\n',
            "tfsono/errors.py": '"""Errors."""\nimport sys\n',
            "tfsono/config.py": '"""Numbers."""\nfrom tfsono.errors import UserError\n',
            "tfsono/volumes/__init__.py": '"""Files: image, landmarks, utils."""\n',
            "tfsono/volumes/image.py": '"""."""\nimport numpy as np\nfrom tfsono.errors import UserError\n',
            "tfsono/data/cache.py": '"""."""\nimport tensorflow\nfrom tfsono.volumes.image import read\n',
            "train/hip.py": '"""."""\nfrom tfsono import __version__\nfrom tfsono.data import cache\n',
        }
        written = {f"{name}.py": f'"""."""\n{text}\n' if text else "" for name, text in files.items()}
        for name, text in {**valid, **written}.items():
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
    "benchmarks/memory": "import numpy",
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_valid_tree_passes(rule, tree):
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
    (unknown_packages, "tfsono/unknown/module", "x = 1", "unknown is in no layer"),
    (overgrown_functions, "tfsono/losses", "def f():\n" + "    x = 1\n" * 70, "f has 71 lines"),
    (overgrown_functions, "tfsono/losses", "def f(a, b, c, d, e, f, g, *, h, i, **j): ...", "takes 10"),
    (long_mains, "train/hip", "def main(argv):\n" + "    x = 1\n" * 15, "main has 16 lines"),
    (passed_through, "tfsono/losses", "def f(**others):\n    return dict(a=1, **others)", "**others"),
    (imports_between_papers, "tfsono/models/hip_bones", "from tfsono.models.femur import build", "no other paper"),
    (imports_between_papers, "tfsono/models/hip/bones", "from tfsono.models.femur import build", "no other paper"),
    (upward_imports, "tfsono/models/femur", "from benchmarks import memory", "not below"),
    (positional_values, "tfsono/losses", "print(1, 2, 3, 4, 5, 6)", "passes 6 values"),
    (positional_values, "benchmarks/speed", "print(1, 2, 3, 4, 5, 6)", "passes 6 values"),
    (incomplete_maps, "tfsono/volumes/mask", "x = 1", "tfsono.volumes does not name mask"),
    (incomplete_maps, "tfsono/unmapped", "x = 1", "tfsono does not name unmapped"),
    (missing_docstrings, "tfsono/losses", "", "tfsono.losses has no docstring"),
    (banned_names, "tfsono/volumes/utils", "x = 1", "utils"),
    (machine_paths, "tfsono/losses", "PLACE = '/" + "home/me/data'", "losses.py:2"),
]


@pytest.mark.parametrize("rule, name, text, words", BROKEN)
def test_a_violation_is_found(rule, name, text, words, tree):
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
    (forbidden_libraries, "tfsono/c3d/checkpoint", "import tensorflow"),
    (forbidden_libraries, "tfsono/configs/hip", "import dataclasses\nfrom tfsono.config import paper"),
    (overgrown_functions, "tfsono/losses", "class A:\n    def f(self, a, b, c, d, e, f, g, h, i): ..."),
    (long_mains, "evaluate/hip", "def main(argv):\n" + "    x = 1\n" * 14),
    (passed_through, "tfsono/losses", "def f(**others):\n    return sorted(others)"),
    (passed_through, "tfsono/config", "def f(a, **fields):\n    return dataclasses.replace(a, **fields)"),
    (positional_values, "tfsono/losses", "f(1, 2, 3, 4, 5, six=6)"),
    (imports_between_papers, "tfsono/models/hip_bones", "from tfsono.models.hip import build"),
    (machine_paths, "tfsono/losses", "A = '~/data'; B = 'https://x.org/home/me'; C = '/tmp/x', 'a/work/b'"),
]


@pytest.mark.parametrize("rule, name, text", ALLOWED)
def test_what_is_allowed_passes(rule, name, text, tree):
    files = {"tfsono/volumes/landmarks": "import numpy", "tfsono/models/hip": "import keras", name: text}
    assert rule(tree(files)) == []
