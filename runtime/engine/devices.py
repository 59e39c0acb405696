"""Devices: onnxruntime providers, their options, and what to install.

All decisions are made from a ``MachineInfo``, the facts about a machine, so that none of them needs the device.
"""

import platform
import re
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path

import msgspec

from runtime.errors import DeviceError

CPU_PROVIDER = "CPUExecutionProvider"


class MachineInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Facts that select a device: the system, a loaded NVIDIA driver, and the installed onnxruntime.

    ``plugins`` are the installed modules of ``Device.plugin``. ``packages`` is None until ``installed`` reads them,
    which takes longer than selecting a device.
    """

    system: str
    nvidia: bool
    providers: tuple[str, ...]
    plugins: tuple[str, ...] = ()
    packages: dict[str, str] | None = None

    def installed(self) -> dict[str, str]:
        """Return the packages that contain the module ``onnxruntime``, with their versions."""
        return installed_packages() if self.packages is None else self.packages


class DeviceOptions(msgspec.Struct, frozen=True, kw_only=True):
    """A caller's options for a device: TF32 arithmetic, and a limit of its memory in bytes."""

    tf32: bool = False
    memory_limit_bytes: int | None = None


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of device.

    ``provider`` is onnxruntime's provider; ``numbered`` devices are selected with ``:N``. ``environment`` returns the
    variables that its libraries read at their first use in a process. ``package`` installs the provider; ``libraries``
    are those that it loads, by the beginning of their names, with the command that installs each. ``systems`` are the
    only operating systems that have it. An error with one of ``failures`` in its message is the device's fault, not the
    input's.

    ``plugin`` is the module of a provider that onnxruntime does not contain: its ``get_library_path`` is what to
    register. The provider computes wrong results with ``wrong_operators``: graphs with one of them are refused.
    """

    provider: str
    package: str
    options: Callable[[int, DeviceOptions], dict[str, str]]
    environment: Callable[[DeviceOptions], dict[str, str]] = lambda _options: {}
    numbered: bool = False
    nvidia: bool = False
    systems: tuple[str, ...] = ()
    libraries: dict[str, str] = {}
    failures: tuple[str, ...] = ()
    plugin: str | None = None
    wrong_operators: tuple[str, ...] = ()


def _no_options(_number: int, _options: DeviceOptions) -> dict[str, str]:
    return {}


def _cuda_options(number: int, options: DeviceOptions) -> dict[str, str]:
    # TF32 keeps 10 bits of the mantissa, and PyTorch's matmul does not use it; EXHAUSTIVE search costs 0.6 s per new
    # shape. Memory that grows by what is requested, and not by doubling, stays under a limit for longer.
    provider_options = {
        "device_id": str(number),
        "use_tf32": "1" if options.tf32 else "0",
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
    }
    if options.memory_limit_bytes is not None:
        provider_options["gpu_mem_limit"] = str(options.memory_limit_bytes)
    return provider_options


def _tensorrt_options(number: int, options: DeviceOptions) -> dict[str, str]:
    # TensorRT's half precision stays off.
    provider_options = {"device_id": str(number), "trt_fp16_enable": "0"}
    if options.memory_limit_bytes is not None:
        provider_options["trt_max_workspace_size"] = str(options.memory_limit_bytes)
    return provider_options


def _tensorrt_environment(options: DeviceOptions) -> dict[str, str]:
    # TensorRT has no option for TF32. All CUDA libraries read this variable, which overrules the option of a CUDA
    # session: hence not for CUDA, whose option is enough (measured on an H200: 2e-7 and 3e-4 of a sum's size).
    return {} if options.tf32 else {"NVIDIA_TF32_OVERRIDE": "0"}


def _openvino_options(_number: int, _options: DeviceOptions) -> dict[str, str]:
    # OpenVINO computes in half precision where the processor is faster that way. The plugin ignores options that it
    # does not know; a property in load_config that the CPU does not have is an error.
    return {"load_config": '{"CPU": {"INFERENCE_PRECISION_HINT": "f32"}}'}


_NVIDIA_FAILURES = ("CUDA failure", "CUDNN failure", "CUBLAS failure", "CUFFT failure", "cudaError", "TensorRT")
_DRIVER = "install the NVIDIA driver until 'nvidia-smi' works (in a container: start it with --gpus all)"
_CUDA_LIBRARIES = {
    "libcuda.so": _DRIVER,
    "libnvidia": _DRIVER,
    "libcu": "pip install 'onnxruntime-gpu[cuda,cudnn]'",
    "libnv": "pip install 'onnxruntime-gpu[cuda,cudnn]'",
}

DEVICES: dict[str, Device] = {
    "cpu": Device(provider=CPU_PROVIDER, package="truecopy[cpu]", options=_no_options),
    "cuda": Device(
        provider="CUDAExecutionProvider",
        package="truecopy[cuda]",
        options=_cuda_options,
        numbered=True,
        nvidia=True,
        libraries=_CUDA_LIBRARIES,
        failures=_NVIDIA_FAILURES,
    ),
    "tensorrt": Device(
        provider="TensorrtExecutionProvider",
        package="truecopy[cuda]",
        options=_tensorrt_options,
        environment=_tensorrt_environment,
        numbered=True,
        nvidia=True,
        libraries={"libnvinfer": "pip install 'tensorrt=={version}.*'", **_CUDA_LIBRARIES},
        failures=_NVIDIA_FAILURES,
    ),
    "openvino": Device(
        provider="OpenVINOExecutionProvider",
        package="onnxruntime-ep-openvino",
        options=_openvino_options,
        systems=("Linux", "Windows"),
        libraries={"libopenvino": "pip install --force-reinstall onnxruntime-ep-openvino"},
        failures=("OpenVINO-EP", "openvino", "Exception from src/"),
        plugin="onnxruntime_ep_openvino",
        # Measured with 1.8.1: 'model.onnx', whose geometry is such a graph, differs by up to 0.6 on the first run.
        wrong_operators=("If", "Loop", "Scan"),
    ),
    "coreml": Device(
        provider="CoreMLExecutionProvider", package="truecopy[cpu]", options=_no_options, systems=("Darwin",)
    ),
}

# Devices that 'auto' tries before the CPU. TensorRT builds engines for minutes, OpenVINO and Core ML change the
# arithmetic: these have to be named.
AUTO = ("cuda",)


def read_machine(providers: tuple[str, ...]) -> MachineInfo:
    """Return the facts about this machine; ``providers`` are those that onnxruntime lists as available."""
    return MachineInfo(
        system=platform.system(),
        nvidia=Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists(),
        providers=providers,
        plugins=tuple(entry.plugin for entry in DEVICES.values() if entry.plugin and find_spec(entry.plugin)),
    )


def installed_packages() -> dict[str, str]:
    """Return the installed packages that contain the module ``onnxruntime``, with their versions; should be one."""
    from importlib.metadata import distributions

    packages: dict[str, str] = {}
    for distribution in distributions():
        if "onnxruntime" in (distribution.read_text("top_level.txt") or "").split():
            packages.setdefault(distribution.name, distribution.version)
    return dict(sorted(packages.items()))


def split_device(device: str) -> tuple[str, int]:
    """Return the kind and the number of a device such as ``cuda:1``. Raises DeviceError for an unknown name."""
    kind, colon, number = device.partition(":")
    known = DEVICES.get(kind)
    if known is None or (colon and (not known.numbered or not (number.isascii() and number.isdigit()))):
        names = ", ".join(f"'{name}'" for name in ("auto", *DEVICES))
        numbered = " or ".join(f"'{name}:N'" for name, entry in DEVICES.items() if entry.numbered)
        raise DeviceError(f"device '{device}': unknown: expected {names}, {numbered}. Use one of these.")
    return kind, int(number or 0)


def candidates(device: str, machine: MachineInfo) -> tuple[str, ...]:
    """Return the devices to try, best first: the named one, or those of 'auto' on this machine, the CPU last.

    Raises DeviceError when the installed packages cannot use the named one.
    """
    if device == "auto":
        return (*(name for name in AUTO if missing_provider(name, machine) is None and machine.nvidia), "cpu")
    split_device(device)
    reason = missing_provider(device, machine)
    if reason is not None:
        raise DeviceError(f"device '{device}': {reason}")
    return (device,)


def missing_provider(device: str, machine: MachineInfo) -> str | None:
    """Return why this onnxruntime cannot use the device, and the fix; None where a session may be tried."""
    entry = DEVICES[split_device(device)[0]]
    if entry.systems and machine.system not in entry.systems:
        expected = " or ".join(entry.systems)
        return f"needs another system: expected {expected}, got {machine.system}. Pass --device cpu."
    if entry.plugin is not None:
        if entry.plugin in machine.plugins:
            return None
        return f"its plugin for onnxruntime is not installed. Run: pip install '{entry.package}'"
    if entry.provider not in machine.providers:
        packages = machine.installed()
        installed = ", ".join(f"{name} {version}" for name, version in packages.items()) or "no package"
        removal = f"pip uninstall -y {' '.join(packages)} && " if packages else ""
        return f"this onnxruntime ({installed}) has no {entry.provider}. Run: {removal}pip install '{entry.package}'"
    return None


def missing_piece(device: str, machine: MachineInfo, complaint: str) -> str:
    """Return why a provider did not start, and the fix; ``complaint`` is the loader's message, or empty.

    A library of ``Device.libraries`` has the exact command that installs it.
    """
    entry = DEVICES[split_device(device)[0]]
    match = re.search(r"(lib[\w.+-]+?)\.(?:so|dylib)(?:\.(\d+))?", complaint)
    if match is not None:
        library, major = match.group(0), match.group(2) or ""
        for prefix, command in entry.libraries.items():
            if library.startswith(prefix):
                return f"the library '{library}' is missing. Remedy: {command.format(version=major)}"
        return f"the library '{library}' does not load: {complaint}. Reinstall it, or pass --device cpu."
    if entry.nvidia and not machine.nvidia:
        return (
            "no NVIDIA driver is loaded: expected a device file such as '/dev/nvidiactl', got none. "
            f"{_DRIVER[0].upper()}{_DRIVER[1:]}, or pass --device cpu."
        )
    check = "Check that 'nvidia-smi' works, or pass" if entry.nvidia else "Pass"
    return f"its libraries load, but no usable device responds. {check} --device cpu."


def unsupported_processor(device: str, processors: Iterable[str]) -> str:
    """Return that the plugin offers no device for the processors, by their vendors, and the fix."""
    vendors = " and ".join(sorted({vendor for vendor in processors if vendor})) or "of an unknown vendor"
    package = DEVICES[split_device(device)[0]].package
    return (
        f"the plugin '{package}' does not support this processor ({vendors}). "
        f"Run: pip install --upgrade '{package}', or pass --device cpu."
    )


def missing_number(device: str, message: str) -> str | None:
    """Return that there is no device of this number, where onnxruntime's error says so, and the fix; else None."""
    match = re.search(r"Invalid device ID: \d+, must be between 0 \(inclusive\) and (\d+)", message)
    if match is None:
        return None
    count = int(match[1])
    devices = "one device" if count == 1 else f"{count} devices"
    kind, number = split_device(device)
    return (
        f"there is no such device: expected a number below {count}, as this process sees {devices}, got {number}. Use "
        f"another, such as '{kind}:0'; 'nvidia-smi -L' lists them, and CUDA_VISIBLE_DEVICES hides them."
    )


def is_device_failure(device: str, message: str) -> bool:
    """Return whether onnxruntime's error, by its message, is the device's fault and not the input's."""
    return any(mark in message for mark in DEVICES[split_device(device)[0]].failures)


def conflict(machine: MachineInfo) -> str | None:
    """Return the conflict of several packages that contain onnxruntime, and the fix; None where there is none."""
    packages = machine.installed()
    if len(packages) < 2:
        return None
    names = ", ".join(f"{name} {version}" for name, version in packages.items())
    package = "truecopy[cuda]" if "onnxruntime-gpu" in packages else "truecopy[cpu]"
    return (
        f"several packages have installed onnxruntime over each other: {names}. "
        f"Run: pip uninstall -y {' '.join(packages)} && pip install '{package}'"
    )
