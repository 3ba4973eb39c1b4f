"""`tfsono doctor`: versions, devices and memory, and problems that would go unnoticed.

Each `*_findings` function judges values that it is given, so that tests can describe any machine; each `probe_*`
function reads values of this machine. TensorFlow is loaded in a separate process: if the CPU or the driver makes it
crash, the report is still written.
"""

from __future__ import annotations

import contextlib
import ctypes
import glob
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from packaging.requirements import Requirement

from tfsono.progress import json_lines
from tfsono.surroundings import GIBIBYTE, ignored_keras_settings, prepare_keras, probe_memory

OK, NOTE, WARNING = "ok", "note", "WARNING"
BFLOAT16 = frozenset({"amx_bf16", "avx512_bf16", "bf16"})  # flags of CPUs that have it in hardware
LEAST_MEMORY_GB = 6.0  # TensorFlow, a cache being written and the preset `quick`, with room to spare
LEAST_DISK_GB = 5.0  # a cache of a few dozen volumes, a run and an export
CUDA_LIBRARIES = ("libcudart.so.12", "libcublas.so.12", "libcublasLt.so.12", "libcufft.so.11", "libcusolver.so.11",
                  "libcusparse.so.12", "libcudnn.so.9")  # that TensorFlow 2.18 and later opens
LARGEST_STEP = ("a training step of head at preset paper in float32", 14.3)  # GiB, docs/results/speed.md
INSTALL_GPU = "pip install 'tensorflow[and-cuda]' brings the CUDA and cuDNN that TensorFlow looks for"


@dataclass(frozen=True)
class Finding:
    """One line of the report: `ok`, a `note` worth knowing, or a `WARNING` that makes the exit status 1."""

    level: str
    name: str
    value: str
    advice: str = ""


@dataclass(frozen=True)
class Driver:
    """NVIDIA GPUs that the operating system shows, whether TensorFlow uses them or not.

    Attributes:
      loaded: the kernel module is loaded (/proc/driver/nvidia/version); in a container this is the host's.
      gpus: one line per GPU from nvidia-smi, else its device file; none in a container without GPU access.
      error: nvidia-smi's message, if it failed.
    """

    loaded: bool = False
    gpus: tuple[str, ...] = ()
    error: str = ""


@dataclass(frozen=True)
class Framework:
    """TensorFlow and Keras as they load here; `error` is set if they do not.

    Attributes:
      gpus: name and CUDA's compute capability of each GPU that TensorFlow uses; (0, 0) if unknown.
      build: tf.sysconfig.get_build_info(), whose keys differ between versions.
      bfloat16_time: of a convolution on the CPU, as a share of float32's; 0 where that is unknown.
      messages: lines about the GPU that TensorFlow wrote while loading.
    """

    error: str = ""
    tensorflow: str = ""
    keras: str = ""
    gpus: tuple[tuple[str, tuple[int, int]], ...] = ()
    build: Mapping[str, object] = field(default_factory=dict)
    bfloat16_time: float = 0.0
    messages: tuple[str, ...] = ()


def run_doctor(as_json: bool = False, expect: str = "") -> int:
    """Prints the report, or its findings as JSON; returns 1 if anything in it is a WARNING, else 0.

    Args:
      as_json: prints findings as JSON, one a line.
      expect: "gpu" also warns where TensorFlow would not use one.
    """
    findings = examine(expect)
    if not as_json:
        return report(findings)
    with json_lines(True) as write:
        for finding in findings:
            write(asdict(finding) | {"level": finding.level.lower()})
    return int(any(finding.level == WARNING for finding in findings))


def report(findings: Iterable[Finding], write: Callable[[str], object] = print) -> int:
    """Writes one line per finding with its advice, and the warnings again at the end; returns 1 if there are any."""
    findings = list(findings)
    for finding in findings:
        write(f"{finding.level:<8}{finding.name:<24}{finding.value}")
        if finding.advice:
            write(f"{'':<8}{'':<24}-> {finding.advice}")
    warnings = [finding for finding in findings if finding.level == WARNING]
    if not warnings:
        write("no problems found")
        return 0
    write(f"\n{len(warnings)} WARNING{'S' if len(warnings) > 1 else ''}:")
    for finding in warnings:
        write(f"  {finding.name}: {finding.value} -> {finding.advice}")
    return 1


