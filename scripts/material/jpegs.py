"""JPEGs of 0.3 to 2 megapixels, made from scikit-image's photos: the same files every time."""

import random
from pathlib import Path

import skimage.data
from PIL import Image, ImageOps

from material.demo import PHOTOS

COUNT = 200


def write_jpegs(folder: Path, count: int = COUNT) -> list[Path]:
    """Write ``count`` JPEGs into ``folder``, unless they exist: crops of various shapes, some mirrored."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:03}.jpg" for number in range(count)]
    if all(path.exists() for path in paths):
        return paths
    photos = [Image.fromarray(getattr(skimage.data, name)()) for name in PHOTOS]
    numbers = random.Random(0)
    for number, path in enumerate(paths):
        photo = photos[number % len(photos)]
        side = numbers.uniform(0.7, 1.0)
        width, height = int(photo.width * side), int(photo.height * side)
        left, top = numbers.randint(0, photo.width - width), numbers.randint(0, photo.height - height)
        photo = photo.crop((left, top, left + width, top + height))
        if numbers.random() < 0.5:
            photo = ImageOps.mirror(photo)
        pixels = 300_000 * (2_000_000 / 300_000) ** numbers.random()
        aspect = width / height * numbers.uniform(0.9, 1.1)
        size = (round((pixels * aspect) ** 0.5), round((pixels / aspect) ** 0.5))
        photo = photo.resize(size, Image.Resampling.BICUBIC)
        photo.save(path, quality=numbers.choice([75, 85, 92]), subsampling=numbers.choice(["4:2:0", "4:4:4"]))
    return paths
