"""Every block of commands and of Python on the pages: run as it is printed, on phantoms and with trainings of two
steps, or in `NOT_RUN` with the reason. `make docs-check` runs the slow ones; that none is left out, and that every
option exists, is of `make test`.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
PAGES = {path.relative_to(ROOT).as_posix(): FENCE.findall(path.read_text("utf-8"))
         for pattern in ("*.md", "docs/**/*.md", "pretrained/**/*.md") for path in sorted(ROOT.glob(pattern))}
DATA = """
tfsono phantom hip hips --preset quick --cases 6
tfsono cache hip hips hip.h5
tfsono phantom head images --preset quick --cases 20
tfsono cache head images heads.h5
ln -s heads.h5 head.h5
cp hips/images/hip_001.nii.gz NEW.nii.gz
"""
# Pages whose blocks (`sh`, and `python` but for those of ELSEWHERE) are run in their order: what must be there before.
RUN = {
    "README.md": """
tfsono phantom hip DATASET --preset quick --cases 4
tfsono phantom head images --preset quick --cases 1
cp DATASET/images/hip_001.nii.gz NEW.nii.gz
tfsono phantom hip scans --preset quick --cases 1 --phantom_size 35,50,36 --phantom_spacing_mm 1,1,1
cp scans/images/hip_001.nii.gz SCAN.nii.gz
cp images/images/head_001.png IMAGE.png
ln -s mine/saved_model saved_model
""",
    "SECURITY.md": "ln -s pretrained/head model",
    "docs/cluster.md": DATA + """
