"""The table of docs/guides/without-python.md is the one that scripts/consumers makes."""

import tomllib
from pathlib import Path

import numpy as np
from packaging.requirements import Requirement

from comparisons.consumers import BEGIN, CONSUMERS, END, PAGE, measure, read_graphs

ROOT = Path(__file__).parents[2]


def rows() -> dict[str, list[str]]:
    """The cells of the table by the consumer in its first."""
    table = PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    lines = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("| ")]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in lines[1:]}


def test_the_page_has_every_consumer_and_its_verdicts():
    assert list(rows()) == [consumer.title for consumer in CONSUMERS]
    for title, (_, model, network) in rows().items():
        assert network.startswith("right"), title
        if title.startswith("ONNX Runtime"):
            assert model.startswith("right"), title


def test_the_oldest_onnxruntime_is_the_oldest_that_the_package_allows():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (allowed,) = (Requirement(entry).specifier for entry in project["optional-dependencies"]["cpu"])

    assert str(allowed) == f">={rows()[CONSUMERS[0].title][0]}"


def test_a_wrong_output_is_called_wrong(tmp_path):
    """The reference evaluator on the network: right as it is, and wrong where another value was expected."""
    (consumer,) = (entry for entry in CONSUMERS if entry.kind == "reference")
    _, network = read_graphs()
    few = type(network)(path=network.path, name=network.name, inputs=network.inputs[:1], expected=network.expected[:1])
    other = type(network)(
        path=network.path, name=network.name, inputs=few.inputs, expected=[np.roll(few.expected[0], 1)]
    )

    assert measure(consumer, few, tmp_path).startswith("right")
    assert measure(consumer, other, tmp_path).startswith("**wrong**")
