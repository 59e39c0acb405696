"""Which versions the matrix runs."""

import sys

from maintenance.matrix import find_python, oldest


def test_the_oldest_versions_are_the_lower_bounds_whatever_else_bounds_them():
    requirements = ["numpy>=1.26", "typer>=0.19,<0.29", "uvloop>=0.21; sys_platform != 'win32'"]

    assert oldest(requirements) == ["numpy==1.26", "typer==0.19", "uvloop==0.21"]


def test_an_interpreter_of_another_version_is_none(tmp_path, monkeypatch):
    """A version manager's stand-in runs whatever is selected."""
    stand_in = tmp_path / "python3.99"
    stand_in.symlink_to(sys.executable)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert find_python("3.99") is None
    assert find_python("3.98") is None
