"""The reference pages that are made from the code, by file."""

from collections.abc import Callable, Mapping
from pathlib import Path

from maintenance.reference.command_line import command_line
from maintenance.reference.environment import environment
from maintenance.reference.errors import errors
from maintenance.reference.python_api import python_api
from maintenance.reference.schemas import evidence, manifest
from maintenance.reference.server import grpc, http, metrics

FOLDER = Path(__file__).parents[3] / "docs" / "reference"

PAGES: Mapping[str, Callable[[], str]] = {
    "command-line.md": command_line,
    "python.md": python_api,
    "manifest.md": manifest,
    "parity-json.md": evidence,
    "http.md": http,
    "grpc.md": grpc,
    "metrics.md": metrics,
    "environment.md": environment,
    "errors.md": errors,
}
