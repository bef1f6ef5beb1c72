"""Measures one thing of one variant, on an empty server: a drain, a sender, a delay, a start."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count as counting
from pathlib import Path

from bench.harness.processes import POLL_S, Failed, output_of, running, wait_for
from bench.harness.server import Place, empty
from bench.harness.usage import Usage, resident, usage, used_memory
from bench.peers.systems import Variant

GIVE_UP_S = 120.0
#: The first part of a drain is the workers' warm-up.
WARM_UP = 0.1
AWAKE = 20
_numbers = counting()


@dataclass(frozen=True, slots=True)
class Drain:
    """A drain of ``jobs`` jobs after the warm-up, and what it cost."""

    jobs: int
    seconds: float
    used: Usage
    memory: int

    @property
    def rate(self) -> float:
        """Jobs a second."""
        return self.jobs / self.seconds


@dataclass(frozen=True, slots=True)
class Delay:
    """Milliseconds from the call that sends to the start of the job, by priority (or ``-``)."""

    by_tag: dict[str, list[float]]
    rate: float

    @property
    def all(self) -> list[float]:
        """Every delay."""
        return [value for values in self.by_tag.values() for value in values]


@dataclass(frozen=True, slots=True)
class Start:
    """A worker's beginning: ms to its first finished job, and what it costs when it has none."""

    cold_ms: float
    memory: int
    idle: Usage
    idle_s: float


@dataclass(frozen=True, slots=True)
class Bench:
    """Where it is measured."""

    place: Place

    def send(self, variant: Variant, way: str, *, count: int, size: int) -> tuple[float, float]:
        """Jobs a second of one sender, and the bytes of the server's memory for each that waits."""
        self._empty(variant)
        before = used_memory(self.place.client)
        rate = self._send(variant, way, "noop", count, size=size)
        waiting = variant.system.unfinished(self.place.client)
        if waiting != count:
            raise Failed(f"{variant.name} sent {count}, but {waiting} arrived")
        return rate, (used_memory(self.place.client) - before) / count

    def drain(
        self, variant: Variant, job: str, *, count: int, size: int, workers: int = 1
    ) -> Drain:
        """Run ``count`` jobs that wait, with one worker or several."""
        self._empty(variant)
        self._send(variant, "many", job, count, size=size)
        marks = self._marks()
        with self._workers(variant, marks, workers) as pids:
            client = self.place.client
            wait_for(lambda: _size(marks) > count * WARM_UP, what=variant.name, within_s=GIVE_UP_S)
            begun, first, before = time.perf_counter(), _size(marks), usage(client, pids)
            wait_for(lambda: _size(marks) >= count, what=variant.name, within_s=GIVE_UP_S)
            ended = time.perf_counter()
            used = usage(client, pids) - before
            self._check(variant, marks, count)
            memory = sum(map(resident, pids))
        if first >= count * (1 - WARM_UP):
            raise Failed(f"{variant.name}: {count} jobs are too few to measure")
        return Drain(count - first, ended - begun, used, memory)

    def delay(self, variant: Variant, *, count: int, rate: float) -> Delay:
        """Send ``count`` marks at an even rate to one worker that is awake."""
        self._empty(variant)
        marks = self._marks()
        with self._workers(variant, marks, 1):
            self._send(variant, "paced", "mark", AWAKE, rate=min(rate, 100))
            wait_for(lambda: len(_lines(marks)) == AWAKE, what=variant.name)
            reached = self._send(variant, "paced", "mark", count, rate=rate)
            wait_for(lambda: len(_lines(marks)) >= AWAKE + count, what=variant.name, within_s=60)
        by_tag: dict[str, list[float]] = {}
        for line in _lines(marks)[AWAKE:]:
            sent, ran, tag = line.split()
            by_tag.setdefault(tag, []).append((int(ran) - int(sent)) / 1e6)
        return Delay(by_tag, reached)

    def start(self, variant: Variant, *, idle_s: float) -> Start:
        """Start a worker with one job waiting, let it run that, and then leave it alone."""
        self._empty(variant)
        marks = self._marks()
        self._send(variant, "paced", "mark", 1, rate=100)
        begun = time.monotonic_ns()
        with self._workers(variant, marks, 1) as pids:
            wait_for(lambda: len(_lines(marks)) == 1, what=variant.name)
            cold_ms = (int(_lines(marks)[0].split()[1]) - begun) / 1e6
            time.sleep(1)
            before = usage(self.place.client, pids)
            time.sleep(idle_s)
            idle = usage(self.place.client, pids) - before
            memory = sum(map(resident, pids))
        return Start(cold_ms, memory, idle, idle_s)

    # --- inside ---------------------------------------------------------------------------------

    def _empty(self, variant: Variant) -> None:
        empty(self.place.client)
        variant.system.prepare(self.place.client)

    def _marks(self) -> Path:
        path = self.place.folder / f"marks-{next(_numbers)}"
        path.touch()
        return path

    def _send(
        self,
        variant: Variant,
        way: str,
        job: str,
        count: int,
        *,
        size: int = 500,
        rate: float = 0.0,
    ) -> float:
        command = variant.system.sender(way, job, count, size=size, rate=rate)
        shown = output_of(command, environment=variant.environment())
        return float(json.loads(shown.splitlines()[-1])["rate"])

    @contextmanager
    def _workers(self, variant: Variant, marks: Path, count: int) -> Iterator[list[int]]:
        with ExitStack() as stack:
            processes = [
                stack.enter_context(
                    running(
                        [*variant.worker(), *_own_name(variant, number)],
                        environment=variant.environment(marks),
                        log=self.place.folder / f"{variant.name}-{number}.log".replace(" ", "-"),
                    )
                )
                for number in range(count)
            ]
            yield [process.pid for process in processes]

    def _check(self, variant: Variant, marks: Path, count: int) -> None:
        """Everything ran, once, and the system's own records agree."""
        wait_for(
            lambda: variant.system.unfinished(self.place.client) == 0,
            what=f"{variant.name} to acknowledge the last",
            within_s=15,
        )
        time.sleep(POLL_S * 4)
        if _size(marks) != count:
            raise Failed(f"{variant.name}: {count} sent, {_size(marks)} run")


def _own_name(variant: Variant, number: int) -> tuple[str, ...]:
    return ("-n", f"bench-{number}@%h") if variant.system.name == "celery" else ()


def _size(path: Path) -> int:
    return path.stat().st_size


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()
