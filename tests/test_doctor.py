"""What `tfsono doctor` says of machines that the tests do not have, and of this one."""

from __future__ import annotations

import json
import os
import platform
import shutil
from dataclasses import asdict, replace
from importlib.metadata import version

import pytest
from packaging.requirements import Requirement

from tfsono import doctor
from tfsono.doctor import NOTE, OK, WARNING, Driver, Finding, Framework

CUDA_BUILD = {"is_cuda_build": True, "cuda_version": "12.5.1", "cudnn_version": "9"}
HEALTHY = Framework(tensorflow="2.21.0", keras="3.15.1", build=CUDA_BUILD)
T4 = ("Tesla T4", (7, 5))
WITH_T4 = replace(HEALTHY, gpus=(T4,))
CARD = Driver(loaded=True, gpus=("NVIDIA T4, 15360 MiB of which 15100 MiB free, driver 550.54.15",))


def worst(findings: list[Finding]) -> str:
    """The gravest level among the findings."""
    return max((finding.level for finding in findings), key=[OK, NOTE, WARNING].index)


# --- the report


def test_the_report_has_a_line_for_each_finding_and_repeats_the_warnings(capsys):
    findings = [Finding(OK, "Python", "3.12.1"), Finding(WARNING, "GPU", "unused", "install it"),
                Finding(NOTE, "x", "y")]
    assert doctor.report(findings) == 1
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["ok", "Python", "3.12.1"], ["WARNING", "GPU", "unused"], ["->", "install", "it"], ["note", "x", "y"], [],
        ["1", "WARNING:"], ["GPU:", "unused", "->", "install", "it"]]


def test_notes_leave_the_exit_status_at_0(capsys):
    assert doctor.report([Finding(NOTE, "GPU", "none")]) == 0
    assert "WARNING" not in capsys.readouterr().out


def test_json_has_an_object_for_each_finding(monkeypatch, capsys):
    findings = [Finding(OK, "Python", "3.12.1"), Finding(WARNING, "GPU", "unused\x1b", "install it")]
    monkeypatch.setattr(doctor, "examine", lambda expect: findings)
    assert doctor.run_doctor(as_json=True) == 1
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"level": "ok", "name": "Python", "value": "3.12.1", "advice": ""},
        {"level": "warning", "name": "GPU", "value": "unused\x1b", "advice": "install it"}]


@pytest.fixture
def small_needs(monkeypatch):
    """This machine without its GPU, if it has one, and with enough of memory and disk; all else is looked up."""
    for name, value in (("probe_driver", Driver), ("probe_tensorflow", lambda: HEALTHY),
                        ("LEAST_MEMORY_GB", 0.01), ("LEAST_DISK_GB", 0.0)):
        monkeypatch.setattr(doctor, name, value)
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    return monkeypatch


def test_the_report_of_this_machine_is_what_the_system_says(small_needs, capsys):
    """Only TensorFlow, which takes seconds to load, is not asked; `test_surroundings` runs the whole command."""
    assert doctor.run_doctor() == 0
    shown = {line[8:32].strip(): line[32:] for line in capsys.readouterr().out.splitlines() if line.startswith("ok ")}
    assert shown["Python"] == platform.python_version()
    assert {name: shown[name] for name in ("keras", "h5py", "numpy")} == {
        name: version(name) for name in ("keras", "h5py", "numpy")}
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    assert float(shown["memory"].split(" GB")[0]) == pytest.approx(pages, rel=0.02)
    folder, free = shown["disk"].split(", ")
    assert folder == os.getcwd()
    assert float(free.split()[0]) == pytest.approx(shutil.disk_usage(".").free / 2**30, abs=1)


def test_a_gpu_that_tensorflow_does_not_use_fails_the_command(small_needs, capsys):
    small_needs.setattr(doctor, "probe_driver", lambda: CARD)
    small_needs.setattr(doctor, "probe_cudnn", lambda build: "9.3.0")
    assert doctor.run_doctor() == 1
    assert "1 WARNING:\n  GPU (TensorFlow): THE DRIVER OFFERS 1 GPU" in capsys.readouterr().out


# --- packages


