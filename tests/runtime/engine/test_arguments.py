"""Arguments of another type are a sentence, and never the artifact's fault."""

import io

import numpy as np
import pytest

import runtime


@pytest.fixture(scope="module")
def model(tiny):
    with runtime.load(tiny) as model:
        yield model


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"device": None}, "device: expected text, got NoneType"),
        ({"device": 0}, "device: expected text, got int"),
        ({"precision": None}, "precision: expected text, got NoneType"),
        ({"plan": 1}, "plan: expected text, got int"),
        ({"workers": "2"}, "workers: expected a number, got str"),
        ({"max_pixels": None}, "max_pixels: expected a number, got NoneType"),
        ({"max_pixels": -1}, "max_pixels: expected at least 1, got -1"),
        ({"max_pixels": float("nan")}, "max_pixels: expected at least 1, got nan"),
        ({"batch": 0}, "batch: expected at least 1, got 0"),
        ({"threads": 100_000}, "threads: expected at most 1024, got 100000"),
    ],
)
def test_a_setting_of_another_type_is_named(tiny, options, problem):
    with pytest.raises(runtime.InputError, match=problem):
        runtime.load(tiny, **options)


@pytest.mark.parametrize("path", [None, 5, b"tests/data/tiny"])
def test_a_path_of_another_type_is_named(path):
    with pytest.raises(runtime.InputError, match="path: expected a str or a Path"):
        runtime.load(path)


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda model: model.predict("x", top_k="3"), "top_k: expected a number, got str"),
        (lambda model: model.predict("x", threshold="0.5"), "threshold: expected a number, got str"),
        (lambda model: model.run(np.zeros(3)), "inputs: expected arrays by name, got ndarray"),
        (lambda model: model.run({"image": [[1]]}), "input 'image': expected an array, got list"),
        (lambda model: list(model.predict_each(["ab"])), "expected pairs of a name and an input, got str"),
        (lambda model: model.predict("https://a.example/x.jpg"), "URLs are not fetched: read it, and pass its bytes"),
        (lambda model: model.predict("photos/*.jpg"), "Patterns are not expanded here: pass a list of paths"),
        (lambda model: model.predict("tests"), "is a folder: expected a file"),
        (lambda model: model.predict("A" * 5000), "Pass a path, or bytes"),
        (lambda model: model.predict(iter([])), "pass several inputs as a list"),
    ],
)
def test_an_argument_of_another_type_is_named(model, call, problem):
    with pytest.raises(runtime.InputError, match=problem):
        call(model)


def test_numbers_of_numpy_are_numbers(model, photos):
    assert len(model.predict(photos["cat"], top_k=np.int64(2), threshold=np.float32(0.1)).top) == 2


def test_an_open_file_is_its_bytes(model, photos, tmp_path):
    data = photos["cat"].read_bytes()
    stream = io.BytesIO(data)

    assert model.predict(stream).label == "cat"
    with pytest.raises(runtime.InputError, match=r"already read: .* Call its seek\(0\) first"):
        model.predict(stream)
    with photos["cat"].open("rb") as file:
        assert model.predict([file])[0].label == "cat"
    with photos["cat"].open() as file, pytest.raises(runtime.InputError, match="Open the file with 'rb'"):
        model.predict(file)


def test_an_upload_that_is_read_with_await_says_to_pass_its_bytes(model):
    class Upload:
        async def read(self, _size: int) -> bytes:
            return b""

    with pytest.raises(runtime.InputError, match=r"read\(\) of Upload gave coroutine: expected bytes. Pass the bytes"):
        model.predict(Upload())
