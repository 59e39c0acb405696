"""Faults of the network itself: weights, modes, operators and numbers' precision."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import torch
from mutation.planting import (
    Planting,
    add_constants,
    change_constant,
    fault,
    insert_after,
    nodes_of,
    set_attribute,
)
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch import nn

from exporter.backends import torchscript

PHOTO = "photo"


def weights(planting: Planting, change: Callable[[Any], None]) -> None:
    """Change the exported network, as a module."""

    def changed(network: nn.Module) -> None:
        with torch.no_grad():
            change(network)

    planting.network(changed)


def constant(planting: Planting, name: str, change: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
    """Change one constant of the converted network."""
    planting.converted(lambda model: change_constant(model, name, change))


# --- as the module was loaded or called ---


@fault("network", subject=PHOTO)
def traced_in_train_mode(planting: Planting) -> None:
    """eval() is forgotten before torch.jit.trace: dropout and batch statistics are in the archive."""
    trace = torchscript.trace
    planting.replace(torchscript, "trace", lambda network, example: trace(network.train(), example))


@fault("network", subject=PHOTO)
def batch_statistics(planting: Planting) -> None:
    """BatchNorm uses the batch's own statistics: the answer for a photo depends on its neighbors."""

    def change(network: Any) -> None:
        network.norm.track_running_stats = False
        network.norm.running_mean = network.norm.running_var = None

    weights(planting, change)


@fault("network", subject=PHOTO)
def running_statistics_not_loaded(planting: Planting) -> None:
    """load_state_dict(strict=False) leaves BatchNorm's fresh mean 0 and variance 1."""
    weights(planting, lambda network: network.second_norm.reset_running_stats())


@fault("network", subject=PHOTO)
def epsilon_of_TensorFlow(planting: Planting) -> None:  # noqa: N802
    """BatchNorm's epsilon is 1e-3 in TensorFlow and Keras, 1e-5 in torch: no weight tells."""
    weights(planting, lambda network: setattr(network.norm, "eps", 1e-3))


@fault("network", subject=PHOTO)
def epsilon_of_layer_norm(planting: Planting) -> None:
    """Keras' LayerNormalization has 1e-3 where torch has 1e-5."""
    planting.converted(lambda model: set_attribute(nodes_of(model, "LayerNormalization")[0], "epsilon", 1e-3))


@fault("network", subject=PHOTO)
def one_layer_of_another_epoch(planting: Planting) -> None:
    """A partly overwritten checkpoint: one layer is a few optimizer steps older."""
    weights(planting, lambda network: network.neck.weight.mul_(1.003))


@fault("network", subject=PHOTO)
def averaged_weights_for_the_last_ones(planting: Planting) -> None:
    """The exponential moving average is exported where the last weights were evaluated."""

    def change(network: nn.Module) -> None:
        generator = torch.Generator().manual_seed(1)
        for parameter in network.parameters():
            parameter.add_(0.003 * parameter.abs().mean() * torch.randn(parameter.shape, generator=generator))

    weights(planting, change)


@fault("network", subject=PHOTO)
def two_classes_swapped(planting: Planting) -> None:
    """Two rows of the last layer are exchanged by a remapping of classes."""
    weights(planting, lambda network: network.head.weight.copy_(network.head.weight[[1, 0, 2, 3]]))


@fault("network", subject=PHOTO)
def square_layer_transposed(planting: Planting) -> None:
    """TensorFlow keeps a dense layer's weights transposed; a square one loads without a complaint."""
    constant(planting, "square.weight", lambda array: array.T)


@fault("network", subject=PHOTO)
def flattened_channels_last(planting: Planting) -> None:
    """The layer after a flatten was trained channels last."""
    constant(
        planting,
        "neck.weight",
        lambda array: array.reshape(16, 12, 8, 8).transpose(0, 2, 3, 1).reshape(16, 768),
    )


