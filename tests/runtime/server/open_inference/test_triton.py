"""The same table against a real Triton: where it responds as this server does, and each difference."""

import contextlib
import shutil
from pathlib import Path

import pytest
from oip_table.cases import CASES
from oip_table.target import Target
from support.triton_server import is_installed, running_triton

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not is_installed(), reason="run 'scripts/setup triton' for a real Triton"),
]

DATA = Path(__file__).parents[3] / "data"

_CONFIGURATION = """
backend: "python"
max_batch_size: 0
input [{ name: "image" data_type: TYPE_STRING dims: [-1] }]
output [{ name: "probabilities" data_type: TYPE_FP32 dims: [-1, 4] }]
instance_group [{ kind: KIND_CPU count: 1 }]
"""


# In place of a status: no response, and no server after it.
ENDED = 0

# What Triton 2.51 does with the cases that it does not response as the table says.
DIFFERENCES = {
    # Its inputs have one datatype and one shape each; ours take images as pixels, or encoded, as [-1] or [-1, 1].
    "three images of shape [3, 1]": 400,
    "three images of shape [3, 1], nested": 400,
    "raw body": 400,
    "raw body without a content type": 400,
    "uint8 pixels, flat": 400,
    "uint8 pixels, nested": 400,
    "uint8 pixels, nested, two images": 400,
    "uint8 pixels, binary": 400,
    "one pixel": 400,
    "two best classes": 200,
    # It says live and ready with an empty body, and knows neither request ids nor traces.
    "live": 200,
    "ready": 200,
    "a request id is echoed": 200,
    "a trace goes on": 200,
    # Other statuses for what is refused.
    "unknown model statistics": 400,
    "load is refused": 503,
    "unload is refused": 503,
    "shared memory": 404,
    "an encoding that nobody knows": 501,
    # It is stricter.
    "null id, outputs and parameters": 500,
    "gzip in two members": 500,
    # JSON that is nested deeply ends its process.
    "deep JSON in data": ENDED,
    # What is wrong with a request is a fault of the server's: 500, where the table asks for a 4xx.
    **dict.fromkeys(
        (
            "a charset in the content type",
            "broken JSON",
            "JSON that is an array",
            "JSON that is null",
            "JSON in Latin-1",
            "deep JSON",
            "no inputs field",
            "inputs as an object",
            "no input name",
            "no shape",
            "negative shape",
            "shape of floats",
            "shape of text",
            "shape beyond 64 bits",
            "shape of zero",
            "ragged pixels",
            "negative pixels",
            "pixels as floats",
            "pixels as text",
            "pixels as booleans",
            "pixels as null",
            "data as an object",
            "numbers as bytes",
            "an output without a name",
            "classification of text",
            "negative classification",
            "binary_data of text",
            "header length inside the JSON",
            "binary size negative",
            "binary size as text",
            "gzip cut short",
            "a gzip bomb",
            "a body above the limit",
        ),
        500,
    ),
}


class Tritons:
    """A Triton that is started again when a question has ended it."""

    def __init__(self, folder):
        self._folder = folder
        version = folder / "repository" / "tiny" / "1"
        version.mkdir(parents=True)
        (version.parent / "config.pbtxt").write_text(_CONFIGURATION)
        shutil.copyfile(Path(__file__).parents[3] / "oip_table" / "triton_model.py", version / "model.py")
        shutil.copytree(DATA / "tiny", version / "artifact")
        self._running = contextlib.ExitStack()
        self._target = None

    def target(self):
        if self._target is not None:
            with contextlib.suppress(OSError):
                self._target.get("/v2/health/ready")
                return self._target
            self.close()
        triton = self._running.enter_context(
            running_triton(self._folder / "repository", log=self._folder / "triton.log")
        )
        self._target = Target(url=f"http://{triton.url}", model="tiny", image=(DATA / "cat.jpg").read_bytes())
        return self._target

    def close(self):
        self._running.close()


@pytest.fixture(scope="module")
def tritons(tmp_path_factory):
    tritons = Tritons(tmp_path_factory.mktemp("triton"))
    yield tritons
    tritons.close()


def test_triton_answers_as_the_table_says_but_for_what_is_known(tritons, open_inference_case):
    case, target = open_inference_case, tritons.target()
    try:
        response = target.send(case.ask(target))
    except ConnectionError:
        response = None
    if case.name not in DIFFERENCES:
        assert response is not None
        case.check_answer(target, response)
        return
    assert (ENDED if response is None else response.status) == DIFFERENCES[case.name]
    if response is not None:
        with pytest.raises((AssertionError, ValueError)):
            case.check_answer(target, response)


def test_every_difference_is_one_of_the_table():
    assert DIFFERENCES.keys() <= {case.name for case in CASES}
