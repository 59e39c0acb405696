"""onnxruntime sessions: one graph on one device."""

import ctypes
import os
import warnings
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from runtime.engine.cpu import usable_cores
from runtime.engine.devices import (
    CPU_PROVIDER,
    DEVICES,
    DeviceOptions,
    MachineInfo,
    candidates,
    is_device_failure,
    missing_number,
    missing_piece,
    read_machine,
    split_device,
)
from runtime.engine.graph import StoredGraph
from runtime.engine.interruption import current_interruption, free_after_run
from runtime.engine.library import onnxruntime
from runtime.engine.placement import shape_nodes
from runtime.engine.plugins import plugin_devices
from runtime.engine.signals import Terminable, register, running
from runtime.errors import ArtifactError, DeviceError, InputError, listed

Arrays = Mapping[str, NDArray[Any]]

# A graph as ``open_session`` takes it: a file, its contents, or a verified one.
Graph: TypeAlias = Path | bytes | StoredGraph

# Operators that onnxruntime adds to compute shapes on the CPU, under names of its own.
_SHAPE_OPERATORS = {"Shape", "Gather", "Concat", "Unsqueeze", "Squeeze", "Cast", "Constant", "Slice", "Reshape"}

# onnxruntime's "fatal": every failure is raised, and a failed CUDA provider would print its own messages first.
_LOG_FATAL = 4


class Session:
    """An ONNX graph, loaded on one device; safe to call from many threads. With ``frees_memory``, no run keeps any."""

    def __init__(self, session: Any, device: str, *, frees_memory: bool = False) -> None:
        self.device = device
        self._session = session
        self._inputs: dict[str, tuple[str, list[int | str | None]]] = {
            node.name: (_numpy_type(node.type), node.shape) for node in session.get_inputs()
        }
        self._output_types: dict[str, str] = {node.name: _numpy_type(node.type) for node in session.get_outputs()}
        self._outputs: list[str] = list(self._output_types)
        self._bound = device != "cpu"
        self._run_options = onnxruntime.RunOptions()
        if frees_memory:
            free_after_run(self._run_options)
        register(self)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the graph's inputs."""
        return tuple(self._inputs)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the graph's outputs."""
        return tuple(self._outputs)

    @property
    def input_types(self) -> Mapping[str, tuple[str, tuple[int | None, ...]]]:
        """The dtype and shape of each input, by name; a dynamic dimension is None."""
        return {
            name: (dtype, tuple(length if isinstance(length, int) else None for length in shape))
            for name, (dtype, shape) in self._inputs.items()
        }

    @property
    def only_batch_varies(self) -> bool:
        """Whether the batch is the only dynamic dimension of every input."""
        return all(
            shape and not isinstance(shape[0], int) and all(isinstance(length, int) for length in shape[1:])
            for _, shape in self._inputs.values()
        )

    def lengths(self, arrays: Arrays) -> dict[str, int]:
        """Return the lengths that arrays have, by the names of the graph's dynamic dimensions."""
        return {
            dimension: length
            for name, (_, shape) in self._inputs.items()
            if name in arrays
            for dimension, length in zip(shape, arrays[name].shape, strict=False)
            if isinstance(dimension, str)
        }

    def check_outputs(self, declared: Mapping[str, str]) -> None:
        """Raise ArtifactError unless the graph's outputs have the declared names and dtypes."""
        if self._output_types != declared:
            raise ArtifactError(
                f"graph: other outputs than its manifest declares: expected {_typed(declared)}, got "
                f"{_typed(self._output_types)}. Do not use this artifact; export the model again."
            )

    def run(self, arrays: Arrays) -> dict[str, NDArray[Any]]:
        """Return the graph's outputs by name; contiguous inputs are not copied.

        Raises InputError when names, dtypes or shapes do not fit the graph, which is checked before onnxruntime sees
        them, or when the graph cannot run on these values; DeviceError when the device has failed.
        """
        self._check(arrays)
        interruption = current_interruption()
        work: Terminable = self
        options = self._run_options
        if interruption is not None:
            work, options = interruption, interruption.options
        try:
            with running(work):
                if self._bound:
                    values = self._run_bound(arrays, options)
                else:
                    values = self._session.run(self._outputs, dict(arrays), options)
        except Exception as error:  # onnxruntime raises a class of its own for every status code
            raise _run_error(error, self.device) from error
        return dict(zip(self._outputs, values, strict=True))

    def terminate(self) -> None:
        """End the runs in progress at their next node, and every later one, with an InputError."""
        self._run_options.terminate = True

    def warm_up(self, batches: Collection[int]) -> None:
        """Run once with each batch size, so that the first caller does not wait for the selection of kernels."""
        for batch in sorted(set(batches)):
            arrays = {}
            for name, (dtype, shape) in self._inputs.items():
                lengths = [batch, *(length if isinstance(length, int) else 0 for length in shape[1:])]
                if not shape or 0 in lengths:
                    return  # a dimension that only the input determines
                arrays[name] = np.zeros(lengths, dtype)
            self.run(arrays)

    def _run_bound(self, arrays: Arrays, options: Any) -> list[NDArray[Any]]:
        """Run with inputs and outputs bound to host memory: the device's provider makes one copy in each direction."""
        binding = self._session.io_binding()
        for name, array in arrays.items():
            binding.bind_cpu_input(name, np.ascontiguousarray(array))
        for name in self._outputs:
            binding.bind_output(name, "cpu")
        self._session.run_with_iobinding(binding, options)
        values: list[NDArray[Any]] = binding.copy_outputs_to_cpu()
        return values

    def _check(self, arrays: Arrays) -> None:
        if arrays.keys() != self._inputs.keys():
            raise InputError(
                f"inputs: wrong names: expected {_quoted(self._inputs)}, got {_quoted(arrays)}. Use the graph's names."
            )
        for name, (dtype, shape) in self._inputs.items():
            array = arrays[name]
            fits = len(array.shape) == len(shape) and all(
                actual == expected if isinstance(expected, int) else actual > 0
                for actual, expected in zip(array.shape, shape, strict=True)
            )
            if array.dtype != dtype or not fits:
                raise InputError(
                    f"input '{name}': wrong array: expected {dtype} {_dimensions(shape)}, "
                    f"got {array.dtype} {list(array.shape)}. Pass one of that dtype and shape."
                )


