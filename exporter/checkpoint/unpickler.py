"""Pickles, read as data: nothing that they name is imported or called.

torch's own weights-only loading refuses what it does not know, but needs torch (four seconds, 700 MB) and stops at the
first name. Here every name becomes a ``Symbol``, every call on one an ``Opaque``; the caller judges the names later.
Built on Python's own pure-Python unpickler, whose memo is a dictionary: the C one allocates whatever index it is told.
"""

import pickle
import struct
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, ClassVar

from exporter.checkpoint.description import ITEM_BYTES, Storage, StoredTensor

# A pickle describes tensors, it does not hold them: real ones are under 10 MB. Python objects made from one take about
# sixty times its size at worst.
PICKLE_LIMIT = 32 << 20

# Instructions and their arguments in one pickle, and items that its calls copy: time and memory follow from their
# number. A network of sixty thousand tensors takes half of it.
_MOST_STEPS = 5_000_000

# Greater numbers are no keys: they may be chosen so that a dictionary of them takes the square of their number.
_GREATEST_KEY = 1 << 60
_GREATEST_MEMO = 1 << 32
_MOST_DIMENSIONS = 64
_GREATEST_SIZE = 1 << 62

_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "UntypedStorage": "uint8",
    "QInt8Storage": "qint8",
    "QUInt8Storage": "quint8",
    "QInt32Storage": "qint32",
}
_DICTIONARIES = {"collections.OrderedDict", "collections.defaultdict", "collections.Counter"}
_REBUILDERS = {"_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3"}
_PARAMETERS = {"_rebuild_parameter", "_rebuild_parameter_with_state"}

# Data that training scripts save with the weights. As any other object, it is never imported, so it can do nothing;
# only, it is not worth a word.
_HARMLESS_MODULES = ("argparse", "datetime", "pathlib", "omegaconf", "lightning", "pytorch_lightning", "uuid")
# What runs code, in files that were made to attack those who load them. Nothing runs here, but such a file is refused.
_ATTACK_FUNCTIONS = {"eval", "exec", "execfile", "compile", "open", "input", "__import__", "breakpoint"}
_ATTACK_MODULES = {
    *("os", "posix", "nt", "subprocess", "pty", "sys", "runpy", "importlib", "socket", "shutil", "ctypes"),
    *("webbrowser", "pdb", "bdb", "timeit", "cProfile", "pip", "urllib", "requests", "httplib", "marshal", "pydoc"),
}
_HARMLESS = {
    "builtins.set",
    "builtins.frozenset",
    "builtins.complex",
    "builtins.bytearray",
    "builtins.slice",
    "builtins.range",
    "__builtin__.set",
    "_codecs.encode",
    "collections.OrderedDict",
    "collections.defaultdict",
    "collections.Counter",
    "collections.deque",
    "types.SimpleNamespace",
    "typing.Any",
    "torch.Size",
    "torch.device",
    "torch.Tensor",
    "torch.nn.parameter.Parameter",
    "torch.nn.parameter.Buffer",
    "torch.serialization._get_layout",
    "torch._tensor._rebuild_from_type_v2",
    "numpy.dtype",
    "numpy.ndarray",
    "numpy.core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy._core.multiarray._reconstruct",
    "copyreg._reconstructor",
    "__builtin__.object",
    "builtins.object",
    "builtins.dict",
    "builtins.list",
    "builtins.int",
    "builtins.float",
    "builtins.str",
    "builtins.bool",
}


class Symbol:
    """A name that the pickle would import."""

    __slots__ = ("module", "name")

    def __init__(self, module: str, name: str) -> None:
        self.module = module
        self.name = name

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Opaque:
    """An object that the pickle would create: its class or function, the arguments, and the state."""

    __slots__ = ("arguments", "state", "symbol")

    def __init__(self, symbol: Symbol, arguments: object) -> None:
        self.symbol = symbol
        self.arguments = arguments
        self.state: object = None