def examine(expect: str = "") -> list[Finding]:
    """Examines this machine; returns all findings in the order of the report."""
    driver, framework, environment = probe_driver(), probe_tensorflow(), dict(os.environ)
    requirements = probe_requirements()
    return [
        Finding(OK, "Python", platform.python_version()),
        *version_findings(requirements, {each.name: installed_version(each.name) for each in requirements}),
        framework_finding(framework),
        *keras_findings(ignored_keras_settings()),
        *driver_findings(driver),
        *gpu_findings(len(driver.gpus), framework, environment),
        *cudnn_findings(framework, probe_cudnn(framework.build), bool(driver.gpus or framework.gpus)),
        *(expected_findings(driver, framework, probe_libraries()) if expect == "gpu" else []),
        *gpu_memory_findings(driver.gpus),
        *bfloat16_findings(probe_cpu_flags(), framework),
        memory_finding(probe_memory()),
        disk_finding(os.getcwd(), shutil.disk_usage(".").free / GIBIBYTE),
    ]


# --- packages


def version_findings(requirements: Iterable[Requirement], versions: Mapping[str, str]) -> list[Finding]:
    """Compares each installed version, "" if not installed, with the requirements in setup.cfg."""
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
    """Requirements of the installed package on this Python, without extras; none if it is not installed."""
    try:
        requirements = map(Requirement, importlib.metadata.requires("tfsono") or [])
    except importlib.metadata.PackageNotFoundError:
        return []
    return [each for each in requirements if each.marker is None or each.marker.evaluate({"extra": ""})]


def installed_version(name: str) -> str:
    """The installed version of a package, "" if it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


# --- TensorFlow and Keras


def framework_finding(framework: Framework) -> Finding:
    """Judges whether TensorFlow and Keras load."""
    if framework.error:
        return Finding(WARNING, "TensorFlow loads", framework.error, "nothing works without it: fix this first")
    return Finding(OK, "TensorFlow loads", f"{framework.tensorflow}, Keras {framework.keras}")


def keras_findings(ignored: Sequence[str]) -> list[Finding]:
    """Lists the user's settings of Keras, which have no effect on a command."""
    advice = "ignored by the commands of tfsono, but not where you import it"
    return [Finding(NOTE, "Keras setting", setting, advice) for setting in ignored]


def probe_tensorflow() -> Framework:
    """Loads TensorFlow and Keras in another process and returns their versions, settings and GPUs."""
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "1"}  # messages on missing libraries are warnings
    try:
        done = subprocess.run([sys.executable, "-m", "tfsono.doctor"], capture_output=True, encoding="utf-8",
                              errors="replace", timeout=300, check=False,
                              cwd=Path(__file__).resolve().parents[1], env=environment)
    except subprocess.TimeoutExpired:
        return Framework(error="loading takes more than 5 minutes")
    return parse_framework(done.returncode, done.stdout, done.stderr)


def parse_framework(status: int, output: str, messages: str) -> Framework:
    """Parses the result of the process that loaded TensorFlow: exit status (negative: signal), JSON line, stderr."""
    lines = [line for line in messages.splitlines() if line.strip()]
    if status < 0:
        reason = "; this CPU lacks instructions that TensorFlow's wheel needs (AVX)" if status == -4 else ""
        return Framework(error=f"loading it kills Python with signal {-status}{reason}")
    try:
        found = json.loads(output.strip().splitlines()[-1])
    except (IndexError, ValueError):
        return Framework(error=lines[-1] if lines else f"loading it ends with exit status {status}")
    # Without the log prefix: level, time, process and source line.
    words = [re.sub(r"^.*?\.cc:\d+\] ", "", line) for line in lines if re.search("(?i)cuda|cudnn|gpu", line)]
    gpus = tuple((name, tuple(capability)) for name, capability in found["gpus"])
    return Framework(**found | {"gpus": gpus, "messages": tuple(dict.fromkeys(words))})