def test_an_old_and_a_missing_package_are_warnings():
    requirements = [Requirement("keras>=3.15.1"), Requirement("numpy>=2.1"), Requirement("h5py>=3.9")]
    old, missing, good = doctor.version_findings(requirements, {"keras": "3.13.0", "h5py": "3.14.0+local"})
    assert (old.level, old.value, old.advice) == (WARNING, "3.13.0", "pip install 'keras>=3.15.1'")
    assert (missing.level, missing.value) == (WARNING, "not installed")
    assert (good.level, good.value) == (OK, "3.14.0+local")


def test_requirements_of_other_pythons_and_extras_are_left_out(monkeypatch):
    lines = ["numpy>=2.1", 'keras<3; python_version < "3.0"', 'pytest>=8; extra == "test"']
    monkeypatch.setattr(doctor.importlib.metadata, "requires", lambda name: lines)
    assert [requirement.name for requirement in doctor.probe_requirements()] == ["numpy"]


# --- TensorFlow and Keras


def test_tensorflow_that_does_not_load_is_a_warning():
    assert doctor.framework_finding(HEALTHY) == Finding(OK, "TensorFlow loads", "2.21.0, Keras 3.15.1")
    finding = doctor.framework_finding(replace(HEALTHY, error="ImportError: libcudart"))
    assert (finding.level, finding.value) == (WARNING, "ImportError: libcudart")


def test_settings_of_keras_that_commands_ignore_are_notes(small_needs, capsys):
    small_needs.setenv("KERAS_BACKEND", "jax")
    assert doctor.run_doctor() == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "Keras setting" in line)
    assert line.split() == ["note", "Keras", "setting", "KERAS_BACKEND=jax"]


def test_what_the_other_process_says_is_read_back():
    messages = (
        "W0000 00:00:17 1 cache_dataset_ops.cc:912] The calling iterator did not fully read the dataset.\n"
        "W0000 00:00:17 1 gpu_device.cc:2341] Cannot dlopen some GPU libraries.\n"
    )
    read = doctor.parse_framework(0, "a stray line\n" + json.dumps(asdict(WITH_T4)) + "\n", messages)
    assert read == replace(WITH_T4, messages=("Cannot dlopen some GPU libraries.",))


@pytest.mark.parametrize("status, output, messages, words", [
    (-4, "", "", "AVX"),
    (-11, "", "", "signal 11"),
    (1, "", "Traceback\nModuleNotFoundError: No module named 'x'\n", "No module named 'x'"),
    (1, "", "", "exit status 1"),
    (0, "not JSON", "", "exit status 0"),
])
def test_a_process_that_ends_too_soon_is_an_error(status, output, messages, words):
    assert words in doctor.parse_framework(status, output, messages).error


# --- GPU


def test_a_gpu_that_tensorflow_does_not_use_is_loud():
    framework = replace(HEALTHY, messages=("Cannot dlopen some GPU libraries.",))
    (finding,) = doctor.gpu_findings(1, framework, {})
    assert finding.level == WARNING
    assert "THE DRIVER OFFERS 1 GPU, TENSORFLOW USES NONE" in finding.value
    assert "pip install 'tensorflow[and-cuda]'" in finding.advice and "Cannot dlopen" in finding.advice
    (finding,) = doctor.gpu_findings(1, replace(HEALTHY, build={"is_cuda_build": False}), {})
    assert "without CUDA" in finding.advice


@pytest.mark.parametrize("seen, framework, environment, level, words", [
    (0, HEALTHY, {}, NOTE, "none in use"),
    (1, WITH_T4, {}, OK, "Tesla T4, compute capability 7.5"),
    (2, WITH_T4, {}, WARNING, "2 GPUS, TENSORFLOW USES 1"),
    (1, HEALTHY, {"CUDA_VISIBLE_DEVICES": "-1"}, NOTE, "CUDA_VISIBLE_DEVICES=-1 leaves 0 of 1"),
    (2, WITH_T4, {"CUDA_VISIBLE_DEVICES": "1"}, NOTE, "leaves 1 of 2"),
    # What a cluster sets is no excuse for an unused GPU.
    (1, HEALTHY, {"CUDA_VISIBLE_DEVICES": "0"}, WARNING, "USES NONE"),
    (2, HEALTHY, {"CUDA_VISIBLE_DEVICES": "1"}, WARNING, "1 GPU, TENSORFLOW USES NONE"),
])
def test_gpus_of_the_driver_and_of_tensorflow(seen, framework, environment, level, words):
    findings = doctor.gpu_findings(seen, framework, environment)
    assert worst(findings) == level
    assert words in findings[-1].value


