"""Choices of server options, for the command line and for Python."""

from typing import Literal

Batching = Literal["auto", "on", "off"]

LogFormat = Literal["text", "json", "none"]