def load_framework() -> Framework:
    """Loads TensorFlow and Keras; returns their versions and GPUs without reserving GPU memory."""
    try:
        import keras
        import tensorflow as tf

        details = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
    # Any error of a broken installation is the finding: a missing library, incompatible versions.
    except Exception as error:
        return Framework(error=" ".join(f"{type(error).__name__}: {error}".split())[:300])
    return Framework(
        tensorflow=tf.__version__,
        keras=keras.__version__,
        gpus=tuple((one.get("device_name", "GPU"), one.get("compute_capability") or (0, 0)) for one in details),
        build=dict(tf.sysconfig.get_build_info()),
        bfloat16_time=bfloat16_time(),
    )


def bfloat16_time() -> float:
    """The time of a convolution in bfloat16 on the CPU, as a share of that in float32; 0 if it cannot be done.

    Flags of the CPU do not say: a Xeon with AVX-512's bfloat16 and without AMX takes twice as long as in float32.
    """
    import tensorflow as tf

    def seconds(precision: str) -> float:
        image, kernel = tf.ones((1, 32, 32, 32, 32), precision), tf.ones((3, 3, 3, 32, 32), precision)
        times = []
        for _ in range(6):  # the first one includes preparations
            began = time.process_time()  # of all threads, whatever else runs
            tf.nn.conv3d(image, kernel, [1] * 5, "SAME").numpy()
            times.append(time.process_time() - began)
        return min(times)

    try:
        with tf.device("CPU:0"):
            return seconds("bfloat16") / seconds("float32")
    except tf.errors.OpError:
        return 0.0


# --- GPU


def driver_findings(driver: Driver) -> list[Finding]:
    """Lists the driver's GPUs and their memory; judges a driver without GPUs."""
    if driver.error:
        advice = "the driver does not respond; after a driver update, restart the machine"
        level = WARNING if driver.loaded or driver.gpus else NOTE
        return [Finding(level, "GPU (driver)", f"nvidia-smi: {driver.error}", advice)]
    if driver.loaded and not driver.gpus:
        advice = "in a container: docker run --gpus all, with the NVIDIA Container Toolkit on the host"
        return [Finding(WARNING, "GPU (driver)", "driver found, but no GPU for this process", advice)]
    return [Finding(OK, "GPU (driver)", line) for line in driver.gpus]


def gpu_findings(seen: int, framework: Framework, environment: Mapping[str, str]) -> list[Finding]:
    """Compares the number of the driver's GPUs with those that TensorFlow uses: using none is no error for it."""
    if framework.error:
        return []  # reported already: a TensorFlow that does not load uses no GPU
    setting, used = environment.get("CUDA_VISIBLE_DEVICES"), len(framework.gpus)
    visible = visible_gpus(seen, setting)
    findings = [Finding(OK, "GPU (TensorFlow)", f"{name}, compute capability {major}.{minor}")
                for name, (major, minor) in framework.gpus]
    if used < visible:
        findings.append(unused_gpu_finding(visible, framework))
    elif visible < seen:
        value = f"CUDA_VISIBLE_DEVICES={setting} leaves {visible} of {seen}"
        findings.append(Finding(NOTE, "GPU (TensorFlow)", value, "unset it to use all"))
    return findings or [Finding(NOTE, "GPU", "none in use: everything runs on the CPU")]


def visible_gpus(seen: int, setting: str | None) -> int:
    """The number of GPUs that CUDA_VISIBLE_DEVICES leaves: CUDA reads its list up to the first invalid entry."""
    if setting is None:
        return seen
    left = 0
    for entry in map(str.strip, setting.split(",")):
        if not entry or entry.startswith("-") or (entry.isdigit() and int(entry) >= seen):
            break
        left += 1
    return min(left, seen)


