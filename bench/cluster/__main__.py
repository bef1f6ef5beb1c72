"""`python -m bench.cluster`: prints what a cluster gives, and on what that was measured."""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.cluster.drive import Driven, drive
from bench.cluster.sending import Sent, senders
from bench.harness.report import machine, number, spread, table
from bench.harness.server import place
from celeriac.broker.server_process import find_server
from tests.redis_cluster import RedisCluster

#: Primaries (0: one server without a cluster) and queues, which are spread over them.
SHAPES = ((0, 1), (1, 1), (1, 2), (1, 3), (2, 2), (3, 3))


class Places:
    """One server, and clusters of one, two and three primaries without replicas."""

    def __init__(self, stack: ExitStack, program: str | None) -> None:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="bench-")))
        binary = find_server(Path(program) if program else None)
        self.server = stack.enter_context(place(program))
        self.clusters = {
            count: stack.enter_context(
                RedisCluster(folder / str(count), binary=binary, primaries=count, replicas=0)
            )
            for count in (1, 2, 3)
        }

    def drive(self, primaries: int, queues: int, *, seconds: float) -> Driven:
        """Push messages through so many queues on so many primaries."""
        if not primaries:
            names = [f"bench{at}" for at in range(queues)]
            url = f"celeriac://{self.server.host}/0"
            return drive(url, names, [self.server.pid], seconds=seconds)
        cluster = self.clusters[primaries]
        names = [
            name for its in cluster.names_on_each(queues // primaries, "bench") for name in its
        ]
        pids = [node.process.pid for node in cluster.nodes if node.process is not None]
        return drive(cluster.url, names, pids, seconds=seconds)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure in alternation, and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.cluster", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--server", metavar="PROGRAM", help="default: the embedded one")
    options = parser.parse_args(arguments)
    rounds, seconds, count = (1, 1.0, 1000) if options.quick else (options.rounds, 2.0, 5_000)
    driven: dict[tuple[int, int], list[Driven]] = defaultdict(list)
    sent: dict[str, list[Sent]] = defaultdict(list)
    facts = list(machine())
    with ExitStack() as stack:
        places = Places(stack, options.server)
        facts.append(f"servers: {places.server.version}, loopback, appendfsync everysec")
        ways = senders(
            f"celeriac://{places.server.host}/0", places.clusters[3].url, "bench-sending"
        )
        for at in range(rounds):
            print(f"round {at + 1} of {rounds}", file=sys.stderr, flush=True)
            for shape in SHAPES:
                driven[shape].append(places.drive(*shape, seconds=seconds))
            for name, send in ways.items():
                sent[name].append(send(count))
    print("\n".join(_report(driven, sent)))
    print("\n" + "\n".join(f"- {fact}" for fact in facts))
    return 0


def _report(
    driven: dict[tuple[int, int], list[Driven]], sent: dict[str, list[Sent]]
) -> Iterator[str]:
    # Of the best rounds: whatever else runs on the machine makes a round worse, never better.
    base = max(it.per_s for it in driven[1, 1])
    rows = []
    for (primaries, queues), its in driven.items():
        server_us = min(it.server_us for it in its)
        rows.append(
            [
                f"{primaries} primar{'y' if primaries == 1 else 'ies'}" if primaries else "server",
                str(queues),
                spread([it.per_s for it in its], "/s"),
                f"{max(it.per_s for it in its) / base:.2f}",
                f"{max(it.busiest for it in its):.2f}",
                f"{min(it.client_us for it in its):.1f} µs",
                f"{server_us:.1f} µs",
                f"{number(1e6 / server_us)} /s",
            ]
        )
    head = ["", "queues", "throughput", "best, ratio", "busiest node (cores)"]
    head += ["client, a message", "node, a message", "so one node's limit"]
    yield table(head, rows)
    first = max(it.per_s for it in sent["one server"])
    yield ""
    yield table(
        ["one at a time, to", "sent", "ratio", "client, a message"],
        [
            [
                name,
                spread([it.per_s for it in its], "/s"),
                f"{max(it.per_s for it in its) / first:.2f}",
                f"{min(it.client_us for it in its):.1f} µs",
            ]
            for name, its in sent.items()
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