def this_machine() -> MachineInfo:
    """Return the facts about this machine that select a device."""
    return read_machine(tuple(onnxruntime.get_available_providers()))


def open_session(
    graph: Graph,
    *,
    device: str = "auto",
    threads: int | None = None,
    spin: bool = False,
    options: DeviceOptions | None = None,
    machine: MachineInfo | None = None,
) -> Session:
    """Load a graph on ``device``: one of ``devices.DEVICES``, or ``auto``.

    ``threads`` is the number of threads per call, by default the number of usable cores. With ``spin`` they wait for
    one another in a busy loop, which suits calls that have the cores to themselves. Where ``auto`` cannot use a device
    that the machine seems to have, a warning says why the session is on the CPU. Raises DeviceError when the session is
    not on the named device, ArtifactError when the graph does not load.
    """
    machine = this_machine() if machine is None else machine
    names = candidates(device, machine)
    for name in names[:-1]:
        try:
            return _open_on(name, graph, threads, spin, options or DeviceOptions(), machine)
        except DeviceError as error:
            warnings.warn(f"device 'auto' is the CPU, although: {error}", stacklevel=2)
    return _open_on(names[-1], graph, threads, spin, options or DeviceOptions(), machine)


def onnxruntime_version() -> str:
    """Return the version of the imported onnxruntime, whichever package installed it."""
    return str(onnxruntime.__version__)


def _open_on(
    device: str, graph: Graph, threads: int | None, spin: bool, chosen: DeviceOptions, machine: MachineInfo
) -> Session:
    kind, number = split_device(device)
    entry = DEVICES[kind]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or usable_cores()
    # Measured on two cores: spinning threads make a run that is alone a third faster; where the next photos are decoded
    # on the same cores, they cost a quarter of the throughput. Checks run graph after graph, mapped: they cost more.
    on_cpu = entry.provider == CPU_PROVIDER
    mapped = isinstance(graph, StoredGraph) and graph.mapped and on_cpu
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spin and on_cpu and not mapped)))
    options.log_severity_level = _LOG_FATAL
    onnxruntime.set_default_logger_severity(_LOG_FATAL)
    # What a plugin offers is an option of the session, which a list of providers would overrule.
    providers: list[str | tuple[str, dict[str, str]]] | None = [CPU_PROVIDER]
    if entry.provider != CPU_PROVIDER:
        # _check_placement reads it; on a CPU the placement is known, and this takes a fifth of the time to load.
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        if entry.nvidia:
            # Finds CUDA and cuDNN in the nvidia wheels, where they are installed.
            onnxruntime.preload_dlls()
        for name, value in entry.environment(chosen).items():
            os.environ.setdefault(name, value)
        if entry.plugin is None:
            providers = [(entry.provider, entry.options(number, chosen)), CPU_PROVIDER]
        else:
            options.add_provider_for_devices(plugin_devices(device, onnxruntime), entry.options(number, chosen))
            providers = None
    source = _source(graph, options, in_memory=entry.provider == CPU_PROVIDER)
    loading = _Loading(options)
    try:
        with running(loading):
            session = onnxruntime.InferenceSession(source, options, providers=providers, enable_fallback=0)
    except Exception as error:
        absent = missing_number(device, str(error))
        if absent is not None:
            raise DeviceError(f"device '{device}': {absent}") from error
        if entry.provider != CPU_PROVIDER and is_device_failure(device, str(error)):
            reason = f"{_one_line(error)}. Pass --device cpu." if entry.plugin else _why_not(device, machine)
            raise DeviceError(f"device '{device}': onnxruntime could not start it: {reason}") from error
        raise ArtifactError(
            f"{_name(graph)}: onnxruntime {onnxruntime.__version__} cannot load it: {_one_line(error)}. "
            "Install a newer onnxruntime, or export the model again."
        ) from error
    if entry.provider != CPU_PROVIDER:
        _check_placement(session, source, device, machine)
    if isinstance(graph, StoredGraph) and (graph.mapped or entry.provider != CPU_PROVIDER):
        graph.check_unchanged()  # onnxruntime has read the files itself
    return Session(session, device, frees_memory=mapped)


