"""Tasks as a user of asyncio would write them."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from contextvars import ContextVar, Token
from typing import Any

from celery import Task, current_task, signals
from celery.exceptions import SoftTimeLimitExceeded
from contract_app import app, note
from pydantic import BaseModel

from celeriac import report_progress


@app.task(name="async.nothing")
async def nothing() -> None:
    pass


@app.task(name="async.nap")
async def nap(seconds: float) -> str:
    note("started")
    await asyncio.sleep(seconds)
    note("ended")
    return "rested"


@app.task(name="async.tracked", track_started=True)
async def tracked() -> None:
    note("started")
    await asyncio.sleep(1)


@app.task(name="async.block")
def block(seconds: float) -> str:
    """A plain function: it may block."""
    note("started")
    time.sleep(seconds)
    note("ended")
    return "rested"


@app.task(name="async.hold_up")
async def hold_up(seconds: float) -> None:
    """What a coroutine must not do."""
    time.sleep(seconds)  # noqa: ASYNC251


_mine: ContextVar[int] = ContextVar("mine")


@app.task(name="async.look_around", bind=True)
async def look_around(self: Task, number: int) -> list[Any]:
    """Say who one is, from everywhere, while others run."""
    _mine.set(number)

    async def child() -> Any:
        await asyncio.sleep(0.01)
        return [self.request.id, _mine.get()]

    seen: list[Any] = [[self.request.id, _mine.get()]]
    await asyncio.sleep(0.02 * (number % 7) / 7)
    seen += [[current_task.request.id, _mine.get()]]
    seen += await asyncio.gather(child(), child())
    seen += [await asyncio.create_task(child())]
    seen += [[await asyncio.to_thread(lambda: self.request.id), _mine.get()]]
    async with asyncio.timeout(5):
        await asyncio.sleep(0)
        seen += [[self.request.id, _mine.get()]]
    return seen


@app.task(name="async.retry_below", bind=True)
async def retry_below(self: Task) -> int:
    """retry() from a task that the coroutine has started, and awaits."""

    async def child() -> None:
        await asyncio.sleep(0)
        raise self.retry(countdown=0)

    if self.request.retries < 2:
        await asyncio.create_task(child())
    return int(self.request.retries)


@app.task(name="async.call_another")
async def call_another(number: int) -> int:
    """Tasks can be called: then they are functions."""
    return await double(number) + 1


@app.task(name="async.double")
async def double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


@app.task(name="async.exit_below")
async def exit_below() -> None:
    async def child() -> None:
        raise SystemExit("from below")

    note("ran")
    await asyncio.create_task(child())


@app.task(name="async.leave_behind")
async def leave_behind(seconds: float) -> None:
    """A task that outlives its message."""
    _left.append(asyncio.create_task(asyncio.sleep(seconds)))


_left: list[asyncio.Task[None]] = []


@app.task(name="async.cancel_oneself")
async def cancel_oneself() -> None:
    note("ran")
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(10)


_carried: ContextVar[str] = ContextVar("carried")
_tokens: dict[str, Token[str]] = {}


@signals.task_prerun.connect
def _attach(task_id: str, task: Task, **_: Any) -> None:
    if task.name == "async.carry":
        _tokens[task_id] = _carried.set(f"for {task_id}")


@signals.task_postrun.connect
def _detach(task_id: str, task: Task, **_: Any) -> None:
    if task.name == "async.carry":
        _carried.reset(_tokens.pop(task_id))  # only where it was set, says Python
        note("detached", key=task_id)


@app.task(name="async.carry")
async def carry() -> str:
    """What tracing libraries do: a context begins with prerun, and ends with postrun."""
    await asyncio.sleep(0.01)
    return _carried.get()


# --- interruptions ------------------------------------------------------------------------------------


@app.task(name="async.clean_up")
async def clean_up() -> None:
    note("started")
    try:
        await asyncio.sleep(30)
    except asyncio.CancelledError:
        note("cancelled")
        raise
    finally:
        await asyncio.sleep(0.01)
        note("cleaned up")


@app.task(name="async.softly_inside")
async def softly_inside() -> str:
    """The soft limit strikes below: what waits there is cancelled, and nobody takes it for a time-out."""
    note("started")
    try:
        async with asyncio.timeout(30):
            await asyncio.gather(_patient(), _patient())
    except SoftTimeLimitExceeded:
        task = asyncio.current_task()
        assert task is not None and not task.cancelling()
        await asyncio.sleep(0.01)
        return "cleaned up"
    return "whole"


async def _patient() -> None:
    try:
        await asyncio.sleep(30)
    except asyncio.CancelledError:
        note("child cancelled")
        raise


@app.task(name="async.swallow")
async def swallow() -> None:
    """Takes no notice of being cancelled."""
    note("started")
    while True:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(30)
        note("swallowed")


@app.task(name="async.wait_for_swallower")
async def wait_for_swallower() -> None:
    """Waits for a task that takes no notice."""

    async def child() -> None:
        while True:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(30)

    note("started")
    await asyncio.create_task(child())


# --- beside the result --------------------------------------------------------------------------------


@app.task(name="async.progress")
async def progress(steps: int) -> None:
    for step in range(1, steps + 1):
        report_progress(step, steps, "on it")
        await asyncio.sleep(0.01)


class Model(BaseModel):
    number: int


@app.task(name="async.model", pydantic=True)
async def model(given: Model) -> Model:
    await asyncio.sleep(0)
    return Model(number=given.number + 1)
