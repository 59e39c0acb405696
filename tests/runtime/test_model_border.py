"""Whatever decoding, preparing or running one input raises is that input's error, short, and no other input's."""

import logging
import lzma
import struct
import zipfile
import zlib

import numpy as np
import pytest

import runtime
from runtime.errors import MAX_MESSAGE, ArtifactError, DeviceError
from runtime.inputs.decoder import to_input_error
from runtime.results import Failure


class UnspeakableError(Exception):
    """One whose own message cannot be written."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


class UnknownError(ArithmeticError):
    """One of a library that this project has never seen."""


ERRORS = [
    UnknownError("x"),
    UnspeakableError(),
    ValueError("v" * 1_000_000),
    zlib.error("Error -3"),
    lzma.LZMAError("corrupt"),
    struct.error("unpack requires"),
    zipfile.BadZipFile("bad"),
    NotImplementedError("compression type 9"),
    RuntimeError("encrypted"),
    OverflowError("too large"),
    RecursionError("too deep"),
    StopIteration("early"),
    AssertionError(),
    KeyError("x"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    ExceptionGroup("several", [ValueError("one")]),
    MemoryError(),
    SystemError("a C function"),
]


class FaultyStep:
    """A method of a real decoder that fails for one input: the one of which its argument holds a pixel of 255."""

    def __init__(self, method, error):
        self._method = method
        self._error = error

    def __call__(self, argument, **options):
        arrays = argument if isinstance(argument, list) else [getattr(argument, "image", argument)]
        if any((np.asarray(array) == 255).all() for array in arrays):
            raise self._error
        return self._method(argument, **options)


@pytest.fixture(scope="module")
def model(tiny):
    with runtime.load(tiny, workers=2, batch=3) as model:
        yield model


@pytest.fixture
def pixels():
    return [np.full((40, 40, 3), level, np.uint8) for level in (0, 255, 100, 7)]


@pytest.mark.parametrize("step", ["decode", "prepare", "stack"])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_any_exception_costs_its_input_alone(model, pixels, monkeypatch, step, error):
    expected = model.predict(pixels)
    monkeypatch.setattr(model._decoder, step, FaultyStep(getattr(model._decoder, step), error))

    first, failed, *others = model.predict(pixels)

    assert [first, *others] == [expected[0], *expected[2:]]
    assert isinstance(failed, Failure)
    assert failed.error.startswith("'#1': ")
    assert len(failed.error) <= MAX_MESSAGE


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_the_steps_that_a_server_calls_raise_no_other_error(model, pixels, monkeypatch, error):
    for step, argument in (("decode", pixels[1]), ("prepare", model.decode(pixels[1]))):
        with monkeypatch.context() as patch:
            patch.setattr(model._decoder, step, FaultyStep(getattr(model._decoder, step), error))
            with pytest.raises(runtime.InputError, match="'seven': "):
                getattr(model, step)(argument, subject="'seven'")


@pytest.mark.parametrize("error", [DeviceError("gone"), ArtifactError("changed")])
def test_what_no_other_input_would_survive_ends_the_job(model, pixels, monkeypatch, error):
    monkeypatch.setattr(model._decoder, "stack", FaultyStep(model._decoder.stack, error))

    with pytest.raises(type(error)):
        model.predict(pixels)


def test_the_traceback_goes_to_the_log_once(caplog):
    error = UnknownError("x")
    with caplog.at_level(logging.DEBUG, logger="runtime"):
        found = to_input_error(error, "'seven'")
        to_input_error(found, "'seven'")

    assert "UnknownError: x" in str(found)
    assert [record.exc_info[1] for record in caplog.records] == [error]
    assert caplog.records[0].levelno == logging.DEBUG


def test_a_long_message_keeps_its_beginning_and_its_fix():
    message = str(runtime.InputError("'a': " + "x" * 10_000 + ". Correct it."))

    assert len(message) == MAX_MESSAGE
    assert message.startswith("'a': x")
    assert message.endswith("x. Correct it.")


@pytest.mark.parametrize("compressed", [False, True])
def test_a_flipped_byte_in_an_archive_is_a_value_or_an_input_error(tmp_path, compressed):
    """What zipfile and numpy raise: zlib.error, NotImplementedError, RuntimeError, OverflowError and more."""
    from runtime.inputs.tensor.decoder import TensorDecoder
    from runtime.manifest import TensorInput

    decoder = TensorDecoder(TensorInput(name="x", dtype="float32", shape=("batch", 8)))
    save = np.savez_compressed if compressed else np.savez
    save(tmp_path / "a.npz", x=np.arange(8, dtype=np.float32))
    data = (tmp_path / "a.npz").read_bytes()
    failed = 0
    for position in range(len(data)):
        for flip in (0x01, 0x80, 0xFF):
            damaged = data[:position] + bytes([data[position] ^ flip]) + data[position + 1 :]
            try:
                decoder.decode(damaged, subject="'x'")
            except runtime.InputError:
                failed += 1
    assert failed > 100
