"""What is said where onnxruntime is missing."""

import pytest

from runtime.engine.library import missing_library

USUAL = {"bits": 64, "system": "linux", "processor": "x86_64", "abi": "cpython-312-x86_64-linux-gnu"}


@pytest.mark.parametrize(
    ("platform", "nearest"),
    [
        ({"abi": "cpython-312-x86_64-linux-musl"}, "an image with glibc, such as python:3.12-slim."),
        ({"bits": 32, "abi": "cpython-312-i386-linux-musl"}, "a 64-bit Python."),
        ({"bits": 32, "system": "win32", "processor": "AMD64", "abi": ""}, "a 64-bit Python."),
        ({"system": "darwin", "abi": "cpython-312-darwin"}, "Linux in a container, or another machine."),
    ],
)
def test_a_platform_without_wheels_is_told_the_nearest_that_works(platform, nearest):
    sentence = missing_library(**USUAL | platform)

    assert "no wheel of it for" in sentence
    assert sentence.endswith(nearest)
    assert "pip install" not in sentence, "which would find none"


@pytest.mark.parametrize(
    "platform",
    [
        {},
        {"system": "darwin", "processor": "arm64", "abi": "cpython-312-darwin"},
        {"system": "win32", "processor": "ARM64", "abi": ""},
    ],
)
def test_elsewhere_it_is_the_command_that_installs_it(platform):
    assert "Run: pip install 'truecopy[cpu]'" in missing_library(**USUAL | platform)
