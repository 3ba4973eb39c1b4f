"""`tfsono doctor`: versions, devices and memory, and what would go wrong here without a message.

Each `*_findings` function is given what was seen and judges it, so that a test can show it a machine it
does not have; each `probe_*` function looks and judges nothing. TensorFlow is loaded in a process of its
own: where it fails for the CPU or the driver it ends that process, and the report must still be written.
"""

from __future__ import annotations

import configparser
import ctypes
import glob
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

OK, NOTE, WARNING = "ok", "note", "WARNING"
GIBIBYTE = 2**30
OLDEST_PYTHON, NEWEST_PYTHON = (3, 10), (3, 13)
LEAST_MEMORY_GB = 6.0  # TensorFlow, a cache being written and the preset `quick`, with room to spare
LEAST_DISK_GB = 5.0  # a cache of a few dozen volumes, a run and an export
KERAS_FOLDER = "Keras's folder"
INSTALL_GPU = "pip install 'tensorflow[and-cuda]' brings the CUDA and cuDNN that TensorFlow looks for"
FORMATS = {"NiftiImageIO": "NIfTI", "MetaImageIO": "MetaImage", "NrrdImageIO": "NRRD", "GDCMImageIO": "DICOM"}
KERAS_DEFAULTS = {
    "backend": "tensorflow",
    "floatx": "float32",
    "image_data_format": "channels_last",
    "epsilon": 1e-7,
}
EFFECTS = {
    "TF_DETERMINISTIC_OPS": "1 makes runs repeatable bit for bit, and slower: timings do not compare",
    "TF_CUDNN_DETERMINISTIC": "1 makes runs repeatable, and slower: timings do not compare",
    "TF_CUDNN_USE_AUTOTUNE": "0 takes other kernels than by default: slower, and other last digits",
    "NVIDIA_TF32_OVERRIDE": "changes the precision of float32 products on the GPU",
    "XLA_FLAGS": "changes what XLA makes of the same program",
}
FALSE_WORDS = ("", "0", "false", "off")


@dataclass(frozen=True)
class Finding:
    """One line of the report: `ok`, a `note` worth knowing, or a `WARNING` that makes the exit status 1."""

    level: str
    name: str
    value: str
    advice: str = ""


@dataclass(frozen=True)
class Driver:
    """What the system itself shows of NVIDIA GPUs, whatever TensorFlow makes of them.

    Attributes:
        loaded: the kernel module is loaded (/proc/driver/nvidia/version); in a container this is the host's.
        devices: device files such as /dev/nvidia0; none in a container that was given no GPU.
        gpus: one line per GPU from nvidia-smi.
        error: nvidia-smi's own complaint, if it ran and failed.
    """

    loaded: bool = False
    devices: tuple[str, ...] = ()
    gpus: tuple[str, ...] = ()
    error: str = ""


@dataclass(frozen=True)
class Gpu:
    """A GPU as TensorFlow sees it; `capability` is CUDA's compute capability, (0, 0) if unknown."""

    name: str
    capability: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Framework:
    """TensorFlow and Keras as they load here; `error` is set where they do not.

    Attributes:
        build: tf.sysconfig.get_build_info(), whose keys differ between versions.
        messages: what TensorFlow wrote about the GPU while it loaded.
    """

    error: str = ""
    tensorflow: str = ""
    keras: str = ""
    backend: str = "tensorflow"
    float_type: str = "float32"
    data_format: str = "channels_last"
    gpus: tuple[Gpu, ...] = ()
    build: Mapping[str, object] = field(default_factory=dict)
    messages: tuple[str, ...] = ()


def run_doctor() -> int:
    """Prints the report; returns 1 if anything in it is a WARNING, else 0."""
    return report(examine())


def report(findings: Iterable[Finding], write: Callable[[str], object] = print) -> int:
    """Writes one line per finding, its advice below it; the warnings once more at the end.

    Returns:
        1 if anything is a WARNING, else 0.
    """
    findings = list(findings)
    for finding in findings:
        write(f"{finding.level:<8}{finding.name:<24}{finding.value}")
        if finding.advice:
            write(f"{'':<8}{'':<24}-> {finding.advice}")
    warnings = [finding for finding in findings if finding.level == WARNING]
    if not warnings:
        write("nothing stands in the way")
        return 0
    write("")
    write(f"{len(warnings)} WARNING{'S' if len(warnings) > 1 else ''}:")
    for finding in warnings:
        write(f"  {finding.name}: {finding.value} -> {finding.advice}")
    return 1


