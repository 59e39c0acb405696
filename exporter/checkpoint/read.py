"""Reading of checkpoints; executes nothing unless a whole module is trusted."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from exporter.checkpoint.description import Candidate, Checkpoint, Format, StoredTensor, state_of
from exporter.checkpoint.formats import Content, checkpoint_errors, read_content
from exporter.checkpoint.ignored_keys import matches_any
from exporter.checkpoint.integrity import check_integrity
from exporter.checkpoint.pickled_modules import load_module
from exporter.checkpoint.settings import find_settings
from exporter.checkpoint.state_dicts import choose_candidate, find_candidates, module_entry
from exporter.checkpoint.unpickler import Opaque, is_attack
from exporter.errors import CheckpointError
from runtime.errors import listed

_LISTED = 20
_LONGEST_NAME = 200


def read_checkpoint(
    path: str | Path,
    *,
    weights: str | None = None,
    trust: bool = False,
    imports: Sequence[Path] = (),
    rebuilt: bool = False,
    ignore_keys: Sequence[str] = (),
) -> Checkpoint:
    """Return the checkpoint in file or folder ``path``: its weights described, nothing imported and nothing run.

    ``weights`` names the entry to take where there are several. ``trust`` allows a whole pickled module to be loaded,
    which imports and runs what it names, with its source in ``imports``. ``rebuilt`` says that the network is built
    from an architecture: of a whole module the tensors alone are then read, as data. ``ignore_keys`` are patterns of
    keys to leave out. Objects of other classes beside the weights are skipped. Raises CheckpointError when the file is
    missing, damaged, no checkpoint, would run code, or holds no weights.
    """
    path = Path(path)
    content = read_content(path)
    with checkpoint_errors(path):
        files = {file: state_of(file) for file in content.files}
        attacks = [name for name in content.imports if is_attack(name)]
        if attacks and not trust:
            raise CheckpointError(_refusal(path, attacks))
        candidates = find_candidates(content.root)
        chosen, choice = choose_candidate(path, content.root, candidates, weights)
        whole = content.format != "torchscript" and module_entry(content.root, chosen.entry) is not None
        if whole and content.imports and not trust and not rebuilt:
            raise CheckpointError(_refusal(path, content.imports, whole=True))
        ignored = {key for key in (*chosen.tensors, *chosen.extra_state) if matches_any(key, ignore_keys)}
        tensors = {key: tensor for key, tensor in chosen.tensors.items() if key not in ignored}
        integrity = check_integrity(content, tensors.values())
        module = load_module(path, chosen.entry, content.imports, imports) if whole and trust else None
    return Checkpoint(
        path=path,
        sha256=integrity.sha256,
        size_bytes=integrity.size_bytes,
        format="module" if module is not None else _format(content),
        container=content.container,
        entry=chosen.entry,
        tensors=tensors,
        candidates=candidates,
        choice=choice,
        non_finite=tuple(key for key, tensor in tensors.items() if tensor.storage in integrity.non_finite),
        leftovers=_leftovers(content.root, candidates),
        skipped=content.imports if module is None else (),
        settings=find_settings(content.root),
        extra_state={key: value for key, value in chosen.extra_state.items() if key not in ignored},
        versions=_versions(chosen),
        ignore_keys=tuple(ignore_keys),
        ignored=tuple(sorted(ignored)),
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


def _refusal(path: Path, imports: Sequence[str], *, whole: bool = False) -> str:
    names = listed([f"'{name[:_LONGEST_NAME]}'" for name in imports], _LISTED)
    action = "Save the weights alone where it was trained: torch.save(model.state_dict(), 'weights.pth')"
    if whole:
        action += (
            "; or name the class in its source with --arch FILE.py:NAME, which takes the weights as data; or load the "
            "whole module from a source you trust: --trust, with --import PATH for its code"
        )
    return f"'{path}': refused: loading it would import and run {names}: expected weights alone. {action}."


def _versions(chosen: Candidate) -> Mapping[str, Any]:
    """Return the versions of modules that torch saves with a state dict, by their paths."""
    metadata = chosen.attributes.get("_metadata")
    return metadata if isinstance(metadata, Mapping) else {}


def _format(content: Content) -> Format:
    if content.format != "state_dict" or not isinstance(content.root, Mapping):
        return content.format
    if "pytorch-lightning_version" in content.root:
        return "lightning"
    bare = any(candidate.entry == "" for candidate in find_candidates(content.root))
    return "state_dict" if bare else "checkpoint"


def _leftovers(root: object, candidates: Sequence[Candidate]) -> dict[str, str]:
    """Return the entries that are not weights, each described in a few words."""
    if not isinstance(root, Mapping):
        return {}
    used = {part for candidate in candidates for part in _roots_of(candidate)}
    return {str(key): _describe(value) for key, value in root.items() if str(key) not in used}


def _roots_of(candidate: Candidate) -> Iterable[str]:
    """Return the keys of the file's top level that a candidate is under, or consists of."""
    return (candidate.entry.partition(".")[0],) if candidate.entry else (*candidate.tensors, *candidate.extra_state)


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
