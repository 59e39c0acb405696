"""Reading of checkpoints; executes nothing unless a whole module is trusted."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from exporter.checkpoint.description import Checkpoint, Format, StoredTensor, state_of
from exporter.checkpoint.formats import Content, checkpoint_errors, read_content
from exporter.checkpoint.integrity import check_integrity
from exporter.checkpoint.pickled_modules import load_module
from exporter.checkpoint.state_dicts import choose_candidate, find_candidates, module_entry
from exporter.checkpoint.unpickler import Opaque
from exporter.errors import CheckpointError
from runtime.errors import listed

_LISTED = 20
_LONGEST_NAME = 200


def read_checkpoint(
    path: str | Path, *, weights: str | None = None, trust: bool = False, imports: Sequence[Path] = ()
) -> Checkpoint:
    """Return the checkpoint in file or folder ``path``: its weights described, nothing imported and nothing run.

    ``weights`` names the entry to take where there are several. ``trust`` allows a whole pickled module to be loaded,
    which imports and runs what it names, with its source in ``imports``. Raises CheckpointError when the
    file is missing, damaged, no checkpoint, would run code, or holds no weights.
    """
    path = Path(path)
    content = read_content(path)
    with checkpoint_errors(path):
        return _describe_checkpoint(path, content, weights=weights, trust=trust, imports=imports)


def _describe_checkpoint(
    path: Path, content: Content, *, weights: str | None, trust: bool, imports: Sequence[Path]
) -> Checkpoint:
    files = {file: state_of(file) for file in content.files}
    if content.imports and not trust:
        raise CheckpointError(_refusal(path, content))
    candidates = find_candidates(content.root)
    chosen, choice = choose_candidate(path, content.root, candidates, weights)
    integrity = check_integrity(content, chosen.tensors.values())
    module = None
    if trust and content.format != "torchscript" and module_entry(content.root, chosen.entry) is not None:
        module = load_module(path, chosen.entry, content.imports, imports)
    return Checkpoint(
        path=path,
        sha256=integrity.sha256,
        size_bytes=integrity.size_bytes,
        format="module" if module is not None else _format(content),
        container=content.container,
        entry=chosen.entry,
        tensors=chosen.tensors,
        candidates=candidates,
        choice=choice,
        non_finite=tuple(key for key, tensor in chosen.tensors.items() if tensor.storage in integrity.non_finite),
        leftovers=_leftovers(content.root, {candidate.entry for candidate in candidates}),
        module=module,
        files=files,
    )


def check_unchanged(checkpoint: Checkpoint) -> None:
    """Raise CheckpointError where a file of the checkpoint is no longer the one that was read.

    Networks map its weights, so that they may be the new ones.
    """
    for file, state in checkpoint.files.items():
        if not file.exists() or state_of(file) != state:
            raise CheckpointError(f"'{file}': changed while it was in use. Wait until it is complete, and run again.")


def _refusal(path: Path, content: Content) -> str:
    names = listed([f"'{name[:_LONGEST_NAME]}'" for name in content.imports], _LISTED)
    action = "Save the weights alone where it was trained: torch.save(model.state_dict(), 'weights.pth')"
    if any(module_entry(content.root, candidate.entry) for candidate in find_candidates(content.root)):
        action += ", or load the whole module from a source you trust: --trust, with --import PATH for its code"
    return f"'{path}': refused: loading it would import and run {names}: expected weights alone. {action}."


def _format(content: Content) -> Format:
    if content.format != "state_dict" or not isinstance(content.root, Mapping):
        return content.format
    if "pytorch-lightning_version" in content.root:
        return "lightning"
    bare = all(isinstance(value, StoredTensor) for value in content.root.values())
    return "state_dict" if bare else "checkpoint"


def _leftovers(root: object, entries: set[str]) -> dict[str, str]:
    """Return the entries that are not weights, each described in a few words."""
    if not isinstance(root, Mapping) or "" in entries:
        return {}
    return {
        str(key): _describe(value)
        for key, value in root.items()
        if not any(entry == str(key) or entry.startswith(f"{key}.") for entry in entries)
    }


def _describe(value: object) -> str:
    if isinstance(value, str | int | float | bool | None):
        text = repr(value)
        return text if len(text) <= 60 else f"{text[:57]}..."
    if isinstance(value, StoredTensor):
        return f"{value.dtype} {list(value.shape)}"
    if isinstance(value, Opaque):
        return str(value.symbol)[:_LONGEST_NAME]
    if isinstance(value, Mapping | list | tuple):
        return f"{len(value)} entries"
    return type(value).__name__
