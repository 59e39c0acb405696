"""The documentation shows what scripts/screenshots takes."""

from PIL import Image

from maintenance.screenshots import DOCS, SHOWN


def test_the_documentation_shows_every_screenshot_and_no_other():
    pages = "".join(page.read_text(encoding="utf-8") for page in DOCS.parent.rglob("*.md"))

    assert {path.name for path in DOCS.glob("*.webp")} == SHOWN.keys()
    assert all(f"images/{name})" in pages for name in SHOWN)


def test_they_are_small_and_as_wide_as_the_window():
    paths = [DOCS / name for name in SHOWN]

    assert sum(path.stat().st_size for path in paths) < 150_000
    for path in paths:
        with Image.open(path) as picture:
            assert picture.width == 1280
