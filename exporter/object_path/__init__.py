"""Objects in a user's source: scripts, notebooks and installed modules."""

from exporter.object_path.references import import_source, is_reference, load_object

__all__ = ["import_source", "is_reference", "load_object"]
