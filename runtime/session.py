"""A graph on a device: the only file that imports onnxruntime."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnxruntime
from numpy.typing import NDArray

from runtime.cores import usable_cores
from runtime.errors import ArtifactError, DeviceError, InputError

Arrays = Mapping[str, NDArray[Any]]

_CPU = "CPUExecutionProvider"
_CUDA = "CUDAExecutionProvider"

# onnxruntime's "fatal": every failure is raised, and a failed CUDA provider would print its own story first.
_LOG_FATAL = 4

# TF32 keeps 10 bits of the mantissa, and PyTorch's matmul does not use it; EXHAUSTIVE search costs 0.6 s a new shape.
_CUDA_OPTIONS = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}

# onnxruntime computes shapes on the CPU by design: these hold no network arithmetic.
_SHAPE_OPERATORS = {"Shape", "Gather", "Concat", "Unsqueeze", "Squeeze", "Cast", "Constant", "Slice", "Reshape"}


class Session:
    """One ONNX graph, loaded on one device; safe to call from many threads."""

    def __init__(self, session: Any, device: str) -> None:
        self.device = device
        self._session = session
        self._inputs: dict[str, tuple[str, list[int | str | None]]] = {
            node.name: (_numpy_type(node.type), node.shape) for node in session.get_inputs()
        }
        self._outputs: list[str] = [node.name for node in session.get_outputs()]

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the graph's inputs."""
        return tuple(self._inputs)

    def run(self, arrays: Arrays) -> dict[str, NDArray[Any]]:
        """Return the graph's outputs by name.

        Raises InputError when names, dtypes or shapes are not the graph's; onnxruntime sees only what fits.
        """
        self._check(arrays)
        return dict(zip(self._outputs, self._session.run(self._outputs, dict(arrays)), strict=True))

    def _check(self, arrays: Arrays) -> None:
        if arrays.keys() != self._inputs.keys():
            raise InputError(
                f"inputs: wrong names: expected {_quoted(self._inputs)}, got {_quoted(arrays)}. Rename the arrays."
            )
        for name, (dtype, shape) in self._inputs.items():
            array = arrays[name]
            fits = len(array.shape) == len(shape) and all(
                actual == wanted if isinstance(wanted, int) else actual > 0
                for actual, wanted in zip(array.shape, shape, strict=True)
            )
            if array.dtype != dtype or not fits:
                raise InputError(
                    f"input '{name}': wrong array: expected {dtype} {_dimensions(shape)}, "
                    f"got {array.dtype} {list(array.shape)}. Convert it."
                )


def open_session(path: Path, *, device: str = "auto", threads: int | None = None) -> Session:
    """Return the graph in file ``path``, loaded on ``device``: ``cpu``, ``cuda``, ``cuda:N``, or ``auto``.

    ``threads`` is the number of threads for one call; by default, as many as the cores this process may use. Raises
    DeviceError when a named device is not the one that the session ended up on, ArtifactError when the graph does not
    load.
    """
    name = _resolve(device)
    providers = _providers(name)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or usable_cores()
    options.log_severity_level = _LOG_FATAL
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    onnxruntime.set_default_logger_severity(_LOG_FATAL)
    try:
        session = onnxruntime.InferenceSession(path, options, providers=providers)
    except Exception as error:  # onnxruntime raises a class of its own for every status code
        raise ArtifactError(
            f"'{path}': onnxruntime {onnxruntime.__version__} cannot load it: {_one_line(error)}. "
            "Install a newer onnxruntime, or export the model again."
        ) from error
    if name != "cpu":
        _check_placement(session, path, name)
    return Session(session, name)


def _resolve(device: str) -> str:
    """Return the device that a session is to be on: never ``auto``."""
    kind, _, index = device.partition(":")
    if kind not in {"auto", "cpu", "cuda"} or (index and (kind != "cuda" or not index.isdigit())):
        raise DeviceError(f"device '{device}': unknown: expected 'auto', 'cpu', 'cuda' or 'cuda:N'. Name one of these.")
    if device != "auto":
        return device
    return "cuda" if _CUDA in onnxruntime.get_available_providers() and Path("/dev/nvidiactl").exists() else "cpu"


def _providers(device: str) -> list[str | tuple[str, dict[str, str]]]:
    if device == "cpu":
        return [_CPU]
    if _CUDA not in onnxruntime.get_available_providers():
        raise DeviceError(
            f"device '{device}': this onnxruntime has no {_CUDA}. Run: pip uninstall -y onnxruntime && "
            "pip install 'truecopy[cuda]'."
        )
    onnxruntime.preload_dlls()  # finds CUDA and cuDNN in the nvidia wheels, where they are installed
    return [(_CUDA, {**_CUDA_OPTIONS, "device_id": device.partition(":")[2] or "0"}), _CPU]


def _check_placement(session: Any, path: Path, device: str) -> None:
    """Raise DeviceError unless the session's network nodes are on CUDA.

    onnxruntime lists CUDA as available, and falls back to the CPU, when the CUDA libraries are missing: only the
    finished session tells.
    """
    if _CUDA not in session.get_providers():
        raise DeviceError(
            f"device '{device}': onnxruntime could not start CUDA and fell back to the CPU. Check that 'nvidia-smi' "
            "works, and install the CUDA libraries: pip install 'onnxruntime-gpu[cuda,cudnn]'. "
            "To run on the CPU, pass --device cpu."
        )
    elsewhere = sorted(
        {
            node.op_type
            for subgraph in session.get_provider_graph_assignment_info()
            if subgraph.ep_name != _CUDA
            for node in subgraph.get_nodes()
        }
        - _SHAPE_OPERATORS
    )
    if elsewhere:
        raise DeviceError(
            f"device '{device}': '{path}' would run partly on the CPU: {', '.join(elsewhere)} have no CUDA kernel. "
            "Pass --device cpu, or export the model again with a newer onnxruntime."
        )


def _numpy_type(onnx_type: str) -> str:
    name = onnx_type.removeprefix("tensor(").removesuffix(")")
    return {"float": "float32", "double": "float64", "string": "object"}.get(name, name)


def _quoted(names: Mapping[str, object]) -> str:
    return ", ".join(f"'{name}'" for name in names) or "none"


def _dimensions(shape: list[int | str | None]) -> str:
    return "[" + ", ".join(str(dimension) for dimension in shape) + "]"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")
