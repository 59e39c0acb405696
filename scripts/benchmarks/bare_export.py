"""Bare export of resnet18: import torch, build, trace, torch.onnx.export."""

import sys
import warnings
from pathlib import Path

import torch
import torchvision

warnings.simplefilter("ignore")
checkpoint, folder = sys.argv[1:]
network = torchvision.models.resnet18()
network.load_state_dict(torch.load(checkpoint, weights_only=True))
network.eval()
example = torch.rand(2, 3, 224, 224)
with torch.no_grad():
    torch.jit.save(torch.jit.trace(network, example), Path(folder) / "model.pt")
batch = torch.export.Dim("batch")
torch.onnx.export(
    network, (example,), Path(folder) / "model.onnx", dynamo=True, dynamic_shapes=({0: batch},), verbose=False
)
