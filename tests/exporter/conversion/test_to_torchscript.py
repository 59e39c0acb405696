"""The archive gives the same answers wherever it is loaded."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet18
from torchvision.transforms import v2

import exporter
from exporter.backends.torchscript import Pipeline
from exporter.conversion import to_torchscript
from exporter.conversion.to_torchscript import load_torchscript, trace, write_torchscript


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """A network with sums that are long enough for TF32 to show in them, behind a resize, a frame and a crop."""
    torch.manual_seed(0)
    network = resnet18(num_classes=5)
    with torch.no_grad():
        network.train()(torch.randn(8, 3, 64, 64))
        network.eval().fc.weight.mul_(3)
    folder = tmp_path_factory.mktemp("archive")
    torch.save(network.state_dict(), folder / "model.pth")
    steps = [v2.Resize(64), v2.CenterCrop(72), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    exported = exporter.export(folder / "model.pth", "resnet18", preprocess=v2.Compose(steps), out=folder / "artifact")
    return exported.artifact / "model.torchscript"


@pytest.fixture
def image(photos):
    return torch.from_numpy(np.array(photos[0]))[None]


def test_convolutions_were_traced_without_tf32(archive):
    """The setting of the trace is kept in the archive, whatever the process that loads it allows."""
    module = load_torchscript(archive)

    graph = module.score.inlined_graph  # its nodes are no more than pointers into it
    convolutions = graph.findAllNodes("aten::_convolution", recurse=True)

    assert len(convolutions) == 20
    assert {[*node.inputs()][-1].toIValue() for node in convolutions} == {False}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and a PyTorch that has it")
def test_on_cuda_it_gives_the_same_pixels_and_answers(archive, image):
    here, there = load_torchscript(archive), load_torchscript(archive, torch.device("cuda"))

    pixels = there.prepare(image.cuda())
    answers = there(image.cuda())

    assert pixels.is_cuda
    assert torch.equal(pixels.cpu(), here.prepare(image))
    assert answers.is_cuda
    torch.testing.assert_close(answers.cpu(), here(image), rtol=0, atol=1e-5)


class Upsampling(nn.Module):
    """The way up of a U-Net: a resize to the size of an earlier tensor."""

    def forward(self, x: Tensor) -> Tensor:
        small = nn.functional.max_pool2d(x, 2)
        return nn.functional.interpolate(small, size=x.shape[-2:], mode="bilinear", align_corners=False)


def test_a_network_is_traced_whose_operators_the_watch_hides_from_the_tracer():
    x = torch.rand(2, 3, 8, 8)

    traced = trace(Upsampling(), (x,))

    torch.testing.assert_close(traced(x + 1), Upsampling()(x + 1))


def test_no_weight_stays_in_a_compiled_graph_once_the_archive_is_written(tmp_path, monkeypatch):
    """torch.jit keeps its graphs for good: an export of a large network would hold folded weights to its end."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8 * 36, 2)).eval()
    example = torch.randn(2, 3, 8, 8)
    frozen = []
    freeze = torch.jit.freeze
    monkeypatch.setattr(
        torch.jit, "freeze", lambda *args, **options: frozen.append(freeze(*args, **options)) or frozen[0]
    )

    write_torchscript(trace(network, (example,)), tmp_path / "archive")

    constants = [
        node.t("value").numel()
        for node in frozen[0].graph.findAllNodes("prim::Constant", recurse=True)
        if node.hasAttribute("value") and node.kindOf("value") == "t"
    ]
    assert len(constants) >= 4
    assert sum(constants) == 0
    with torch.no_grad():
        torch.testing.assert_close(load_torchscript(tmp_path / "archive")(example), network(example))


class Shared(nn.Module):
    """A network one of whose constants is a view of its own weights, as torch.jit finds while it freezes."""

    def __init__(self):
        super().__init__()
        self.norm = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
        self.weight = nn.Parameter(torch.randn(4, 8))

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x).mean((2, 3)) @ self.weight[:2].t()


def test_methods_of_a_pipeline_share_folded_weights_which_leave_with_it(tmp_path, monkeypatch):
    torch.manual_seed(0)
    network = Shared().eval()
    example = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        expected = network(example)
    frozen, constants = [], []
    freeze, save = torch.jit.freeze, to_torchscript._saved
    monkeypatch.setattr(
        torch.jit, "freeze", lambda *args, **options: frozen.append(freeze(*args, **options)) or frozen[-1]
    )

    def saved(module):
        constants.extend([*to_torchscript._constants(one)] for one in (module.graph, module.logits.graph))
        return save(module)

    monkeypatch.setattr(to_torchscript, "_saved", saved)
    pipeline = Pipeline(trace(network, (example,)), nn.Identity(), nn.Identity(), nn.Softmax(dim=1))

    write_torchscript(pipeline, tmp_path / "archive")

    of_forward, of_logits = ([one for one in each if one.shape == (8, 3, 3, 3)] for each in constants)
    assert len(of_forward) == len(of_logits) == 1
    assert of_forward[0].untyped_storage().data_ptr() == of_logits[0].untyped_storage().data_ptr()
    assert of_forward[0].untyped_storage().nbytes() == 0
    with torch.no_grad():
        assert torch.equal(network(example), expected)
        torch.testing.assert_close(load_torchscript(tmp_path / "archive").logits(example), expected)


def test_a_network_that_was_traced_in_train_mode_is_written_and_answers_otherwise_than_eager(tmp_path):
    """What is wrong with it is parity's to name, and not torch.jit's, which freezes nothing in that mode."""
    torch.manual_seed(0)
    # Behind an activation, which no batch norm is folded over.
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.BatchNorm2d(8), nn.Flatten()).train()
    example = torch.randn(2, 3, 8, 8)
    pipeline = Pipeline(trace(network, (example,)), nn.Identity(), nn.Identity(), nn.Softmax(dim=1))

    write_torchscript(pipeline, tmp_path / "archive")

    with torch.no_grad():
        assert not torch.allclose(load_torchscript(tmp_path / "archive").logits(example), network.eval()(example))
