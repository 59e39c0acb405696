"""State dicts inside a checkpoint, and the choice among them."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from exporter.checkpoint.description import Candidate
from exporter.checkpoint.formats import describe_root
from exporter.checkpoint.object_tensors import EXTRA_STATE, LONGEST_KEY, TensorSearch, is_module
from exporter.checkpoint.unpickler import Dictionary, Opaque
from exporter.errors import CheckpointError
from runtime.errors import listed

# Keys under which training scripts save the weights, the most specific first.
_USUAL = (
    *("state_dict", "model_state_dict", "model_state", "model", "net_state_dict", "net", "network", "module"),
    *("params", "weights", "backbone", "encoder", "student"),
)
# Training state; its tensors are not the network's.
_TRAINING = re.compile(r"optim|sched|scaler|callback|loop|^lr|rng|history|metric|^args$|hyper_parameters|hparams", re.I)
# What quantized layers and tensors are rebuilt by.
_QUANTIZED = ("torch._utils._rebuild_qtensor", "torch.jit._pickle", "torch._C.ScriptObject", "torchao.")
# Functions and classes of tensors that are more than numbers in memory: subclasses, sharded, sparse or nested ones.
_TENSOR_LIKE = re.compile(r"^torch\._utils\._rebuild|Tensor$")
_AVERAGED = re.compile(r"ema(?![a-z])|averag|swa(?![a-z])|shadow|polyak", re.I)


def find_candidates(root: object) -> tuple[Candidate, ...]:
    """Return every dictionary of tensors in ``root`` and two levels down, in the file's order.

    Raises UnpicklingError where a file says so little in so many words that it would take too long.
    """
    return tuple(_walk(root, (), TensorSearch(), depth=2))


def _walk(value: object, keys: tuple[str, ...], search: TensorSearch, *, depth: int) -> Iterator[Candidate]:
    tensors = search.tensors_of(value)
    if tensors:
        search.step(len(tensors))
        search.step_into(tensors)
        beside = value.items() if isinstance(value, Mapping) else ()
        yield Candidate(
            entry=".".join(keys),
            tensors=tensors,
            averaged=any(_AVERAGED.search(part) for part in keys),
            extra_state={key: item for key, item in beside if key.endswith(EXTRA_STATE)},
            attributes=value.attributes if isinstance(value, Dictionary) else {},
        )
    elif depth:
        for key, item in children_of(value).items():
            search.step()
            named = isinstance(key, str) and len(key) <= LONGEST_KEY and isinstance(item, Mapping | Opaque)
            if named and not _TRAINING.search(key):
                yield from _walk(item, (*keys, key), search, depth=depth - 1)


def _check_tensors(path: Path, value: object, *, depth: int = 2) -> None:
    """Raise CheckpointError for a dictionary whose values are not tensors but what a library makes of them."""
    if not isinstance(value, Mapping) or not depth:
        return
    for key, item in value.items():
        parts = item if isinstance(item, tuple) else (item,)
        kinds = {str(part.symbol) for part in parts if isinstance(part, Opaque)}
        if any(kind.startswith(_QUANTIZED) for kind in kinds):
            raise CheckpointError(
                f"'{path}': quantized: '{str(key)[:80]}' and others are whole numbers with a scale, which only the "
                "layers that quantized them take. Export the floating-point checkpoint that it was made of."
            )
        if any(kind.endswith("multiarray._reconstruct") for kind in kinds) and depth == 2:
            raise CheckpointError(
                f"'{path}': holds NumPy arrays, such as '{str(key)[:80]}': expected tensors. Save these: "
                "torch.save({key: torch.from_numpy(array) for key, array in arrays.items()}, 'weights.pth')."
            )
        kept = next((kind for kind in kinds if _TENSOR_LIKE.search(kind)), None)
        if kept is not None:
            raise CheckpointError(
                f"'{path}': refused: '{str(key)[:80]}' is no tensor but an object of '{kept[:80]}', whose code would "
                "have to run. Save plain tensors where it was trained: torch.save({key: tensor.detach().cpu() for "
                "key, tensor in model.state_dict().items()}, 'weights.pth')."
            )
        if not _TRAINING.search(str(key)[:LONGEST_KEY]):
            _check_tensors(path, item, depth=depth - 1)


def choose_candidate(
    path: Path, root: object, candidates: tuple[Candidate, ...], name: str | None
) -> tuple[Candidate, str]:
    """Return the chosen candidate, and the reason; ``name`` is the user's own choice of entry.

    Raises CheckpointError when there is none, or none of that name.
    """
    entries = listed([f"'{candidate.entry}' ({len(candidate.tensors)} tensors)" for candidate in candidates])
    if not candidates:
        _check_tensors(path, root)
        if isinstance(root, Mapping) and set(root) == {"state", "param_groups"}:
            raise CheckpointError(
                f"'{path}': holds the state of an optimizer alone: expected the network's weights, which are in "
                "another file. Save them with torch.save(model.state_dict(), 'weights.pth')."
            )
        raise CheckpointError(
            f"'{path}': holds no state dict: expected a dictionary of tensors at most two levels down, got "
            f"{describe_root(root)}. Save it with torch.save(model.state_dict(), 'weights.pth')."
        )
    if name is not None:
        for candidate in candidates:
            if candidate.entry == name:
                return candidate, "as --weights says"
        raise CheckpointError(
            f"'{path}': holds no weights '{name}': expected one of {entries}. Name one of these with --weights."
        )
    raw = [candidate for candidate in candidates if not candidate.averaged]
    averaged = [candidate for candidate in candidates if candidate.averaged]
    if not raw:
        return averaged[0], _of("the averaged weights, the only ones", averaged)
    chosen = min(raw, key=_rank)
    names = _names(chosen)
    complete = [candidate for candidate in averaged if _names(candidate) == names]
    if complete:
        return complete[0], f"the averaged weights, complete; without --weights {chosen.entry} they are preferred"
    if averaged:
        return chosen, f"not '{averaged[0].entry}': the averaged weights lack tensors or have others"
    return chosen, _of("the usual key" if _rank(chosen)[0] < len(_USUAL) else "the largest", raw)


def _of(reason: str, group: list[Candidate]) -> str:
    return f"{reason} of {len(group)}" if len(group) > 1 else ""


def _rank(candidate: Candidate) -> tuple[int, int]:
    last = candidate.entry.rpartition(".")[2]
    rank = _USUAL.index(last) if last in _USUAL else len(_USUAL)
    return rank, -candidate.parameters


def _names(candidate: Candidate) -> dict[str, tuple[int, ...]]:
    """Return the keys and shapes without what averaging adds: torch's AveragedModel wraps and counts."""
    return {
        key.replace("module.", ""): tensor.shape for key, tensor in candidate.tensors.items() if key != "n_averaged"
    }


def children_of(value: object) -> Mapping[Any, object]:
    """Return the entries of a dictionary, or the attributes of an object, such as a trainer that holds its model."""
    if isinstance(value, Opaque):
        value = value.state
    return value if isinstance(value, Mapping) else getattr(value, "__dict__", {})


def module_entry(root: object, entry: str) -> Opaque | None:
    """Return the pickled module at ``entry``, or None where a plain dictionary is."""
    value = value_at(root, entry)
    return value if isinstance(value, Opaque) and is_module(value) else None


def value_at(root: object, entry: str) -> object:
    """Return what a tree of dictionaries and objects has at an ``entry``, whose keys may hold dots; None without it."""
    if not entry:
        return root
    children = children_of(root)
    if entry in children:
        return children[entry]
    dots = [index for index, character in enumerate(entry) if character == "."]
    values = (value_at(children[entry[:dot]], entry[dot + 1 :]) for dot in dots if entry[:dot] in children)
    return next((value for value in values if value is not None), None)
