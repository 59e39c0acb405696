"""Mistakes that show before PyTorch is loaded: missing files, wrong labels, an artifact of another kind."""

from pathlib import Path

from exporter.options.export import ExportOptions
from exporter.options.paths import check_paths
from exporter.options.rules import option_fields


def check_export(options: ExportOptions) -> None:
    """Raise ExportError for files that are missing or damaged, labels that cannot fit, and a folder that is in use."""
    from exporter.bundle import check_out
    from exporter.checkpoint.formats import checkpoint_errors, read_content
    from exporter.checkpoint.state_dicts import find_candidates
    from exporter.outputs.labels import check_label_count

    check_out(options.artifact_path, force=options.force)
    _check_paths(options)
    content = read_content(options.checkpoint)
    _check_memory(options, content.root)
    if options.labels is None or options.task_options.task in {"binary", "tokens"} or not _has_known_head(options):
        return
    with checkpoint_errors(options.checkpoint):
        outputs = {
            tensor.shape[0]
            for candidate in find_candidates(content.root)
            for tensor in candidate.tensors.values()
            if len(tensor.shape) in {1, 2}
        }
    check_label_count(options.labels, outputs, checkpoint=options.checkpoint)


def check_recheck(artifact: Path, options: ExportOptions) -> None:
    """Raise an error for an artifact that cannot be opened, options that are not for it, and missing files."""
    from exporter.checkpoint.formats import read_content
    from runtime.artifact.open import open_artifact

    manifest = open_artifact(artifact).manifest
    options.check(kinds=[spec.kind for spec in manifest.inputs], task=manifest.task.kind)
    _check_paths(options)
    _check_memory(options, read_content(options.checkpoint).root)


def _check_memory(options: ExportOptions, root: object) -> None:
    from exporter.checkpoint.memory import check_memory
    from exporter.checkpoint.state_dicts import find_candidates

    # One of them is exported; copies of the weights, such as averaged ones, are as large.
    largest = max((candidate.parameters for candidate in find_candidates(root)), default=0)
    check_memory(options.checkpoint, largest, ignore=options.ignore_memory)


def _check_paths(options: ExportOptions) -> None:
    owners = (options, options.task_options)
    given = {name: getattr(owner, name) for name in options.given for owner in owners if hasattr(owner, name)}
    check_paths(given, {about.name: about.metadata["option"] for about in option_fields(ExportOptions)})


def _has_known_head(options: ExportOptions) -> bool:
    """Return whether the architecture is a library's, whose last layer has an output for each class."""
    if options.arch is None:
        return not options.trust
    return isinstance(options.arch, str) and (":" not in options.arch or options.arch.startswith(("timm:", "hf:")))
