"""Export of a network that is in memory, as in a notebook: its options from Python's objects."""

import copy
import inspect
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from exporter.errors import ExportError
from exporter.options.export import ExportOptions

if TYPE_CHECKING:
    from torch import nn


@contextmanager
def saved_network(network: "nn.Module", keywords: Mapping[str, Any]) -> Iterator[ExportOptions]:
    """Give the options of an export of ``network``, whose weights are in a temporary file as long as the context.

    ``keywords`` are options by name, and ``sample`` is an input of the network, a tensor or several by position or name
    with a batch dimension, which describes ``inputs``. Nothing changes the network: its copy is exported, on the CPU
    and in evaluation. Raises ExportError as ExportOptions does.
    """
    import torch

    options = dict(keywords)
    if "arch" in options:
        raise ExportError("export(): arch: has no effect, as the network is given. Leave it out.")
    # torch.compile wraps the network.
    own = getattr(network, "_orig_mod", network)
    if "sample" in options:
        if options.get("inputs"):
            raise ExportError("export(): sample: describes the inputs, as inputs does. Leave out one of them.")
        options["inputs"] = tuple(_describe_inputs(own, options.pop("sample")))
    name = type(own).__name__
    with TemporaryDirectory(prefix="truecopy-") as folder:
        path = Path(folder) / f"{name}.pth"
        exported = copy.deepcopy(own).to("cpu").eval()
        torch.save(exported.state_dict(), path)
        yield ExportOptions.from_keywords(path, exported, **{"name": _snake_case(name), **options})


def _describe_inputs(network: "nn.Module", sample: Any) -> Iterator[str]:
    """Yield a sample's tensors as --input describes them; their names are those of the forward's parameters."""
    import torch

    if isinstance(sample, Mapping):
        named = dict(sample)
    else:
        values = list(sample) if isinstance(sample, list | tuple) else [sample]
        parameters = inspect.signature(network.forward).parameters.values()
        plain = [parameter.name for parameter in parameters if parameter.kind == parameter.POSITIONAL_OR_KEYWORD]
        names = plain if len(plain) >= len(values) else [f"input_{number}" for number in range(len(values))]
        named = dict(zip(names, values, strict=False))
    for name, value in named.items():
        tensor = torch.as_tensor(value) if hasattr(value, "__array__") else value
        if not isinstance(tensor, torch.Tensor) or not tensor.dim():
            got = f"shape {list(tensor.shape)}" if isinstance(tensor, torch.Tensor) else type(value).__name__
            raise ExportError(
                f"export(): sample: expected tensors with a batch dimension, as the network takes them, got {got} for "
                f"'{name}'. Pass one, several in a tuple, or a dictionary by the names of the forward's parameters."
            )
        shape = ",".join(["batch", *map(str, tensor.shape[1:])])
        yield f"{name}={str(tensor.dtype).removeprefix('torch.')}[{shape}]"


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
