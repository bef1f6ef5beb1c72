"""Celery's tracer for coroutines: it begins where the task's own code has ended.

It is Celery's own, built around a function which returns or raises what the coroutine did, and without the
part that has happened by then. So policy, results, callbacks, hooks and signals are as for any task.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any

from celery import signals
from celery.app import trace
from celery.app.trace import task_has_custom

from celeriac.worker.attempt import PolicyInfo
from celeriac.worker.pools.asyncio.drive import Ended

_ended: ContextVar[Ended] = ContextVar("celeriac_ended")
_began: ContextVar[float] = ContextVar("celeriac_began")


def build(task: Any, *, app: Any, worker: str) -> Any:
    """Build the tracer; from here on ``task.run`` is the task's own code, without Celery's wrappers."""
    run = getattr(task, "_orig_run", task.run)
    if hasattr(task, "_orig_run"):
        task._orig_run = _replay  # task.run is Celery's wrapper for autoretry_for, which calls this
    else:
        task.run = _replay
    with _after_the_beginning(task):
        tracer = trace.build_tracer(
            task.name,
            task,
            SimpleNamespace(
                on_task_init=_nothing, on_process_cleanup=app.loader.on_process_cleanup
            ),
            worker,
            app=app,
            Info=PolicyInfo,
            monotonic=_clock,
        )
    task.run = run
    return tracer


class _Signals:
    """Celery's signals, with nobody listening to prerun."""

    task_prerun = SimpleNamespace(receivers=())

    def __getattr__(self, name: str) -> Any:
        return getattr(signals, name)


@contextmanager
def _after_the_beginning(task: Any) -> Iterator[None]:
    """Let Celery build a tracer for a task whose beginning has been taken care of."""
    trace.signals, trace.task_has_custom = _Signals(), _has_custom_end
    task.track_started = False
    try:
        yield
    finally:
        trace.signals, trace.task_has_custom = signals, task_has_custom


def _has_custom_end(task: Any, name: str) -> Any:
    return name not in ("__call__", "before_start") and task_has_custom(task, name)


def prepare(ended: Ended, *, began: float) -> None:
    """Say, in this context, what the tracer will find: what became of it, and when it began (monotonic)."""
    _ended.set(ended)
    _began.set(began)


def _replay(*args: Any, **kwargs: Any) -> Any:
    """Stand in for the task's own code, for Celery's tracer: do again what the coroutine did."""
    ended = _ended.get()
    if ended.error is not None:
        raise ended.error
    return ended.value


def _clock() -> float:
    """Tell the tracer, which asks when it begins and when it ends, when the attempt began."""
    began = _began.get()
    if not began:
        return time.monotonic()
    _began.set(0.0)
    return began


def _nothing(*args: Any) -> None:
    pass
