"""One process that sends: `python -m bench.peers.producer APP one|many|paced JOB COUNT SIZE RATE`.

It prints how many a second, as JSON. `paced` sends marks at an even rate, one in ten of them urgent where
the queue knows priorities; whoever falls behind catches up.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import sys
import time
from collections.abc import Callable, Coroutine
from types import ModuleType
from typing import Any

from bench import jobs

#: The first few, which connect, are not counted.
WARM_UP = 200
#: Above this rate a queue that can sends what is due together: one by one, nobody is so fast.
TOGETHER = 1000
URGENT = 10


def main(app: str, way: str, job: str, count: str, size: str, rate: str) -> None:
    """Send, in a process of its own."""
    module = importlib.import_module(f"bench.peers.apps.{app}_app")
    number, pace = int(count), float(rate)
    if inspect.iscoroutinefunction(module.one):
        figure = asyncio.run(_on_a_loop(module, way, job, number, int(size), pace))
    elif way == "paced":
        figure = _paced(module, number, pace)
    else:
        figure = _timed(_sender(module, way, job, int(size)), number)
    print(json.dumps({"rate": figure}))


def _sender(module: ModuleType, way: str, job: str, size: int) -> Callable[[int], None]:
    body = jobs.payload(size)
    if way == "many" and hasattr(module, "many"):
        return lambda count: module.many(job, count, body)

    def loop(count: int) -> None:
        for _ in range(count):
            module.one(job, body)

    return loop


def _timed(send: Callable[[int], None], count: int) -> float:
    warm = min(WARM_UP, count // 10)
    send(warm)
    start = time.perf_counter()
    send(count - warm)
    return (count - warm) / (time.perf_counter() - start)


def _paced(module: ModuleType, count: int, rate: float) -> float:
    knows_priorities = "priority" in inspect.signature(module.one).parameters
    together = rate > TOGETHER and hasattr(module, "each")
    start, sent = time.monotonic(), 0
    while sent < count:
        due = min(count, int((time.monotonic() - start) * rate) + 1) if together else sent + 1
        if not together:
            time.sleep(max(0.0, start + sent / rate - time.monotonic()))
        elif due - sent < 1:
            time.sleep(0.001)
            continue
        for tag, numbers in _by_priority(range(sent, due), knows_priorities):
            more = {"priority": tag} if knows_priorities else {}
            calls = [(time.monotonic_ns(), tag) for _ in numbers]
            if together:
                module.each("mark", calls, **more)
            else:
                for call in calls:
                    module.one("mark", *call, **more)
        sent = due
    return count / (time.monotonic() - start)


def _by_priority(numbers: range, knows: bool) -> list[tuple[str, list[int]]]:
    urgent = [number for number in numbers if knows and number % URGENT == 0]
    rest = [number for number in numbers if not (knows and number % URGENT == 0)]
    return [(tag, some) for tag, some in (("high", urgent), ("normal", rest)) if some]


async def _on_a_loop(
    module: ModuleType, way: str, job: str, count: int, size: int, rate: float
) -> float:
    one: Callable[..., Coroutine[Any, Any, None]] = module.one
    await module.start()
    if way == "paced":
        start = time.monotonic()
        for number in range(count):
            await asyncio.sleep(max(0.0, start + number / rate - time.monotonic()))
            await one("mark", time.monotonic_ns(), "-")
        return rate
    body, warm = jobs.payload(size), min(WARM_UP, count // 10)
    for number in range(count):
        if number == warm:
            begun = time.perf_counter()
        await one(job, body)
    return (count - warm) / (time.perf_counter() - begun)


if __name__ == "__main__":
    main(*sys.argv[1:])
