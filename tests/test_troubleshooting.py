"""The messages of docs/guides/troubleshooting.md, in the source that raises them."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "guides" / "troubleshooting.md"


def texts(tree: ast.AST) -> Iterator[str]:
    """Yield the strings of a module, with ... for what an f-string puts into them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "..." for part in node.values)


def test_every_message_is_one_of_the_source():
    sources = [path for package in ("exporter", "runtime") for path in (ROOT / package).rglob("*.py")]
    source = "\n".join(text for path in sources for text in texts(ast.parse(path.read_text(encoding="utf-8"))))
    messages = re.findall(r"^\| `([^`]+)` \|", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)

    assert len(messages) >= 30
    assert [message for message in messages if message.removesuffix("...") not in source] == []
