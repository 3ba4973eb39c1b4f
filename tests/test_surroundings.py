"""A user's environment changes nothing, and what reaches stderr: real warnings and errors, on demand everything."""

from __future__ import annotations

import ast
import itertools
import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from small_pose import SIZES, TINY_POSE, write_small_pose_dataset
from tfsono.surroundings import ignored_keras_settings, prepare_keras

ROOT = Path(__file__).resolve().parents[1]
MARK = "---- a warning\n"

NATIVE = """
import os, sys
from tfsono.surroundings import prepare_tensorflow
prepare_tensorflow()
for line in sys.argv[1:]:
    os.write(2, line.encode() + b"\\n")
"""
NOISE = (
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "I0000 00:00:1796006325.874354    6365 port.cc:153] oneDNN custom operations are on.",
    "To enable the following instructions: AVX2 FMA, in other operations, rebuild TensorFlow with the appropriate "
    "compiler flags.",
    "E0000 00:00:1796006333.639877    6421 cuda_platform.cc:52] failed call to cuInit: INTERNAL: CUDA error: Failed "
    "call to cuInit: UNKNOWN ERROR (303)",
    "E0000 00:00:1796008577.070936   24411 node_def_util.cc:682] NodeDef mentions attribute use_unbounded_threadpool "
    "which is not in the op definition: Op<name=MapDataset; signature=input_dataset:variant>",
    "E0000 00:00:1796007816.294833   18481 util.cc:131] oneDNN supports DT_UINT8 only on platforms with AVX-512. "
    "Falling back to the default Eigen-based implementation if present.",
    "E0000 00:00:1796007706.170136   17616 meta_optimizer.cc:967] remapper failed: INVALID_ARGUMENT: Mutation::Apply "
    "error: fanout 'gradient_tape/LeakyReluGrad' exist for missing node 'conv1_1/BiasAdd'.",
)
REAL = (
    "E0000 00:00:1796006333.639877    6421 cuda_dnn.cc:522] Could not load dynamic library 'libcudnn.so.9'",
    "W0000 00:00:1796006333.639878    6421 gpu_device.cc:2341] Cannot dlopen some GPU libraries.",
    "E0000 00:00:1796006333.639879    6421 cuda_platform.cc:52] failed call to cuInit: CUDA_ERROR_UNKNOWN",
    "WARNING:tensorflow:5 out of the last 5 calls to <function predict> triggered tf.function retracing.",
)

COMMANDS = """
import gc, json, os, runpy, sys
gc.set_threshold(100_000)
from tfsono.surroundings import own_settings
own_settings()
from tfsono.__main__ import run
from tfsono.report import plots
plots.DOTS_PER_INCH = 15
for words in json.loads(sys.argv[1]):
    if words[0] == "tfsono":
        run(words[1:])
    else:
        sys.argv = words
        try:
            runpy.run_path(words[0], run_name="__main__")
        except SystemExit as end:
            assert not end.code, words
import tensorflow as tf
sys.stderr.write(MARK)
for _ in tf.data.Dataset.range(9).cache().take(2): pass
"""


def python(code: str, *words: str, **environment: str) -> subprocess.CompletedProcess:
    """Runs code as a user's process would be, without the variables of pytest's own processes."""
    own = ("TFSONO_VERBOSE", "TF_CPP_MIN_LOG_LEVEL")
    inherited = {key: value for key, value in os.environ.items() if key not in own}
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, encoding="utf-8", check=False,
                          env=inherited | {"PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg"} | environment)


def test_noise_is_dropped_and_real_warnings_stay_in_their_order():
    mixed = [line for pair in itertools.zip_longest(NOISE, REAL) for line in pair if line]
    assert python(NATIVE, *mixed).stderr.splitlines() == list(REAL)