class Dictionary(dict[object, object]):
    """An OrderedDict, whose ``attributes`` are what the pickle sets on it: torch's version numbers of modules."""

    attributes: Mapping[object, object] = {}


class Unordered(list[object]):
    """The items of a set, whose order means nothing."""


StorageFinder = Callable[[str, int], Storage]
_Opcodes = dict[int, Callable[["Unpickler"], None]]


class Unpickler(pickle._Unpickler):
    """Reads one pickle; ``imports`` then holds every name in it that is not plainly data."""

    dispatch: ClassVar[_Opcodes] = dict(pickle._Unpickler.dispatch)  # type: ignore[arg-type,assignment]

    # What Python's unpickler keeps, which its type stubs leave out.
    stack: list[Any]
    append: Callable[[object], None]
    pop_mark: Callable[[], list[Any]]
    readline: Callable[[], bytes]
    read: Callable[[int], bytes]
    memo: dict[int, Any]

    def __init__(self, stream: BinaryIO, find_storage: StorageFinder) -> None:
        self._capped = _Capped(stream)
        super().__init__(self._capped, encoding="utf-8", errors="replace")
        self._find_storage = find_storage
        self.imports: dict[str, None] = {}

    def find_class(self, module: str, name: str) -> Any:  # noqa: D102
        symbol = Symbol(str(module), str(name))
        if not _is_harmless(symbol):
            self.imports[str(symbol)] = None
        return symbol

    def persistent_load(self, pid: Any) -> Any:  # noqa: D102
        if isinstance(pid, tuple) and len(pid) > 1 and pid[0] == "module" and isinstance(pid[1], Symbol):
            return pid[1]  # before PyTorch 1.6, the class of a whole module, with its source
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage" or not isinstance(pid[1], Symbol):
            raise pickle.UnpicklingError("its storages are not torch's")
        _, kind, key, _, numel = pid[:5]
        dtype = _STORAGES.get(kind.name)
        if dtype is None or not isinstance(numel, int) or not 0 <= numel < 1 << 48:
            raise pickle.UnpicklingError(f"a storage of the type '{str(kind)[:80]}', or of no size")
        if not isinstance(key, str | int):
            raise pickle.UnpicklingError("a storage without a name")
        return dtype, self._find_storage(str(key), numel * ITEM_BYTES[dtype])

    # What follows replaces the opcodes that call, import by number, or allocate what they are told.

    def _call(self, symbol: object, arguments: object) -> object:
        if isinstance(symbol, Opaque):  # the result of a call, called in turn
            symbol = symbol.symbol
        if not isinstance(symbol, Symbol) or not isinstance(arguments, tuple):
            raise pickle.UnpicklingError("it calls what is not a function")
        if symbol.module == "torch._utils" and symbol.name in _REBUILDERS:
            return _tensor(arguments)
        if symbol.module == "torch._utils" and symbol.name in _PARAMETERS:
            return arguments[0]
        if str(symbol) in _DICTIONARIES:
            dictionary = Dictionary()
            for pair in arguments[0] if arguments and isinstance(arguments[0], list) else ():
                self._capped.step()
                if not isinstance(pair, list | tuple) or len(pair) != 2:
                    raise pickle.UnpicklingError("a dictionary of what are not pairs")
                self._set(dictionary, list(pair))
            return dictionary
        if symbol.module == "torch._tensor" and symbol.name == "_rebuild_from_type_v2" and len(arguments) == 4:
            return self._call(arguments[0], arguments[2])
        return Opaque(symbol, arguments)

    def load_reduce(self) -> None:  # noqa: D102
        arguments = self.stack.pop()
        self.stack[-1] = self._call(self.stack[-1], arguments)

    def load_newobj_ex(self) -> None:  # noqa: D102
        self.stack.pop()
        self.load_reduce()

    def load_obj(self) -> None:  # noqa: D102
        items = self.pop_mark()
        self.append(self._call(items[0], tuple(items[1:])))

    def load_inst(self) -> None:  # noqa: D102
        module, name = (self.readline()[:-1].decode("ascii") for _ in range(2))
        self.append(self._call(self.find_class(module, name), tuple(self.pop_mark())))

    def load_build(self) -> None:  # noqa: D102
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, Opaque):
            target.state = state
        elif isinstance(target, Dictionary) and isinstance(state, dict):
            target.attributes = state

    def load_setitem(self) -> None:  # noqa: D102
        value, key = self.stack.pop(), self.stack.pop()
        self._set(self.stack[-1], [key, value])

    def load_setitems(self) -> None:  # noqa: D102
        items = self.pop_mark()
        self._set(self.stack[-1], items)

    def load_dict(self) -> None:  # noqa: D102
        items = self.pop_mark()
        self.append({})
        self._set(self.stack[-1], items)

    def _set(self, target: object, items: list[Any]) -> None:
        if isinstance(target, Opaque):  # a dictionary of a kind we do not make, such as defaultdict
            return
        if not isinstance(target, dict):
            raise pickle.UnpicklingError("it sets items of what is not a dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Deeply nested tuples overflow the C stack when they are hashed.
            plain = isinstance(key, str | float | bytes | None) or (isinstance(key, int) and abs(key) < _GREATEST_KEY)
            target[key if plain else f"<{type(key).__name__}>"] = value

    def load_append(self) -> None:  # noqa: D102
        value = self.stack.pop()
        self._extend(self.stack[-1], [value])

    def load_appends(self) -> None:  # noqa: D102
        items = self.pop_mark()
        self._extend(self.stack[-1], items)

    def _extend(self, target: object, items: list[Any]) -> None:
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Opaque):
            raise pickle.UnpicklingError("it appends to what is not a list")

    def load_empty_set(self) -> None:  # noqa: D102
        self.append(Unordered())

    def load_frozenset(self) -> None:  # noqa: D102
        self.append(Unordered(self.pop_mark()))

    def load_put(self) -> None:  # noqa: D102
        number = int(self.readline()[:-1])
        if not 0 <= number < _GREATEST_MEMO:
            raise pickle.UnpicklingError("a memo of an absurd number")
        self.memo[number] = self.stack[-1]

    def load_frame(self) -> None:  # noqa: D102
        self.read(8)  # a frame is read ahead for speed alone, and hides what is read from the counter

    def load_bytearray(self) -> None:  # noqa: D102
        (size,) = struct.unpack("<Q", self.read(8))
        self.append(self.read(size))

    def load_refused(self) -> None:  # noqa: D102
        raise pickle.UnpicklingError("an instruction that no checkpoint needs")

    for _opcode, _handler in (
        (pickle.REDUCE, load_reduce),
        (pickle.NEWOBJ, load_reduce),
        (pickle.NEWOBJ_EX, load_newobj_ex),
        (pickle.OBJ, load_obj),
        (pickle.INST, load_inst),
        (pickle.BUILD, load_build),
        (pickle.SETITEM, load_setitem),
        (pickle.SETITEMS, load_setitems),
        (pickle.DICT, load_dict),
        (pickle.APPEND, load_append),
        (pickle.APPENDS, load_appends),
        (pickle.ADDITEMS, load_appends),
        (pickle.EMPTY_SET, load_empty_set),
        (pickle.FROZENSET, load_frozenset),
        (pickle.PUT, load_put),
        (pickle.FRAME, load_frame),
        (pickle.BYTEARRAY8, load_bytearray),
        (pickle.NEXT_BUFFER, load_refused),
        (pickle.READONLY_BUFFER, load_refused),
        (pickle.EXT1, load_refused),
        (pickle.EXT2, load_refused),
        (pickle.EXT4, load_refused),
    ):
        dispatch[_opcode[0]] = _handler