def examine() -> list[Finding]:
    """Looks at this machine; returns all findings in the order of the report."""
    driver = probe_driver()
    requirements = probe_requirements()
    versions = {requirement.name: installed_version(requirement.name) for requirement in requirements}
    framework = probe_tensorflow()
    environment = dict(os.environ)
    return [
        python_finding(sys.version_info[:3]),
        *version_findings(requirements, versions),
        *framework_findings(framework),
        *gpu_findings(driver, framework, environment),
        *cudnn_findings(framework, probe_cudnn(framework.build), bool(driver_gpus(driver) or framework.gpus)),
        *bfloat16_findings(probe_cpu_flags(), framework.gpus),
        *memory_findings(probe_memory()),
        cores_finding(os.cpu_count() or 1, probe_usable_cores(), environment),
        *environment_findings(environment),
        *keras_file_findings(*probe_keras_file(environment), environment),
        *place_findings(probe_places(environment)),
        *image_findings(probe_image_formats()),
        hdf5_finding(probe_hdf5(), environment),
    ]


# --- Python and packages


def python_finding(version: tuple[int, int, int]) -> Finding:
    """Judges the interpreter's version; TensorFlow has wheels for Python 3.10 to 3.13."""
    text = ".".join(map(str, version))
    if OLDEST_PYTHON <= version[:2] <= NEWEST_PYTHON:
        return Finding(OK, "Python", text)
    return Finding(WARNING, "Python", text, "tfsono is tested with Python 3.10 to 3.13; use one of these")


def version_findings(requirements: Iterable[Requirement], versions: Mapping[str, str]) -> list[Finding]:
    """Compares each installed version with what setup.cfg asks for.

    Args:
        requirements: those that hold on this Python.
        versions: package name -> installed version, "" where it is not installed.
    """
    findings = []
    for requirement in requirements:
        found = versions.get(requirement.name, "")
        if found and requirement.specifier.contains(found, prereleases=True):
            findings.append(Finding(OK, requirement.name, found))
        else:
            advice = f"pip install '{requirement.name}{requirement.specifier}'"
            findings.append(Finding(WARNING, requirement.name, found or "not installed", advice))
    return findings or [Finding(NOTE, "packages", "requirements not known", "pip install . in the checkout")]


def probe_requirements() -> list[Requirement]:
    """The package's requirements on this Python: from the checkout's setup.cfg, else as installed."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(Path(__file__).resolve().parent.parent / "setup.cfg", encoding="utf-8")
    if parser.get("metadata", "name", fallback="") == "tfsono":
        return parse_requirements(parser.get("options", "install_requires").splitlines())
    try:
        return parse_requirements(importlib.metadata.requires("tfsono") or [])
    except importlib.metadata.PackageNotFoundError:
        return []


def parse_requirements(lines: Iterable[str]) -> list[Requirement]:
    """Requirements that hold on this Python and belong to no extra; lines that are none are left out."""
    requirements = []
    for line in lines:
        try:
            requirement = Requirement(line.strip())
        except InvalidRequirement:
            continue
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            requirements.append(requirement)
    return requirements


def installed_version(name: str) -> str:
    """The installed version of a package, "" if it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


# --- TensorFlow and Keras


def framework_findings(framework: Framework) -> list[Finding]:
    """Judges whether TensorFlow and Keras load, and on which defaults Keras stands."""
    if framework.error:
        return [Finding(WARNING, "TensorFlow loads", framework.error, "no command can run: mend this first")]
    findings = [Finding(OK, "TensorFlow loads", f"{framework.tensorflow}, Keras {framework.keras}")]
    if framework.backend == "tensorflow":
        findings.append(Finding(OK, "Keras backend", framework.backend))
    else:
        advice = "training and inference run on TensorFlow only: export KERAS_BACKEND=tensorflow"
        findings.append(Finding(WARNING, "Keras backend", framework.backend, advice))
    if framework.float_type != "float32":
        advice = 'every weight would be made so: set "floatx": "float32" in Keras\'s keras.json'
        findings.append(Finding(WARNING, "Keras float type", framework.float_type, advice))
    if framework.data_format != "channels_last":
        advice = 'the networks have the channel last: set "image_data_format": "channels_last" in keras.json'
        findings.append(Finding(WARNING, "Keras data format", framework.data_format, advice))
    if not framework.gpus:
        advice = "leave jit_compile off: it makes a 3D convolution 9 times slower on a CPU"
        findings.append(Finding(NOTE, "XLA", "slow on a CPU", advice))
    return findings


