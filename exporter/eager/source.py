"""The checkpoint of an artifact as an eager network."""

from exporter.architectures.rebuild import RebuiltNetwork, rebuild
from exporter.checkpoint import read_checkpoint
from exporter.errors import CheckpointError
from exporter.inputs.tensor.adapter import read_batch_axes
from exporter.options.export import ExportOptions
from runtime.artifact.open import Artifact


def open_eager_network(artifact: Artifact, options: ExportOptions) -> RebuiltNetwork:
    """Return the network that an artifact was exported from, rebuilt from its checkpoint.

    The architecture and its arguments are the manifest's unless ``options`` has them. Raises CheckpointError when the
    checkpoint is not the one that was exported.
    """
    source, name = artifact.manifest.source, artifact.manifest.name
    checkpoint = read_checkpoint(
        options.checkpoint,
        weights=options.weights or source.checkpoint_entry or None,
        trust=options.trust,
        imports=options.imports,
        rebuilt=options.arch is not None,
        ignore_keys=options.ignore_keys or source.keys.ignored,
    )
    if checkpoint.sha256 != source.checkpoint_sha256:
        raise CheckpointError(
            f"'{options.checkpoint}': not the checkpoint of '{name}': expected SHA-256 {source.checkpoint_sha256}, got "
            f"{checkpoint.sha256}. Pass the file that was exported, or export this one."
        )
    arch = options.arch
    if arch is None:
        arch = checkpoint.module if checkpoint.module is not None else source.architecture
    # Of arrays alone.
    own = {spec.name: getattr(spec, "batch_axis", None) or 0 for spec in artifact.manifest.inputs}
    return rebuild(
        arch,
        {**source.arguments, **options.arguments},
        checkpoint,
        trust=options.trust,
        batch_axes=read_batch_axes(options.inputs) if options.inputs else own if any(own.values()) else {},
    )
