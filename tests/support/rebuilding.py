"""What rebuilt networks are compared with."""

import torch

from exporter.architectures.rebuild import RebuiltNetwork
from runtime.manifest import KeyTransform

UNCHANGED = KeyTransform(
    dropped=(),
    removed_prefix="",
    added_prefix="",
    renamed={},
    replaced={},
    tied={},
    filled_counters=0,
    cast_from=(),
)


def same(rebuilt: RebuiltNetwork, tensors: dict[str, torch.Tensor]) -> bool:
    """Return whether the network holds these tensors."""
    state = rebuilt.network.state_dict()
    return all(torch.equal(state[key], tensor) for key, tensor in tensors.items())
