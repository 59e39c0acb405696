"""The package that users import: its names are those of the runtime and the exporter, and no others."""

import subprocess
import sys
from importlib.metadata import version

import pytest

import runtime
import truecopy

exporter = pytest.importorskip("exporter", reason="needs the exporter")


def test_every_public_name_is_the_owners_own_object():
    pytest.importorskip("torch")
    for name in set(truecopy.__all__):
        owner = runtime if name in runtime.__all__ else exporter
        assert getattr(truecopy, name) is getattr(owner, name), name


def test_all_names_of_runtime_and_exporter_are_there_once():
    assert sorted({*runtime.__all__, *exporter.__all__}) == sorted(truecopy.__all__)
    assert dir(truecopy) == sorted(truecopy.__all__)
    assert dir(runtime) == sorted(runtime.__all__)


def test_a_name_that_is_none_is_an_attribute_error():
    for module in (truecopy, runtime):
        with pytest.raises(AttributeError, match=f"module '{module.__name__}' has no attribute 'exprt'"):
            _ = module.exprt


def test_the_version_is_that_of_the_package():
    assert truecopy.__version__ == runtime.__version__ == version("truecopy")


@pytest.mark.parametrize("program", ["truecopy", "exporter"])
def test_modules_of_the_current_folder_are_not_imported(program, tmp_path):
    """They may be a stranger's, beside a checkpoint or an artifact that was downloaded."""
    others = ["runtime", "typing", "numpy", "msgspec", "typer", "rich", "torch", "truecopy_kernels", "sitecustomize"]
    if program == "truecopy":
        others.append("exporter")
    for name in others:
        (tmp_path / f"{name}.py").write_text("raise SystemExit(f'{__name__} is code of a stranger')")
    command = [sys.executable, "-m", program, *(["inspect"] if program == "truecopy" else []), "missing.pth"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)

    assert "missing.pth" in done.stderr
    assert "stranger" not in done.stderr + done.stdout


@pytest.mark.parametrize("name", ["truecopy", "runtime", "exporter"])
def test_a_python_that_is_too_old_is_refused_in_one_sentence(name):
    code = f"import sys; sys.version_info = (3, 10, 13); import {name}"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)

    assert done.stderr.splitlines()[-1] == (
        "ImportError: Python 3.10: too old for truecopy: expected 3.11 or newer. Make an environment with it: "
        "python3.11 -m venv .venv"
    )
