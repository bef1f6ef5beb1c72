"""`python -m bench.peers [--only GROUP ...] [--who NAME ...] [--quick]`: everybody, in alternation."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.harness.processes import Failed
from bench.harness.report import machine
from bench.harness.server import add_server_option, place
from bench.peers.groups import FULL, GROUPS, QUICK, Group, Size
from bench.peers.install import Home, Missing
from bench.peers.line_up import line_up, systems
from bench.peers.measure import Bench
from bench.peers.systems import Variant

PEERS = tuple(systems(Home(Path()), ""))


def main(arguments: Sequence[str] | None = None) -> int:
    """Install who is missing, measure, and print a table for each group."""
    options = _options(arguments)
    home = Home.of()
    names = options.who or PEERS
    try:
        for name in names:
            home.install(name)
    except Missing as error:
        print(f"{error}; leave it out with --who", file=sys.stderr)
        return 2
    facts, data = list(machine()), {}
    with place(options.server) as here:
        facts.append(f"server: {here.version}, loopback, appendfsync everysec")
        variants = line_up(systems(home, here.host), names)
        print("\n".join(f"- {fact}" for fact in [*facts, *_versions(home, names)]))
        for name in options.only or GROUPS:
            group = GROUPS[name]
            results = _measure(Bench(here), group, variants, options)
            if not results:
                print(f"\n{group.title}: nobody to measure", flush=True)
                continue
            print(f"\n{group.table(results)}", flush=True)
            data[name] = group.record(results)
            if options.json:
                told = json.dumps({"facts": facts, "groups": data}, indent=1)
                Path(options.json).write_text(told + "\n")
    print("\nMedians of all rounds (least-greatest). Every drain was checked: each job ran once.")
    return 0


def _measure(
    bench: Bench, group: Group, variants: Sequence[Variant], options: argparse.Namespace
) -> dict[Variant, list[Any]]:
    size: Size = QUICK if options.quick else FULL
    results: dict[Variant, list[Any]] = {it: [] for it in variants if group.takes(it)}
    started = time.monotonic()
    rounds = 1 if options.quick else options.rounds
    for number in range(rounds):
        # Who goes first changes with every round, so that nobody always finds the warmer machine.
        order = list(results) if number % 2 == 0 else list(results)[::-1]
        for variant in order:
            told = f"{time.monotonic() - started:4.0f} s  {group.name} {number + 1}/{rounds}"
            print(f"{told}: {variant.name}", file=sys.stderr, flush=True)
            try:
                results[variant].append(group.measure(bench, variant, size))
            except Failed as error:
                print(f"FAILED: {error}", file=sys.stderr, flush=True)
    return {variant: measured for variant, measured in results.items() if measured}


def _versions(home: Home, names: Sequence[str]) -> list[str]:
    said = {it.name: it.keeps for it in systems(home, "").values()}
    return [
        f"{name} ({'as above' if name in {'celery', 'celeriac'} else home.versions(name)}): "
        f"a job whose worker dies is {said[name]}"
        for name in names
    ]


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(GROUPS), metavar="GROUP", help=_listed())
    parser.add_argument(
        "--who", nargs="+", choices=PEERS, metavar="NAME", help=f"of {', '.join(PEERS)}"
    )
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="in place of 3")
    parser.add_argument("--json", metavar="FILE", help="also write every number to a file")
    add_server_option(parser)
    return parser.parse_args(arguments)


def _listed() -> str:
    return "; ".join(f"{name}: {group.title}" for name, group in GROUPS.items()).replace("%", "%%")


if __name__ == "__main__":
    sys.exit(main())
