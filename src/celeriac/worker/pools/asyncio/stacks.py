"""Celery's stacks of running tasks and their requests, kept per context and no longer per thread.

``self.request`` and ``current_task`` look at the top of a stack that belongs to their thread. Coroutines
share a thread: each has to see its own. A context variable gives it just that, and hands it on to what the
coroutine starts (``asyncio.gather``, ``create_task``, ``to_thread``).
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from celery import _state
from celery.app import base, trace
from celery.app import task as task_module


class ContextStack:
    """What Celery asks of its LocalStack."""

    __slots__ = ("_items",)

    def __init__(self) -> None:
        # Never changed in place: a context that was copied goes its own way.
        self._items: ContextVar[tuple[Any, ...]] = ContextVar("celeriac_stack", default=())

    def push(self, item: Any) -> None:
        """Put an item on top."""
        self._items.set((*self._items.get(), item))

    def pop(self) -> Any:
        """Take the topmost item off; None when there is none."""
        items = self._items.get()
        if not items:
            return None
        self._items.set(items[:-1])
        return items[-1]

    @property
    def top(self) -> Any:
        """The topmost item; None when there is none."""
        items = self._items.get()
        return items[-1] if items else None

    @property
    def stack(self) -> tuple[Any, ...]:
        """All items, the topmost last."""
        return self._items.get()

    def __len__(self) -> int:
        return len(self._items.get())


#: Which task runs in this context.
tasks = ContextStack()


def keep_tasks_per_context() -> None:
    """Let all of Celery look at :data:`tasks`. To be called before any tracer is built."""
    for module in (_state, base, task_module, trace):
        module._task_stack = tasks
    _state.push_current_task, _state.pop_current_task = tasks.push, tasks.pop


def keep_requests_per_context(task: Any) -> None:
    """Give a task a stack of requests per context. To be called before its tracer is built."""
    if not isinstance(task.request_stack, ContextStack):
        task.request_stack = ContextStack()