def probe_tensorflow() -> Framework:
    """Loads TensorFlow and Keras in another process and returns what they are."""
    command = [sys.executable, "-m", "tfsono.doctor"]
    folder = Path(__file__).resolve().parent.parent
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=folder)
    except subprocess.TimeoutExpired:
        return Framework(error="no end of loading after 5 minutes")
    return parse_framework(done.returncode, done.stdout, done.stderr)


def parse_framework(status: int, output: str, messages: str) -> Framework:
    """Reads the answer of the process that loaded TensorFlow.

    Args:
        status: its exit status, negative where a signal ended it.
        output: the JSON line that `load_framework` gives.
        messages: what it wrote on stderr.
    """
    lines = [line for line in messages.splitlines() if line.strip()]
    if status < 0:
        reason = "; this CPU lacks instructions that TensorFlow's wheel needs (AVX)" if -status == 4 else ""
        return Framework(error=f"loading it ends Python with signal {-status}{reason}")
    try:
        found = json.loads(output.strip().splitlines()[-1])
    except (IndexError, ValueError):
        return Framework(error=lines[-1] if lines else f"loading it ends with exit status {status}")
    gpus = tuple(Gpu(gpu["name"], tuple(gpu["capability"])) for gpu in found.pop("gpus"))
    found.pop("messages")
    # Without the prefix of the log: level, time, process and source line.
    words = [re.sub(r"^.*?\.cc:\d+\] ", "", line) for line in lines if re.search("(?i)cuda|cudnn|gpu", line)]
    return Framework(**found, gpus=gpus, messages=tuple(dict.fromkeys(words)))


def load_framework() -> Framework:
    """Loads TensorFlow and Keras and asks for their versions and GPUs; reserves no GPU memory."""
    try:
        import keras
        import tensorflow as tf

        devices = tf.config.list_physical_devices("GPU")
        gpus = [tf.config.experimental.get_device_details(device) for device in devices]
    # Whatever a broken installation raises is the finding: a missing library, two versions that do not fit.
    except Exception as error:
        return Framework(error=" ".join(f"{type(error).__name__}: {error}".split())[:300])
    return Framework(
        tensorflow=tf.__version__,
        keras=keras.__version__,
        backend=keras.config.backend(),
        float_type=keras.config.floatx(),
        data_format=keras.config.image_data_format(),
        gpus=tuple(describe_gpu(details) for details in gpus),
        build=dict(tf.sysconfig.get_build_info()),
    )


def describe_gpu(details: Mapping[str, object]) -> Gpu:
    """A GPU from TensorFlow's own dictionary of details, any entry of which may be missing."""
    return Gpu(str(details.get("device_name", "GPU")), tuple(details.get("compute_capability") or (0, 0)))


# --- GPU


def gpu_findings(driver: Driver, framework: Framework, environment: Mapping[str, str]) -> list[Finding]:
    """Compares the driver's GPUs with those that TensorFlow takes: a difference comes without an error."""
    findings = [Finding(OK, "GPU (driver)", line) for line in driver.gpus]
    findings += [Finding(OK, "GPU (TensorFlow)", f"{gpu.name}, {capability(gpu)}") for gpu in framework.gpus]
    seen, used = len(driver_gpus(driver)), len(framework.gpus)
    visible = visible_gpus(seen, environment.get("CUDA_VISIBLE_DEVICES"))
    findings += driver_findings(driver)
    if framework.error:
        return findings  # said already, and loudly: a TensorFlow that does not load sees nothing
    if used < visible:
        findings.append(unused_gpu_finding(visible, framework))
    elif visible < seen:
        value = f"CUDA_VISIBLE_DEVICES={environment['CUDA_VISIBLE_DEVICES']} leaves {visible} of {seen}"
        findings.append(Finding(NOTE, "GPU (TensorFlow)", value, "unset it to use all"))
    elif not seen and not used:
        findings.append(Finding(NOTE, "GPU", "none in use: all runs on the CPU"))
    return findings


