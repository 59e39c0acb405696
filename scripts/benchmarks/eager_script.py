"""One JPEG to its label with eager PyTorch: the script that users write without truecopy."""

import sys
from pathlib import Path

import torch
from efficientnet_lite0 import transform
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image

checkpoint, labels, photo = sys.argv[1:]
network = EfficientNet.from_name("efficientnet-lite0")
network.load_state_dict(torch.load(checkpoint, weights_only=True))
network.eval()
with torch.inference_mode():
    scores = network(transform(Image.open(photo).convert("RGB"))[None]).softmax(dim=1)[0]
print(Path(labels).read_text().splitlines()[int(scores.argmax())])
