"""What `tfsono doctor` says of machines that the tests do not have."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
from packaging.requirements import Requirement

from tfsono import doctor
from tfsono.doctor import NOTE, OK, WARNING, Driver, Finding, Framework, Gpu

CUDA_BUILD = {"is_cuda_build": True, "cuda_version": "12.5.1", "cudnn_version": "9"}
HEALTHY = Framework(tensorflow="2.21.0", keras="3.15.1", build=CUDA_BUILD)
CARD = Driver(loaded=True, devices=("/dev/nvidia0",), gpus=("NVIDIA T4, 15360 MiB of which 15100 MiB free",))
TWO_CARDS = replace(CARD, devices=("/dev/nvidia0", "/dev/nvidia1"), gpus=CARD.gpus * 2)
T4 = Gpu("Tesla T4", (7, 5))


def worst(findings: list[Finding]) -> str:
    """The gravest level among the findings."""
    return max((finding.level for finding in findings), key=[OK, NOTE, WARNING].index)


def warnings(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.level == WARNING]


# --- the report


def test_the_report_has_a_line_for_each_finding_and_repeats_the_warnings():
    lines = []
    findings = [Finding(OK, "Python", "3.12.1"), Finding(WARNING, "GPU", "unused", "install it")]
    assert doctor.report(findings, lines.append) == 1
    assert lines[0].split() == ["ok", "Python", "3.12.1"]
    assert lines[1].split() == ["WARNING", "GPU", "unused"]
    assert lines[2].strip() == "-> install it"
    assert lines[-2:] == ["1 WARNING:", "  GPU: unused -> install it"]


def test_notes_leave_the_exit_status_at_0():
    lines = []
    assert doctor.report([Finding(NOTE, "GPU", "none")], lines.append) == 0
    assert "WARNING" not in "".join(lines)


def test_the_report_of_this_machine(capsys, monkeypatch):
    """All probes run here; only TensorFlow, which takes seconds to load, is replaced."""
    monkeypatch.setattr(doctor, "probe_tensorflow", lambda: HEALTHY)
    status = doctor.run_doctor()
    text = capsys.readouterr().out
    assert status in (0, 1)
    for name in ("Python", "keras", "CUDA", "memory", "cores", "this folder", "image formats", "HDF5"):
        assert f" {name} " in text
    assert (status == 1) == ("WARNING" in text)


@pytest.mark.slow
def test_tensorflow_is_found_here():
    framework = doctor.probe_tensorflow()
    assert not framework.error
    assert framework.tensorflow == doctor.installed_version("tensorflow")
    assert framework.keras == doctor.installed_version("keras")


# --- Python and packages


@pytest.mark.parametrize(
    "version, level",
    [((3, 9, 18), WARNING), ((3, 10, 0), OK), ((3, 13, 9), OK), ((3, 14, 0), WARNING)],
)
def test_python_version(version, level):
    assert doctor.python_finding(version).level == level


def test_an_old_and_a_missing_package_are_warnings():
    requirements = [Requirement("keras>=3.15.1"), Requirement("numpy>=2.1"), Requirement("h5py>=3.12")]
    old, missing, good = doctor.version_findings(requirements, {"keras": "3.13.0", "h5py": "3.14.0"})
    assert (old.level, old.value) == (WARNING, "3.13.0")
    assert old.advice == "pip install 'keras>=3.15.1'"
    assert (missing.level, missing.value) == (WARNING, "not installed")
    assert (good.level, good.value) == (OK, "3.14.0")


def test_versions_compare_as_numbers_and_local_builds_count():
    requirements = [Requirement("keras>=3.9"), Requirement("tensorflow>=2.21")]
    findings = doctor.version_findings(requirements, {"keras": "3.15.1", "tensorflow": "2.21.0+nv25.1"})
    assert worst(findings) == OK


def test_requirements_of_other_pythons_and_extras_are_left_out():
    lines = ["", "# why", "numpy >= 2.1", 'keras<3; python_version < "3.0"', 'pytest>=8; extra == "test"']
    assert [requirement.name for requirement in doctor.parse_requirements(lines)] == ["numpy"]


def test_own_requirements_are_found():
    names = [requirement.name for requirement in doctor.probe_requirements()]
    assert {"tensorflow", "keras", "h5py", "SimpleITK"} <= set(names)
    assert names.count("keras") == 1, "two lines for two ranges of Python; one of them holds"


# --- TensorFlow and Keras


def test_a_healthy_framework():
    findings = doctor.framework_findings(HEALTHY)
    assert not warnings(findings)
    assert "2.21.0, Keras 3.15.1" in findings[0].value


@pytest.mark.parametrize(
    "change, name",
    [
        ({"backend": "jax"}, "Keras backend"),
        ({"float_type": "float16"}, "Keras float type"),
        ({"data_format": "channels_first"}, "Keras data format"),
        ({"error": "ImportError: libcudart"}, "TensorFlow loads"),
    ],
)
def test_a_changed_default_is_a_warning(change, name):
    (finding,) = warnings(doctor.framework_findings(replace(HEALTHY, **change)))
    assert finding.name == name
    assert next(iter(change.values())) in finding.value
    assert finding.advice


def test_the_answer_of_the_other_process_is_read_back():
    framework = replace(HEALTHY, gpus=(T4,))
    messages = (
        "I0000 00:00:17 1 port.cc:153] oneDNN custom operations are on.\n"
        "W0000 00:00:17 1 gpu_device.cc:2341] Cannot dlopen some GPU libraries.\n"
    )
    read = doctor.parse_framework(0, "a stray line\n" + json.dumps(asdict(framework)) + "\n", messages)
    assert read == replace(framework, messages=("Cannot dlopen some GPU libraries.",))


@pytest.mark.parametrize(
    "status, output, messages, words",
    [
        (-4, "", "", "AVX"),
        (-11, "", "", "signal 11"),
        (1, "", "Traceback\nModuleNotFoundError: No module named 'x'\n", "No module named 'x'"),
        (1, "", "", "exit status 1"),
        (0, "not JSON", "", "exit status 0"),
    ],
)
def test_a_process_that_ends_before_its_answer_is_an_error(status, output, messages, words):
    assert words in doctor.parse_framework(status, output, messages).error


def test_missing_details_of_a_gpu():
    assert doctor.describe_gpu({}) == Gpu("GPU", (0, 0))
    assert doctor.describe_gpu({"device_name": "Tesla T4", "compute_capability": (7, 5)}) == T4


# --- GPU


def test_a_gpu_that_tensorflow_does_not_use_is_loud():
    framework = replace(HEALTHY, messages=("Cannot dlopen some GPU libraries.",))
    (finding,) = warnings(doctor.gpu_findings(CARD, framework, {}))
    assert "THE DRIVER OFFERS 1 GPU, TENSORFLOW USES NONE" in finding.value
    assert "pip install 'tensorflow[and-cuda]'" in finding.advice
    assert "Cannot dlopen" in finding.advice
    assert doctor.report([finding], lambda line: None) == 1


def test_a_tensorflow_without_cuda_is_named():
    framework = replace(HEALTHY, build={"is_cuda_build": False})
    (finding,) = warnings(doctor.gpu_findings(CARD, framework, {}))
    assert "without CUDA" in finding.advice


def test_the_device_file_is_enough_without_nvidia_smi():
    assert warnings(doctor.gpu_findings(replace(CARD, gpus=()), HEALTHY, {}))


def test_one_of_two_gpus_unused_is_loud():
    (finding,) = warnings(doctor.gpu_findings(TWO_CARDS, replace(HEALTHY, gpus=(T4,)), {}))
    assert "2 GPUS, TENSORFLOW USES 1" in finding.value


def test_a_gpu_in_use_is_fine():
    findings = doctor.gpu_findings(CARD, replace(HEALTHY, gpus=(T4,)), {})
    assert worst(findings) == OK
    assert "compute capability 7.5" in findings[-1].value


def test_no_gpu_is_a_note():
    (finding,) = doctor.gpu_findings(Driver(), HEALTHY, {})
    assert finding.level == NOTE


def test_a_hidden_gpu_is_a_note_and_names_the_variable():
    findings = doctor.gpu_findings(CARD, HEALTHY, {"CUDA_VISIBLE_DEVICES": "-1"})
    assert worst(findings) == NOTE
    assert "CUDA_VISIBLE_DEVICES=-1 leaves 0 of 1" in findings[-1].value


def test_the_variable_of_a_cluster_is_no_excuse_for_an_unused_gpu():
    assert warnings(doctor.gpu_findings(CARD, HEALTHY, {"CUDA_VISIBLE_DEVICES": "0"}))
    assert warnings(doctor.gpu_findings(TWO_CARDS, HEALTHY, {"CUDA_VISIBLE_DEVICES": "1"}))
    assert not warnings(
        doctor.gpu_findings(TWO_CARDS, replace(HEALTHY, gpus=(T4,)), {"CUDA_VISIBLE_DEVICES": "1"})
    )


@pytest.mark.parametrize(
    "seen, setting, left",
    [(3, None, 3), (3, "", 0), (3, "-1", 0), (3, "2", 1), (3, "0,2", 2), (3, "0,-1,2", 1), (3, "7,0", 0),
     (2, "GPU-5ebe0bd4,GPU-9b3d8b51", 2), (1, "GPU-5ebe0bd4,GPU-9b3d8b51", 1)],
)
def test_how_many_gpus_the_variable_leaves(seen, setting, left):
    assert doctor.visible_gpus(seen, setting) == left


def test_a_container_without_the_gpu_is_told_how_to_get_it():
    (finding,) = warnings(doctor.gpu_findings(Driver(loaded=True), HEALTHY, {}))
    assert "--gpus all" in finding.advice


def test_a_driver_that_does_not_answer():
    message = "Failed to initialize NVML: Driver/library version mismatch"
    broken = Driver(loaded=True, error=message)
    (finding,) = warnings(doctor.gpu_findings(broken, HEALTHY, {}))
    assert message in finding.value
    tool_without_a_card = replace(broken, loaded=False)
    assert not warnings(doctor.gpu_findings(tool_without_a_card, HEALTHY, {}))


def test_a_tensorflow_that_does_not_load_is_not_reported_twice():
    assert not warnings(doctor.gpu_findings(CARD, Framework(error="ImportError"), {}))


def test_nvidia_smi_is_read():
    output = "NVIDIA A100-SXM4-80GB, 81920 MiB, 81039 MiB, 550.54.15\nTesla T4, [N/A], [N/A], 550.54.15\n"
    gpus, error = doctor.parse_nvidia_smi(0, output)
    assert error == ""
    assert gpus[0] == "NVIDIA A100-SXM4-80GB, 81920 MiB of which 81039 MiB free, driver 550.54.15"
    assert len(gpus) == 2


@pytest.mark.parametrize(
    "status, output, error",
    [
        (None, "", ""),
        (9, "NVIDIA-SMI has failed because it couldn't talk to the driver.\n", "NVIDIA-SMI has failed"),
        (0, "Failed to initialize NVML: Unknown Error\n", "Failed to initialize NVML"),
        (6, "", "exit status 6"),
    ],
)
def test_nvidia_smi_without_an_answer(status, output, error):
    gpus, found = doctor.parse_nvidia_smi(status, output)
    assert gpus == ()
    assert found.startswith(error) and bool(found) == bool(error)


def test_a_tool_that_is_not_there_and_one_that_fails(tmp_path):
    assert doctor.run_tool([str(tmp_path / "nothing")]) == (None, "")
    assert doctor.run_tool(["sh", "-c", "echo out; echo no >&2; exit 6"]) == (6, "out\nno\n")


# --- cuDNN, bfloat16, memory, cores


@pytest.mark.parametrize("found, wanted, level", [("", True, WARNING), ("", False, OK), ("9.3.0", True, OK)])
def test_cudnn_matters_only_with_a_gpu(found, wanted, level):
    assert worst(doctor.cudnn_findings(HEALTHY, found, wanted)) == level


def test_cudnn_of_a_build_without_cuda_and_of_one_that_does_not_load():
    (finding,) = doctor.cudnn_findings(replace(HEALTHY, build={}), "", True)
    assert finding.level == NOTE
    assert doctor.cudnn_findings(Framework(error="no"), "", True) == []


@pytest.mark.parametrize("version, expected", [("9", "9"), (8, "8"), ("not known", "9"), (None, "9")])
def test_major(version, expected):
    assert doctor.major(version) == expected


@pytest.mark.parametrize(
    "flags, gpus, levels",
    [
        (frozenset({"avx2", "amx_bf16"}), [], [OK]),
        (frozenset({"avx2", "avx512f"}), [], [NOTE]),
        (None, [], [NOTE]),
        (frozenset({"avx512_bf16"}), [Gpu("A100", (8, 0)), T4, Gpu("?")], [OK, NOTE, OK]),
    ],
)
def test_bfloat16(flags, gpus, levels):
    assert [finding.level for finding in doctor.bfloat16_findings(flags, gpus)] == levels


def test_cpu_flags_are_read(tmp_path):
    path = tmp_path / "cpuinfo"
    path.write_text("processor\t: 0\nflags\t\t: fpu avx2 avx512_bf16\nprocessor\t: 1\nflags\t\t: fpu\n")
    assert doctor.probe_cpu_flags(str(path)) == {"fpu", "avx2", "avx512_bf16"}
    assert doctor.probe_cpu_flags(str(tmp_path / "none")) is None


def test_memory_is_read_and_a_container_limit_counts(tmp_path):
    meminfo, limit = tmp_path / "meminfo", tmp_path / "memory.max"
    meminfo.write_text("MemTotal: 33554432 kB\nMemAvailable: 16777216 kB\nSwapTotal: 2097152 kB\nHuge: 0\n")
    limit.write_text("4294967296\n")
    memory_gb = doctor.probe_memory(str(meminfo), str(limit))
    assert memory_gb == {"total": 32.0, "available": 16.0, "swap": 2.0, "limit": 4.0}
    assert worst(doctor.memory_findings(memory_gb)) == WARNING
    limit.write_text("max\n")
    memory_gb = doctor.probe_memory(str(meminfo), str(limit))
    assert "limit" not in memory_gb
    assert worst(doctor.memory_findings(memory_gb)) == OK
    assert doctor.memory_findings(doctor.probe_memory(str(tmp_path / "none"), str(limit)))[0].level == NOTE


def test_threads_taken_away_are_noted():
    assert doctor.cores_finding(8, 8, {}).level == OK
    finding = doctor.cores_finding(8, 8, {"OMP_NUM_THREADS": "1"})
    assert finding.level == NOTE and "OMP_NUM_THREADS=1" in finding.value


# --- variables and files


@pytest.mark.parametrize(
    "environment, level",
    [
        ({}, OK),
        ({"TF_ENABLE_ONEDNN_OPTS": "1"}, OK),
        ({"TF_ENABLE_ONEDNN_OPTS": "0"}, NOTE),
        ({"TF_DETERMINISTIC_OPS": "1"}, NOTE),
        ({"KERAS_BACKEND": "jax"}, WARNING),
        ({"KERAS_BACKEND": "tensorflow"}, OK),
        ({"TF_USE_LEGACY_KERAS": "1"}, WARNING),
        ({"TF_USE_LEGACY_KERAS": "0"}, OK),
        ({"TF_XLA_FLAGS": "--tf_xla_auto_jit=2"}, WARNING),
        ({"TF_XLA_FLAGS": "--tf_xla_enable_xla_devices"}, OK),
    ],
)
def test_variables_that_change_results(environment, level):
    findings = doctor.environment_findings(environment)
    assert worst(findings) == level
    if level != OK:
        assert [finding.name for finding in findings] == list(environment)


@pytest.mark.parametrize(
    "text, environment, level",
    [
        (None, {}, OK),
        ('{"backend": "tensorflow", "floatx": "float32", "epsilon": 1e-07}', {}, OK),
        ('{"backend": "jax"}', {}, WARNING),
        ('{"backend": "jax"}', {"KERAS_BACKEND": "tensorflow"}, OK),
        ('{"floatx": "float16"}', {}, WARNING),
        ('{"epsilon": 1e-3}', {}, WARNING),
        ('{"image_data_format": "channels_first"}', {}, WARNING),
        ("{", {}, NOTE),
        ("[1]", {}, NOTE),
    ],
)
def test_the_settings_file_of_keras(text, environment, level):
    (finding,) = doctor.keras_file_findings("keras.json", text, environment)
    assert finding.level == level


def test_the_settings_file_is_where_keras_home_says(tmp_path):
    environment = {"KERAS_HOME": str(tmp_path)}
    assert doctor.probe_keras_file(environment) == (str(tmp_path / "keras.json"), None)
    (tmp_path / "keras.json").write_text("{}")
    assert doctor.probe_keras_file(environment)[1] == "{}"


# --- places, images, HDF5


@pytest.mark.parametrize(
    "purpose, writable, free_gb, level",
    [
        ("this folder", False, 100.0, WARNING),
        ("this folder", True, 0.5, WARNING),
        ("this folder", True, 3.0, NOTE),
        ("this folder", True, 100.0, OK),
        (doctor.KERAS_FOLDER, False, 100.0, NOTE),
    ],
)
def test_places(purpose, writable, free_gb, level):
    (finding,) = doctor.place_findings({purpose: ("runs", writable, free_gb)})
    assert finding.level == level


def test_writing_is_tried(tmp_path):
    assert doctor.can_write(tmp_path)
    assert list(tmp_path.iterdir()) == [], "the trial leaves nothing behind"
    assert not doctor.can_write(tmp_path / "none")
    (tmp_path / "file").write_text("")
    assert not doctor.can_write(tmp_path / "file")
    assert doctor.free_space_gb(tmp_path / "none") == 0.0


def test_formats_that_simpleitk_cannot_read_are_named():
    readers = doctor.probe_image_formats()
    assert doctor.image_findings(readers)[0].level == OK
    (finding,) = doctor.image_findings(set(readers) - {"GDCMImageIO"})
    assert finding.level == WARNING and "DICOM" in finding.value


@pytest.mark.parametrize(
    "version, environment, level",
    [("", {}, WARNING), ("1.14.6", {}, OK), ("1.14.6", {"HDF5_USE_FILE_LOCKING": "FALSE"}, NOTE)],
)
def test_hdf5(version, environment, level):
    assert doctor.hdf5_finding(version, environment).level == level