def driver_findings(driver: Driver) -> list[Finding]:
    """Judges a driver that has no GPU to show."""
    if driver.gpus:
        return []
    if driver.error:
        level = WARNING if driver.loaded or driver.devices else NOTE
        advice = "the driver does not answer; after an update of the driver the machine must be started again"
        return [Finding(level, "GPU (driver)", f"nvidia-smi: {driver.error}", advice)]
    if driver.loaded and not driver.devices:
        advice = "in a container: docker run --gpus all, with the NVIDIA Container Toolkit on the host"
        return [Finding(WARNING, "GPU (driver)", "a driver, but no GPU for this process", advice)]
    return []


def driver_gpus(driver: Driver) -> tuple[str, ...]:
    """The GPUs that the driver shows; the device files where nvidia-smi is not installed."""
    return driver.gpus or driver.devices


def visible_gpus(seen: int, setting: str | None) -> int:
    """How many of the GPUs CUDA_VISIBLE_DEVICES leaves: CUDA reads its list up to the first wrong entry."""
    if setting is None:
        return seen
    left = 0
    for entry in setting.split(","):
        number = entry.strip()
        if not number or number.startswith("-") or (number.isdigit() and int(number) >= seen):
            break
        left += 1
    return min(left, seen)


def unused_gpu_finding(visible: int, framework: Framework) -> Finding:
    """The finding for a machine whose driver offers more GPUs than TensorFlow uses."""
    used = len(framework.gpus) or "NONE"
    value = f"THE DRIVER OFFERS {visible} GPU{'S' if visible > 1 else ''}, TENSORFLOW USES {used}"
    advice = INSTALL_GPU
    if not framework.build.get("is_cuda_build", True):
        advice = f"this TensorFlow is built without CUDA; {advice}"
    if framework.messages:
        advice += f". TensorFlow says: {' | '.join(framework.messages[-3:])}"
    return Finding(WARNING, "GPU (TensorFlow)", value, advice)


def capability(gpu: Gpu) -> str:
    """Compute capability in words."""
    return "compute capability " + (".".join(map(str, gpu.capability)) if any(gpu.capability) else "unknown")


def probe_driver() -> Driver:
    """Asks the system for NVIDIA GPUs without TensorFlow."""
    query = "--query-gpu=name,memory.total,memory.free,driver_version"
    gpus, error = parse_nvidia_smi(*run_tool(["nvidia-smi", query, "--format=csv,noheader"]))
    return Driver(
        loaded=os.path.exists("/proc/driver/nvidia/version"),
        devices=tuple(sorted(glob.glob("/dev/nvidia[0-9]*"))),
        gpus=gpus,
        error=error,
    )


def parse_nvidia_smi(status: int | None, output: str) -> tuple[tuple[str, ...], str]:
    """Reads nvidia-smi's answer to a query of name, total memory, free memory and driver version.

    Args:
        status: its exit status, None where it is not installed.
        output: all that it printed.

    Returns:
        One line per GPU, and its complaint ("" if it had none).
    """
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    if status is None:
        return (), ""
    if status != 0 or any("failed" in line.lower() for line in lines):
        return (), lines[0] if lines else f"exit status {status}"
    gpus = []
    for line in lines:
        parts = [part.strip() for part in line.split(",")]
        if len(parts) == 4:
            gpus.append("{}, {} of which {} free, driver {}".format(*parts))
    return tuple(gpus), ""


