"""What a fresh clone is set up from: setup.cfg, Makefile, Dockerfile and .ci/run, held against the tree."""

from __future__ import annotations

import ast
import configparser
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
# Where a module's name is not its package's.
PACKAGE_OF = {"cv2": "opencv-python-headless", "PIL": "pillow", "skimage": "scikit-image", "SimpleITK": "simpleitk"}


@pytest.fixture(scope="module")
def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def requirements(text: str) -> list[Requirement]:
    return [Requirement(line) for line in text.splitlines() if line.strip()]


def holding(wanted: list[Requirement], python: str) -> dict[str, Requirement]:
    """The requirements that hold on a Python, by name; each name once."""
    environment = {"python_version": python}
    held = [each for each in wanted if each.marker is None or each.marker.evaluate(environment)]
    names = [each.name.lower() for each in held]
    assert len(names) == len(set(names)), f"a name twice on Python {python}: {names}"
    return dict(zip(names, held, strict=True))


# --- setup.cfg


def test_the_metadata(setup):
    metadata = setup["metadata"]
    assert metadata["name"] == "tfsono"
    assert metadata["license"] == "Apache-2.0"
    assert metadata["version"] == "attr: tfsono.__version__", "one place for it"
    named = re.findall(r"Python :: (3\.\d+)", metadata["classifiers"])
    assert named == list(PYTHONS)
    supported = SpecifierSet(setup["options"]["python_requires"])
    assert all(f"{python}.0" in supported for python in PYTHONS) and "3.9.18" not in supported


@pytest.mark.parametrize("python", PYTHONS)
def test_every_requirement_has_a_lowest_version(setup, python):
    wanted = holding(requirements(setup["options"]["install_requires"]), python)
    assert {"tensorflow", "keras", "tensorboard", "numpy", "h5py", "simpleitk"} <= set(wanted)
    extras = setup["options.extras_require"]
    for text in extras.values():
        wanted = {**wanted, **holding(requirements(text), python)}
    for requirement in wanted.values():
        assert any(each.operator == ">=" for each in requirement.specifier), requirement


def test_keras_has_the_guards_against_hostile_files_on_every_python(setup):
    wanted = requirements(setup["options"]["install_requires"])
    assert "3.12.4" in holding(wanted, "3.10")["keras"].specifier
    assert "3.13.0" not in holding(wanted, "3.10")["keras"].specifier
    for python in PYTHONS[1:]:
        specifier = holding(wanted, python)["keras"].specifier
        assert "3.15.1" in specifier and "3.14.1" not in specifier


def test_the_gpu_extra_brings_cuda(setup):
    (requirement,) = requirements(setup["options.extras_require"]["gpu"])
    plain = holding(requirements(setup["options"]["install_requires"]), "3.12")["tensorflow"]
    assert requirement.extras == {"and-cuda"} and requirement.specifier == plain.specifier


def test_all_that_is_imported_is_required(setup):
    wanted = set(holding(requirements(setup["options"]["install_requires"]), "3.12"))
    wanted |= set(holding(requirements(setup["options.extras_require"]["onnx"]), "3.12"))
    foreign = foreign_imports(("tfsono", "train", "evaluate"))
    assert {"numpy", "keras", "tensorflow"} <= set(foreign)
    assert not {name: foreign[name] for name in foreign if PACKAGE_OF.get(name, name).lower() not in wanted}


