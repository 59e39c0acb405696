"""Markdown of the reference pages: tables, and docstrings as paragraphs."""

import inspect
import re
from collections.abc import Iterable, Sequence


def to_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; a bar or a line break within a cell does not end it."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(_cell(text) for text in line) + " |" for line in lines) + "\n"


def to_prose(docstring: str | None) -> str:
    """Return a docstring as Markdown."""
    text = inspect.cleandoc(docstring or "")
    text = re.sub(r"(?m)^::\n", "", text).replace("``", "`")
    return re.sub(r"(?m)^>>> ", "    >>> ", text)


def first_sentence(docstring: str | None) -> str:
    """Return the first sentence of a docstring, as Markdown."""
    paragraph = to_prose(docstring).partition("\n\n")[0].replace("\n", " ")
    return re.split(r"(?<=\.)\s", paragraph, maxsplit=1)[0]


def code(text: str) -> str:
    """Return text as code."""
    return f"`{text}`" if text else ""


def anchor(heading: str) -> str:
    """Return a heading's anchor, as GitHub and MkDocs make it."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
