"""Keys that the user leaves out of a state dict, by patterns such as ``criterion.*``."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from exporter.errors import CheckpointError
from runtime.errors import listed


def matches_any(key: str, patterns: Sequence[str]) -> bool:
    """Return whether one of the patterns stands for ``key``; ``*`` stands for any characters, dots as well."""
    return any(fnmatchcase(key, pattern) for pattern in patterns)


def check_patterns_used(patterns: Sequence[str], ignored: Iterable[str], keys: Iterable[str], subject: str) -> None:
    """Raise CheckpointError for a pattern that stands for none of the keys that were left out; ``keys`` are all."""
    left_out = tuple(ignored)
    for pattern in patterns:
        if not any(fnmatchcase(key, pattern) for key in left_out):
            known = listed([f"'{key}'" for key in keys])
            raise CheckpointError(
                f"'{subject}': no key '{pattern}' to ignore: expected one of {known}, or a pattern such as "
                "'criterion.*'. Correct --ignore-keys."
            )


def ignore_options(keys: Sequence[str], known: Iterable[str]) -> str:
    """Return the options that leave out ``keys`` and no other of the ``known`` ones, as the command line takes them."""
    others = set(known) - set(keys)
    patterns = []
    for key in keys:
        owner = key.partition(".")[0]
        alone = owner != key and not any(other.startswith(f"{owner}.") for other in others)
        patterns.append(f"{owner}.*" if alone else key)
    return " ".join(f"--ignore-keys '{pattern}'" for pattern in dict.fromkeys(patterns))
