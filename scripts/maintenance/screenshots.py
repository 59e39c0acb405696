"""Screenshots of the web page and of the HTML report, for the documentation and for looking at them."""

import argparse
import subprocess
from pathlib import Path

from PIL import Image
from support.serving import serving

from runtime.artifact.open import open_artifact
from runtime.artifact.proof import read_evidence
from runtime.reports.page import to_page
from runtime.reports.report import Report

ROOT = Path(__file__).parents[2]
ARTIFACT = ROOT / "tests" / "data" / "tiny"
PHOTO = ROOT / "tests" / "data" / "cat.jpg"
DOCS = ROOT / "docs" / "images"
# What the documentation shows, by the name of its file: the screenshot, and how much of its height.
SHOWN = {"page.webp": ("page-1280-light.png", 900), "report.webp": ("report-1280-light.png", 800)}
QUALITY = 80


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/screenshots", description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "screenshots", help="for all of them")
    parser.add_argument("--write", action="store_true", help=f"also write {', '.join(SHOWN)} of docs/images")
    parser.add_argument("--python", type=Path, default=ROOT / ".venv-clients" / "bin" / "python", help="has selenium")
    options = parser.parse_args()
    folder = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    report = folder / "report.html"
    report.write_bytes(
        to_page(Report(evidence=read_evidence(open_artifact(ARTIFACT)), manifest="artifacts/tiny/truecopy.json"))
    )
    program = ROOT / "scripts" / "material" / "photograph.py"
    with serving(ARTIFACT) as server:
        command = [options.python, program, server.url, PHOTO, report, folder]
        subprocess.run(list(map(str, command)), check=True, timeout=300)
    if options.write:
        DOCS.mkdir(exist_ok=True)
        for name, (source, height) in SHOWN.items():
            with Image.open(folder / source) as picture:
                shown = picture.convert("RGB").crop((0, 0, picture.width, min(height, picture.height)))
            shown.save(DOCS / name, quality=QUALITY, method=6)
            print(f"{DOCS.relative_to(ROOT) / name}: {(DOCS / name).stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
