"""Tensors inside pickled objects: each object is walked once, however many others refer to it."""

import pickle
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias

from exporter.checkpoint.description import StoredTensor
from exporter.checkpoint.unpickler import Opaque

# How much is looked at in one file: parts of objects and dictionaries, and keys that are made, by their length. A
# network of sixty thousand tensors takes half of it.
_MOST_STEPS = 1_000_000
_CHARACTERS_PER_STEP = 64

# A key has all modules above its tensor, and each of them is looked at.
LONGEST_KEY = 1000
_LEVELS_PER_STEP = 4

# Of a module whose state is more than tensors: torch.nn.modules.module._EXTRA_STATE_KEY_SUFFIX.
EXTRA_STATE = "_extra_state"
_PLAIN = str | int | float | bool | None

_Parts: TypeAlias = Iterator[tuple[str, StoredTensor | Opaque]]


class _Visit:
    """An object that is walked: the parts that are left of it, its name in the object that holds it, its tensors."""

    def __init__(self, value: Opaque, parts: _Parts, key: str) -> None:
        self.value = value
        self.parts = parts
        self.key = key
        self.tensors: dict[str, StoredTensor] = {}


class TensorSearch:
    """Finds the tensors of one file's objects and dictionaries, within a bounded number of steps.

    A pickle's objects may refer to one another in cycles, as trainers and their callbacks do, and a small file may say
    one thing so often that it never ends.
    """

    def __init__(self) -> None:
        self._left = _MOST_STEPS
        self._known: dict[int, Mapping[str, StoredTensor]] = {}

    def step(self, count: int = 1) -> None:
        """Count steps. Raises UnpicklingError where there are too many."""
        self._left -= count
        if self._left < 0:
            raise pickle.UnpicklingError("its description refers to its parts too often")

    def step_into(self, keys: Iterable[str]) -> None:
        """Count the levels of keys. Raises UnpicklingError where there are too many, or a key is absurdly long."""
        for key in keys:
            if len(key) > LONGEST_KEY:
                raise pickle.UnpicklingError(f"a key of {len(key)} characters")
            self.step(key.count(".") // _LEVELS_PER_STEP)

    def tensors_of(self, value: object) -> Mapping[str, StoredTensor]:
        """Return a dictionary whose values are tensors, or an object's parameters and buffers; otherwise none."""
        if not isinstance(value, Mapping | Opaque):
            return {}
        if id(value) not in self._known:
            if not isinstance(value, Opaque):
                self._known[id(value)] = self._state_dict(value)
            elif is_module(value) or _is_scripted(value):
                self._walk(value)
            else:
                self._known[id(value)] = {}
        return self._known[id(value)]

    def _state_dict(self, value: Mapping[object, object]) -> Mapping[str, StoredTensor]:
        """Return the tensors of a state dict. Scripts put an epoch or a name into it, and modules extra state."""
        tensors: dict[str, StoredTensor] = {}
        beside = 0
        for key, item in value.items():
            self.step()
            if not isinstance(key, str):
                return {}
            if isinstance(item, StoredTensor):
                tensors[key] = item
            elif not key.endswith(EXTRA_STATE):
                if not isinstance(item, _PLAIN):
                    return {}
                beside += 1
        return tensors if beside < len(tensors) else {}

    def _walk(self, root: Opaque) -> None:
        """Find the tensors of an object and of all that it holds, innermost first."""
        self._known[id(root)] = {}  # what an object holds of those that hold it is nothing new
        pending = [_Visit(root, self._parts(root), "")]
        while pending:
            visit = pending[-1]
            for key, part in visit.parts:
                if isinstance(part, StoredTensor):
                    visit.tensors[key] = part
                elif id(part) in self._known:
                    self._add(visit.tensors, key, self._known[id(part)])
                else:
                    self._known[id(part)] = {}
                    pending.append(_Visit(part, self._parts(part), key))
                    break
            else:
                self._known[id(visit.value)] = visit.tensors
                pending.pop()
                if pending:
                    self._add(pending[-1].tensors, visit.key, visit.tensors)

    def _add(self, own: dict[str, StoredTensor], prefix: str, tensors: Mapping[str, StoredTensor]) -> None:
        for key, tensor in tensors.items():
            name = f"{prefix}.{key}"
            self.step(1 + len(name) // _CHARACTERS_PER_STEP)
            own[name] = tensor

    def _parts(self, value: Opaque) -> _Parts:
        """Yield the tensors and objects that an object holds, by the names its state dict would have."""
        state = value.state
        if not isinstance(state, Mapping):
            return
        hidden = state.get("_non_persistent_buffers_set")
        if isinstance(hidden, list):
            self.step(len(hidden))
        buffers = {name for name in hidden if isinstance(name, str)} if isinstance(hidden, list) else frozenset()
        for name, child in state.items():
            self.step()
            # A pickled module keeps its parts in these dictionaries; a scripted one has them as attributes.
            if name in ("_parameters", "_buffers", "_modules") and isinstance(child, Mapping):
                for key, part in child.items():
                    self.step()
                    if key not in buffers and isinstance(part, StoredTensor | Opaque):
                        yield str(key), part
            elif isinstance(name, str) and isinstance(child, StoredTensor | Opaque):
                yield name, child


def is_module(value: object) -> bool:
    """Return whether a pickled object is a torch.nn.Module."""
    return isinstance(value, Opaque) and isinstance(value.state, Mapping) and "_parameters" in value.state


def _is_scripted(value: Opaque) -> bool:
    """Return whether an object is of a TorchScript archive's own classes."""
    return value.symbol.module.startswith("__torch__")
