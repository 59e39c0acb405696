"""JSON Schema of ``parity.json``: ``python -m runtime.reports.schema > docs/parity.schema.json``."""

import sys

from runtime.evidence import FORMAT_VERSION, Evidence
from runtime.manifest.schema import schema_of


def to_schema() -> bytes:
    """Return the schema of what ``evidence_to_json`` writes, made from its types.

    Later minor versions may add fields: a reader has to ignore what it does not know, and so does the schema.
    """
    return schema_of(Evidence, title="truecopy parity evidence", format_version=FORMAT_VERSION)


if __name__ == "__main__":
    sys.stdout.buffer.write(to_schema())
