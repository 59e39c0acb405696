"""Diagnosis of a machine: versions, devices, cores, memory and an artifact."""

import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from runtime.artifact.open import open_artifact
from runtime.engine.concurrency import build_plan
from runtime.engine.cpu import memory_bytes, usable_cores
from runtime.engine.devices import DEVICES, conflict, missing_provider, split_device
from runtime.engine.session import onnxruntime_version, open_session, this_machine
from runtime.errors import ModelError, listed
from runtime.geometry.native import find_kernel
from runtime.inputs.image.jpeg import find_jpeg_decoder

Verdict: TypeAlias = Literal["good", "note", "bad"]

_PACKAGES = ("truecopy", "numpy", "pillow", "msgspec")

# Memory of the process itself, beyond the weights, which are needed twice: mapped, and packed for the processor.
_BASE_BYTES = 150 * 2**20


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a diagnosis: what was examined, whether it is a problem, and the facts."""

    subject: str
    verdict: Verdict
    detail: str


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """All findings about a machine."""

    findings: tuple[Finding, ...]

    @property
    def healthy(self) -> bool:
        """Whether no finding is bad."""
        return all(finding.verdict != "bad" for finding in self.findings)


def diagnose(artifact: str | Path | None = None, *, device: str = "auto") -> Diagnosis:
    """Examine this machine; with an artifact, also whether its files are intact and it runs on ``device``.

    Raises DeviceError for an unknown device.
    """
    if device != "auto":
        split_device(device)
    findings = [*_versions(), *_images(), *_cores(), *_devices(device)]
    if artifact is not None:
        findings += _artifact(artifact, device)
    return Diagnosis(findings=tuple(findings))


def _versions() -> Iterator[Finding]:
    yield Finding(subject="python", verdict="good", detail=f"{platform.python_version()}, {platform.platform()}")
    for name in _PACKAGES:
        try:
            yield Finding(subject=name, verdict="good", detail=version(name))
        except PackageNotFoundError:
            # A source tree that is not installed has no version.
            verdict: Verdict = "note" if name == "truecopy" else "bad"
            yield Finding(subject=name, verdict=verdict, detail=f"not installed: pip install '{name}'")
    machine = this_machine()
    installed = ", ".join(f"{name} {number}" for name, number in machine.installed().items()) or "from no known package"
    clash = conflict(machine)
    yield Finding(
        subject="onnxruntime",
        verdict="bad" if clash else "good",
        detail=clash or f"{onnxruntime_version()} ({installed})",
    )


def _images() -> Iterator[Finding]:
    """Yield what decodes JPEGs, and resizes and crops photos: all give the same pixels, some of them faster."""
    kernel, decoder = find_kernel(), find_jpeg_decoder()
    detail = f"native kernel {kernel.version} ({kernel.path})"
    if kernel.module is None:
        detail = f"Pillow, which is slower. truecopy-kernels: {kernel.reason}"
    yield Finding(subject="resize and crop", verdict="note" if kernel.module is None else "good", detail=detail)
    is_fast = kernel.module is not None and decoder.decode is not None
    reason = decoder.reason and f" ({decoder.reason})"
    detail = f"{decoder.name}{reason}; Pillow for unusual kinds"
    if not is_fast:
        detail = f"Pillow, which is slower. {decoder.reason or 'Others are not used without the native kernel'}"
    yield Finding(subject="JPEG decoder", verdict="good" if is_fast else "note", detail=detail)


def _cores() -> Iterator[Finding]:
    cores = usable_cores()
    plans = {name: build_plan(name, device="cpu", cores=cores) for name in ("latency", "throughput")}
    described = "; ".join(
        f"{name}: {plan.workers} workers, {plan.threads} threads per call" for name, plan in plans.items()
    )
    yield Finding(subject="cores", verdict="good", detail=f"{cores} by affinity and CPU quota. {described}")
    memory = memory_bytes()
    available = "unknown" if memory is None else f"{memory / 2**30:.1f} GB available to this process"
    yield Finding(subject="memory", verdict="good", detail=available)


def _devices(device: str) -> Iterator[Finding]:
    """Yield one finding per device from a session opened on it: what onnxruntime lists as available may not start."""
    machine = this_machine()
    needed = {"cpu", device.partition(":")[0]}
    for name, entry in DEVICES.items():
        reason = missing_provider(name, machine)
        if reason is None:
            try:
                open_session(probe_model(), device=name).warm_up([2])
            except ModelError as error:
                reason = str(error).removeprefix(f"device '{name}': ")
        verdict: Verdict = "good" if reason is None else "bad" if name in needed else "note"
        yield Finding(subject=f"device {name}", verdict=verdict, detail=reason or f"usable: {entry.provider}")


def _artifact(artifact: str | Path, device: str) -> list[Finding]:
    from runtime.verify import verify

    subject = str(artifact)
    try:
        opened = open_artifact(artifact)
        variant = opened.manifest.variants[0]
        weights = opened.manifest.files[variant.weights_of_network].size_bytes
        needed, memory = _BASE_BYTES + 2 * weights, memory_bytes()
        verification = verify(artifact, device=device)
    except ModelError as error:
        return [Finding(subject=subject, verdict="bad", detail=str(error))]
    failed = [check.title for check in verification.checks if not check.passed]
    findings = [
        Finding(
            subject=subject,
            verdict="bad" if failed else "good",
            detail=f"{verification.files} files intact; outputs for the golden inputs on {verification.device}: "
            + (f"wrong in {listed(failed)}" if failed else "equal to the eager model's"),
        )
    ]
    if memory is not None and memory < needed:
        findings.append(
            Finding(
                subject=subject,
                verdict="bad",
                detail=f"needs about {needed / 2**30:.2f} GB of memory, {memory / 2**30:.2f} GB are available",
            )
        )
    return findings


def probe_model() -> bytes:
    """Return a minimal ONNX model whose node is more than shape arithmetic: ``y = x @ x``, float32 [2, 2].

    It is encoded by hand, as the runtime has no onnx package; field numbers are those of onnx.proto3.
    """

    def field(number: int, value: int | bytes) -> bytes:
        if isinstance(value, int):
            return bytes([number << 3, value])
        return bytes([number << 3 | 2, len(value)]) + value

    dimensions = b"".join(field(1, field(1, 2)) for _ in range(2))
    kind = field(1, field(1, 1) + field(2, dimensions))  # TypeProto.tensor_type: elem_type FLOAT, shape
    node = field(1, b"x") + field(1, b"x") + field(2, b"y") + field(4, b"MatMul")
    values = [field(number, field(1, name) + field(2, kind)) for number, name in ((11, b"x"), (12, b"y"))]
    graph = field(1, node) + field(2, b"probe") + b"".join(values)
    return field(1, 8) + field(7, graph) + field(8, field(1, b"") + field(2, 13))
