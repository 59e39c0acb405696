"""Registry of the tasks' interpreters."""

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from typing import Any

from runtime.manifest import Classify, Heads, Multilabel, Raw, Regress, Segment, Task, Tokens, Words
from runtime.outputs.interpreter import Interpreter

# The class that interprets a task's scores, by module and name: a task's module loads when a model of it does.
INTERPRETERS: dict[type[Any], str] = {
    Classify: "runtime.outputs.classify:ClassifyInterpreter",
    Multilabel: "runtime.outputs.multilabel:MultilabelInterpreter",
    Regress: "runtime.outputs.regress:RegressInterpreter",
    Segment: "runtime.outputs.segment:SegmentInterpreter",
    Tokens: "runtime.outputs.tokens:TokensInterpreter",
    Words: "runtime.outputs.words:WordsInterpreter",
    Heads: "runtime.outputs.heads:HeadsInterpreter",
    Raw: "runtime.outputs.raw:RawInterpreter",
}


def open_interpreter(task: Task, labels: Sequence[str] = ()) -> Interpreter:
    """Return what gives the scores of ``task`` their meaning; ``labels`` are the class names or words."""
    return _load(INTERPRETERS[type(task)])(task, labels)


def evaluated_tasks() -> list[str]:
    """Return the names of the tasks whose scores can be compared with labeled data."""
    classes = {task: _load(reference) for task, reference in INTERPRETERS.items()}
    return [task.__struct_config__.tag for task, interpreter in classes.items() if interpreter.is_evaluated]


def result_types() -> list[type[Any]]:
    """Return the result types of all tasks."""
    return [_load(reference).result_type for reference in INTERPRETERS.values()]


@cache
def _load(reference: str) -> type[Interpreter]:
    module, _, name = reference.partition(":")
    interpreter: type[Interpreter] = getattr(import_module(module), name)
    return interpreter
