"""The pages of docs/reference, as the code makes them."""

import pytest

from maintenance.reference.pages import FOLDER, PAGES
from maintenance.reference.schemas import types


@pytest.mark.parametrize("page", PAGES)
def test_the_page_is_what_the_code_says(page):
    assert (FOLDER / page).read_text(encoding="utf-8") == PAGES[page](), "run scripts/make-reference"


def test_every_page_of_the_reference_is_made():
    assert {path.name for path in FOLDER.glob("*.md")} == set(PAGES)


def test_a_key_has_the_sentences_about_it_and_those_that_follow():
    description = "A row. ``label`` is the name, ``index`` its number. It is never empty."
    definition = {"description": description, "properties": {"label": {"type": "string"}, "index": {"type": "integer"}}}

    page = types({"Row": definition})

    assert "| `label` | string | `label` is the name, `index` its number. It is never empty. | optional |" in page
    assert "| `index` | integer | See `label`. | optional |" in page
