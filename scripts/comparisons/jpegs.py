"""JPEGs of every kind, sound and hostile, and windows of them, by the fast decoder against Pillow.

Pixels, warnings and refusals have to be the same.
"""

import argparse
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from itertools import chain

import numpy as np
from support.jpeg_cases import Jpeg, difference, installed_jpegs, is_fast, random_jpeg, window_difference

from runtime.inputs.image.jpeg import find_jpeg_decoder

# Of each JPEG that is decoded fast.
_WINDOWS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jpegs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--made-only", action="store_true", help="without the JPEGs of installed packages")
    options = parser.parse_args()
    decoder = find_jpeg_decoder()
    if decoder.decode is None:
        print(decoder.reason, file=sys.stderr)
        sys.exit(2)
    warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
    random = np.random.default_rng(options.seed)
    counts: Counter[str] = Counter()
    start = time.monotonic()
    found = [] if options.made_only else installed_jpegs()
    for jpeg in chain(found, made_jpegs(random, options.jpegs)):
        counts["JPEGs"] += 1
        counts["of proven kinds"] += is_fast(jpeg)
        for mode in ("RGB", "L"):
            problems = [difference(jpeg, mode), *(window_difference(random, jpeg, mode) for _ in range(_WINDOWS))]
            for problem in filter(None, problems):
                counts["unequal"] += 1
                print(f"{mode}: {jpeg.name}: {problem}", flush=True)
    taken = time.monotonic() - start
    print(decoder.name)
    print(
        f"{counts['JPEGs']} JPEGs, {counts['of proven kinds']} of proven kinds, as RGB and as gray in {taken:.0f} s: "
        f"{counts['unequal']} unequal"
    )
    sys.exit(bool(counts["unequal"]))


def made_jpegs(random: np.random.Generator, count: int) -> Iterator[Jpeg]:
    for _ in range(count):
        yield random_jpeg(random)


if __name__ == "__main__":
    main()