def run_tool(command: list[str]) -> tuple[int | None, str]:
    """Exit status and output of a command; (None, "") where it is not installed."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (FileNotFoundError, PermissionError):
        return None, ""
    except subprocess.TimeoutExpired:
        return 1, "no answer in 30 seconds"
    return done.returncode, done.stdout + done.stderr


# --- CUDA and cuDNN


def cudnn_findings(framework: Framework, found: str, wanted: bool) -> list[Finding]:
    """Says which CUDA and cuDNN this TensorFlow is built for, and whether cuDNN can be loaded.

    Args:
        framework: gives the build's own dictionary (its keys differ between versions).
        found: version or place of the cuDNN that was found, "" if none.
        wanted: there is a GPU that needs it.
    """
    if framework.error:
        return []
    if not framework.build.get("is_cuda_build"):
        return [Finding(NOTE, "CUDA", "this TensorFlow is built without it", INSTALL_GPU if wanted else "")]
    cuda, cudnn = (framework.build.get(key, "not known") for key in ("cuda_version", "cudnn_version"))
    findings = [Finding(OK, "CUDA (build)", f"CUDA {cuda}, cuDNN {cudnn}")]
    if found:
        findings.append(Finding(OK, "cuDNN", found))
    elif wanted:
        findings.append(Finding(WARNING, "cuDNN", f"libcudnn.so.{major(cudnn)} does not load", INSTALL_GPU))
    else:
        findings.append(Finding(OK, "cuDNN", "not installed, and not needed without a GPU"))
    return findings


def major(version: object) -> str:
    """The first number of a version, "9" (the one of TensorFlow 2.18 and later) where there is none."""
    match = re.match(r"\d+", str(version))
    return match.group() if match else "9"


def probe_cudnn(build: Mapping[str, object]) -> str:
    """Loads cuDNN as TensorFlow would: the system's, else that of the wheels, which no search path names."""
    name = f"libcudnn.so.{major(build.get('cudnn_version', ''))}"
    wheels = [str(Path(folder) / "nvidia" / "cudnn" / "lib" / name) for folder in sys.path if folder]
    for path in (name, *filter(os.path.exists, wheels)):
        try:
            version = ctypes.CDLL(path).cudnnGetVersion()
        except (OSError, AttributeError):
            continue
        return f"{version // 10000}.{version // 100 % 100}.{version % 100}"
    return ""


# --- bfloat16, memory, cores


def bfloat16_findings(cpu_flags: frozenset[str] | None, gpus: Iterable[Gpu]) -> list[Finding]:
    """Says where `mixed_bfloat16` is the hardware's own: some CPUs, GPUs from compute capability 8.0."""
    findings = []
    for gpu in gpus:
        if gpu.capability >= (8, 0):
            findings.append(Finding(OK, "bfloat16 (GPU)", f"in hardware on {gpu.name}"))
        elif any(gpu.capability):
            advice = "use mixed_float16" if gpu.capability >= (7, 0) else "use float32"
            findings.append(Finding(NOTE, "bfloat16 (GPU)", f"not in hardware on {gpu.name}", advice))
    if cpu_flags is None:
        return [*findings, Finding(NOTE, "bfloat16 (CPU)", "not known on this system")]
    fast = sorted(flag for flag in ("amx_bf16", "avx512_bf16", "bf16") if flag in cpu_flags)
    if fast:
        return [*findings, Finding(OK, "bfloat16 (CPU)", f"in hardware ({', '.join(fast)})")]
    advice = "mixed_bfloat16 is slower than float32 on this CPU"
    return [*findings, Finding(NOTE, "bfloat16 (CPU)", "not in hardware", advice)]


def probe_cpu_flags(path: str = "/proc/cpuinfo") -> frozenset[str] | None:
    """The CPU's flags; None where the system does not tell."""
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    match = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return frozenset(match.group(1).split()) if match else None


def memory_findings(memory_gb: Mapping[str, float]) -> list[Finding]:
    """Judges memory from `total`, `available`, `swap` and `limit` in GiB, any of which may be missing."""
    if "total" not in memory_gb:
        return [Finding(NOTE, "memory", "not known on this system")]
    total, available = memory_gb["total"], memory_gb.get("available", memory_gb["total"])
    limit, swap = memory_gb.get("limit", total), memory_gb.get("swap", 0.0)
    value = f"{total:.1f} GB, {available:.1f} free, swap {swap:.1f}"
    if limit < total:
        value += f", this container may use {limit:.1f}"
    usable = min(available, limit)
    if usable < LEAST_MEMORY_GB:
        advice = f"training wants {LEAST_MEMORY_GB:.0f} GB free; without swap the system kills it in silence"
        return [Finding(WARNING, "memory", value, advice)]
    return [Finding(OK, "memory", value)]


