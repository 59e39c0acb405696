"""Objects in a user's source: scripts, notebooks and installed modules."""

from exporter.object_path.references import import_source, is_reference, load_object
from exporter.object_path.statements import failures_of, noting_skipped

__all__ = ["failures_of", "import_source", "is_reference", "load_object", "noting_skipped"]