LIBRARIES = (
    "WARNING: In /tmp/ITK/Modules/IO/NIFTI/src/itkNiftiImageIO.cxx, line 1", "libpng warning: iCCP: known profile",
    "HDF5-DIAG: Error detected in HDF5 (1.14.6):", "  #000: H5F.c line 496 in H5Fopen(): unable to open",
    "(from miopen)",
    "W0000 00:00:1796023512.587812   17806 op_kernel.cc:1858] OP_REQUIRES failed at save_restore_v2_ops.cc:163 : "
    "RESOURCE_EXHAUSTED: saved_model; No space left on device")
NET = f"""{NATIVE}
from tfsono.errors import UserError, run_command
def main():
    print("note: ours", file=sys.stderr)
    raise END
status = run_command(main)
print("of Python", file=sys.stderr)
sys.exit(status)
"""


def test_lines_of_libraries_go_to_the_log_and_ours_to_the_user(tmp_path):
    done = python(NET.replace("END", "ValueError('why')"), *LIBRARIES, REAL[0], TMPDIR=str(tmp_path))
    warning, note, line, last = done.stderr.splitlines()
    assert (warning, note, last) == (REAL[0], "note: ours", "of Python") and done.returncode == 70
    (log,) = tmp_path.iterdir()
    assert str(log) in line and "ValueError: why" in line
    text = log.read_text(encoding="utf-8")
    assert text.endswith("\nLines of libraries:\n" + "".join(f"{each}\n" for each in LIBRARIES))
    assert "ValueError: why" in text and "Traceback" in text and "in main" in text


@pytest.mark.parametrize("end", ["UserError('ours')", "SystemExit(0)"])
def test_a_command_that_ends_as_foreseen_leaves_no_log(end, tmp_path):
    done = python(NET.replace("END", end), *LIBRARIES, TMPDIR=str(tmp_path))
    assert done.stderr.splitlines()[:1] == ["note: ours"] and "lib" not in done.stderr
    assert not list(tmp_path.iterdir())
    assert done.returncode == (0 if "Exit" in end else 2)


def test_the_last_words_of_a_library_that_crashes():
    done = python(f"{NATIVE}os.abort()", *LIBRARIES)
    assert done.stderr.splitlines() == list(LIBRARIES) and done.returncode == -6


def test_verbose_lets_everything_through():
    assert python(NATIVE, *NOISE, *REAL, TFSONO_VERBOSE="1").stderr.splitlines() == [*NOISE, *REAL]
    assert python(NATIVE, *NOISE, TFSONO_VERBOSE="0").stderr == ""


@pytest.mark.parametrize("end, last", [("raise ImportError('libcudnn')", "ImportError: libcudnn"),
                                       ("os.write(2, b'F0000 Check failed\\n'); os.abort()", "F0000 Check failed")])
def test_the_last_words_of_a_process_that_fails_get_through(end, last):
    done = python(f"{NATIVE}{end}", *NOISE, REAL[0])
    assert done.returncode != 0
    lines = done.stderr.splitlines()
    assert lines[0] == REAL[0] and lines[-1] == last


def test_all_is_written_once_the_command_has_ended(tmp_path):
    """A shell's next line, or its `if`, comes after the last word of the command."""
    with open(tmp_path / "stderr", "wb") as file:
        code = f"{NATIVE}sys.stderr.write('line\\n' * 200_000)"
        subprocess.run([sys.executable, "-c", code], stderr=file, check=True, cwd=ROOT,
                       env={key: value for key, value in os.environ.items() if key != "TFSONO_VERBOSE"})
    assert (tmp_path / "stderr").stat().st_size == 200_000 * len("line\n")


def test_nothing_is_shown_of_what_libraries_write_while_python_ends():
    done = python(f"import atexit, os\natexit.register(os.write, 2, b'W0000 finalizing')\n{NATIVE}", REAL[0])
    assert done.stderr.splitlines() == [REAL[0]]


