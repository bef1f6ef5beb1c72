"""Tasks that end processes, pass their time limits, or watch every hook that Celery has."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import suppress
from typing import Any

from celery import Task
from celery.exceptions import SoftTimeLimitExceeded
from contract_app import app, note
from contract_tasks import Flaky

# --- what ends workers ------------------------------------------------------------------------------


class Alien(BaseException):
    """Neither an Exception nor anything that Celery knows."""


FATAL: dict[str, type[BaseException]] = {
    "SystemExit": SystemExit,
    "KeyboardInterrupt": KeyboardInterrupt,
    "MemoryError": MemoryError,
    "CancelledError": asyncio.CancelledError,
    "Alien": Alien,
}


@app.task(name="fatal")
def fatal(name: str) -> None:
    note("ran")
    raise FATAL[name]("on purpose")


@app.task(name="exit_hard")
def exit_hard() -> None:
    note("ran")
    os._exit(7)


def _kill_the_first_time(task: Task) -> str:
    redelivered = task.request.delivery_info["redelivered"]
    note("ran", redelivered=redelivered, retries=task.request.retries)
    if not redelivered:
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


@app.task(name="kill_worker", bind=True)
def kill_worker(self: Task) -> str:
    return _kill_the_first_time(self)


@app.task(name="kill_worker_early", bind=True, acks_late=False)
def kill_worker_early(self: Task) -> str:
    return _kill_the_first_time(self)


# --- time limits ------------------------------------------------------------------------------------


@app.task(name="spin")
def spin(seconds: float) -> str:
    """Busy Python code that cleans up when the soft limit interrupts it."""
    note("started")
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            pass
    except SoftTimeLimitExceeded:
        note("interrupted")
        return "cleaned up"
    return "whole"


@app.task(name="stubborn")
def stubborn(seconds: float) -> None:
    note("started")
    time.sleep(seconds)


@app.task(name="stubborn_anyway")
def stubborn_anyway() -> None:
    """Takes no notice of the soft limit."""
    note("started")
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with suppress(SoftTimeLimitExceeded):
            time.sleep(30)


@app.task(name="limited_softly", soft_time_limit=0.2)
def limited_softly() -> None:
    note("started")
    time.sleep(10)


@app.task(name="limited_hard", time_limit=0.3)
def limited_hard() -> None:
    note("started")
    time.sleep(10)


# --- hooks ------------------------------------------------------------------------------------------


class Watched(Task):
    """A task class with every hook, and a call of its own."""

    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        note("__call__")
        return super().__call__(*args, **kwargs)

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        note("before_start", key=task_id)

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        note("on_success", key=task_id, retval=retval)

    def on_failure(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        note("on_failure", key=task_id, error=type(exc).__name__)

    def on_retry(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        note("on_retry", key=task_id, error=type(exc).__name__)

    def after_return(self, status: str, *args: Any) -> None:
        note("after_return", key=args[1], status=status)


@app.task(name="watched.add", base=Watched)
def watched_add(a: int, b: int) -> int:
    return a + b


@app.task(name="watched.fail", base=Watched)
def watched_fail() -> None:
    raise Flaky("watched")


@app.task(name="watched.retry", base=Watched, bind=True)
def watched_retry(self: Task) -> str:
    if self.request.retries == 0:
        raise self.retry(exc=Flaky("once"), countdown=0)
    return "done"
