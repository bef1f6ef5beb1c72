"""`python -m bench.throughput [--only GROUP ...] [--quick]`: the whole comparison, printed as one table."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.harness.report import machine, percentile, table
from bench.harness.server import add_server_option, place
from bench.throughput.contenders import CONCURRENCY, Celeriac, Contender, PoolName, Stock
from bench.throughput.measure import Bench
from bench.throughput.rows import HEAD, Row

POOLS: tuple[PoolName, ...] = ("solo", "threads", "prefork")
RATE = 100
GROUPS = ("send", "consume", "latency")

Step = Callable[[Contender], Iterator[tuple[Row, list[float]]]]


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured. Counts for stock are smaller, so that both take seconds."""

    rounds: int
    sent: int
    sent_in_bulk: int
    consumed_by_stock: int
    consumed_by_us: int
    paced: int


FULL = Size(5, 5_000, 60_000, 10_000, 60_000, 600)
QUICK = Size(1, 2_000, 20_000, 3_000, 20_000, 200)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure everything and print it."""
    options = _options(arguments)
    size = QUICK if options.quick else FULL
    if options.rounds:
        size = replace(size, rounds=options.rounds)
    facts = list(machine())
    started = time.monotonic()
    with place(options.server) as here:
        facts.append(f"server: {here.version}, loopback, appendfsync everysec")
        bench = Bench(here.client, here.folder)
        steps = list(_steps(bench, size, options.only or GROUPS))
        rows = _measure(steps, Stock(here.host), Celeriac(here.host), size.rounds)
    facts.append(f"{size.rounds} rounds, alternating, in {time.monotonic() - started:.0f} s")
    _print(rows, facts)
    if options.json:
        data = {"facts": facts, "rows": [row.record() for row in rows]}
        Path(options.json).write_text(json.dumps(data, indent=1) + "\n")
    return 0


def _measure(
    steps: Sequence[tuple[str, Step]], stock: Stock, celeriac: Celeriac, rounds: int
) -> list[Row]:
    rows: dict[str, Row] = {}
    for number in range(rounds):
        # Who goes first changes with every round, so that neither always finds the warmer machine.
        order: list[Contender] = [stock, celeriac] if number % 2 == 0 else [celeriac, stock]
        for title, step in steps:
            for contender in order:
                print(f"round {number + 1}/{rounds}: {title}, {contender.name}", file=sys.stderr)
                for row, values in step(contender):
                    kept = rows.setdefault(row.name, row)
                    getattr(kept, contender.name).extend(values)
    return list(rows.values())


def _steps(bench: Bench, size: Size, groups: Sequence[str]) -> Iterator[tuple[str, Step]]:
    def send(contender: Contender) -> Iterator[tuple[Row, list[float]]]:
        plain = bench.send(contender, "apply_async", size.sent)
        yield Row("send one by one: apply_async on both", "/s"), [plain]
        ours = contender.name == "celeriac"
        direct = bench.send(contender, "send", size.sent) if ours else plain
        yield Row("send one by one: apply_async, Client.send", "/s"), [direct]
        bulk = bench.send(contender, "send_many", size.sent_in_bulk) if ours else plain
        yield Row("send in bulk: apply_async loop, send_many", "/s"), [bulk]
        best = bulk if ours else bench.send(contender, "batch", size.sent * 2)
        yield Row("send in bulk: kombu's batch(), send_many", "/s"), [best]

    if "send" in groups:
        yield "send", send
    for pool in POOLS if "consume" in groups else ():
        yield f"consume, {pool}", _consume(bench, size, pool)
    for pool in POOLS if "latency" in groups else ():
        yield f"latency, {pool}", _latency(bench, size, pool)


def _consume(bench: Bench, size: Size, pool: PoolName) -> Step:
    name = pool if pool == "solo" else f"{pool} {CONCURRENCY[pool]}"

    def step(contender: Contender) -> Iterator[tuple[Row, list[float]]]:
        ours = contender.name == "celeriac"
        count = size.consumed_by_us if ours else size.consumed_by_stock
        rate, memory = bench.consume(contender, pool, count)
        yield Row(f"consume, {name}", "/s"), [rate]
        yield Row(f"memory after it, {name} (PSS)", "MB", "less"), [memory / 1e6]
        yield Row(f"cold start, {name}", "ms", "less"), [bench.cold_start(contender, pool)]

    return step


def _latency(bench: Bench, size: Size, pool: PoolName) -> Step:
    name = pool if pool == "solo" else f"{pool} {CONCURRENCY[pool]}"

    def step(contender: Contender) -> Iterator[tuple[Row, list[float]]]:
        values = bench.latency(contender, pool, size.paced, RATE)
        for share in (0.5, 0.99):
            title = f"latency p{share * 100:.0f} at {RATE}/s, {name}"
            yield Row(title, "ms", "less"), [percentile(values, share)]

    return step


def _print(rows: Sequence[Row], facts: Sequence[str]) -> None:
    print("\n" + table(HEAD, [row.cells() for row in rows]) + "\n")
    print("Medians of all rounds (least-greatest); a ratio above 1 is in favour of Celeriac.")
    print(
        "A message is a call of a task that does nothing, with 500 bytes of JSON. One producer, one"
    )
    print("worker process (Prefork: one parent). Every drain was checked: finished = sent.")
    for fact in [*facts, f"stock: {Stock.settings}", f"Celeriac: {Celeriac.settings}"]:
        print(f"- {fact}")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.throughput", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=GROUPS, help="measure a part")
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--rounds", type=int, metavar="N", help="in place of 5")
    parser.add_argument("--json", metavar="FILE", help="also write every number to a file")
    add_server_option(parser)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
