"""The contract app once more, with every task a coroutine: what holds for functions must hold for these."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import wraps
from typing import Any

import contract_async_tasks  # noqa: F401 (for workers of this app)
import contract_rough_tasks  # noqa: F401 (for workers of this app)
from celery import current_task
from celery.exceptions import Reject, SoftTimeLimitExceeded
from contract_app import app, note
from contract_tasks import Flaky

# --- tasks that sleep: these would hold up the event loop ---------------------------------------------


async def nap(seconds: float) -> str:
    note("started")
    await asyncio.sleep(seconds)
    note("ended")
    return "rested"


async def fail_slowly(seconds: float) -> None:
    note("ran")
    await asyncio.sleep(seconds)
    raise Flaky("slow")


async def spin(seconds: float) -> str:
    note("started")
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    except SoftTimeLimitExceeded:
        note("interrupted")
        return "cleaned up"
    return "whole"


async def stubborn(seconds: float) -> None:
    note("started")
    await asyncio.sleep(seconds)


async def stubborn_anyway() -> None:
    note("started")
    while True:
        with suppress(SoftTimeLimitExceeded):
            await asyncio.sleep(30)


async def limited() -> None:
    note("started")
    await asyncio.sleep(10)


async def keep_secret(secret: str, *, how: str) -> None:
    await asyncio.sleep(0)
    if how == "fail":
        raise Flaky("nothing to see here")
    if how == "retry":
        raise current_task.retry(args=(secret,), kwargs={"how": "fail"}, countdown=0)
    if how == "reject":
        raise Reject("not here", requeue=False)
    await asyncio.sleep(10)


OWN: dict[str, Callable[..., Awaitable[Any]]] = {
    "nap": nap,
    "fail_slowly": fail_slowly,
    "spin": spin,
    "stubborn": stubborn,
    "stubborn_anyway": stubborn_anyway,
    "limited_softly": limited,
    "limited_hard": limited,
    "keep_secret": keep_secret,
}

# --- the others -------------------------------------------------------------------------------------------


def coroutine_of(function: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    """The same, with others running in between."""

    @wraps(function)
    async def run(*args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(0.001)
        return function(*args, **kwargs)

    return run


if "CONTRACT_QUEUE" in os.environ:  # in a worker: producers do not care
    for _name, _task in app.tasks.items():
        if not _name.startswith(("celery.", "async.")):
            _run = "_orig_run" if hasattr(_task, "_orig_run") else "run"
            setattr(_task, _run, OWN.get(_name) or coroutine_of(getattr(_task, _run)))