def test_commands_that_go_well_write_nothing_and_a_warning_of_tensorflow_still_appears(tmp_path):
    """`pose` with its refinement, which makes TensorFlow write the most; all in one process, to load it once."""
    data, cache, run, model, image = (str(tmp_path / name) for name in (
        "dataset", "small.h5", "run", "model", "dataset/images/body_0.nii.gz"))
    write_small_pose_dataset(tmp_path / "dataset", SIZES[:4])
    user = write_settings(tmp_path / "user")
    del user["PYTHONOPTIMIZE"]  # with it Python compiles all of TensorFlow again
    done = python(COMMANDS.replace("MARK", repr(MARK)), json.dumps([
        ["tfsono", "doctor"],
        ["tfsono", "audit", data],
        ["tfsono", "cache", "pose", data, cache, "--preset", "quick"],
        [f"{ROOT}/train/pose.py", "--data", cache, "--run_dir", run, *TINY_POSE, "--test_cases", "1"],
        [f"{ROOT}/evaluate/pose.py", "--data", cache, "--runs", run, "--out", str(tmp_path / "results"),
         "--refine"],
        ["tfsono", "export", run, model],
        ["tfsono", "predict", model, image, "--out", str(tmp_path / "predictions")],
    ]), **user)
    assert done.returncode == 0, done.stderr
    while_all_is_well, _, after = done.stderr.partition(MARK)
    assert len(while_all_is_well.splitlines()) == 1, while_all_is_well
    note = while_all_is_well
    assert note.startswith("note: KERAS_BACKEND=torch, KERAS_MAX_EPOCHS=1, ") and "ignored" in note
    assert "floatx float16" in note and "image_data_format channels_first" in note and str(tmp_path) in note
    assert after.startswith("W0000") and "did not fully read the dataset being cached" in after
    assert f"TensorFlow loads        {version('tensorflow')}, Keras {version('keras')}\n" in done.stdout
    assert (tmp_path / "predictions" / "measurements.csv").is_file()
    assert (tmp_path / "predictions" / "body_0.png").is_file() and (tmp_path / "results" / "report.html").is_file()


# --- a user's environment


def write_settings(folder: Path) -> dict[str, str]:
    """Variables and files of a user that break libraries or change results where they are read."""
    (folder / "keras").mkdir(parents=True)
    (folder / "keras" / "keras.json").write_text(json.dumps({
        "backend": "jax", "floatx": "float16", "epsilon": 1, "image_data_format": "channels_first"}), encoding="utf-8")
    (folder / "matplotlibrc").write_text("text.usetex: true\nfont.size: 40\nfont.family: monospace\nbackend: tkagg\n"
                                         "savefig.bbox: tight\nlines.linewidth: 9\n", encoding="utf-8")
    return {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "MATPLOTLIBRC": str(folder),
            "KERAS_BACKEND": "torch", "KERAS_MAX_EPOCHS": "1", "KERAS_HOME": str(folder / "keras"),
            "PYTHONOPTIMIZE": "2", "PYTHONWARNINGS": "error"}


DRAW = """
import sys, warnings
from pathlib import Path
from tfsono.surroundings import own_settings
own_settings()
from tfsono.audit.contact_sheet import write_sheet
from tfsono.report.overlay import head_overlay
from tfsono.report.plots import cases_figure
import numpy as np
warnings.warn("of a library")
print("H\\u00fcfte \\udcfc")
out = Path(sys.argv[1])
out.mkdir()
rows = [{"case": "a", "dice": 0.5}, {"case": "b", "dice": 0.7}]
cases_figure(out / "cases.png", {"a_$b_$": rows}, [("dice", "D", 2)])
head_overlay(out / "overlay.png", np.full((30, 40), 90.0), None, None, None, ["HC $1$"], "$name_$")
write_sheet(out / "sheet.png", "a$_$b", [("case_$x_", None, "error", "no_mask")])
"""


