"""Interface of a preprocessing step's module: reading, ONNX nodes, TorchScript."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from torch import nn

from exporter.conversion.node_builder import NodeBuilder, Value
from exporter.errors import PreprocessingError
from exporter.inputs.image.pixel_format import PixelFormat
from runtime.manifest import ArithmeticStep, GeometryStep

Step: TypeAlias = GeometryStep | ArithmeticStep


class RewriteError(PreprocessingError):
    """A transform has to be written in another way, which the message says; few are equal to what options state."""


@dataclass(frozen=True, kw_only=True)
class TransformInput:
    """What a transform in a Compose gets: a PIL image or an array, then a tensor of its type, then floats.

    ``subject`` names the transform in messages.
    """

    pixels: PixelFormat
    is_tensor: bool
    is_float: bool
    subject: str

    def check_resized(self) -> None:
        """Raise RewriteError where floats would be resized, which rounds to no gray level."""
        if self.is_float:
            raise RewriteError(
                f"{self.subject}: resizes floats: expected whole gray levels, which the artifact resizes. Put "
                "v2.PILToTensor() before it and v2.ToDtype(torch.float32, scale=True) behind it in place of ToTensor, "
                "make it a v2.Resize, and check the model's accuracy once with it, as that rounds to whole levels."
            )

    def check_pixels(self) -> None:
        """Raise PreprocessingError unless it is pixels in a form that torchvision's geometry takes."""
        if self.is_float:
            raise PreprocessingError(
                f"{self.subject}: comes after the image became floats. Move it before that if that is how the model "
                "was trained; otherwise it cannot be folded in."
            )
        if self.pixels.mode == "bands" and not self.is_tensor:
            raise PreprocessingError(
                f"{self.subject}: would get an array [height, width, channels]: expected v2.ToImage before it. Put it "
                "there."
            )

    def check_image(self) -> None:
        """Raise PreprocessingError if it is a tensor, on which torchvision rounds otherwise."""
        if self.is_tensor:
            raise PreprocessingError(
                f"{self.subject}: works on a tensor, where torchvision rounds otherwise: expected it before ToTensor, "
                "PILToTensor or ToImage. Move it there."
            )


# Returns the manifest's steps that a transform is, or None where it cannot be folded in.
Reader: TypeAlias = Callable[[Any, TransformInput], Sequence[Step] | None]

# By exact class, since a subclass may do anything; by dotted name where the library may be missing.
Readers: TypeAlias = dict[type | str, Reader]


class PixelNodes(NodeBuilder):
    """Nodes between pixels [batch, channels, height, width]: uint8, or int32 where ``wide``.

    Wide pixels stand for uint16, which few runtimes can pad.
    """

    def __init__(self, prefix: str, *, wide: bool) -> None:
        super().__init__(prefix)
        self.wide = wide

    def level(self, value: int) -> str:
        """Return the name of a scalar of the pixels' type."""
        return self.int32s([value], shape=[], name=f"level_{value}") if self.wide else self.byte(value)


class StepModule(Protocol):
    """What the module of a step has; ``step`` is of the step's manifest type, positional in all functions."""

    READERS: Readers

    def describe(self, step: Any, /) -> str:
        """Return the step in a few words for people."""

    def write_onnx(self, nodes: Any, values: Value, step: Any, /) -> Value:
        """Append the step's nodes to ``nodes``.

        Geometry gets and returns pixels as ``PixelNodes`` says; arithmetic gets float32 [batch, channels, height,
        width] in a plain NodeBuilder.
        """

    def to_module(self, step: Any, /) -> nn.Module:
        """Return the step as a module that TorchScript can compile, of tensors [batch, channels, height, width].

        Geometry gets uint8, or int32 in place of uint16; arithmetic gets float32.
        """
