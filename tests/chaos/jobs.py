"""The Celery app that faults are tried on, the same for Celeriac and for stock Celery, with harmful tasks."""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
import os
import signal
import time
from typing import Any

from celeriac.chaos.jobs import app, noted_run, task

logger = logging.getLogger(__name__)

app.conf.worker_enable_remote_control = True  # as with any worker
app.conf.update(json.loads(os.environ.get("CHAOS_CELERY", "{}")))


@app.task(bind=True, name="chaos.text", ignore_result=True)
def text(self: Any, job: str, letters: str) -> None:
    """Check that the message came whole."""
    assert letters == "x" * (int(job[1:]) % 700)
    with noted_run(self, job):
        pass


def steps(self: Any, job: str, number: int, ms: float) -> None:
    """Sleep again and again: time in which the process was frozen does not count."""
    with noted_run(self, job):
        for _ in range(number):
            time.sleep(ms / 1000)


async def steps_async(self: Any, job: str, number: int, ms: float) -> None:
    """Do the same as a coroutine."""
    with noted_run(self, job):
        for _ in range(number):
            await asyncio.sleep(ms / 1000)


task("chaos.steps", steps, steps_async)


@app.task(bind=True, name="chaos.tell_time", ignore_result=True)
def tell_time(self: Any, job: str, now: float, fail: bool = False) -> None:
    """Say by how much this clock differs from what it should be; fail the first time, if told so."""
    off_h = (time.time() - now) / 3600
    if abs(off_h) > 0.5:
        logger.warning("the clock is an hour %s", "ahead" if off_h > 0 else "behind")
    if fail and not self.request.retries:
        raise RuntimeError
    with noted_run(self, job):
        pass


@app.task(bind=True, name="chaos.die", ignore_result=True)
def die(self: Any, job: str, how: str) -> None:
    """Take the process along."""
    with noted_run(self, job):
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif how == "exit":
            os._exit(3)
        else:
            ctypes.string_at(8)  # a segmentation fault


@app.task(bind=True, name="chaos.eat", ignore_result=True)
def eat(self: Any, job: str, chunk_mb: int) -> None:
    """Take memory until there is none."""
    held = []
    with noted_run(self, job):
        while True:
            held.append(bytearray(chunk_mb << 20))


@app.task(bind=True, name="chaos.hang", ignore_result=True)
def hang(self: Any, job: str, how: str, seconds: int = 60) -> None:
    """Be busy for ever: asleep, in a loop, or in C code that holds the interpreter."""
    with noted_run(self, job):
        until = time.monotonic() + seconds
        if how == "sleep":
            time.sleep(seconds)
        elif how == "loop":
            while time.monotonic() < until:
                pass
        else:
            ctypes.PyDLL(None).sleep(seconds)
