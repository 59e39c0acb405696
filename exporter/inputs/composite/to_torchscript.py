"""What precedes the network of several parts in a TorchScript archive."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn


class PreparedParts(nn.Module):
    """The raw inputs of all parts by position to a tuple of the network's tensors, in the order that it takes them.

    ``modules`` prepare some parts, each from the raw inputs at some positions; the others' tensors are the network's.
    """

    def __init__(self, modules: Mapping[str, nn.Module], positions: Mapping[str, Sequence[int]]) -> None:
        super().__init__()
        self.prepared = nn.ModuleDict({f"part_{name}": module for name, module in modules.items()})
        self.positions = {f"part_{name}": tuple(own) for name, own in positions.items()}

    def forward(self, *raw: Tensor) -> tuple[Tensor, ...]:
        """Return the network's tensors."""
        tensors: list[Tensor] = []
        for name, positions in self.positions.items():
            own = [raw[position] for position in positions]
            tensors += self.prepared[name](*own) if name in self.prepared else own
        return tuple(tensors)
