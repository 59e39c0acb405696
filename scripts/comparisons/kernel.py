"""Random resizes and crops by the native kernel on every path of this processor, against Pillow and torch."""

import argparse
import sys
import time
from collections import Counter

import numpy as np
import truecopy_kernels
from support.kernel_cases import expected_pixels, needed_part, random_case


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--without-torch", action="store_true", help="leave out the cases that need PyTorch")
    options = parser.parse_args()
    paths = truecopy_kernels.available_paths()
    random = np.random.default_rng(options.seed)
    counts: Counter[str] = Counter()
    unequal = 0
    start = time.monotonic()
    for number in range(options.cases):
        case = random_case(random)
        if options.without_torch and case.arithmetic == "torch":
            continue
        expected = expected_pixels(case)
        counts[f"{case.arithmetic} {case.interpolation}"] += 1
        part, part_of = needed_part(case)
        for path in paths:
            for source, place in ((case.pixels, None), (part, part_of)):
                pixels = truecopy_kernels.resize(
                    source,
                    case.size,
                    case.interpolation,
                    window=case.window,
                    rows_first=case.rows_first,
                    arithmetic=case.arithmetic,
                    part_of=place,
                    path=path,
                )
                if not np.array_equal(pixels, expected):
                    unequal += 1
                    worst = np.abs(pixels.astype(int) - expected).max()
                    print(f"case {number}, {path}, part of {place}: {case}: off by up to {worst}", flush=True)
    taken = time.monotonic() - start
    print(", ".join(f"{name} {count}" for name, count in sorted(counts.items())))
    print(f"{counts.total()} cases on {' and '.join(paths)} in {taken:.0f} s: {unequal} unequal")
    sys.exit(bool(unequal))


if __name__ == "__main__":
    main()
