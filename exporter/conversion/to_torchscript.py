"""TorchScript conversion; the only file that uses torch.jit."""

import contextlib
import io
import os
import re
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import nn

from exporter.conversion.network_io import name_of
from exporter.conversion.value_reads import ValueRead, ValueReads
from exporter.errors import ConversionError, first_line

_CPU = torch.device("cpu")

# torch.jit numbers the classes it compiles by how many the process has compiled before.
_MANGLED = re.compile(rb"___torch_mangle_\d+")

# torch aligns every record of its archives, so that tensors can be memory-mapped: kFieldAlignment in inline_container.
_RECORD_ALIGNMENT = 64
# The fixed part of a zip member's local header; its name and extra field follow (PKWARE APPNOTE 4.3.7).
_ZIP_HEADER_BYTES = 30

_PIECE_BYTES = 1 << 20

# The folder of an archive's records.
_FOLDER = "archive"


def trace(network: nn.Module, example: tuple[torch.Tensor, ...]) -> nn.Module:
    """Return ``network`` traced on ``example``, its inputs by position, each with a batch of 2 or more.

    Raises ConversionError when it cannot be traced, or Python code reads values that the trace would keep as constants.
    """
    for read in traced_reads(network, example):
        raise read.refusal(network)
    try:
        # A traced convolution keeps the setting of TF32 for good, wherever it runs later.
        with _quiet(), torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            # The check compares with a second trace, and fails on attention's fast path; parity compares with eager.
            traced: nn.Module = torch.jit.trace(network, example, check_trace=False)  # type: ignore[no-untyped-call]
            return traced
    except Exception as error:  # the user's forward may raise anything, and torch.jit whatever its passes raise
        raise _no_trace(network, error) from error


def traced_reads(network: nn.Module, example: tuple[torch.Tensor, ...]) -> list[ValueRead]:
    """Return the lines that read values computed from ``example``, which a trace keeps as constants.

    Raises ConversionError when its forward fails in a trace.
    """
    reads, finished = ValueReads(example), []
    hook = network.register_forward_hook(lambda *_: finished.append(True))
    try:
        with _quiet(), torch.no_grad(), reads:
            torch.jit.trace(network, example, check_trace=False)  # type: ignore[no-untyped-call]
    except Exception as error:
        # The tracer misses operators under watch, such as a resize to another tensor's size, and then refuses the
        # result: once the forward is through, all reads are found, and the trace without the watch decides.
        if not reads.found and not finished:
            raise _no_trace(network, error) from error
    finally:
        hook.remove()
    return reads.found


def trace_pipeline(pipeline: nn.Module, example: tuple[torch.Tensor, ...]) -> nn.Module:
    """Return a module of our own around a traced network, traced on ``example``; compiled modules in it stay so.

    Raises ConversionError when it cannot be traced.
    """
    try:
        with _quiet(), torch.no_grad():
            traced: nn.Module = torch.jit.trace(pipeline.eval(), example, check_trace=False)  # type: ignore[no-untyped-call]
            return traced
    except Exception as error:  # torch.jit raises whatever its passes raise
        raise _no_trace(pipeline, error) from error


def _no_trace(network: nn.Module, error: Exception) -> ConversionError:
    return ConversionError(
        f"'{name_of(network)}': torch.jit cannot trace it: {type(error).__name__}: {first_line(error)}. "
        "Replace the operation that it names."
    )


def script(module: nn.Module) -> nn.Module:
    """Return one of our own modules, compiled, in memory."""
    with _quiet():
        scripted: nn.Module = torch.jit.script(module.eval())
        return scripted


def compiled_modules(network: nn.Module) -> list[str]:
    """Return the names of a network's submodules that the user compiled with torch.jit; '' is the network itself."""
    named = [name for name, module in network.named_modules() if isinstance(module, torch.jit.ScriptModule)]
    return [name for name in named if not any(name.startswith(f"{other}.") for other in named)]


def to_torchscript(pipeline: nn.Module) -> bytes:
    """Return a pipeline around a traced network as a TorchScript archive, as ``write_torchscript`` writes it."""
    with tempfile.TemporaryDirectory(prefix="truecopy-") as folder:
        path = Path(folder) / "module"
        write_torchscript(pipeline, path)
        return path.read_bytes()


def write_torchscript(pipeline: nn.Module, path: Path) -> None:
    """Write a pipeline around a traced network as a TorchScript archive; equal pipelines give equal bytes.

    Besides ``forward``, it keeps the pipeline's methods of stages: ``prepare``, ``normalize``, ``logits``,
    ``postprocess``, and ``score``, which is the last three in one.
    Raises ConversionError when it cannot be compiled.
    """
    kept = [
        name for name in ("prepare", "normalize", "logits", "postprocess", "score") if hasattr(type(pipeline), name)
    ]
    try:
        with _quiet(), torch.no_grad():
            for name in kept:  # methods that forward does not call would not be compiled
                torch.jit.export(getattr(type(pipeline), name))
            copies = _fold_once(pipeline) if kept else []
            scripted = torch.jit.script(pipeline.eval())
            frozen = torch.jit.freeze(scripted, preserved_attrs=kept)
            archive = _saved(frozen)
    except Exception as error:  # torch.jit raises whatever its passes raise
        raise ConversionError(
            f"TorchScript: compiling the pipeline failed: {type(error).__name__}: {first_line(error)}. "
            "Write what it names in operations that torch.jit compiles, where libtorch is needed."
        ) from error
    with archive:
        _free_constants(frozen)
        for folded in copies:
            folded.untyped_storage().resize_(0)
        _write_canonical(archive, path)