def unused_gpu_finding(visible: int, framework: Framework) -> Finding:
    """The finding for a driver that offers more GPUs than TensorFlow uses."""
    offered = f"{visible} GPU{'S' if visible > 1 else ''}"
    value = f"THE DRIVER OFFERS {offered}, TENSORFLOW USES {len(framework.gpus) or 'NONE'}"
    without = "" if framework.build.get("is_cuda_build", True) else "this TensorFlow is built without CUDA; "
    messages = f". TensorFlow's messages: {' | '.join(framework.messages[-3:])}" if framework.messages else ""
    return Finding(WARNING, "GPU (TensorFlow)", value, f"{without}{INSTALL_GPU}{messages}")


def probe_driver() -> Driver:
    """Looks for NVIDIA GPUs without TensorFlow."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total,memory.free,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, encoding="utf-8", errors="replace", timeout=30, check=False)
        gpus, error = parse_nvidia_smi(done.returncode, done.stdout + done.stderr)
    except subprocess.TimeoutExpired:
        gpus, error = (), "no response after 30 seconds"
    except OSError:  # not installed
        gpus, error = (), ""
    return Driver(os.path.exists("/proc/driver/nvidia/version"),
                  gpus or tuple(sorted(glob.glob("/dev/nvidia[0-9]*"))), error)


def parse_nvidia_smi(status: int, output: str) -> tuple[tuple[str, ...], str]:
    """Parses nvidia-smi's output of name, memory, free memory and driver: a line per GPU, and an error message."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    if status != 0 or any("failed" in line.lower() for line in lines):
        return (), lines[0] if lines else f"exit status {status}"
    rows = [line.split(", ") for line in lines]
    return tuple("{}, {} of which {} free, driver {}".format(*row) for row in rows if len(row) == 4), ""


def cudnn_findings(framework: Framework, found: str, wanted: bool) -> list[Finding]:
    """Reports the CUDA that this TensorFlow is built for, and whether cuDNN loads.

    Args:
      framework: with the build's dictionary.
      found: version of cuDNN, "" if none was found.
      wanted: whether a GPU needs it.
    """
    if framework.error:
        return []
    if not framework.build.get("is_cuda_build"):
        return [Finding(NOTE, "CUDA", "this TensorFlow is built without it", INSTALL_GPU if wanted else "")]
    built = ", ".join(f"{name} {framework.build.get(key, 'unknown')}"
                      for name, key in (("CUDA", "cuda_version"), ("cuDNN", "cudnn_version")))
    if wanted and not found:
        return [Finding(WARNING, "cuDNN", f"does not load; TensorFlow is built for {built}", INSTALL_GPU)]
    return [Finding(OK, "cuDNN", f"{found or 'none, not needed without a GPU'}; TensorFlow is built for {built}")]


def expected_findings(driver: Driver, framework: Framework, unopened: Sequence[str]) -> list[Finding]:
    """Warns where a GPU is expected and would not be used.

    Args:
      driver: without one, as when an image is built, the libraries alone are judged.
      framework: as it loads here.
      unopened: names of CUDA's libraries that cannot be opened.
    """
    if framework.gpus:
        return []
    if driver.loaded or driver.gpus:
        return [Finding(WARNING, "GPU expected", "TensorFlow uses none", INSTALL_GPU)]
    if unopened:
        return [Finding(WARNING, "GPU expected", f"cannot be opened: {', '.join(unopened)}", INSTALL_GPU)]
    if not framework.build.get("is_cuda_build"):
        return [Finding(WARNING, "GPU expected", "this TensorFlow is built without CUDA", INSTALL_GPU)]
    return [Finding(OK, "GPU expected", "CUDA and cuDNN can be opened; there is no driver here")]


def probe_libraries() -> list[str]:
    """The names of those of `CUDA_LIBRARIES` that cannot be opened."""
    return [name for name in CUDA_LIBRARIES if _opened(name) is None]


def gpu_memory_findings(gpus: Iterable[str]) -> list[Finding]:
    """A note where a GPU, in nvidia-smi's words, has less memory than the largest step of a preset takes."""
    sizes = [int(found[1]) / 1024 for found in (re.search(r", (\d+) MiB of which", line) for line in gpus) if found]
    what, needed = LARGEST_STEP
    advice = "take --precision mixed_float16 (compute capability 7.0) or mixed_bfloat16 (8.0), or a smaller --batch"
    return [Finding(NOTE, "GPU memory", f"{size:.1f} GiB; {what} takes {needed} GiB", advice)
            for size in sizes if size < needed]


