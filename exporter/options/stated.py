"""Options that state what an artifact's manifest says of its inputs and its task."""

from collections.abc import Mapping

TARGET_FLAGS = ("--target-mean", "--target-std", "--target-transform")

# Fields of the manifest's inputs and tasks, and the options of which one states each.
FLAGS: Mapping[str, tuple[str, ...]] = {
    "exif": ("--exif",),
    "mode": ("--pixel-format",),
    "max_length": ("--max-length",),
    "pad_id": ("--pad-id",),
    "pairs": ("--text-pairs",),
    "tokenizer": ("--tokenizer",),
    "vocabulary": ("--vocabulary",),
    "unknown": ("--unknown-word", "--preprocess"),
    "lowercase": ("--lowercase", "--preprocess"),
    "kind": ("--task",),
    "thresholds": ("--thresholds",),
    "values": ("--values",),
    "inverse_transform": TARGET_FLAGS,
    "end_id": ("--end-id",),
    "colors": ("--colors",),
    "heads": ("--heads",),
    "labels": ("--labels",),
}

# Fields that another option states for inputs of one kind.
_OF_KINDS: Mapping[tuple[str, str], str] = {("text", "pad_id"): "--tokenizer"}

# What states everything else; --input, where nothing here does.
_OTHERS: Mapping[str, str] = {
    "truncated": "--truncated",
    "channels": "--pixel-format",
    "preprocessing": "--preprocess",
    "columns": "--columns or --preprocess",
    "arrays": "--tokenizer",
    "pad_type_id": "--tokenizer",
    "padding_side": "--tokenizer",
    "vocabulary_size": "--vocabulary",
}


def flags_of_field(path: str, *, kind: str = "") -> str:
    """Return the options that state a field of a manifest, given as a path such as ``thresholds[1]``.

    ``kind`` is that of the input whose field it is, and empty for a task's.
    """
    field = path.partition(".")[0].partition("[")[0]
    if (kind, field) in _OF_KINDS:
        return _OF_KINDS[kind, field]
    if field in FLAGS:
        return " or ".join(FLAGS[field])
    return _OTHERS.get(field, "--input")


def stating_remedy(flags: str) -> str:
    """Return what to do where an artifact differs from what ``flags`` state."""
    return f"state {flags} as it was exported, or export it again as stated"
