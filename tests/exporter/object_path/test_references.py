"""Objects in a user's script are found, and what its import runs into is said as what it is."""

import json
import sys
from pathlib import Path

import pytest

from exporter.errors import ArchitectureError
from exporter.object_path import load_object, noting_skipped


@pytest.fixture
def script(tmp_path):
    """Write a script and return the reference to a name in it."""

    def write(text: str, name: str) -> str:
        path = tmp_path / "train.py"
        path.write_text(text)
        return f"{path}:{name}"

    yield write
    sys.modules.pop("train", None)


@pytest.mark.parametrize("name", ['transforms["val"]', "transforms['val']", "transforms.val"])
def test_an_entry_of_a_dictionary_is_named_as_in_the_script_or_with_a_dot(script, name):
    reference = script("transforms = {'train': 1, 'val': 2}", name)

    assert load_object(reference, error=ArchitectureError) == 2


def test_a_script_that_parses_its_arguments_sees_none(script):
    reference = script("import argparse\nargs = argparse.ArgumentParser().parse_args()\nvalue = 3", "value")

    assert load_object(reference, error=ArchitectureError) == 3


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "import argparse\np = argparse.ArgumentParser()\np.add_argument('x')\np.parse_args()",
            "exit 2",
        ),
        ("open('no-such-data.csv')", "needs 'no-such-data.csv', which is not here"),
    ],
)
def test_what_a_script_does_when_it_is_imported_is_said(script, text, reason):
    with pytest.raises(ArchitectureError, match=rf"train\.py' .*{reason}.*__name__ == '__main__'"):
        load_object(script(text, "value"), error=ArchitectureError)


def test_a_statement_of_a_script_that_fails_loses_no_definition_and_nothing_is_done_after_it(script, tmp_path, capsys):
    reference = script(
        "import argparse\np = argparse.ArgumentParser()\np.add_argument('x')\nargs = p.parse_args()\n"
        "try:\n    import no_such_module\nexcept ImportError:\n    no_such_module = None\n"
        "def build():\n    return no_such_module, WIDTH\nWIDTH = 8\n"
        f"open({str(tmp_path / 'written')!r}, 'w')\n",
        "build",
    )

    with noting_skipped() as skipped:
        assert load_object(reference, error=ArchitectureError)() == (None, 8)  # type: ignore[operator]
        load_object(reference, error=ArchitectureError)

    assert [sentence.partition(": line 4 failed")[0] for sentence in skipped] == [
        "what 'train.py' does behind imports, definitions and assignments"
    ]
    assert not (tmp_path / "written").exists()
    assert "line 4 failed: SystemExit: 2 ('args = p.parse_args()'); from there on" in capsys.readouterr().err


def test_what_a_script_defines_for_its_own_run_is_called_that(script):
    reference = script("if __name__ == '__main__':\n    class Net: pass\n", "Net")

    with pytest.raises(ArchitectureError, match=r"'Net' is defined under if __name__ == '__main__'.*: move it above"):
        load_object(reference, error=ArchitectureError)


def test_a_module_that_a_script_misses_is_named_where_its_definition_needs_it(script):
    reference = script("from no_such_nets import Base\nclass Net(Base): pass", "Net")

    with pytest.raises(ArchitectureError, match=r"no 'Net'.*needs a module 'no_such_nets', which is not here: install"):
        load_object(reference, error=ArchitectureError)


def test_a_call_with_plain_values_is_what_it_returns(script):
    text = "class Data:\n    def __init__(self, size=1): self.size = [size]\ndef get(train, name): return train, name"

    assert load_object(script(text, "get(False, name='a:b')"), error=ArchitectureError) == (False, "a:b")
    assert load_object(script(text, "Data(size=4).size[0]"), error=ArchitectureError) == 4


@pytest.mark.parametrize(
    ("name", "reason"), [("get()", "TypeError"), ("get(other)", "LookupError"), ("get(", "no 'get")]
)
def test_a_call_that_fails_is_refused_with_its_cause(script, name, reason):
    with pytest.raises(ArchitectureError, match=reason):
        load_object(script("def get(train): return train", name), error=ArchitectureError)


def test_a_script_may_change_the_folder_and_the_command_stays_in_its_own(script, tmp_path, monkeypatch):
    (tmp_path / "start").mkdir()
    monkeypatch.chdir(tmp_path / "start")

    load_object(script("import os\nos.chdir('..')\nvalue = 1", "value"), error=ArchitectureError)

    assert Path.cwd() == tmp_path / "start"


def test_relative_imports_find_the_packages_of_a_script(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    package = tmp_path / "own_package" / "models"
    package.mkdir(parents=True)
    (package.parent / "layers.py").write_text("WIDTH = 7")
    (package / "net.py").write_text("from ..layers import WIDTH\nclass Net: width = WIDTH")
    (package / "factory.py").write_text("from .net import Net\ndef build(): return Net()")

    build = load_object(f"{package / 'factory.py'}:build", error=ArchitectureError)

    assert build().width == 7  # type: ignore[operator]
    assert build.__module__ == "own_package.models.factory"


def test_a_missing_script_is_called_that(tmp_path):
    with pytest.raises(ArchitectureError, match=r"no such file: '.*none\.py'"):
        load_object(f"{tmp_path / 'none.py'}:x", error=ArchitectureError)


@pytest.mark.parametrize("name", ["", "nothing"])
def test_the_names_of_a_script_are_listed_where_none_or_a_wrong_one_is_given(script, name):
    reference = script(
        "from collections import Counter\nfrom functools import partial\n"
        "def build(): pass\ntransform = partial(int)\ntransforms = {'val': int, 'size': 3}\nsize = 4",
        name,
    ).removesuffix(":")

    with pytest.raises(ArchitectureError, match=r"""'build', 'transform', 'transforms\["val"\]'\. Write""") as caught:
        load_object(reference, error=ArchitectureError)

    assert "Counter" not in str(caught.value)
    assert "'size'" not in str(caught.value)


def test_a_sibling_that_is_imported_late_is_found(script, tmp_path):
    (tmp_path / "late_sibling.py").write_text("value = 5")
    reference = script("def build():\n    import late_sibling\n    return late_sibling.value", "build")

    assert load_object(reference, error=ArchitectureError)() == 5


def test_a_sibling_named_as_a_package_of_ours_is_the_one_that_a_script_imports(script, tmp_path):
    (tmp_path / "runtime.py").write_text("value = 6")

    assert load_object(script("from runtime import value", "value"), error=ArchitectureError) == 6

    import runtime

    assert runtime.load


def test_a_module_of_the_current_folder_is_found_behind_installed_ones(tmp_path, monkeypatch):
    """A command does not look there by itself."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_network.py").write_text("value = 4")
    (tmp_path / "json.py").write_text("JSONDecoder = 5")

    assert load_object("own_network:value", error=ArchitectureError) == 4
    assert load_object("json:JSONDecoder", error=ArchitectureError) is json.JSONDecoder