tfsono train hip --data hip.h5 --run_dir runs/hip --preset quick --test_cases 2
tfsono export runs/hip saved_model
tfsono train head --data heads.h5 --run_dir runs/unet --preset quick --variant unet --test_cases 4
ln -s hips/images SCANS
""",
    "docs/ensembles.md": DATA,
    "docs/phantoms.md": "",
    "docs/resuming.md": DATA,
    "docs/scaling.md": DATA,
    **{page: "" for page in PAGES if page.startswith("docs/tutorials/")},
}
# Python of a page -> the test that runs it.
ELSEWHERE = {"docs/python.md": "test_examples.py", "docs/savedmodels.md": "test_savedmodels_page.py",
             "SECURITY.md": "test_security.py", "pretrained/README.md": "test_c3d_formats.py",
             **{page: "test_pages.py" for page in PAGES if page.startswith("docs/papers/")}}
# Page -> beginning of a block of commands -> why it is not run here.
NOT_RUN = {
    "README.md": {"make demo": "`make test` is this; test_planning.py has the demo's steps",
                  "tfsono doctor --expect gpu": "needs a GPU; test_workflow.py has `make reproduce`",
                  "docker build": "`make image-check`"},
    "CONTRIBUTING.md": {"make test": "`make test` is this"},
    "docs/cluster.md": {"make reproduce": "test_workflow.py", "pip install": "needs Slurm"},
    "docs/commands.md": {"tfsono predict": "needs jq; test_scripts_hip.py has --json"},
    "docs/docker.md": {"docker build": "`make image-check`"},
    "docs/planning.md": {"tfsono plan": "a synopsis; the tutorials run the commands",
                         "taskset": "figures: minutes to hours", 'B="python': "figures: an hour",
                         "tfsono phantom hip new": "figures: minutes",
                         "python benchmarks/noise.py": "figures: minutes"},
    "pretrained/README.md": {"python train": "needs files that are not here; test_scripts_hip.py and "
                                             "test_scripts_head.py write such"},
}
MEASURED = re.compile(r"docs/(results|papers/)")  # commands of figures: minutes to hours
COMMAND = re.compile(r"^ *(tfsono|python|make|docker|pip|sha256sum|for) ", re.MULTILINE)


# --- nothing is left out


def test_every_block_is_run_or_has_its_reason():
    left = []
    for page, blocks in PAGES.items():
        for language, text in blocks:
            known = {"sh": page in RUN, "python": page in RUN or page in ELSEWHERE, "text": True}
            known = known.get(language, not COMMAND.search(text))
            if not (known or MEASURED.match(page) or any(map(text.startswith, NOT_RUN.get(page, ())))):
                left.append(f"{page}: {text[:60]}")
    assert not left


def test_the_reasons_are_of_blocks_that_exist():
    for page, reasons in NOT_RUN.items():
        for start in reasons:
            assert any(text.startswith(start) for _, text in PAGES[page]), (page, start)
    for page, test in ELSEWHERE.items():
        assert Path(page).name in (ROOT / "tests" / test).read_text("utf-8") or page.startswith("docs/papers/"), page


def test_json_is_json():
    blocks = [text for blocks in PAGES.values() for language, text in blocks if language == "json"]
    assert blocks and all(map(json.loads, blocks))


# --- the options of all commands


@functools.cache
def help_of(*command: str) -> str:
    from tfsono.__main__ import run

    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        run([*command, "--help"])
    return out.getvalue()


SCRIPT = re.compile(r"\bpython (train|evaluate)/(\w+)\.py\b")
CALL = re.compile(r"\btfsono (?!tfsono\b)(?=[a-z])([^#|&;`\n]+)")  # but for the name of the Docker image


def calls(text: str) -> list[list[str]]:
    """The words of each `tfsono` command of a block, of `python train/X.py` as `tfsono train X`."""
    joined = SCRIPT.sub(r"tfsono \1 \2", text.replace("\\\n", " "))
    return [found[1].split() for line in joined.splitlines() for found in CALL.finditer(line.split(" # ")[0])]


@pytest.mark.parametrize("page", PAGES)
def test_the_options_of_commands_exist(page):
    from tfsono.systems import NAMES

    for language, text in PAGES[page]:
        for words in calls(text) if language in ("", "sh") else ():
            command, system = words[0], words[1:2]
            if command in ("train", "evaluate", "cache") and system[0] not in NAMES:
                assert system == ["SYSTEM"], words  # of a synopsis
                system = ["hip"]
            given = help_of(command, *system) if command in ("train", "evaluate", "cache") else help_of(command)
            assert given.startswith("usage"), words
            for option in re.findall(r"(?<!\S)\[?(--\w+)", " ".join(words)):
                assert re.search(rf"{re.escape(option)}\b", given), (option, words)


# --- the slow ones


TINY = {"hip": ["--patch", "16,16,16", "--widths", "4,4,6,6", "--lower_widths", "4,3", "--middle_widths", "3",
                "--iterations", "4", "--record_every", "2"],
        "femur": ["--widths", "4,4,6,6", "--roi_widths", "4,6,8", "--discriminator_widths", "4,4,4,4,4,4",
                  "--roi_iterations", "2", "--iterations", "2", "--adversarial_iterations", "1", "--record_every", "1"],
        "pose": ["--widths", "4,4,6", "--discriminator_widths", "3,3,4,4", "--iterations", "2", "--ratio", "0.3",
                 "--second_iterations", "1", "--record_every", "1", "--refine_iterations", "1"],
        "face": ["--widths", "4,4,6", "--head_width", "6", "--iterations", "2", "--record_every", "1"],
        "head": ["--input_size", "32,64", "--unet_widths", "4,6,8", "--segmentation_iterations", "2",
                 "--segmentation_record_every", "1"]}
SHELL = """set -euo pipefail
tfsono() {{
    case "$1 $2" in
{cases}
        fit*) "{python}" -m tfsono "$@" --minutes 0.1 ;;
        *) "{python}" -m tfsono "$@" ;;
    esac
}}
python() {{
    case "$1" in
        train/*.py | evaluate/*.py) local script="${{1%.py}}"; shift; tfsono "${{script%/*}}" "${{script#*/}}" "$@" ;;
        *) "{python}" "$@" ;;
    esac
}}
"""


def script_of(page: str) -> str:
    """The blocks of a page as one script, in which trainings are as short as can be."""
    cases = "\n".join(f'        "train {name}") "{sys.executable}" -m tfsono "$@" {shlex.join(words)} ;;'
                      for name, words in TINY.items())
    parts = [SHELL.format(cases=cases, python=sys.executable), RUN[page]]
    for language, text in PAGES[page]:
        if language == "python" and page not in ELSEWHERE:
            parts.append(f"python - <<'PYTHON'\n{text}PYTHON\n")
        elif language == "sh":
            parts.append(text)
    return "\n".join(parts)


@pytest.mark.pages
@pytest.mark.parametrize("page", RUN)
def test_the_blocks_of_a_page_run(page, tmp_path):
    (tmp_path / "pretrained").symlink_to(ROOT / "pretrained")
    (tmp_path / "script.sh").write_text(script_of(page), encoding="utf-8")
    done = subprocess.run(["bash", "script.sh"], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
                          capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    if page.startswith("docs/tutorials/"):
        assert (tmp_path / "results" / "report.html").is_file()
        assert list((tmp_path / "predictions").glob("*.csv"))
