"""Wheel of the running truecopy.

An image must contain the version that wrote its build context, not the newest one on an index. It may be installed from
a checkout, edited, or on a machine without network and build tools, where neither 'pip wheel' nor 'pip download' works:
so the wheel is made from the installed files.
"""

import base64
import hashlib
import io
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

from runtime.errors import DeviceError

_PACKAGES = ("truecopy", "exporter", "runtime")
_WHEEL = "Wheel-Version: 1.0\nGenerator: truecopy\nRoot-Is-Purelib: true\nTag: py3-none-any\n"

# The oldest date of a zip archive: equal files give equal bytes.
_DATE = (1980, 1, 1, 0, 0, 0)


def build_wheel() -> tuple[str, bytes]:
    """Return the file name and the bytes of a wheel of this truecopy; equal sources give equal bytes.

    Raises DeviceError where it runs from sources that are not installed, as these have no version.
    """
    try:
        installed = distribution("truecopy")
    except PackageNotFoundError:
        raise DeviceError(
            "truecopy: not installed, so there is no version to put into the image. Run: pip install --editable ."
        ) from None
    stem = f"truecopy-{installed.version}"
    files = {name: path.read_bytes() for package in _PACKAGES for name, path in _files_of(package)}
    for name in ("METADATA", "entry_points.txt"):
        files[f"{stem}.dist-info/{name}"] = (installed.read_text(name) or "").encode()
    files[f"{stem}.dist-info/WHEEL"] = _WHEEL.encode()
    record = f"{stem}.dist-info/RECORD"
    lines = [f"{name},sha256={_digest(data)},{len(data)}\n" for name, data in files.items()]
    files[record] = "".join([*lines, f"{record},,\n"]).encode()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, _DATE)
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, data, zipfile.ZIP_DEFLATED)
    return f"{stem}-py3-none-any.whl", stream.getvalue()


def _files_of(package: str) -> list[tuple[str, Path]]:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return []
    folder = Path(spec.origin).parent
    return sorted(
        (str(path.relative_to(folder.parent)), path)
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    )


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
