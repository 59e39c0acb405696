"""Notebooks are modules: magics are skipped, and what fails loses nothing that stands apart from it."""

import json
import sys

import pytest

from exporter.errors import ArchitectureError, line_of
from exporter.object_path import load_object


@pytest.fixture
def notebook(tmp_path):
    """Write a notebook of code cells and return the reference to a name in it."""

    def write(name: str, *cells: str, **metadata) -> str:
        path = tmp_path / "lesson.ipynb"
        content = [{"cell_type": "code", "source": cell.splitlines(keepends=True)} for cell in cells]
        content.insert(0, {"cell_type": "markdown", "source": ["# not code ("]})
        path.write_text(json.dumps({"nbformat": 4, "metadata": metadata, "cells": content}))
        return f"{path}:{name}" if name else str(path)

    yield write
    sys.modules.pop("lesson", None)


def load(reference: str) -> object:
    return load_object(reference, error=ArchitectureError)


def test_cells_share_one_namespace_and_are_executed_once(notebook):
    reference = notebook("build", "runs = []", "runs.append(1)", "def build():\n    return runs")

    assert load(reference)() == [1]
    assert load(reference)() == [1]


def test_imports_from_the_future_hold_for_all_cells(notebook):
    reference = notebook("build", "from __future__ import annotations", "def build(x: Later): pass\nclass Later: pass")

    assert load(reference).__annotations__ == {"x": "Later"}


def test_what_only_ipython_runs_is_skipped_and_said(notebook, capsys):
    reference = notebook(
        "value",
        "%matplotlib inline\n!pip install \\\n   'it's' > \"log\nimport math\nmath?",
        "%%bash\nrm -rf it's",
        "%%time\nfiles = !ls\nif True:\n    %cd ..\nvalue = (7\n% 4)\ndisplay(value)",
    )

    assert load(reference) == 3
    message = capsys.readouterr().err
    for line in ("%matplotlib inline", "!pip install", "math?", "%%bash", "and 3 more"):
        assert line in message
    assert "failed" not in message


def test_data_that_is_missing_loses_no_definition_and_nothing_is_done_after_it(notebook, tmp_path, capsys):
    saved = tmp_path / "model.pth"
    reference = notebook(
        "build",
        "class First: pass",
        "rows = open('no-such-data.csv').read()\nclass Second: pass",
        "size = len(rows)",
        f"open({str(saved)!r}, 'w').write('untrained')",
        "def build():\n    return First, Second",
    )

    assert [kind.__name__ for kind in load(reference)()] == ["First", "Second"]
    assert not saved.exists()
    message = capsys.readouterr().err
    assert "cell 3 failed: FileNotFoundError" in message
    assert "no-such-data.csv" in message
    assert "1 more failed" in message


def test_a_name_that_is_missing_is_explained_by_what_failed(notebook):
    reference = notebook("model", "class Net: pass", "model = Net(open('no-such-data.csv'))")

    with pytest.raises(ArchitectureError, match=r"no 'model'.*expected one of 'Net', where cell 3 failed: FileNotF"):
        load(reference)


def test_a_notebook_without_a_name_lists_what_it_defines(notebook):
    with pytest.raises(ArchitectureError, match=r"no name: expected one of 'Net'\. Write .*lesson\.ipynb:Net"):
        load(notebook("", "class Net: pass"))


def test_the_line_of_a_cell_is_shown_where_its_function_fails(notebook):
    build = load(notebook("build", "def build():\n    return 1 / 0"))

    with pytest.raises(ZeroDivisionError) as caught:
        build()

    assert line_of(caught.value).endswith("lesson.ipynb, cell 2:2, 'return 1 / 0'")


@pytest.mark.parametrize(
    ("text", "reason"),
    [("not JSON", "no Jupyter notebook"), ('{"cells": [{}]}', "no Jupyter notebook"), ("[]", "no Jupyter notebook")],
)
def test_a_file_that_is_no_notebook_is_called_that(tmp_path, text, reason):
    path = tmp_path / "lesson.ipynb"
    path.write_text(text)

    with pytest.raises(ArchitectureError, match=reason):
        load(f"{path}:build")


def test_a_notebook_of_another_language_is_called_that(notebook):
    with pytest.raises(ArchitectureError, match="its language is R"):
        load(notebook("build", "x <- 1", kernelspec={"language": "R"}))


def test_the_format_of_older_notebooks_is_read(tmp_path):
    cell = {"cell_type": "code", "input": "value = 8"}
    path = tmp_path / "older.ipynb"
    path.write_text(json.dumps({"nbformat": 3, "worksheets": [{"cells": [cell]}]}))

    assert load(f"{path}:value") == 8
