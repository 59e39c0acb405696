"""Functions of tensors in a transform are read where they are affine per channel or standardize, and else refused."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torchvision import transforms
from torchvision.transforms import v2

import exporter
from exporter.inputs.image import Arithmetic, arithmetic_nodes, read_transform
from runtime.manifest import ChannelOrder, Normalize, Standardize

NORMALIZE = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def arithmetic_of(*parts):
    return read_transform(transforms.Compose([transforms.Resize((8, 6)), *parts])).steps


@pytest.mark.parametrize(
    "parts",
    [
        (transforms.ToTensor(), transforms.Lambda(lambda x: x * 2 - 1)),
        (transforms.ToTensor(), lambda x: x[[2, 1, 0]] * 255, transforms.Normalize([104, 117, 123], [1, 1, 1])),
        (transforms.ToTensor(), NORMALIZE, transforms.Lambda(lambda x: x.flip(0))),
        (transforms.ToTensor(), NORMALIZE, transforms.Lambda(lambda x: x.to(torch.float32))),
        (transforms.PILToTensor(), transforms.Lambda(lambda x: x / 255.0), NORMALIZE),
        (v2.ToImage(), v2.Lambda(lambda x: x.float() - torch.tensor([104.0, 117, 123]).view(3, 1, 1))),
        (transforms.Grayscale(), transforms.ToTensor(), transforms.Lambda(lambda x: x.repeat(3, 1, 1)), NORMALIZE),
        (transforms.ToTensor(), NORMALIZE, transforms.Normalize([0.1, 0.2, 0.3], [1, 2, 3])),
        (transforms.ToTensor(), transforms.Lambda(lambda x: (x - x.mean()) / x.std())),
        (transforms.ToTensor(), lambda x: (x - x.mean((1, 2), keepdim=True)) / (x.std((1, 2), keepdim=True) + 1e-6)),
        (transforms.PILToTensor(), lambda x: (x - x.float().mean()) / (x.float().std(correction=0) + 1e-3)),
    ],
)
def test_what_is_affine_per_channel_is_read_and_follows_the_function_in_both_forms(parts):
    transform = transforms.Compose([transforms.Resize((8, 6)), *parts])
    reading = read_transform(transform)
    image = transforms.ToPILImage()(torch.randint(0, 256, (3, 8, 6), dtype=torch.uint8))
    pixels = reading.pixels(image)[np.newaxis]

    nodes = arithmetic_nodes(reading.steps, pixels="pixels", normalized="normalized")
    graph = onnx.helper.make_graph(
        nodes.nodes,
        "arithmetic",
        [onnx.helper.make_tensor_value_info("pixels", onnx.TensorProto.UINT8, list(pixels.shape))],
        [onnx.helper.make_tensor_value_info("normalized", onnx.TensorProto.FLOAT, None)],
        list(nodes.constants.values()),
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (written,) = session.run(None, {"pixels": pixels})
    expected = transform(image)[np.newaxis].numpy()

    np.testing.assert_allclose(written, expected, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(Arithmetic(reading.steps)(torch.from_numpy(pixels.copy())).numpy(), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: (x - x.mean()) / x.std(), Standardize(per="image", unbiased=True, epsilon=0.0)),
        (
            lambda x: (x - x.mean((1, 2), keepdim=True)) / (x.std((1, 2), correction=0, keepdim=True) + 1e-5),
            Standardize(per="channel", unbiased=False, epsilon=1e-5),
        ),
    ],
)
def test_statistics_of_the_image_itself_are_a_step_of_their_own(function, expected):
    assert arithmetic_of(transforms.ToTensor(), function).arithmetic[1:] == (expected,)


def test_numbers_are_read_as_people_write_them():
    steps = arithmetic_of(transforms.ToTensor(), transforms.Lambda(lambda x: (x[[2, 1, 0]] - 0.5) / 0.5))

    assert steps.arithmetic[1:] == (
        ChannelOrder(order=(2, 1, 0)),
        Normalize(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    )


@pytest.mark.parametrize(
    "function",
    [
        lambda x: (x - x.mean()) / (x.std() * 2),
        lambda x: (x - x.mean()) / (x.var() + 1),
        lambda x: x / x.max(),
        lambda x: x**2,
        lambda x: x.clamp(0.2, 0.8),
        lambda x: x.flip(2),
        lambda x: x.mean(0, keepdim=True),
        lambda x: x + torch.rand(1),
        lambda x: x[:, 1:],
        lambda x: x * 0,
        lambda _x: 1 / 0,
    ],
)
def test_what_depends_on_the_image_or_bends_values_is_refused(function):
    with pytest.raises(exporter.PreprocessingError, match=r"step 3 of 3, 'Lambda': cannot be folded in.*forward"):
        arithmetic_of(transforms.ToTensor(), transforms.Lambda(function))
