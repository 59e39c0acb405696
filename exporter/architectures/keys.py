"""Mapping of a checkpoint's keys to a network's: wrappers and prefixes, found by matching shapes."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile
from typing import TypeAlias

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]

COUNTER = "num_batches_tracked"

# What torch's own wrappers put between any two parts of a key. Everything else is a prefix of the user's.
_WRAPPERS = {
    "module",
    "_orig_mod",
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
    "_forward_module",
    "_ddp_module",
}
# torch.optim.swa_utils.AveragedModel counts its updates in a buffer next to the network's.
_AVERAGING_COUNTER = "n_averaged"
# torchvision's densenet before 0.3: 'denselayer1.norm.1.weight', now 'denselayer1.norm1.weight'.
_LEGACY = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")


@dataclass(frozen=True, kw_only=True)
class KeyMap:
    """How the checkpoint's keys become the network's; ``source_of`` gives the old key of each new one."""

    source_of: Mapping[str, str]
    dropped: tuple[str, ...] = ()
    removed_prefix: str = ""
    added_prefix: str = ""
    renamed: Mapping[str, str]

    def apply(self, shapes: Shapes) -> dict[str, tuple[int, ...]]:
        """Return the shapes by the new keys."""
        return {new: shapes[old] for new, old in self.source_of.items()}


def solve_keys(shapes: Shapes, expected: Shapes, *, rename: Callable[[str], str] | None = None) -> KeyMap:
    """Return the map that matches most of ``expected`` by key and shape; among equals, the one that changes least.

    ``rename`` is what the architecture's own library does to the keys of its older releases.
    """
    targets = {key: shape for key, shape in expected.items() if not key.endswith(COUNTER)}
    additions = sorted({"", *_prefixes(targets), *_leading_prefixes(shapes, targets)}, key=len)
    best, best_score = None, (-1, -1, 0)
    for key_map in _cleanings(shapes, rename):
        removals = sorted({"", *_prefixes(key_map.source_of), *_leading_prefixes(targets, key_map.source_of)}, key=len)
        for removed in removals:
            for added in additions:
                if removed and removed == added:
                    continue
                moved = {
                    added + new.removeprefix(removed) if new.startswith(removed) else new: old
                    for new, old in key_map.source_of.items()
                }
                if len(moved) != len(key_map.source_of):
                    continue
                present = [key for key in targets if key in moved]
                fitting = sum(shapes[moved[key]] == targets[key] for key in present)
                score = (fitting, len(present), len(present) - len(moved))
                if score > best_score:
                    best_score = score
                    best = KeyMap(
                        source_of=moved,
                        dropped=key_map.dropped,
                        removed_prefix=removed,
                        added_prefix=added,
                        renamed=key_map.renamed,
                    )
    assert best is not None
    return best


def prefix_maps(shapes: Shapes) -> Iterator[KeyMap]:
    """Yield every map that needs no network: wrappers dropped, common prefixes removed."""
    for key_map in _cleanings(shapes):
        for removed in ["", *_prefixes(key_map.source_of)]:
            yield KeyMap(
                source_of={new.removeprefix(removed): old for new, old in key_map.source_of.items()},
                dropped=key_map.dropped,
                removed_prefix=removed,
                renamed=key_map.renamed,
            )


def shared_parts(paths: Iterable[Sequence[str]]) -> list[str]:
    """Return the parts that all paths begin with."""
    shared = takewhile(lambda parts: len(set(parts)) == 1, zip(*paths, strict=False))
    return [parts[0] for parts in shared]


def _cleanings(shapes: Shapes, rename: Callable[[str], str] | None = None) -> list[KeyMap]:
    """Return the keys as they are, then without wrappers, then with legacy names brought up to date as well."""
    plain = KeyMap(source_of={key: key for key in shapes}, renamed={})
    cleaned: dict[str, str] = {}
    dropped: dict[str, None] = {}
    for key in shapes:
        parts = key.split(".")
        if key.rpartition(".")[2] == _AVERAGING_COUNTER and not shapes[key]:
            dropped[key] = None
            continue
        dropped.update(dict.fromkeys(part for part in parts[:-1] if part in _WRAPPERS))
        cleaned[".".join([*(part for part in parts[:-1] if part not in _WRAPPERS), parts[-1]])] = key
    maps = [plain]
    if dropped and len(cleaned) == len(_without_counter(shapes)):
        maps.append(KeyMap(source_of=cleaned, dropped=tuple(dropped), renamed={}))
    last = maps[-1]
    renamed = {key: _LEGACY.sub(r"\1\2.", key) for key in last.source_of if _LEGACY.search(key)}
    if rename is not None:
        renamed |= {key: new for key in last.source_of if (new := rename(key)) != key}
    if renamed:
        source_of = {renamed.get(key, key): old for key, old in last.source_of.items()}
        maps.append(KeyMap(source_of=source_of, dropped=last.dropped, renamed=renamed))
    return maps


def _without_counter(shapes: Shapes) -> list[str]:
    return [key for key in shapes if not (key.rpartition(".")[2] == _AVERAGING_COUNTER and not shapes[key])]


def _prefixes(keys: Iterable[str]) -> list[str]:
    """Return the dotted prefixes that all keys share, the shortest first."""
    parts = shared_parts(key.split(".")[:-1] for key in keys)
    return [".".join(parts[:count]) + "." for count in range(1, len(parts) + 1)]


def _leading_prefixes(short: Iterable[str], long: Iterable[str]) -> set[str]:
    """Return the prefixes that keys of ``long`` have before the first few of ``short``."""
    tails = [f".{key}" for key in islice(short, 4)]
    prefixes = {key[: -len(tail) + 1] for key in long for tail in tails if key.endswith(tail)}
    return set(sorted(prefixes, key=len)[:8])
