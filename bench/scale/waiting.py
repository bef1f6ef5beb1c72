"""A queue of a million: what a waiting message takes, and whether the drain is slower for it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from subprocess import Popen

from bench.harness.processes import Failed, running, wait_for
from bench.harness.server import Place
from bench.harness.usage import used_memory
from bench.peers.install import Home
from bench.peers.line_up import line_up, systems
from bench.scale.fill import fill, fresh
from celeriac.broker.queue import Queue

FEW = 1000
TIMES = 20


def measure(here: Place, count: int) -> Iterator[Sequence[str]]:
    """Rows: what, how much, what was wanted."""
    queue = fresh(here)
    before = used_memory(here.client)
    body = fill(queue, count)
    each = (used_memory(here.client) - before) / count
    wanted = f"at most {1.25 * body + 100:.0f} (1.25 x {body} + 100)"
    yield f"memory of a waiting message, of {count:,}", f"{each:.0f} bytes", wanted
    many = _drain(here, queue, count)
    few = statistics.median(_few(here, queue))
    yield f"drain of {FEW:,}, {TIMES} times, one worker, Solo", f"{few:,.0f}/s", ""
    yield f"drain at {count:,}, the same worker", f"{many:,.0f}/s", f"{few:,.0f}/s or more"


def _drain(here: Place, queue: Queue, count: int) -> float:
    """Jobs a second of one worker after its warm-up, when the queue is at its longest."""
    marks = here.folder / "marks-many"
    with _worker(here, marks):
        warm = min(10_000, count // 10)
        wait_for(lambda: _size(marks) >= warm, what="the worker")
        begun, first = time.perf_counter(), _size(marks)
        wait_for(lambda: _size(marks) >= first + count // 10, what="the worker", within_s=120)
        rate = (_size(marks) - first) / (time.perf_counter() - begun)
    wait_for(lambda: queue.stats().done == _size(marks), what="what ran to be settled")
    if queue.stats().imbalance:
        raise Failed("not all are accounted for")
    fresh(here)
    return rate


def _few(here: Place, queue: Queue) -> Iterator[float]:
    """Jobs a second of one worker that is awake and finds a thousand at once."""
    marks = here.folder / "marks-few"
    with _worker(here, marks):
        for number in range(TIMES + 1):
            queue.pause()
            fill(queue, FEW)
            queue.resume()
            done = number * FEW
            wait_for(_more_than(marks, done), what="the worker")
            begun, first = time.perf_counter(), _size(marks)
            while (now := _size(marks)) < done + FEW:
                pass
            if number and now > first:
                yield (now - first) / (time.perf_counter() - begun)


def _worker(here: Place, marks: Path) -> AbstractContextManager[Popen[bytes]]:
    marks.touch()
    everybody = systems(Home(here.folder), here.host)
    solo = next(it for it in line_up(everybody, ["celeriac"]) if "Solo" in it.name)
    return running(
        solo.worker(), environment=solo.environment(marks), log=here.folder / "scale.log"
    )


def _more_than(marks: Path, count: int) -> Callable[[], bool]:
    return lambda: _size(marks) > count


def _size(path: Path) -> int:
    return path.stat().st_size
