"""The rows of every engine for the same photos, compared with the library's."""

import argparse
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

from support.deploying import deploy
from support.engines import Row, library_rows, ray_rows, server_rows, triton_rows
from support.hostile_photos import write_photos
from support.ray_serving import running_ray_serve
from support.serving import serving
from support.triton_server import running_triton

from runtime.artifact.open import open_artifact
from runtime.deploy.triton.repository import to_triton_name

ROOT = Path(__file__).parents[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument("--artifact", type=Path, default=ROOT / "tests" / "data" / "tiny")
    options = parser.parse_args()
    artifact = options.artifact.absolute()
    # Some photos ask for a rotation by EXIF, which is a warning.
    warnings.filterwarnings("ignore", message=".*asks for a rotation by EXIF")
    with tempfile.TemporaryDirectory(prefix="compare-engines-") as scratch:
        folder = Path(scratch)
        photos = write_photos(folder / "photos", options.photos)
        expected = library_rows(artifact, photos)
        failed = sum("error" in row for row in expected)
        name = open_artifact(artifact).manifest.name
        print(f"'{name}', {len(photos)} photos: {len(photos) - failed} predictions, {failed} refused with a reason")
        differ = 0
        for engine, rows in each_engine(artifact, name, photos, folder):
            missing = [first["input"] for first, second in zip(expected, rows, strict=False) if first != second]
            differ += len(missing) + abs(len(rows) - len(expected))
            print(f"{engine:24} {len(rows):5} rows, {len(rows) - len(missing):5} equal to the library's", flush=True)
            for first, second in zip(expected, rows, strict=False):
                if first != second:
                    print(f"    {first}\n    {second}", flush=True)
                    break
    sys.exit(bool(differ))


def each_engine(artifact: Path, name: str, photos: list[Path], folder: Path) -> Iterator[tuple[str, list[Row]]]:
    """Yield the rows of each engine, of which one runs at a time: agreement is measured, not speed."""
    with serving(artifact) as server:
        yield "truecopy serve", server_rows(server.url, name, photos)
    yield "Ray Data", ray_rows(artifact, photos[0].parent, folder / "ray.jsonl")
    with running_ray_serve(artifact, folder, {"max_replicas: 8": "max_replicas: 1"}, cores=2) as serving_ray:
        yield "Ray Serve", server_rows(serving_ray.url, name, photos)
    done = deploy("triton", artifact, "--out", folder / "triton")
    assert done.returncode == 0, done.stderr
    with running_triton(folder / "triton" / "python", log=folder / "triton.log") as triton:
        yield "Triton, Python backend", triton_rows(triton, to_triton_name(name), photos)


if __name__ == "__main__":
    main()