class _Capped:
    """A stream that gives a pickle no more than PICKLE_LIMIT bytes, in no more than ``_MOST_STEPS`` parts."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._left = PICKLE_LIMIT
        self._steps = _MOST_STEPS

    def read(self, size: int) -> bytes:
        self._take(size)
        return self._stream.read(size)

    def readinto(self, _buffer: bytearray) -> int:
        raise pickle.UnpicklingError("an instruction that no checkpoint needs")

    def readline(self) -> bytes:
        line = self._stream.readline(1 << 16)
        self._take(len(line))
        return line

    def step(self) -> None:
        """Count one instruction, argument or item. Raises UnpicklingError where there are too many."""
        self._steps -= 1
        if self._steps < 0:
            raise pickle.UnpicklingError(f"its pickle has more than {_MOST_STEPS} instructions")

    def _take(self, size: int) -> None:
        self.step()
        self._left -= size
        if size < 0 or self._left < 0:
            raise pickle.UnpicklingError(f"its pickle declares more than {PICKLE_LIMIT >> 20} MB")


def is_attack(name: str) -> bool:
    """Return whether a dotted name is of what runs code, and never of data that a training script saves."""
    module, _, function = name.rpartition(".")
    if module in {"builtins", "__builtin__"}:
        return function in _ATTACK_FUNCTIONS
    return module.partition(".")[0] in _ATTACK_MODULES


def _is_harmless(symbol: Symbol) -> bool:
    if symbol.module == "torch._utils":
        return symbol.name in _REBUILDERS | _PARAMETERS
    if symbol.module in {"torch", "torch.storage"} and (symbol.name in _STORAGES or symbol.name in ITEM_BYTES):
        return True
    return str(symbol) in _HARMLESS or symbol.module.partition(".")[0] in _HARMLESS_MODULES


def _tensor(arguments: tuple[Any, ...]) -> StoredTensor:
    """Return the tensor that torch's rebuilding functions would make of ``arguments``."""
    (dtype, storage), offset, shape, strides = arguments[:4]
    # The third version, of types without a storage class of their own, names the type after the hooks.
    if len(arguments) > 6 and isinstance(arguments[6], Symbol) and arguments[6].name in ITEM_BYTES:
        dtype = arguments[6].name
    shape, strides = _plain_sizes(shape), _plain_sizes(strides)
    check_extent(dtype, shape, strides, offset, storage)
    return StoredTensor(dtype=dtype, shape=shape, strides=strides, offset=offset, storage=storage)