def foreign_imports(tops: tuple[str, ...]) -> dict[str, str]:
    """Third-party top-level modules that the folders import -> a file that does."""
    found = {}
    for path in (path for top in tops for path in (ROOT / top).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            found.update((name.split(".")[0], str(path.relative_to(ROOT))) for name in names)
    ours = (*sys.stdlib_module_names, *os.listdir(ROOT))
    return {name: path for name, path in found.items() if name not in ours}


def test_every_package_is_installed():
    """`find_packages` passes over a folder without __init__.py, and over files that are not Python's."""
    files = [path for path in (ROOT / "tfsono").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert [str(path.relative_to(ROOT)) for path in files if path.suffix != ".py"] == ["tfsono/py.typed"]
    folders = {path.parent for path in files}
    assert not [folder.name for folder in folders if not (folder / "__init__.py").is_file()]


def test_the_command_exists(setup):
    scripts = setup["options.entry_points"]["console_scripts"].strip()
    assert scripts == "tfsono = tfsono.__main__:main"
    tree = ast.parse((ROOT / "tfsono" / "__main__.py").read_text(encoding="utf-8"))
    assert "main" in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


# --- what is built from a checkout


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """lib/ as a wheel installs it, and the source archive; nothing is written into the checkout."""
    pytest.importorskip("setuptools")
    place = tmp_path_factory.mktemp("built")
    subprocess.run([sys.executable, "setup.py", "-q", "egg_info", "--egg-base", str(place), "build_py", "--build-lib",
                    str(place / "lib"), "sdist", "--dist-dir", str(place), "--formats", "gztar"],
                   cwd=ROOT, check=True, capture_output=True, timeout=120)
    return place


SCRIPTS = [(command, system) for command in ("train", "evaluate")
           for system in ("hip", "femur", "pose", "face", "head")]
HELP = """
import contextlib, io, json, runpy, sys
place, found = list(sys.path), []
for name, *words in json.loads(sys.argv[1]):
    sys.argv, printed = [name, *words, "--help"], io.StringIO()
    with contextlib.redirect_stdout(printed):
        try:
            if name == "tfsono":
                runpy.run_module(name, run_name="__main__", alter_sys=True)
            else:
                runpy.run_path(name, run_name="__main__")
            status = None
        except SystemExit as end:
            status = end.code
    found.append((status, printed.getvalue(), [each for each in sys.modules if each.startswith("tensorflow")]))
    sys.path[:] = place
    for each in [each for each in sys.modules if each.split(".")[0] == "tfsono"]:  # as in a process of its own
        del sys.modules[each]
print(json.dumps(found))
"""


def test_a_wheel_runs_the_scripts(built, tmp_path):
    for command, system in SCRIPTS:
        assert (built / "lib" / "tfsono" / command / f"{system}.py").read_bytes() == (
            ROOT / command / f"{system}.py").read_bytes()
    commands = [("tfsono", *words) for words in SCRIPTS]
    shown = scripts_help(commands, built / "lib", tmp_path)
    assert shown == scripts_help(commands, ROOT, tmp_path)
    assert shown == scripts_help([(str(ROOT / command / f"{system}.py"),) for command, system in SCRIPTS], tmp_path,
                                 tmp_path)
    for (command, system), text in zip(SCRIPTS, shown, strict=True):
        assert f"usage: tfsono {command} {system} " in text


def scripts_help(commands: list[tuple[str, ...]], path: Path, folder: Path) -> list[str]:
    """What `--help` of commands prints with the package from `path`; fails if one loads TensorFlow."""
    done = subprocess.run([sys.executable, "-c", HELP, json.dumps(commands)], cwd=folder, capture_output=True,
                          env={**os.environ, "PYTHONPATH": str(path)}, encoding="utf-8", check=True, timeout=60)
    found = json.loads(done.stdout)
    assert [(status, loaded) for status, _, loaded in found] == [(0, [])] * len(commands)
    return [text for _, text, _ in found]


def test_a_script_refuses_as_the_command_does(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TFSONO_VERBOSE": "0"}
    command, script = (
        subprocess.run([sys.executable, *words, "--data", "none.h5", "--run_dir", "run"], cwd=tmp_path,
                       env=environment, capture_output=True, encoding="utf-8", check=False)
        for words in (["-m", "tfsono", "train", "pose"], [str(ROOT / "train" / "pose.py")]))
    assert (command.returncode, script.returncode) == (2, 2)
    assert command.stderr == script.stderr and command.stderr.startswith("error: --data none.h5: ")


def test_the_source_archive_is_the_checkout(built):
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, encoding="utf-8", check=True)
    archive, = built.glob("*.tar.gz")
    with tarfile.open(archive) as content:
        packed = {name.split("/", 1)[1] for name in content.getnames() if "/" in name}
    assert set(tracked.stdout.split("\n")) - packed <= {"", ".gitignore"}


def test_the_changelog_has_the_version():
    package = (ROOT / "tfsono" / "__init__.py").read_text(encoding="utf-8")
    version = re.search(r'^__version__ = "(.*)"$', package, re.MULTILINE).group(1)
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_constraints_fit_the_requirements(setup):
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {each.name.lower(): each.specifier for each in requirements("\n".join(
        line for line in lines if not line.startswith("#")))}
    wanted = {**holding(requirements(setup["options"]["install_requires"]), "3.11"),
              **holding(requirements(setup["options.extras_require"]["test"]), "3.11")}
    for name, requirement in wanted.items():
        version = next(iter(pinned[name])).version
        assert version in requirement.specifier, requirement


def test_the_license_is_the_whole_of_apache_2():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert "9. Accepting Warranty or Additional Liability." in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_linter_and_test_settings(setup):
    assert setup["flake8"].getint("max-line-length") <= 120
    assert setup["tool:pytest"]["testpaths"] == "tests"
    assert "slow:" in setup["tool:pytest"]["markers"]


# --- .ci/run, Dockerfile


def test_ci_runs_make_test():
    path = ROOT / ".ci" / "run"
    assert os.access(path, os.X_OK), "not executable"
    assert re.search(r"^make test$", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0


def docker_instructions() -> list[list[str]]:
    """The Dockerfile's instructions as words, with continued lines joined."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [line.split() for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def docker_sources() -> list[str]:
    """What the Dockerfile copies from the checkout."""
    return [source for words in docker_instructions() if words[0] == "COPY" for source in words[1:-1]]


def test_docker_copies_what_is_there():
    sources = docker_sources()
    assert {"setup.cfg", "tfsono", "train", "evaluate"} <= set(sources)
    assert not [source for source in sources if not (ROOT / source).exists()]


def test_docker_is_sent_what_it_copies_and_little_else():
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").split("\n")
    assert lines[1] == "*", "nothing is sent unless it is named"
    sent = {line[1:] for line in lines if line.startswith("!")}
    assert sent == {source.split("/")[0] for source in docker_sources()}


def test_docker_ends_as_a_user_without_rights():
    instructions = docker_instructions()
    users = [words[1] for words in instructions if words[0] == "USER"]
    assert users and re.fullmatch(r"[1-9]\d*:\d+", users[-1]), "a number, or Kubernetes cannot tell that it is not root"
    assert instructions[0][0] == "ARG" and instructions[1] == ["FROM", "${BASE}"]
    version = instructions[0][1].removeprefix("BASE=").split(":")[1].split("-")[0]
    assert version in PYTHONS, "a Python that TensorFlow has wheels for"


def test_compose_files_name_commands_that_exist():
    text = (ROOT / "compose.yaml").read_text(encoding="utf-8")
    words = re.findall(r"entrypoint: \[tfsono, (\w+), \"\$\{SYSTEM:-(\w+)\}\"", text)
    assert words == [("train", "hip"), ("evaluate", "hip")]
    services = re.findall(r"^  (\w+):", text[text.index("services:"):], re.MULTILINE)
    on_gpus = (ROOT / "compose.gpu.yaml").read_text(encoding="utf-8")
    assert services == ["train", "evaluate", "tensorboard"]
    assert set(re.findall(r"^  (\w+): \*gpu", on_gpus, re.MULTILINE)) == {"train", "evaluate"}


# --- Makefile, with an interpreter that writes down how it is called

FAKE_PYTHON = """#!/bin/sh
echo "$*" >> "{log}"
case "$*" in
    *"-m venv"*) for folder; do :; done; mkdir -p "$folder/bin" && cp "$0" "$folder/bin/python" ;;
    *"-m pip"*) exit ${{PIP_STATUS:-0}} ;;
    *--version*) echo "Python 3.12.1" ;;