@fault("network", subject=PHOTO)
def dropout_scaled_twice(planting: Planting) -> None:
    """Old dropout scales at evaluation: activations are multiplied by the share that is kept."""
    weights(planting, lambda network: network.head.weight.mul_(0.7))


@fault("network", subject=PHOTO)
def bias_forgotten(planting: Planting) -> None:
    """The bias of the last layer is dropped when a head is replaced."""
    constant(planting, "head.bias", np.zeros_like)


@fault("network", subject=PHOTO)
def one_weight_overwritten(planting: Planting) -> None:
    """A bit of one weight flips on a disk: 0.03 becomes large."""

    def change(array: NDArray[Any]) -> NDArray[Any]:
        array[3, 5] *= 1024
        return array

    constant(planting, "square.weight", change)


# --- other operators ---


@fault("network", subject=PHOTO)
def another_activation(planting: Planting) -> None:
    """hard-swish for SiLU, as mobile libraries replace it."""
    weights(planting, lambda network: setattr(network, "activation", nn.Hardswish()))


@fault("network", subject=PHOTO)
def GELU_by_tanh(planting: Planting) -> None:  # noqa: N802
    """TensorFlow's approximation of GELU: within 5e-4, and in every layer."""
    planting.converted(lambda model: set_attribute(nodes_of(model, "Gelu")[0], "approximate", "tanh"))


@fault("network", subject=PHOTO)
def padding_not_counted_in_means(planting: Planting) -> None:
    """count_include_pad is True in torch and False in TensorFlow."""
    planting.converted(lambda model: set_attribute(nodes_of(model, "AveragePool")[0], "count_include_pad", 0))


@fault("network", subject=PHOTO)
def pooled_with_SAME_padding(planting: Planting) -> None:  # noqa: N802
    """TensorFlow's SAME puts the odd pixel after the image, torch's padding on both sides."""
    planting.converted(lambda model: set_attribute(nodes_of(model, "MaxPool")[0], "pads", [0, 0, 1, 1]))


@fault("network", subject=PHOTO)
def maximum_for_mean(planting: Planting) -> None:
    """global pooling of another kind: timm's pool argument."""

    def change(model: onnx.ModelProto) -> None:
        (node,) = nodes_of(model, "AveragePool")
        shape = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
        node.CopyFrom(helper.make_node("MaxPool", list(node.input), list(node.output), **shape))

    planting.converted(change)


@fault("network", "end to end", subject=PHOTO)
def batch_fixed_by_the_trace(planting: Planting) -> None:
    """x.view(1, -1) in a forward: a batch of one is right, and any other fails."""

    def change(model: onnx.ModelProto) -> None:
        (node,) = nodes_of(model, "Reshape")
        change_constant(model, node.input[1], lambda _: np.array([1, -1]))

    planting.converted(change)


@fault("network", "end to end", subject=PHOTO)
def batch_averaged(planting: Planting) -> None:
    """A mean over dimension 0 of what had one entry when it was traced: right for single photos only."""

    def change(model: onnx.ModelProto) -> None:
        add_constants(model, zeroth=np.array([0]))
        insert_after(
            model,
            "gelu",
            lambda given, wanted: [
                helper.make_node("ReduceMean", [given, "zeroth"], ["mean over the batch"], keepdims=1),
                helper.make_node("Sub", [given, "mean over the batch"], ["without it"]),
                helper.make_node("Add", ["without it", "mean over the batch"], ["again"]),
                helper.make_node("Max", ["again", "mean over the batch"], [wanted]),
            ],
        )

    planting.converted(change)


# --- precision ---