def _opened(name: str) -> ctypes.CDLL | None:
    """A library as TensorFlow finds it: the system's, else that of the wheels, which is on no search path."""
    wheels = [path for folder in sys.path if folder for path in glob.glob(f"{folder}/nvidia/*/lib/{name}")]
    for path in (name, *wheels):
        with contextlib.suppress(OSError):
            return ctypes.CDLL(path)
    return None


def probe_cudnn(build: Mapping[str, object]) -> str:
    """The version of the cuDNN that TensorFlow would load; "" where none can be."""
    major = re.match(r"\d+", str(build.get("cudnn_version")))
    library = _opened(f"libcudnn.so.{major.group() if major else 9}")  # 9: for TensorFlow 2.18 and later
    if not hasattr(library, "cudnnGetVersion"):
        return ""
    version = library.cudnnGetVersion()
    return f"{version // 10000}.{version // 100 % 100}.{version % 100}"


# --- bfloat16, memory, disk


def bfloat16_findings(cpu_flags: frozenset[str], framework: Framework) -> list[Finding]:
    """Reports whether `mixed_bfloat16` is fast: as measured on the CPU, on GPUs from compute capability 8.0."""
    findings = []
    for name, capability in framework.gpus:
        if capability >= (8, 0):
            findings.append(Finding(OK, "bfloat16 (GPU)", f"in hardware on {name}"))
        elif any(capability):
            advice = "use mixed_float16" if capability >= (7, 0) else "use float32"
            findings.append(Finding(NOTE, "bfloat16 (GPU)", f"not in hardware on {name}", advice))
    flags, share = sorted(cpu_flags & BFLOAT16), framework.bfloat16_time
    found = f"in hardware ({', '.join(flags)})" if flags else "not in hardware"
    found += f"; a convolution takes {share:.2f} of its time in float32" * bool(share)
    if share < 1 if share else flags:
        return [*findings, Finding(OK, "bfloat16 (CPU)", found)]
    return [*findings, Finding(NOTE, "bfloat16 (CPU)", found, "mixed_bfloat16 is slower than float32 on this CPU")]


def probe_cpu_flags(path: str = "/proc/cpuinfo") -> frozenset[str]:
    """The CPU's flags; none if the system does not list them."""
    text = Path(path).read_text(encoding="utf-8", errors="replace") if os.path.exists(path) else ""
    match = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return frozenset(match.group(1).split() if match else ())


def memory_finding(memory_gb: Mapping[str, float]) -> Finding:
    """Judges memory from `total`, `available` and `limit` in GiB, any of which may be missing."""
    if not {"total", "available"} <= set(memory_gb):
        return Finding(NOTE, "memory", "unknown on this system")
    total, available = memory_gb["total"], memory_gb["available"]
    limit = memory_gb.get("limit", total)
    value = f"{total:.1f} GB, {available:.1f} free{f', this container may use {limit:.1f}' if limit < total else ''}"
    if min(available, limit) < LEAST_MEMORY_GB:
        advice = f"training takes {LEAST_MEMORY_GB:.0f} GB; a process that exceeds it is killed without a message"
        return Finding(WARNING, "memory", value, advice)
    return Finding(OK, "memory", value)


def disk_finding(folder: str, free_gb: float) -> Finding:
    """Judges the disk under the working directory, where most commands write."""
    value = f"{folder}, {free_gb:.1f} GB free"
    if free_gb < LEAST_DISK_GB:
        return Finding(WARNING, "disk", value, f"a cache, a run and an export take about {LEAST_DISK_GB:.0f} GB")
    return Finding(OK, "disk", value)


if __name__ == "__main__":  # the process that `probe_tensorflow` starts
    prepare_keras(note=False)
    print(json.dumps(asdict(load_framework()), default=str))