esac
"""

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@pytest.fixture
def clone(tmp_path):
    """A folder with the Makefile, set-up files, and a fake interpreter; returns it."""
    for name in ("Makefile", "setup.cfg", "setup.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    python = tmp_path / "python"
    python.write_text(FAKE_PYTHON.format(log=tmp_path / "log"))
    python.chmod(0o755)
    return tmp_path


def make(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """Runs make as a user would, free of the settings of the make that runs these tests."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", "-C", str(folder), *arguments],
        capture_output=True,
        encoding="utf-8",
        check=False,
        env={**inherited, **environment},
    )


def calls(folder: Path, word: str) -> list[str]:
    """The logged calls that contain a word; the log is emptied."""
    log = folder / "log"
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return [line for line in lines if word in line]


@needs_make
def test_make_test_installs_once_and_again_when_setup_cfg_changes(clone):
    python = f"PYTHON={clone / 'python'}"
    done = make(clone, "test", python)
    assert done.returncode == 0, done.stderr
    log = (clone / "log").read_text(encoding="utf-8")
    assert log.index("-m venv") < log.index("-m pip") < log.index("-m flake8") < log.index("-m pytest")
    assert len(calls(clone, "-m pip")) == 1, "the package with the test tools"
    make(clone, "test", python)
    assert calls(clone, "-m pip") == []
    later = (clone / ".venv" / ".installed-test").stat().st_mtime + 10
    os.utime(clone / "setup.cfg", (later, later))
    make(clone, "test", python)
    log = (clone / "log").read_text(encoding="utf-8")
    assert "-m pip" in log and "-m venv" not in log


@needs_make
def test_make_demo_needs_no_test_tools(clone):
    done = make(clone, "--dry-run", "demo", "SYSTEM=hip")
    assert done.returncode == 0, done.stderr
    assert ".venv/bin/tfsono demo hip" in done.stdout
    assert "[test]" not in done.stdout


@needs_make
def test_make_says_which_python_it_needs(clone):
    done = make(clone, "setup", "PYTHON=false no-such-python")
    assert done.returncode == 2
    assert "Python 3.10 to 3.13" in done.stderr and "false no-such-python" in done.stderr
    assert not (clone / ".venv").exists()


@needs_make
def test_make_takes_the_first_python_that_fits(clone):
    done = make(clone, "setup", f"PYTHON=false {clone / 'python'}")
    assert done.returncode == 0, done.stderr
    assert "Python 3.12.1" in done.stdout


@needs_make
def test_make_says_what_to_do_without_the_network_and_tries_again_later(clone):
    python = f"PYTHON={clone / 'python'}"
    done = make(clone, "setup", python, PIP_STATUS="1")
    assert done.returncode == 2
    assert "needs the network" in done.stderr
    assert make(clone, "setup", python).returncode == 0
    assert len(calls(clone, "-m pip")) == 2


def test_make_refuses_a_python_that_is_too_old():
    """The condition itself, since the fake interpreter says yes to all."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    condition = re.search(r"^FITS := (.*)$", makefile, re.MULTILINE).group(1)
    for version, status in (((2, 7), 1), ((3, 9), 1), ((3, 10), 0), ((3, 13), 0), ((3, 14), 1)):
        code = condition.replace("sys.version_info[:2]", str(version))
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == status, version
