"""The package that users import: its names are those of the runtime and the exporter, and no others."""

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
