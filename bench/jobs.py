"""What everybody runs, whichever queue it came through: four jobs that need nothing but Python.

Each run leaves a trace in the file `BENCH_MARKS`, when there is one: a byte for each run of a job, a line
for each mark. So the file's size says how far a drain is, in any language and at the price of a
microsecond, and a job that is lost or run twice shows.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable
from typing import Any

CPU_S = 0.001
IO_S = 0.01

_marks: int | None = None


def noop(payload: Any) -> None:
    """Nothing: what is measured is the way there and back."""
    _leave(b".")


def cpu(payload: Any) -> None:
    """Compute for a millisecond of this thread's own time, however many threads there are."""
    end = time.thread_time() + CPU_S
    while time.thread_time() < end:
        pass
    _leave(b".")


def io(payload: Any) -> None:
    """Wait for ten milliseconds, as for another service."""
    time.sleep(IO_S)
    _leave(b".")


def mark(sent_ns: int, tag: str = "-") -> None:
    """Write down when it was sent, and that it runs now, on the clock of this machine."""
    _leave(b"%d %d %s\n" % (sent_ns, time.monotonic_ns(), tag.encode()))


async def io_async(payload: Any) -> None:
    """Wait for ten milliseconds without holding a thread."""
    await asyncio.sleep(IO_S)
    _leave(b".")


def asynchronous(job: Callable[..., None]) -> Callable[..., Any]:
    """The same job as a coroutine function, as queues on asyncio want them."""
    if job is io:
        return io_async

    async def run(*args: Any) -> None:
        job(*args)

    run.__name__ = job.__name__
    return run


def all_jobs(*, coroutines: bool = False) -> dict[str, Callable[..., Any]]:
    """Every job by its name."""
    jobs: list[Callable[..., None]] = [noop, cpu, io, mark]
    return {job.__name__: asynchronous(job) if coroutines else job for job in jobs}


def payload(size: int = 500) -> dict[str, object]:
    """A payload that takes ``size`` bytes as JSON."""
    fields: dict[str, object] = {
        "version": 1,
        "conversation": "c-4711",
        "sender": "ada",
        "text": "",
    }
    fields["text"] = "x" * (size - len(json.dumps(fields, separators=(",", ":"))))
    return fields


def _leave(trace: bytes) -> None:
    global _marks  # noqa: PLW0603 (one file for each process, opened when first needed)
    if _marks is None:
        path = os.environ.get("BENCH_MARKS") or os.devnull
        _marks = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(_marks, trace)
