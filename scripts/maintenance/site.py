"""A hook of MkDocs: pages of the site that lie beside docs/, where GitHub shows them."""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]

# File of the repository -> page of the site.
OUTSIDE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing/index.md",
    "SECURITY.md": "contributing/security.md",
    "examples/README.md": "examples/index.md",
    **{f"examples/{path.name}": f"examples/{path.name}" for path in sorted((ROOT / "examples").glob("*.py"))},
}
_IN_REPOSITORY = {page: path for path, page in OUTSIDE.items()}

_LINK = re.compile(r"(?<=\]\()(?!\w+:)([^)#\s]+)")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the files beside docs/."""
    for path, page in OUTSIDE.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Return the page with its links between files of the repository as links between pages of the site."""
    source = page.file.src_uri
    here = posixpath.dirname(_IN_REPOSITORY.get(source, f"docs/{source}"))

    def to_page(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(here, link[1]))
        in_site = OUTSIDE.get(target, target.removeprefix("docs/"))
        return posixpath.relpath(in_site, posixpath.dirname(source) or ".")

    return _LINK.sub(to_page, markdown)
