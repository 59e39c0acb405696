"""Build hook of the native library.

It is a shared library with a C interface, not an extension module: one wheel per platform serves every Python.
"""

import sys
from pathlib import Path
from typing import Any

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

_SUFFIX = ".dll" if sys.platform == "win32" else ".so"


class BuildLibrary(build_ext):
    """Compiles the library under a name without a Python version."""

    def get_ext_filename(self, fullname: str) -> str:
        """Return where the library lies in the package."""
        return str(Path(*fullname.split("."))) + _SUFFIX

    def get_export_symbols(self, ext: Extension) -> list[str]:  # noqa: ARG002
        """Return none: the header exports what is public, and there is no PyInit function."""
        return []

    def get_libraries(self, ext: Extension) -> list[str]:
        """Return the library's own, without Python's."""
        return list(ext.libraries)

    def build_extension(self, ext: Extension) -> None:
        """Compile with the options of this compiler."""
        if self.compiler.compiler_type == "msvc":
            ext.extra_compile_args = ["/O2", "/std:c11", "/fp:precise"]
        else:
            # Pillow's weights are products and sums that are rounded one by one.
            ext.extra_compile_args = ["-std=c11", "-O3", "-g0", "-ffp-contract=off", "-fvisibility=hidden", "-pthread"]
            ext.extra_link_args = ["-pthread"]
            ext.libraries = ["m"]
        super().build_extension(ext)


class PlatformWheel(bdist_wheel):
    """A wheel for one platform and every Python 3."""

    def get_tag(self) -> tuple[str, str, str]:
        """Return the tag without the Python that builds it."""
        return ("py3", "none", super().get_tag()[2])


library: Any = Extension(
    "truecopy_kernels._kernels",
    sources=[str(path) for path in sorted(Path("c").glob("*.c"))],
    depends=[str(path) for path in sorted(Path("c").glob("*.h"))],
    include_dirs=["c"],
)
setup(ext_modules=[library], cmdclass={"build_ext": BuildLibrary, "bdist_wheel": PlatformWheel})