class _Loading:
    """A session that is being loaded."""

    def __init__(self, options: Any) -> None:
        self._options = options
        register(self)

    def terminate(self) -> None:
        """End the load at its next step; a single one, such as folding a constant, is finished first."""
        self._options.set_load_cancellation_flag(True)


def _source(graph: Graph, options: Any, *, in_memory: bool) -> Path | bytes:
    """Return what onnxruntime loads, and give ``options`` the tensors of a verified graph.

    They are not read from the file again, which may be another one by now, or change while it is mapped: only providers
    that copy all weights to their device read it, and a check's sessions map it.
    """
    if not isinstance(graph, StoredGraph):
        return graph
    tensors = graph.initializers()
    if not in_memory:
        return graph.path
    if graph.mapped:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(graph.path.parent))
        return graph.data
    make_value = onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type
    options.add_external_initializers(
        [name for name, _, _ in tensors], [make_value(values, kind) for _, values, kind in tensors]
    )
    return graph.data


def _check_placement(session: Any, graph: Path | bytes, device: str, machine: MachineInfo) -> None:
    """Raise DeviceError unless the session's network nodes are on the device's provider.

    onnxruntime lists a provider as available, and falls back to the CPU, when the provider's libraries are missing:
    only the finished session shows the placement.
    """
    entry = DEVICES[split_device(device)[0]]
    provider = entry.provider
    if provider not in session.get_providers():
        raise DeviceError(
            f"device '{device}': onnxruntime could not start it and fell back to the CPU: {_why_not(device, machine)}"
        )
    subgraphs = session.get_provider_graph_assignment_info()
    wrong = {node.op_type for subgraph in subgraphs for node in subgraph.get_nodes()} & {*entry.wrong_operators}
    if wrong:
        raise DeviceError(
            f"device '{device}': {_name(graph)} has {', '.join(sorted(wrong))}, with which {provider} computes wrong "
            "results. Pass --device cpu."
        )
    nodes = [node for subgraph in subgraphs if subgraph.ep_name != provider for node in subgraph.get_nodes()]
    # onnxruntime computes shapes on the CPU by design: these nodes are no arithmetic of the network.
    harmless = shape_nodes(graph) if nodes else frozenset()
    elsewhere = sorted({node.op_type for node in nodes if node.name not in harmless} - _SHAPE_OPERATORS)
    if elsewhere:
        raise DeviceError(
            f"device '{device}': {_name(graph)} would run partly on the CPU: {provider} does not take "
            f"{', '.join(elsewhere)}. Pass --device cpu, or export the model again with a newer onnxruntime."
        )


def _why_not(device: str, machine: MachineInfo) -> str:
    """Return the reason why the device's provider does not start, and the fix."""
    kind, _ = split_device(device)
    folder = Path(onnxruntime.__file__).parent / "capi"
    complaint = ""
    try:
        # The provider's library needs symbols of the shared one, which onnxruntime also loads first.
        ctypes.CDLL(str(folder / "libonnxruntime_providers_shared.so"), mode=ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(folder / f"libonnxruntime_providers_{kind}.so"))
    except OSError as error:
        complaint = str(error)
    return missing_piece(device, machine, complaint)


def _run_error(error: Exception, device: str) -> InputError | DeviceError:
    reason = _one_line(error)
    if device != "cpu" and is_device_failure(device, reason):
        return DeviceError(
            f"device '{device}': failed while running: {reason}. Check the device, and load the model again."
        )
    return InputError(f"inputs: the network cannot run on these values: {reason}. Use other inputs, or fewer at once.")


def _name(graph: Graph) -> str:
    path = graph.path if isinstance(graph, StoredGraph) else graph
    return f"'{path}'" if isinstance(path, Path) else "the graph"


def _numpy_type(onnx_type: str) -> str:
    name = onnx_type.removeprefix("tensor(").removesuffix(")")
    return {"float": "float32", "double": "float64", "string": "object"}.get(name, name)


def _quoted(names: Mapping[str, object]) -> str:
    return ", ".join(f"'{name}'" for name in names) or "none"


def _typed(outputs: Mapping[str, str]) -> str:
    return listed([f"'{name[:80]}' ({dtype[:20]})" for name, dtype in outputs.items()]) or "none"


def _dimensions(shape: list[int | str | None]) -> str:
    return "[" + ", ".join(str(dimension) for dimension in shape) + "]"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")


def run_in_parts(
    run: Callable[[Arrays], dict[str, NDArray[Any]]], arrays: Arrays, most: int
) -> dict[str, NDArray[Any]]:
    """Return the outputs of arrays whose first dimension is the batch, of which ``most`` run at once."""
    count = len(next(iter(arrays.values())))
    parts = [
        run({name: array[start : start + most] for name, array in arrays.items()}) for start in range(0, count, most)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