def _plain_sizes(sizes: Any) -> tuple[int, ...]:
    if isinstance(sizes, Opaque) and sizes.symbol.name == "Size" and isinstance(sizes.arguments, tuple):
        (sizes,) = sizes.arguments
    if not isinstance(sizes, list | tuple) or len(sizes) > _MOST_DIMENSIONS:
        raise pickle.UnpicklingError("a tensor without a shape")
    return tuple(sizes)


def check_extent(dtype: str, shape: tuple[int, ...], strides: tuple[int, ...], offset: int, storage: Storage) -> None:
    """Raise UnpicklingError unless the tensor lies within its storage, value for value."""
    sizes = (*shape, *strides, offset)
    if len(shape) != len(strides) or len(shape) > _MOST_DIMENSIONS or not all(map(_is_size, sizes)):
        plain = [size for size in shape[:8] if isinstance(size, int) and abs(size) <= _GREATEST_SIZE]
        raise pickle.UnpicklingError(f"a tensor of the absurd shape {plain}")
    numel = 1
    for size in shape:
        numel *= size
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True)) if numel else -1
    # A tensor that repeats its values, as expand() makes, would grow on loading: none that trains does.
    if (last + 1) * ITEM_BYTES[dtype] > storage.size_bytes or numel * ITEM_BYTES[dtype] > storage.size_bytes:
        raise pickle.UnpicklingError(f"a tensor of shape {list(shape)[:8]} in {storage.size_bytes} bytes")


def _is_size(size: object) -> bool:
    return type(size) is int and 0 <= size <= _GREATEST_SIZE


def read_pickle(stream: BinaryIO, find_storage: StorageFinder) -> tuple[object, list[str]]:
    """Return the content of a pickle as data, and the names that loading it for real would import."""
    unpickler = Unpickler(stream, find_storage)
    content = unpickler.load()
    return content, list(unpickler.imports)