@fault("network", subject="photo, large activations")
def overflow_in_half_precision(planting: Planting) -> None:
    """Activations above 65504 become infinite in float16."""

    def halve(given: str, wanted: str) -> list[onnx.NodeProto]:
        return [
            helper.make_node("Cast", [given], [f"{wanted}/half"], to=TensorProto.FLOAT16),
            helper.make_node("Cast", [f"{wanted}/half"], [wanted], to=TensorProto.FLOAT),
        ]

    def change(model: onnx.ModelProto) -> None:
        first = nodes_of(model, "Conv")[0]
        scale = np.float32(3e5)
        # The converter folded the norm into the convolution: this takes its scale out again, as it is while training.
        change_constant(model, first.input[1], lambda array: array * scale)
        change_constant(model, first.input[2], lambda array: array * scale)
        add_constants(model, norm_scale=scale)
        output = first.output[0]
        insert_after(model, output, lambda given, wanted: [helper.make_node("Div", [given, "norm_scale"], [wanted])])
        insert_after(model, f"{output}/before", halve)

    planting.converted(change)


@fault("network", subject=PHOTO)
def weights_in_half_precision(planting: Planting) -> None:
    """A checkpoint saved with .half() to save space, and loaded back."""

    def change(model: onnx.ModelProto) -> None:
        for layer in ("first.weight", "second.weight", "neck.weight", "square.weight", "head.weight"):
            change_constant(model, layer, lambda array: array.astype(np.float16).astype(np.float32))

    planting.converted(change)


@fault("network", subject=PHOTO)
def weights_in_bfloat16(planting: Planting) -> None:
    """Eight bits of mantissa, cut off."""

    def cut(array: NDArray[Any]) -> NDArray[Any]:
        return (array.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)

    constant(planting, "neck.weight", cut)


@fault("network", subject=PHOTO)
def eight_bits_of_a_bad_range(planting: Planting) -> None:
    """int8 weights whose range was taken from a percentile: the large ones are cut off."""

    def quantise(array: NDArray[Any]) -> NDArray[Any]:
        scale = np.percentile(np.abs(array), 90) / 127
        return (np.clip(np.round(array / scale), -128, 127) * scale).astype(np.float32)

    constant(planting, "second.weight", quantise)


@fault("network", subject=PHOTO)
def activations_calibrated_on_dark_photos(planting: Planting) -> None:
    """Activations in uint8 with a range from too few photos: the bright ones saturate."""

    def change(model: onnx.ModelProto) -> None:
        add_constants(model, silu_scale=np.float32(1.0 / 255), silu_zero=np.uint8(60))
        insert_after(
            model,
            "silu",
            lambda given, wanted: [
                helper.make_node("QuantizeLinear", [given, "silu_scale", "silu_zero"], ["silu in 8 bits"]),
                helper.make_node("DequantizeLinear", ["silu in 8 bits", "silu_scale", "silu_zero"], [wanted]),
            ],
        )

    planting.converted(change)


@fault("network", subject=PHOTO)
def zero_point_off_by_one(planting: Planting) -> None:
    """uint8 activations with a zero point of 128 on the one side and 127 on the other."""

    def change(model: onnx.ModelProto) -> None:
        add_constants(model, bits=np.float32(8.0 / 255), zero=np.uint8(128), other_zero=np.uint8(127))
        insert_after(
            model,
            "gelu",
            lambda given, wanted: [
                helper.make_node("QuantizeLinear", [given, "bits", "zero"], ["gelu in 8 bits"]),
                helper.make_node("DequantizeLinear", ["gelu in 8 bits", "bits", "other_zero"], [wanted]),
            ],
        )

    planting.converted(change)


# --- maps ---


@fault("network", subject="photo, every place")
def corners_aligned(planting: Planting) -> None:
    """align_corners=True in one of two interpolations, the default of old torch."""

    def change(model: onnx.ModelProto) -> None:
        set_attribute(nodes_of(model, "Resize")[-1], "coordinate_transformation_mode", "align_corners")

    planting.converted(change)


@fault("network", subject="photo, every place")
def corners_as_TensorFlow_has_them(planting: Planting) -> None:  # noqa: N802
    """Half-pixel centers are left out, as in TensorFlow 1's resize."""

    def change(model: onnx.ModelProto) -> None:
        set_attribute(nodes_of(model, "Resize")[-1], "coordinate_transformation_mode", "asymmetric")

    planting.converted(change)