def test_a_tensorflow_that_does_not_load_is_not_reported_twice():
    broken = Framework(error="ImportError")
    assert doctor.gpu_findings(1, broken, {}) == doctor.cudnn_findings(broken, "", True) == []


@pytest.mark.parametrize("seen, setting, left", [
    (3, None, 3), (3, "", 0), (3, "-1", 0), (3, "2", 1), (3, "0,2", 2), (3, "0,-1,2", 1), (3, "7,0", 0),
    (2, "GPU-5ebe0bd4,GPU-9b3d8b51", 2), (1, "GPU-5ebe0bd4,GPU-9b3d8b51", 1),
])
def test_how_many_gpus_the_variable_leaves(seen, setting, left):
    assert doctor.visible_gpus(seen, setting) == left


@pytest.mark.parametrize("driver, level, words", [
    (CARD, OK, "15100 MiB free"),
    (Driver(loaded=True), WARNING, "no GPU for this process"),
    (Driver(loaded=True, error="Driver/library version mismatch"), WARNING, "version mismatch"),
    (Driver(gpus=("/dev/nvidia0",), error="No devices were found"), WARNING, "No devices"),
    (Driver(error="no driver"), NOTE, "no driver"),  # the tool without a card
])
def test_drivers(driver, level, words):
    (finding,) = doctor.driver_findings(driver)
    assert finding.level == level and words in finding.value
    assert doctor.driver_findings(Driver()) == []


@pytest.mark.parametrize("status, output, gpus, error", [
    (0, "NVIDIA A100-SXM4-80GB, 81920 MiB, 81039 MiB, 550.54.15\nTesla T4, [N/A], [N/A], 550.54.15\n",
     ("NVIDIA A100-SXM4-80GB, 81920 MiB of which 81039 MiB free, driver 550.54.15",
      "Tesla T4, [N/A] of which [N/A] free, driver 550.54.15"), ""),
    (9, "NVIDIA-SMI has failed because it couldn't talk to the driver.\n", (),
     "NVIDIA-SMI has failed because it couldn't talk to the driver."),
    (0, "Failed to initialize NVML: Unknown Error\n", (), "Failed to initialize NVML: Unknown Error"),
    (6, "", (), "exit status 6"),
])
def test_nvidia_smi_is_read(status, output, gpus, error):
    assert doctor.parse_nvidia_smi(status, output) == (gpus, error)


def test_nvidia_smi_is_run(tmp_path, monkeypatch):
    tool = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    tool.write_text("#!/bin/sh\necho 'Tesla T4, 15360 MiB, 15100 MiB, 550'\n")
    tool.chmod(0o755)
    assert doctor.probe_driver().gpus == ("Tesla T4, 15360 MiB of which 15100 MiB free, driver 550",)
    tool.write_text("#!/bin/sh\necho 'no driver' >&2; exit 6\n")
    assert doctor.probe_driver().error == "no driver"


@pytest.mark.parametrize("driver, framework, unopened, level", [
    (CARD, WITH_T4, ["libcudnn.so.9"], None), (CARD, HEALTHY, [], WARNING), (Driver(), HEALTHY, [], OK),
    (Driver(), HEALTHY, ["libcudnn.so.9"], WARNING), (Driver(), replace(HEALTHY, build={}), [], WARNING)])
def test_an_expected_gpu_is_used_or_its_libraries_can_be_opened(driver, framework, unopened, level):
    found = doctor.expected_findings(driver, framework, unopened)
    assert [finding.level for finding in found] == [level] * bool(level)
    assert not unopened or not found or unopened[0] in found[0].value


def test_a_library_is_also_looked_for_among_the_wheels(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor.sys, "path", [str(tmp_path)])
    monkeypatch.setattr(doctor, "CUDA_LIBRARIES", ("libm.so.6", "libother.so.12"))
    opened = []
    folder = tmp_path / "nvidia" / "other" / "lib"
    folder.mkdir(parents=True)
    (folder / "libother.so.12").touch()

    def load(path):
        opened.append(path)
        if path == "libother.so.12":
            raise OSError(path)

    monkeypatch.setattr(doctor.ctypes, "CDLL", lambda path: load(path) or path)
    assert doctor.probe_libraries() == [] and opened[-1] == str(folder / "libother.so.12")
    (folder / "libother.so.12").unlink()
    assert doctor.probe_libraries() == ["libother.so.12"]