@pytest.mark.parametrize("words", [["-m", "tfsono", "predict"], ["train/pose.py"], ["evaluate/pose.py"]])
def test_help_needs_no_docstrings(words):
    """PYTHONOPTIMIZE=2 removes them."""
    done = subprocess.run([sys.executable, "-OO", *words, "--help"], capture_output=True, encoding="utf-8", cwd=ROOT,
                          check=False)
    assert done.returncode == 0 and "usage:" in done.stdout, done.stderr


def test_figures_are_the_same_in_any_environment(tmp_path):
    user = write_settings(tmp_path / "user")
    kinds = {"plain": {}, "notebook": user, "other": {"MPLBACKEND": "nonsense", "PYTHONIOENCODING": "ascii"}}
    done = {name: python(DRAW, str(tmp_path / name), **kind) for name, kind in kinds.items()}
    for name, one in done.items():
        assert one.returncode == 0, one.stderr
        for figure in ("cases", "overlay", "sheet"):
            own = (tmp_path / name / f"{figure}.png").read_bytes()
            assert own == (tmp_path / "plain" / f"{figure}.png").read_bytes() and len(own) > 1000, (name, figure)
    assert done["plain"].stdout == "Hüfte \\udcfc\n" and done["other"].stdout == "H\\xfcfte \\udcfc\n"


def test_settings_of_keras_are_replaced_with_one_note(tmp_path, monkeypatch, capsys):
    for name, value in write_settings(tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("KERAS_NNX_ENABLED", "")
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    prepare_keras()
    assert (os.environ["KERAS_BACKEND"], os.environ["KERAS_HOME"]) == ("tensorflow", os.devnull)
    assert "KERAS_MAX_EPOCHS" not in os.environ
    (note,) = capsys.readouterr().err.splitlines()
    path = tmp_path / "keras" / "keras.json"
    assert note.startswith("note: KERAS_BACKEND=torch, KERAS_MAX_EPOCHS=1, backend jax, floatx float16, epsilon 1, ")
    assert str(path) in note
    prepare_keras()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("content", ['{"floatx": "float32", "backend": "tensorflow"}', "{", "[]", None])
def test_usual_settings_of_keras_need_no_note(content, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    if content is not None:
        (tmp_path / "keras.json").write_text(content, encoding="utf-8")
    assert ignored_keras_settings() == []


def test_where_keras_is_loaded_already_its_user_decides(monkeypatch, capsys):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setitem(sys.modules, "keras", None)
    prepare_keras()
    assert os.environ["KERAS_BACKEND"] == "jax" and capsys.readouterr().err == ""


# --- every command is quiet before it loads TensorFlow, and no sooner than its arguments are read


def quiet_before_imports(function: ast.FunctionDef) -> bool:
    """Whether `prepare_tensorflow()`, or `parsed()` that calls it, comes before the first import in a function."""
    for statement in function.body:
        if isinstance(statement, ast.Expr | ast.Assign) and isinstance(statement.value, ast.Call) and \
                ast.unparse(statement.value.func) in ("prepare_tensorflow", "parsed"):
            return True
        if isinstance(statement, ast.ImportFrom | ast.Import):
            return False
    return False


@pytest.mark.parametrize("path, name", [
    *((f"{folder}/{path.name}", "main")
      for folder in ("train", "evaluate") for path in (ROOT / folder).glob("[a-z]*.py")),
    ("tfsono/__main__.py", "_export"), ("tfsono/__main__.py", "_predict"),
])
def test_every_command_that_loads_tensorflow_is_quiet(path, name):
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    (function,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)
    assert quiet_before_imports(function)


def test_the_version_is_one_line_and_loads_nothing():
    done = python("import sys; from tfsono.__main__ import run\ntry: run(['--version'])\n"
                  "finally: assert not {'tensorflow', 'keras', 'numpy'} & set(sys.modules)")
    assert (done.returncode, done.stderr) == (0, "")
    from tfsono import __version__

    assert done.stdout == f"tfsono {__version__}, tensorflow {version('tensorflow')}, keras {version('keras')}\n"
