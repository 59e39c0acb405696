"""Reads of computed values by Python code: what a trace of a network would keep as constants."""

import contextlib
import inspect
import linecache
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from exporter.conversion.network_io import name_of
from exporter.errors import INSTALLED, ConversionError, short_path

# What gives Python a tensor's values, by its name for people; all but the first group are numbers or arrays.
_DECISIONS: dict[Any, str] = {
    torch.Tensor.__bool__: "bool()",
    torch.Tensor.__contains__: "in",
    torch.Tensor.is_nonzero: "is_nonzero()",
    torch.is_nonzero: "torch.is_nonzero()",
    torch.Tensor.equal: "equal()",
    torch.equal: "torch.equal()",
    torch.Tensor.allclose: "allclose()",
    torch.allclose: "torch.allclose()",
}
_NUMBERS: dict[Any, str] = {
    torch.Tensor.item: "item()",
    torch.Tensor.tolist: "tolist()",
    torch.Tensor.numpy: "numpy()",
    torch.Tensor.__array__: "a NumPy array",
    torch.Tensor.__dlpack__: "an array of another library",
    torch.Tensor.__int__: "int()",
    torch.Tensor.__float__: "float()",
    torch.Tensor.__complex__: "complex()",
    torch.Tensor.__index__: "an index",
}
# How many there are is read of tensors whose shape depends on values, such as 'x[x > 0]'.
_COUNTS: dict[Any, str] = {
    torch.Tensor.__len__: "len()",
    torch.Tensor.unbind: "a Python loop",
    torch.unbind: "a Python loop",
}

# Operators whose results depend on the shape of a tensor, and not on its values.
_OF_SHAPES = (
    *("zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like", "randint_like"),
    *("new_zeros", "new_ones", "new_empty", "new_full", "new_empty_strided"),
)

_TORCH, _NUMPY = (f"{Path(inspect.getfile(package)).parent}/" for package in (torch, np))
# Lines of torch whose reads change nothing: the number of sequences of a packed batch, which its layers take out of a
# tensor and which is a shape, and distributions' checks of their parameters, which only raise.
_HARMLESS = (f"{_TORCH}nn/modules/rnn.py", f"{_TORCH}distributions/distribution.py")

# Files that read values for their callers: torch's tensor class and its dispatch, NumPy, and this one.
_PLUMBING = ("_tensor.py", "overrides.py", "_ops.py", "utils/_python_dispatch.py")
_PASSED_ON = (__file__, _NUMPY, *(_TORCH + name for name in _PLUMBING))


@dataclass(frozen=True, kw_only=True)
class ValueRead:
    """One line that reads values computed from the input; ``library`` where an installed package has the line."""

    operation: str
    decides: bool
    file: str
    line: int
    code: str
    library: bool

    @property
    def where(self) -> str:
        """The line, for people."""
        return f"{self.file}:{self.line}, '{self.code}'"

    def refusal(self, network: nn.Module) -> ConversionError:
        """Return the error that says what to change."""
        name = name_of(network)
        if self.code.startswith("assert"):
            what = "checks computed values"
            fix = "Check inputs before the network is called, and leave the check out of its forward"
        elif self.decides:
            what = "branches on computed values"
            fix = "Choose between tensors with torch.where, or between computations with torch.cond"
        else:
            what = f"takes computed values out of tensors with {self.operation}"
            fix = "Compute with the tensor itself; choose with torch.where, or between computations with torch.cond"
        if self.library:
            fix = (
                "The line is an installed package's: look for a setting of the model that leaves it out, for another "
                "version of the package, or override the method"
            )
        return ConversionError(
            f"'{name}': its forward {what} at {self.where}: a graph would keep what the example gave, for every input. "
            f"{fix}."
        )


