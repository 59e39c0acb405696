"""JSON Schema of ``parity.json``: ``python -m runtime.reports.schema > docs/parity.schema.json``."""

import sys

from runtime.evidence import FORMAT_VERSION, Evidence
from runtime.manifest.schema import schema_of


def to_schema() -> bytes:
    """Return the schema of the output of ``evidence_to_json``, made from its types.

    Later versions may add fields, which readers have to ignore; the schema allows them.
    """
    return schema_of(Evidence, title="truecopy parity evidence", format_version=FORMAT_VERSION)


if __name__ == "__main__":
    sys.stdout.buffer.write(to_schema())
