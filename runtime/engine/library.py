"""The installed onnxruntime, or what to install."""

import os
import struct
import sys
from platform import machine

from runtime.errors import DeviceError


def missing_library(*, bits: int, system: str, processor: str, abi: str) -> str:
    """Return what to do without onnxruntime, which has no wheels for some platforms.

    ``abi`` names the C library that this Python is linked with, such as ``cpython-312-x86_64-linux-musl``.
    """
    reason = ""
    if bits < 64:
        reason = "32-bit Python. Use a 64-bit Python"
    elif "musl" in abi:
        reason = "musl, as on Alpine. Use a system or an image with glibc, such as python:3.12-slim"
    elif system == "darwin" and processor == "x86_64":
        reason = "macOS on Intel. Use Linux in a container, or another machine"
    if reason:
        return f"'onnxruntime': not installed, and there is no wheel of it for {reason}."
    return "'onnxruntime': not installed. Run: pip install 'truecopy[cpu]', or 'truecopy[cuda]' for NVIDIA GPUs."


try:
    import onnxruntime
except ModuleNotFoundError as error:
    if error.name != "onnxruntime":
        raise
    import sysconfig

    raise DeviceError(
        missing_library(
            bits=8 * struct.calcsize("P"),
            system=sys.platform,
            processor=machine(),
            abi=sysconfig.get_config_var("SOABI") or "",
        )
    ) from None

__all__ = ["missing_library", "onnxruntime"]

if os.environ.get("ORT_DISABLE_TELEMETRY") == "1":
    onnxruntime.disable_telemetry_events()  # the user may have imported it before this package set the variable