def probe_memory(
    meminfo: str = "/proc/meminfo", limit: str = "/sys/fs/cgroup/memory.max"
) -> dict[str, float]:
    """Memory in GiB: total, available, swap, and the limit of a container where one is set."""
    names = {"MemTotal": "total", "MemAvailable": "available", "SwapTotal": "swap"}
    memory_gb = {}
    try:
        for line in Path(meminfo).read_text(encoding="utf-8").splitlines():
            key, _, rest = line.partition(":")
            if key in names:
                memory_gb[names[key]] = int(rest.split()[0]) * 1024 / GIBIBYTE
        text = Path(limit).read_text(encoding="utf-8").strip()
        if text.isdigit():
            memory_gb["limit"] = int(text) / GIBIBYTE
    except OSError:
        pass  # another system, or no control group: the entries that were read are what is known
    return memory_gb


def cores_finding(cores: int, usable: int, environment: Mapping[str, str]) -> Finding:
    """Says how many cores there are, and what takes some of them away."""
    limits = [
        f"{name}={environment[name]}"
        for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
        if environment.get(name)
    ]
    value = f"{cores} in all, {usable} for this process"
    if limits:
        return Finding(NOTE, "cores", f"{value}; {', '.join(limits)}", "they limit the threads: unset them")
    return Finding(OK, "cores", value)


def probe_usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# --- variables and files that change results without a message


def environment_findings(environment: Mapping[str, str]) -> list[Finding]:
    """Judges the variables that change what TensorFlow and Keras do, without a word from them."""
    findings = []
    if environment.get("KERAS_BACKEND", "tensorflow") not in ("", "tensorflow"):
        findings.append(Finding(WARNING, "KERAS_BACKEND", environment["KERAS_BACKEND"],
                                "training and inference run on TensorFlow only: unset it"))
    if is_on(environment, "TF_USE_LEGACY_KERAS"):
        findings.append(Finding(WARNING, "TF_USE_LEGACY_KERAS", environment["TF_USE_LEGACY_KERAS"],
                                "tf.keras becomes Keras 2: unset it"))
    if re.search("auto.jit", environment.get("TF_XLA_FLAGS", "")):
        findings.append(Finding(WARNING, "TF_XLA_FLAGS", environment["TF_XLA_FLAGS"],
                                "compiles all with XLA, 9 times slower for 3D on a CPU: unset it"))
    if "TF_ENABLE_ONEDNN_OPTS" in environment and not is_on(environment, "TF_ENABLE_ONEDNN_OPTS"):
        findings.append(Finding(NOTE, "TF_ENABLE_ONEDNN_OPTS", environment["TF_ENABLE_ONEDNN_OPTS"],
                                "oneDNN is off: slower on a CPU, and other last digits than by default"))
    for name, effect in EFFECTS.items():
        if environment.get(name):
            findings.append(Finding(NOTE, name, environment[name], effect))
    return findings or [Finding(OK, "environment", "no variable that changes results is set")]


def is_on(environment: Mapping[str, str], name: str) -> bool:
    """Whether a variable is set to something other than 0, false or off."""
    return environment.get(name, "").strip().lower() not in FALSE_WORDS


def keras_file_findings(path: str, text: str | None, environment: Mapping[str, str]) -> list[Finding]:
    """Judges Keras's settings file, which another project may have changed.

    Args:
        path: the file.
        text: its content, None where there is none (Keras then writes one with its defaults).
        environment: its KERAS_BACKEND overrides the file's.
    """
    if text is None:
        return [Finding(OK, "keras.json", "none: Keras's own defaults")]
    try:
        settings = json.loads(text)
        if not isinstance(settings, dict):
            raise ValueError("not an object")
    except ValueError as error:
        return [Finding(NOTE, "keras.json", f"{path}: {error}", "Keras ignores it: delete the file")]
    wanted = dict(KERAS_DEFAULTS)
    if environment.get("KERAS_BACKEND"):
        wanted.pop("backend")  # the variable wins, and framework_findings judges which backend came of it
    other = [f"{key}={settings[key]}" for key, value in wanted.items() if settings.get(key, value) != value]
    if other:
        advice = f"another project changed Keras's defaults in {path}; set them back or delete the file"
        return [Finding(WARNING, "keras.json", ", ".join(other), advice)]
    return [Finding(OK, "keras.json", "Keras's own defaults")]


