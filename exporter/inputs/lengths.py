"""Lengths of dynamic dimensions to compare: the user's range, or the default one."""

from collections.abc import Collection, Mapping

from exporter.errors import ExportError
from runtime.artifact.open import Artifact

# By the number of dynamic dimensions: with several, the memory that inputs need is the product of their lengths.
LONGEST, LONGEST_OF_SEVERAL = 512, 96

# Short lengths, odd ones, and those that strides and poolings want; longer ones double.
_LENGTHS = (1, 2, 3, 5, 7, 16, 31, 32, 64, 96, 256, 512)


def check_names(ranges: Mapping[str, tuple[int, int]], names: Collection[str]) -> None:
    """Raise ExportError where ``ranges`` has a dimension that is not among ``names``; '' stands for all."""
    unknown = [name for name in ranges if name and name not in names]
    if unknown or (ranges and not names):
        got = f"'{unknown[0]}'" if unknown else "none of them"
        raise ExportError(
            f"--lengths: no such dimension: expected dynamic ones of --input, {', '.join(names) or 'which has none'}, "
            f"got {got}. Name the dimension in --input, or leave out --lengths."
        )


def range_of(name: str, ranges: Mapping[str, tuple[int, int]]) -> tuple[int, int] | None:
    """Return the user's range of a dimension; None without one."""
    return ranges.get(name) or ranges.get("")


def sample_lengths(low: int, high: int) -> tuple[int, ...]:
    """Return lengths from ``low`` to ``high``, both among them."""
    lengths = [length for length in _LENGTHS if low <= length <= high]
    longest = _LENGTHS[-1]
    while (longest := 2 * longest) < high:
        lengths.append(longest)
    return tuple(sorted({low, *(length for length in lengths if length >= low), high}))


def completed_lengths(
    given: Mapping[str, tuple[int, int]], artifact: Artifact, names: Collection[int | str]
) -> dict[str, tuple[int, int]]:
    """Return the user's ranges of dimensions with these names; an artifact's promises where they have none."""
    compared = {} if "" in given else artifact.manifest.compared
    own = {name: (compared[name].lowest, compared[name].highest) for name in compared if name in names}
    return {**own, **given}
