"""Coroutine tasks that are called as functions: somebody has to await them.

Celery calls error callbacks itself, and where there is no event loop its tracer calls a task's own code like
any function. Nobody else is concerned: whoever calls a coroutine task gets a coroutine, and awaits it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any

from celery import Celery
from celery.backends.base import Backend

#: Runs a coroutine to its end and returns its value, in a thread that may wait for it.
Finish = Callable[[Coroutine[Any, Any, Any]], Any]

_as_functions: ContextVar[bool] = ContextVar("celeriac_as_functions", default=False)
_MARK = "_celeriac_finish"


def is_coroutine(task: Any) -> bool:
    """Whether a task's own code is ``async def``."""
    run = getattr(task, "_orig_run", task.run)
    decorated = getattr(task, "_decorated_fun", None)  # before Celery wrapped it
    return hasattr(run, _MARK) or iscoroutinefunction(run) or iscoroutinefunction(decorated)


def await_for_celery(app: Celery, finish: Finish = asyncio.run) -> None:
    """Let Celery call the coroutine tasks of an app as functions, where it does so."""
    for task in app.tasks.values():
        if is_coroutine(task):
            _wrap(task, finish)
    if not hasattr(Backend._call_task_errbacks, _MARK):
        Backend._call_task_errbacks = as_functions(Backend._call_task_errbacks)


def as_functions(call: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function of Celery's that calls tasks, and is not made for coroutines."""

    @wraps(call)
    def calling(*args: Any, **kwargs: Any) -> Any:
        token = _as_functions.set(True)
        try:
            return call(*args, **kwargs)
        finally:
            _as_functions.reset(token)

    setattr(calling, _MARK, None)
    return calling


def _wrap(task: Any, finish: Finish) -> None:
    name = "_orig_run" if hasattr(task, "_orig_run") else "run"
    run = getattr(task, name)
    if hasattr(run, _MARK):
        return

    @wraps(run)
    def called(*args: Any, **kwargs: Any) -> Any:
        if not _as_functions.get():
            return run(*args, **kwargs)
        token = _as_functions.set(False)
        try:
            return finish(run(*args, **kwargs))
        finally:
            _as_functions.reset(token)

    setattr(called, _MARK, finish)
    setattr(task, name, called)
