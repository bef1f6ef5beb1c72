"""Play schedules: one seed with its trace, or many until one breaks a promise."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from contextlib import suppress

from tests.simulation.many import Series, play, private_server


def main() -> int:
    """Play what the arguments say; 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="play this schedule only")
    parser.add_argument("--trace", action="store_true", help="print everything that happens")
    parser.add_argument("--schedules", type=int, default=1000, help="how many to play")
    parser.add_argument("--first", type=int, default=0, help="the first seed of many")
    parser.add_argument("--keep-going", action="store_true", help="go on after a violation")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, private_server(folder) as real:
        if args.seed is not None:
            result = play(args.seed, real, tracing=args.trace)
            print(*result.lines, sep="\n")
            print(result.violation or f"seed {args.seed}: every promise was kept")
            return bool(result.violation)
        series, began = Series(), time.monotonic()
        with suppress(KeyboardInterrupt):
            for seed in range(args.first, args.first + args.schedules):
                result = play(seed, real)
                series.add(result)
                if result.violation:
                    print(f"seed {seed}: {result.violation}", flush=True)
                    if not args.keep_going:
                        break
        print(f"{series.text()}, in {time.monotonic() - began:.1f} s")
        return bool(series.broken)


if __name__ == "__main__":
    sys.exit(main())
