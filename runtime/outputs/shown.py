"""Models and results as text and as HTML, for people who look at them in notebooks."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, Protocol

import msgspec
import numpy as np

from runtime.errors import bounded
from runtime.manifest import Manifest

# As much as a line, a cell and a table show; a result may have a thousand words.
_LINE, _CELL, _ROWS = 300, 200, 20


class ShownResult(msgspec.Struct, frozen=True, kw_only=True):
    """A result that is short where it is shown; subclasses write a line with ``__str__``."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {bounded(str(self), _LINE)}>"

    def _repr_html_(self) -> str:
        """Return the fields as a table, with values and tables in it that are cut."""
        return f"<p>{escape(type(self).__name__)}</p>{_table(msgspec.structs.asdict(self))}"


class _Model(Protocol):
    @property
    def manifest(self) -> Manifest: ...
    @property
    def precision(self) -> str: ...
    @property
    def device(self) -> str: ...
    @property
    def labels(self) -> Sequence[str]: ...


class ShownModel:
    """A model that is one line, or a table of what it takes and gives."""

    def __repr__(self: _Model) -> str:
        return f"<Model '{self.manifest.name}': {self.manifest.task.kind}, {self.precision} on {self.device}>"

    def _repr_html_(self: _Model) -> str:
        """Return name, task, inputs, outputs, labels and device as a table."""
        inputs = (f"{spec.name}: {spec.__struct_config__.tag}" for spec in self.manifest.inputs)
        outputs = (f"{out.name}: {out.dtype} [{', '.join(map(str, out.shape))}]" for out in self.manifest.outputs)
        shown = {
            "name": self.manifest.name,
            "task": self.manifest.task.kind,
            "inputs": ", ".join(inputs),
            "outputs": ", ".join(outputs),
            "labels": ", ".join(self.labels[:_ROWS]),
            "precision": self.precision,
            "device": self.device,
            "parity": self.manifest.parity.verdict if self.manifest.parity is not None else "",
        }
        return _table({key: value for key, value in shown.items() if value})


def _table(values: Mapping[str, Any]) -> str:
    rows = (f"<tr><th>{escape(_cut(key))}</th><td>{_cell(value)}</td></tr>" for key, value in _first(values.items()))
    return f"<table>{''.join(rows)}</table>"


def _cell(value: Any) -> str:
    """Return a value: an array by its type and shape, structs and dictionaries as tables."""
    if isinstance(value, np.ndarray):
        return escape(f"{value.dtype} {list(value.shape)}")
    if isinstance(value, Mapping):
        return _table(value)
    if isinstance(value, msgspec.Struct):
        return _table(msgspec.structs.asdict(value))
    if isinstance(value, tuple) and value and isinstance(value[0], msgspec.Struct):
        return _list_of(value)
    return escape(f"{value:.4g}" if isinstance(value, float) else _cut(value))


def _list_of(structs: Sequence[msgspec.Struct]) -> str:
    """Return structs of one type as a table with a column for each field."""
    heads = "".join(f"<th>{escape(name)}</th>" for name in structs[0].__struct_fields__)
    rows = (
        f"<tr>{''.join(f'<td>{_cell(value)}</td>' for value in msgspec.structs.asdict(struct).values())}</tr>"
        for struct in _first(structs)
    )
    more = f"<p>and {len(structs) - _ROWS} more</p>" if len(structs) > _ROWS else ""
    return f"<table><tr>{heads}</tr>{''.join(rows)}</table>{more}"


def _first(values: Iterable[Any]) -> list[Any]:
    return list(values)[:_ROWS]


def _cut(value: object) -> str:
    text = str(value)
    return text if len(text) <= _CELL else f"{text[: _CELL - 3]}..."