def probe_keras_file(environment: Mapping[str, str]) -> tuple[str, str | None]:
    """Path and content of the settings file that Keras reads; None where there is none."""
    folder = environment.get("KERAS_HOME") or os.path.join(os.path.expanduser("~"), ".keras")
    path = Path(folder) / "keras.json"
    try:
        return str(path), path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return str(path), None


# --- places, images, HDF5


def place_findings(places: Mapping[str, tuple[str, bool, float]]) -> list[Finding]:
    """Judges the folders that are written to.

    Args:
        places: what it is for -> (path, can be written, GiB free).
    """
    findings = []
    for purpose, (path, writable, free_gb) in places.items():
        value = f"{path}, {free_gb:.0f} GB free"
        if not writable:
            # Keras does without its folder.
            level = NOTE if purpose == KERAS_FOLDER else WARNING
            advice = "nothing can be saved there: use another, or mend its permissions"
            findings.append(Finding(level, purpose, f"{path} cannot be written", advice))
        elif free_gb < LEAST_DISK_GB:
            advice = f"a cache, a run and an export want about {LEAST_DISK_GB:.0f} GB"
            findings.append(Finding(WARNING if free_gb < 1 else NOTE, purpose, value, advice))
        else:
            findings.append(Finding(OK, purpose, value))
    return findings


def probe_places(environment: Mapping[str, str]) -> dict[str, tuple[str, bool, float]]:
    """Tries this folder, the temporary folder and Keras's folder (or the one that will hold it)."""
    keras = Path(environment.get("KERAS_HOME") or os.path.join(os.path.expanduser("~"), ".keras"))
    folders = {
        "this folder": Path.cwd(),
        "temporary folder": probe_temporary_folder(),
        KERAS_FOLDER: keras if keras.is_dir() else keras.parent,
    }
    return {name: (str(folder), can_write(folder), free_space_gb(folder)) for name, folder in folders.items()}


def probe_temporary_folder() -> Path:
    """The temporary folder that Python takes; the one it would like to take where none can be written."""
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:
        return Path(os.environ.get("TMPDIR", os.sep + "tmp"))


def can_write(folder: Path) -> bool:
    """Whether a file can be made there: tried, since permissions do not show a read-only mount."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"tfsono")
    except OSError:
        return False
    return True


def free_space_gb(folder: Path) -> float:
    """Free space in GiB, 0 where the folder does not exist."""
    try:
        return shutil.disk_usage(folder).free / GIBIBYTE
    except OSError:
        return 0.0


def image_findings(formats: Iterable[str]) -> list[Finding]:
    """Judges which of the medical formats SimpleITK reads here, from the names of its readers."""
    formats = set(formats)
    missing = [text for reader, text in FORMATS.items() if reader not in formats]
    if missing:
        advice = "this build of SimpleITK cannot read them: pip install --force-reinstall SimpleITK"
        return [Finding(WARNING, "image formats", f"without {', '.join(missing)}", advice)]
    return [Finding(OK, "image formats", ", ".join(FORMATS.values()))]


def probe_image_formats() -> tuple[str, ...]:
    """Names of SimpleITK's readers; none where it does not load."""
    try:
        import SimpleITK
    except (ImportError, OSError):
        return ()
    return tuple(SimpleITK.ImageFileReader().GetRegisteredImageIOs())


def hdf5_finding(version: str, environment: Mapping[str, str]) -> Finding:
    """Judges the HDF5 library under h5py, and its file locks, which some network file systems refuse."""
    if not version:
        return Finding(WARNING, "HDF5", "h5py does not load", "pip install --force-reinstall h5py")
    locking = environment.get("HDF5_USE_FILE_LOCKING", "")
    if locking.upper() in ("FALSE", "0"):
        advice = "without locks two processes can damage one cache"
        return Finding(NOTE, "HDF5", f"{version}, HDF5_USE_FILE_LOCKING={locking}", advice)
    return Finding(OK, "HDF5", f"{version}; where a network drive refuses locks: HDF5_USE_FILE_LOCKING=FALSE")


def probe_hdf5() -> str:
    """Version of the HDF5 library; "" where h5py does not load."""
    try:
        import h5py
    except (ImportError, OSError):
        return ""
    return h5py.version.hdf5_version


if __name__ == "__main__":  # the process that `probe_tensorflow` starts
    print(json.dumps(asdict(load_framework()), default=str))
