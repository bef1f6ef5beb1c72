"""The Celery app that the contract tests run on our worker: plain Celery, nothing of ours in it.

Tasks leave notes in a Redis list of their own message, which tests read; signals leave theirs in a list of
the worker's queue.
"""

from __future__ import annotations

import functools
import json
import os
import time
from typing import Any

import redis
from celery import Celery, current_task, signals

QUEUE = os.environ.get("CONTRACT_QUEUE", "contract")

app = Celery(
    "contract",
    backend=os.environ.get("CONTRACT_BACKEND"),
    include=["contract_tasks", "contract_rough_tasks"],
)
app.conf.update(
    task_default_queue=QUEUE,
    # A result backend that is away is given up soon.
    result_backend_transport_options={"retry_policy": {"max_retries": 1, "interval_start": 0}},
    worker_max_tasks_per_child=int(os.environ.get("CONTRACT_MAX_TASKS", "0")) or None,
    task_soft_time_limit=float(os.environ.get("CONTRACT_SOFT_LIMIT", "0")) or None,
)


@functools.cache
def _notebook() -> redis.Redis:
    return redis.Redis.from_url(os.environ["CONTRACT_NOTES"])


def note(text: str, *, key: str | None = None, **more: Any) -> None:
    """Leave a note for the test, under the id of the running task unless ``key`` says otherwise."""
    record = {"note": text, "pid": os.getpid(), "at": time.time(), **more}
    _notebook().rpush(f"notes:{key or current_task.request.id}", json.dumps(record, default=repr))


def count(key: str) -> int:
    """Count up, and return the new count."""
    return int(_notebook().incr(f"count:{key}"))


def _signal(name: str, **more: Any) -> None:
    note(name, key=QUEUE, **more)


if "CONTRACT_QUEUE" in os.environ:  # in a worker, not in the tests' own process
    for _name in (
        "celeryd_init",
        "celeryd_after_setup",
        "worker_init",
        "worker_ready",
        "worker_process_init",
        "worker_process_shutdown",
        "worker_shutting_down",
        "worker_shutdown",
    ):
        getattr(signals, _name).connect(lambda _name=_name, **_: _signal(_name), weak=False)


def _is_watched(task: Any) -> bool:
    return bool(task.name.startswith("watched."))


@signals.task_prerun.connect
def _prerun(task_id: str, task: Any, args: Any, kwargs: Any, **_: Any) -> None:
    if _is_watched(task):
        note("task_prerun", key=task_id, args=list(args))


@signals.task_postrun.connect
def _postrun(task_id: str, task: Any, state: str | None, **_: Any) -> None:
    if _is_watched(task):
        note("task_postrun", key=task_id, state=state)


@signals.task_success.connect
def _success(sender: Any, result: Any, **_: Any) -> None:
    if _is_watched(sender):
        note("task_success", key=sender.request.id, result=result)


@signals.task_failure.connect
def _failure(sender: Any, task_id: str, exception: BaseException, **_: Any) -> None:
    note("task_failure", key=task_id, error=type(exception).__name__)


@signals.task_retry.connect
def _retry(sender: Any, request: Any, reason: Any, **_: Any) -> None:
    if _is_watched(sender):
        note("task_retry", key=request.id, reason=str(reason))


@signals.task_revoked.connect
def _revoked(sender: Any, request: Any, terminated: bool, expired: bool, **_: Any) -> None:
    note("task_revoked", key=request.id, terminated=terminated, expired=expired)
