"""The notebooks run from their first cell to their last, and show results that Jupyter can show."""

import ast
import json
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "notebooks"
# In the order in which they are read: the second uses what the first has written.
NOTEBOOKS = ("export", "evaluate")


def code_cells(name: str) -> list[str]:
    """The code of a notebook, as it is committed: not run, without outputs."""
    notebook = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert notebook["nbformat"] == 4
    assert all(cell["execution_count"] is None and cell["outputs"] == [] for cell in cells)
    return ["".join(cell["source"]) for cell in cells]


def run(cells: list[str]) -> list[Any]:
    """Run the cells in one namespace; return what each shows: the value of an expression at its end."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    shown = []
    for index, source in enumerate(cells):
        tree = ast.parse(source)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, f"cell {index}", "exec"), namespace)  # noqa: S102 - the project's own notebooks
        if isinstance(last, ast.Expr):
            shown.append(eval(compile(ast.Expression(last.value), f"cell {index}", "eval"), namespace))  # noqa: S307
    return shown


def test_no_notebook_is_left_out():
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(NOTEBOOKS)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_they_run_from_the_first_cell_to_the_last(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)

    _, result, prediction, difference = run(code_cells("export"))
    evaluation, least = run(code_cells("evaluate"))

    assert "passed" in result._repr_html_()
    assert prediction.label == "class 8"
    assert difference < 1e-5
    assert evaluation["inputs"] == 300
    assert evaluation["accuracy"] > 0.85
    assert least.probability < prediction.probability
