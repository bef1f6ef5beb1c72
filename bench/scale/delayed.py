"""A million messages come due at once: how fast they are ready, and how long a claim waits meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence

import redis

from bench.harness.report import percentile
from bench.harness.server import Place
from bench.harness.usage import usage, used_memory
from bench.peers.systems import QUEUE
from bench.scale.fill import fill, fresh
from celeriac.broker.message import Done, Settlement
from celeriac.broker.queue import Queue
from celeriac.control.broker import RedisQueue

DAY_MS = 86_400_000


def measure(here: Place, count: int) -> Iterator[Sequence[str]]:
    """Rows: what, how much, what was wanted."""
    queue = fresh(here)
    before = used_memory(here.client)
    fill(queue, count, delay_ms=DAY_MS)
    each = (used_memory(here.client) - before) / count
    yield f"memory of a delayed message, of {count:,}", f"{each:.0f} bytes", ""
    # A day passes: all are due now, and none was while others were still being sent.
    delayed = f"{queue.keys.base}delayed"
    here.client.zunionstore(delayed, {delayed: 0})
    stalls = Claims(here)
    stalls.start()
    used, begun, left = usage(here.client), time.perf_counter(), count
    access = RedisQueue(queue)
    while left:
        access.promote()
        left = queue.stats().delayed
    seconds = time.perf_counter() - begun
    used, waited = usage(here.client) - used, stalls.end()
    yield f"promotion of {count:,}", f"{count / seconds:,.0f}/s", "at least 50,000/s"
    yield (
        "the server's processor time for each, claims included",
        f"{used.server_s / count * 1e6:.1f} µs",
        "at most 20 µs, to reach that on one core",
    )
    yield (
        f"claims meanwhile ({len(waited):,} of one message)",
        _spread(waited),
        "below 20 ms",
    )


def _spread(ms: list[float]) -> str:
    p50, p99 = percentile(ms, 0.5), percentile(ms, 0.99)
    return f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, longest {max(ms):.1f} ms"


class Claims(threading.Thread):
    """A worker of its own: claims one message, settles it, a few hundred times a second."""

    def __init__(self, here: Place) -> None:
        super().__init__(daemon=True)
        options = here.client.connection_pool.connection_kwargs
        client = redis.Redis(port=options["port"], password=options["password"])
        self._queue = Queue(client, QUEUE)
        self._ended = threading.Event()
        self._waited: list[float] = []

    def run(self) -> None:
        while not self._ended.wait(0.002):
            begun = time.perf_counter()
            claim = self._queue.claim("bench", count=1)
            self._waited.append((time.perf_counter() - begun) * 1e3)
            self._queue.settle([Settlement(message, Done(), 1) for message in claim.messages])

    def end(self) -> list[float]:
        """Stop, and tell how many milliseconds each claim took."""
        self._ended.set()
        self.join()
        return self._waited
