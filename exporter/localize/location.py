"""Location of a fault in a network's graph."""

from dataclasses import dataclass
from pathlib import Path

from exporter.localize.program import SourceLocation


@dataclass(frozen=True, kw_only=True)
class FaultLocation:
    """The first node at fault, and its origin.

    ``output`` is the value that is wrong, ``operators`` those between it and the values that it was given, the last
    being the node. ``origin`` is the module and the source line. ``difference`` is the largest for ``input``; ``floor``
    and ``limit`` are in its unit; infinite where the shapes differ or the node does not run, and then ``finding`` says
    so. ``changes`` says what differs from the node as torch.onnx converts it now; empty where nothing does, so that the
    converter or onnxruntime is at fault. ``folder`` has the node alone, and a script that runs it.
    """

    node: str
    output: str
    operators: tuple[str, ...]
    origin: SourceLocation
    input: str
    difference: float
    floor: float
    limit: float
    finding: str
    changes: tuple[str, ...]
    runs: int
    folder: Path | None

    def describe(self) -> str:
        """Return one sentence for people."""
        operator = self.operators[-1]
        why = (
            f"it is not the node that torch.onnx makes of it: {'; '.join(self.changes)}"
            if self.changes
            else "it is what torch.onnx makes of it now: the converter or onnxruntime is at fault"
        )
        return (
            f"node '{self.node}' ({operator}), from {self.origin.describe()}: expected at most {self.limit:.1e} from "
            f"eager given eager's own inputs, got {self.finding}; {why}"
        )