def test_a_gpu_with_less_memory_than_the_largest_step_takes():
    small = "NVIDIA TITAN Xp, 12196 MiB of which 12000 MiB free, driver 550.54.15"
    (finding,) = doctor.gpu_memory_findings([*CARD.gpus, small, "/dev/nvidia0"])
    assert finding.level == NOTE and "11.9 GiB" in finding.value and "14.3" in finding.value


@pytest.mark.parametrize("found, wanted, level", [("", True, WARNING), ("", False, OK), ("9.3.0", True, OK)])
def test_cudnn_matters_only_with_a_gpu(found, wanted, level):
    (finding,) = doctor.cudnn_findings(HEALTHY, found, wanted)
    assert finding.level == level and "cuDNN 9" in finding.value
    (finding,) = doctor.cudnn_findings(replace(HEALTHY, build={}), found, wanted)
    assert finding.level == NOTE


# --- bfloat16, memory, disk


@pytest.mark.parametrize("flags, gpus, levels", [
    ({"avx2", "amx_bf16"}, (), [OK]),
    ({"avx2", "avx512f"}, (), [NOTE]),
    ({"avx512_bf16"}, (("A100", (8, 0)), T4, ("?", (0, 0))), [OK, NOTE, OK]),
])
def test_bfloat16(flags, gpus, levels):
    findings = doctor.bfloat16_findings(frozenset(flags), replace(HEALTHY, gpus=gpus))
    assert [finding.level for finding in findings] == levels


@pytest.mark.parametrize("flags, share, level, words", [
    ({"avx512_bf16"}, 1.94, NOTE, "in hardware (avx512_bf16); a convolution takes 1.94 of its time in float32"),
    ({"amx_bf16"}, 0.3, OK, "in hardware (amx_bf16); a convolution takes 0.30 of its time in float32"),
    ({"avx2"}, 3.0, NOTE, "not in hardware; a convolution takes 3.00"),
])
def test_the_measured_time_counts_more_than_the_flags(flags, share, level, words):
    (finding,) = doctor.bfloat16_findings(frozenset(flags), replace(HEALTHY, bfloat16_time=share))
    assert finding.level == level and words in finding.value and ("slower" in finding.advice) == (level == NOTE)


def test_cpu_flags_are_read(tmp_path):
    path = tmp_path / "cpuinfo"
    path.write_text("processor\t: 0\nflags\t\t: fpu avx2 avx512_bf16\nprocessor\t: 1\nflags\t\t: fpu\n")
    assert doctor.probe_cpu_flags(str(path)) == {"fpu", "avx2", "avx512_bf16"}
    assert doctor.probe_cpu_flags(str(tmp_path / "none")) == set()


def test_memory_is_read_and_a_container_limit_counts(tmp_path):
    meminfo, limit = tmp_path / "meminfo", tmp_path / "memory.max"
    meminfo.write_text("MemTotal: 33554432 kB\nMemAvailable: 16777216 kB\nSwapTotal: 2097152 kB\nHuge: 0\n")
    limit.write_text("4294967296\n")
    memory_gb = doctor.probe_memory(str(meminfo), str(limit))
    assert memory_gb == {"total": 32.0, "available": 16.0, "limit": 4.0}
    assert doctor.memory_finding(memory_gb).level == WARNING
    limit.write_text("max\n")
    assert doctor.probe_memory(str(meminfo), str(limit)) == {"total": 32.0, "available": 16.0}
    assert doctor.memory_finding({"total": 32.0, "available": 16.0}).level == OK
    assert doctor.memory_finding({"total": 32.0, "available": 2.0}).level == WARNING
    assert doctor.memory_finding(doctor.probe_memory(str(tmp_path / "none"), str(limit))).level == NOTE


@pytest.mark.parametrize("free_gb, level", [(3.0, WARNING), (100.0, OK)])
def test_disk(free_gb, level):
    assert doctor.disk_finding("runs", free_gb).level == level
