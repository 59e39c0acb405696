"""A pytest plugin that asks any server of the Open Inference Protocol the questions of the table.

    pytest tests/oip_table/protocol.py --oip-url http://127.0.0.1:8000 --oip-model resnet18

The model has to take encoded images as BYTES. Without ``--oip-url`` the fixture ``open_inference_target`` has to be
given by the test suite that uses the plugin.
"""

from pathlib import Path

import pytest
from oip_table.cases import CASES
from oip_table.target import Case, Target

PHOTO = Path(__file__).parents[1] / "data" / "cat.jpg"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("open inference")
    group.addoption("--oip-url", help="the server that the table of the Open Inference Protocol is run against")
    group.addoption("--oip-model", help="one of its models, which takes encoded images")
    group.addoption("--oip-image", type=Path, default=PHOTO, help="an image that it takes")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "open_inference_case" in metafunc.fixturenames:
        metafunc.parametrize("open_inference_case", CASES, ids=[case.name.replace(" ", "-") for case in CASES])


@pytest.fixture(scope="session")
def open_inference_target(pytestconfig: pytest.Config) -> Target:
    """The server and model that the options name."""
    url, model = pytestconfig.getoption("--oip-url"), pytestconfig.getoption("--oip-model")
    if not url or not model:
        pytest.skip("give --oip-url and --oip-model")
    return Target(url=url.rstrip("/"), model=model, image=pytestconfig.getoption("--oip-image").read_bytes())


@pytest.fixture
def check_open_inference(open_inference_target: Target, open_inference_case: Case) -> None:
    """Ask the case's question, and hold the answer against it."""
    case = open_inference_case
    case.check_answer(open_inference_target, open_inference_target.send(case.ask(open_inference_target)))