class ValueReads:
    """A forward under watch, as a context: ``found`` are its reads of values that depend on ``inputs``.

    What depends on their shapes alone is none, and neither is a parameter or a constant. Operators that take a tensor
    as a size or as the bound of a slice are none either: a trace keeps those. What a trace records under watch is
    incomplete, so that it is watched apart from the one that is used.
    """

    def __init__(self, inputs: Iterable[torch.Tensor]) -> None:
        self.found: list[ValueRead] = []
        self._dependent: dict[int, StorageWeakRef] = {}
        self._sized: dict[int, StorageWeakRef] = {}
        self._modes = (_Operators(self._follow), _Calls(self._watch))
        for tensor in inputs:
            _mark(self._dependent, tensor)

    def __enter__(self) -> "ValueReads":
        for mode in self._modes:
            mode.__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: object) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(*error)  # type: ignore[no-untyped-call]

    def _follow(self, operator: Any, arguments: Any, result: Any) -> None:
        """Note which results of an operator depend on the input."""
        tensors = [leaf for leaf in tree_leaves(arguments) if isinstance(leaf, torch.Tensor)]
        if not any(_marked(self._dependent, tensor) for tensor in tensors) or _name(operator) in _OF_SHAPES:
            return
        sized = any(_marked(self._sized, tensor) for tensor in tensors) or self._gives_sizes(operator, arguments)
        for tensor in (*tree_leaves(result), *_written(operator, arguments)):
            if isinstance(tensor, torch.Tensor):
                _mark(self._dependent, tensor)
                if sized:
                    _mark(self._sized, tensor)

    def _gives_sizes(self, operator: Any, arguments: Any) -> bool:
        """Return whether the shape of an operator's result depends on values of the input."""
        if torch.Tag.dynamic_output_shape not in getattr(operator, "tags", ()):
            return False
        if _name(operator) == "index":  # whole numbers select as many as there are; masks as many as are true
            arguments = [leaf for leaf in tree_leaves(arguments[0][1]) if getattr(leaf, "dtype", None) is torch.bool]
        elif _name(operator) == "masked_select":
            arguments = arguments[0][1]
        leaves = tree_leaves(arguments)
        return any(isinstance(leaf, torch.Tensor) and _marked(self._dependent, leaf) for leaf in leaves)

    def _watch(self, function: Any, arguments: Sequence[Any]) -> None:
        """Note a call that gives Python values of a tensor that depends on the input."""
        operation = _DECISIONS.get(function) or _NUMBERS.get(function) or _COUNTS.get(function)
        if operation is None:
            return
        tensors = [argument for argument in arguments if isinstance(argument, torch.Tensor)]
        if function in _COUNTS:  # the other axes of what is selected are as long as they were
            read = _marked(self._sized, tensors[0]) and arguments[1:2] in ((), (0,))
        else:
            # In a trace sizes are tensors of their own, which no operator has computed.
            read = any(_marked(self._dependent, tensor) for tensor in tensors) or (
                bool(self._sized) and torch._C._get_tracing_state() is not None
            )
        if read:
            decides = function in _DECISIONS or (function is torch.Tensor.item and tensors[0].dtype is torch.bool)
            found = _read(operation, decides=decides)
            if found is not None and found not in self.found:
                self.found.append(found)


def check_branches(network: nn.Module, example: Mapping[str, torch.Tensor]) -> None:
    """Raise ConversionError where the forward itself turns values of its input into Python's, on the example.

    Installed libraries may do so: they have another path for tracing, or the exporter refuses them.
    """
    inputs = [tensor.clone() for tensor in example.values()]
    reads = ValueReads(inputs)
    # A mode may be in the way of a forward; torch.export follows values by itself, and traces are watched as well.
    with torch.no_grad(), contextlib.suppress(Exception), reads:
        network(*inputs)
    for read in reads.found:
        if not read.library:
            raise read.refusal(network)


class _Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Calls ``follow`` with every operator, its arguments and its result."""

    supports_higher_order_operators = True

    def __init__(self, follow: Callable[[Any, Any, Any], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._follow = follow

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self._follow(func, (args, kwargs or {}), result)
        return result


class _Calls(TorchFunctionMode):
    """Calls ``watch`` with every function of torch that Python code calls, and its arguments."""

    def __init__(self, watch: Callable[[Any, Sequence[Any]], None]) -> None:
        super().__init__()
        self._watch = watch

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._watch(func, args)
        return func(*args, **(kwargs or {}))


def _name(operator: Any) -> str:
    return getattr(getattr(operator, "overloadpacket", None), "__name__", "")


def _written(operator: Any, arguments: Any) -> Iterator[Any]:
    """Give the tensors that an operator writes into."""
    schema = getattr(operator, "_schema", None)
    if schema is None:
        return
    positional, named = arguments
    for position, argument in enumerate(schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = positional[position] if position < len(positional) else named.get(argument.name)
            yield from tree_leaves(value)


def _mark(storages: dict[int, StorageWeakRef], tensor: torch.Tensor) -> None:
    """Add the storage of a tensor, which its views share; its number stays unique as long as the reference is kept."""
    with contextlib.suppress(NotImplementedError, RuntimeError):  # sparse tensors have no storage
        reference = StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]
        storages.setdefault(reference.cdata, reference)


def _marked(storages: dict[int, StorageWeakRef], tensor: torch.Tensor) -> bool:
    with contextlib.suppress(NotImplementedError, RuntimeError):
        return tensor.untyped_storage()._cdata in storages
    return True


def _read(operation: str, *, decides: bool) -> ValueRead | None:
    """Return the read of the line that is running, or that called a line of torch; None for a harmless one."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_code.co_filename.startswith(_PASSED_ON):
        frame = frame.f_back
    assert frame is not None
    if frame.f_code.co_filename.startswith(_HARMLESS):
        return None
    library = bool(INSTALLED & set(Path(frame.f_code.co_filename).parts))
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_TORCH):
        frame = frame.f_back
    file, line = frame.f_code.co_filename, frame.f_lineno
    code = linecache.getline(file, line).strip()
    return ValueRead(
        operation=operation, decides=decides, file=short_path(Path(file)), line=line, code=code, library=library
    )