def _fold_once(pipeline: nn.Module) -> list[torch.Tensor]:
    """Fold the batch norms of a pipeline's traced network, and return the weights that are copies since.

    Each method of the pipeline would fold copies of its own. torch.jit keeps them for good, in more than one graph.
    """
    network = getattr(pipeline, "network", None)
    if not isinstance(network, torch.jit.ScriptModule):
        return []
    own = {_storage(tensor) for tensor in (*network.state_dict().values(), *_constants(network.inlined_graph))}
    # The frozen module has the type of the trace, and cannot be compiled into another one.
    frozen = torch.jit.freeze(network.eval())._c
    pipeline.network = torch.jit._recursive.wrap_cpp_module(frozen)  # type: ignore[no-untyped-call]
    return [tensor for tensor in _constants(frozen._get_method("forward").graph) if _storage(tensor) not in own]


def _storage(tensor: torch.Tensor) -> int:
    """Return the address of a tensor's memory, which its views share."""
    return tensor.untyped_storage().data_ptr() if tensor.layout == torch.strided else 0


def _constants(graph: Any) -> list[torch.Tensor]:
    """Return the dense tensors that a graph holds."""
    tensors = (node.t("value") for node in _tensor_nodes(graph))
    return [tensor for tensor in tensors if tensor.layout == torch.strided]


def _tensor_nodes(block: Any) -> Iterator[Any]:
    """Yield the nodes of constant tensors in a graph or a block, those of its inner blocks included."""
    for node in block.nodes():
        if node.kind() == "prim::Constant" and node.hasAttribute("value") and node.kindOf("value") == "t":
            yield node
        for inner in node.blocks():
            yield from _tensor_nodes(inner)


def _free_constants(frozen: Any) -> None:
    """Let go of the weights in a frozen module, which is of no use afterwards.

    torch.jit keeps the graphs that it compiled for good, and freezing has put the weights into them: copies, where it
    folded a batch norm.
    """
    for name in frozen._c._method_names():
        for node in _tensor_nodes(frozen._c._get_method(name).graph):
            node.t_("value", torch.empty(0))


def _saved(module: Any) -> BinaryIO:
    """Return a compiled module as torch saves it, in memory: torch ends the whole process where it cannot write."""
    if not hasattr(os, "memfd_create") or _limits_files():
        return io.BytesIO(module.save_to_buffer())  # twice in memory at its end
    file = os.fdopen(os.memfd_create("truecopy-torchscript"), "w+b")
    module.save(f"/proc/self/fd/{file.fileno()}")
    return file


def _limits_files() -> bool:
    """Return whether this process may only write files up to some size, which holds for those in memory as well."""
    import resource  # not on Windows

    return resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY


def load_torchscript(path: Path, device: torch.device = _CPU) -> nn.Module:
    """Return the module in a TorchScript archive on ``device``; it is frozen, so that ``to`` moves nothing later."""
    with _quiet():
        module: nn.Module = torch.jit.load(path, map_location=device)  # type: ignore[no-untyped-call]
        return module


def _write_canonical(archive: BinaryIO, path: Path) -> None:
    """Write the archive without debug records, which hold paths of this machine, and with its classes renumbered.

    The serialization id is also dropped: it is a hash over the debug records. All records are in a folder that torch
    names after the file; here it is ``archive``.
    """
    numbers: dict[bytes, bytes] = {}

    def renumber(text: bytes) -> bytes:
        return _MANGLED.sub(lambda match: numbers.setdefault(match[0], b"___torch_mangle_%d" % len(numbers)), text)

    with (
        path.open("wb") as stream,
        zipfile.ZipFile(archive) as source,
        zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as target,
    ):
        for record in source.infolist():
            if record.filename.endswith((".debug_pkl", "/.data/serialization_id")):
                continue
            code = renumber(source.read(record)) if record.filename.endswith((".py", ".pkl")) else None
            name = renumber(f"{_FOLDER}/{record.filename.partition('/')[2]}".encode()).decode()
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.extra = _padding(stream.tell() + _ZIP_HEADER_BYTES + len(name.encode()))
            if code is not None:
                target.writestr(entry, code)
                continue
            # In pieces: one record may be most of the weights.
            entry.file_size = record.file_size
            with source.open(record) as data, target.open(entry, "w") as written:
                shutil.copyfileobj(data, written, _PIECE_BYTES)


def _padding(offset: int) -> bytes:
    """Return an extra field, after which data at ``offset`` starts aligned; torch pads with a field called "FB"."""
    missing = -(offset + 4) % _RECORD_ALIGNMENT
    return b"FB" + missing.to_bytes(2, "little") + bytes(missing)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence deprecations, torch.jit's own and the network's library's, and the tracer's warnings.

    The user can fix none of them here: reads of values are watched, and the parity check judges the result.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        for category in (FutureWarning, DeprecationWarning):
            warnings.simplefilter("ignore", category)
        fastpath = torch.backends.mha.get_fastpath_enabled()
        # nn.MultiheadAttention's fast path is one fused operator that tracing cannot take apart.
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fastpath)
