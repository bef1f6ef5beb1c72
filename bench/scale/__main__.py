"""`python -m bench.scale`: prints one table of what was measured and what was wanted."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from bench.harness.report import machine, table
from bench.harness.server import add_server_option, place
from bench.scale import dead, delayed, waiting

GROUPS = {"waiting": waiting.measure, "dead": dead.measure, "delayed": delayed.measure}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(GROUPS), help="measure a part")
    parser.add_argument("--messages", type=int, default=1_000_000, metavar="N")
    parser.add_argument("--quick", action="store_true", help="with 50,000 of everything")
    add_server_option(parser)
    options = parser.parse_args(arguments)
    count = 50_000 if options.quick else options.messages
    facts, rows = list(machine()), []
    with place(options.server) as here:
        facts.append(f"server: {here.version}, loopback, appendfsync everysec")
        for name in options.only or GROUPS:
            for row in GROUPS[name](here, count):
                print(" | ".join(row), file=sys.stderr, flush=True)
                rows.append(row)
    print("\n" + table(("", "measured", "wanted"), rows) + "\n")
    print("\n".join(f"- {fact}" for fact in facts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
