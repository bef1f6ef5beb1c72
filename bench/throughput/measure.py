"""Measures one thing of one contender: sending, consuming, latency, cold start, memory."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

import redis

from bench.harness.processes import Failed, output_of, running, wait_for
from bench.harness.server import empty
from bench.harness.usage import resident
from bench.throughput.contenders import Contender, PoolName

POLL_S = 0.01
GIVE_UP_S = 120.0
#: The first tenth of a drain is the worker's warm-up.
WARM_UP = 0.1
AWAKE = 20


@dataclass(frozen=True, slots=True)
class Bench:
    """A server to measure on. One thing at a time, each on an empty server."""

    client: redis.Redis
    folder: Path

    def send(self, contender: Contender, way: str, count: int) -> float:
        """Messages a second of one producer."""
        self._empty(contender)
        rate = self._produce(contender, way, count)
        waiting = contender.unfinished(self.client)
        if waiting != count:
            raise Failed(f"{contender.name} sent {count}, but {waiting} arrived")
        return rate

    def consume(self, contender: Contender, pool: PoolName, count: int) -> tuple[float, int]:
        """Messages a second of one worker with ``count`` waiting, and its memory after that."""
        self._empty(contender)
        self._produce(contender, "send_many" if contender.name == "celeriac" else "batch", count)
        with self._worker(contender, pool) as process:
            rate = self._drain(contender, count)
            finished = contender.finished(self.client)
            if finished != count:
                raise Failed(f"{contender.name} {pool}: {count} sent, {finished} finished")
            memory = resident(process.pid)
        return rate, memory

    def latency(self, contender: Contender, pool: PoolName, count: int, rate: int) -> list[float]:
        """Milliseconds from the call of apply_async to the start of the task, one worker idle."""
        self._empty(contender)
        marks = self._marks()
        with self._worker(contender, pool, marks):
            self._produce(contender, "paced", AWAKE, rate)  # everybody is awake and connected
            wait_for(lambda: len(_lines(marks)) == AWAKE, what=contender.name)
            self._produce(contender, "paced", count, rate)
            wait_for(lambda: len(_lines(marks)) == AWAKE + count, what=contender.name)
        pairs = [line.split() for line in _lines(marks)[AWAKE:]]
        return [(int(ran) - int(sent)) / 1e6 for sent, ran, _ in pairs]

    def cold_start(self, contender: Contender, pool: PoolName) -> float:
        """Milliseconds from starting a worker's process to its first finished task."""
        self._empty(contender)
        marks = self._marks()
        self._produce(contender, "paced", 1, 100)
        start = time.monotonic_ns()
        with self._worker(contender, pool, marks):
            wait_for(lambda: len(_lines(marks)) == 1, what=contender.name)
        return (int(_lines(marks)[0].split()[1]) - start) / 1e6

    # --- inside ---------------------------------------------------------------------------------

    def _empty(self, contender: Contender) -> None:
        empty(self.client)
        contender.prepare(self.client)

    def _marks(self) -> Path:
        handle, name = tempfile.mkstemp(dir=self.folder)
        os.close(handle)
        return Path(name)

    def _produce(self, contender: Contender, way: str, count: int, rate: int = 0) -> float:
        shown = output_of(
            [sys.executable, "-m", "bench.throughput.producer", way, str(count), str(rate)],
            environment={"BENCH_BROKER": contender.url},
        )
        return float(json.loads(shown.splitlines()[-1])["rate"])

    @contextmanager
    def _worker(
        self, contender: Contender, pool: PoolName, marks: Path | None = None
    ) -> Iterator[Popen[bytes]]:
        with running(
            contender.worker(pool),
            environment={"BENCH_BROKER": contender.url, "BENCH_MARKS": str(marks or "")},
            log=self.folder / f"{contender.name}-{pool}.log",
        ) as process:
            yield process

    def _drain(self, contender: Contender, count: int) -> float:
        """Watch the number of unfinished messages fall; the rate from the warm-up to the end."""
        deadline = time.monotonic() + GIVE_UP_S
        begun: tuple[float, int] | None = None
        while time.monotonic() < deadline:
            left, now = contender.unfinished(self.client), time.perf_counter()
            if begun is None and left <= count * (1 - WARM_UP):
                begun = now, left
            if left == 0:
                if begun is None or begun[1] == 0:
                    raise Failed(f"{count} messages are too few to measure")
                return begun[1] / (now - begun[0])
            time.sleep(POLL_S)
        raise Failed(f"{contender.name}: {left} of {count} left after {GIVE_UP_S:.0f} s")


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()
