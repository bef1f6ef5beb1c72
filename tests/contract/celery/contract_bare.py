"""An app that listens to nothing: only what a task asks for itself is to be called at a coroutine's end."""

from __future__ import annotations

import asyncio
import os

import redis
from celery import Celery, Task, signals

app = Celery(
    "bare", backend=os.environ["CONTRACT_BACKEND"] if "BARE_RESULTS" in os.environ else None
)
_notes = redis.Redis.from_url(os.environ["CONTRACT_NOTES"])


def _listen(sender: Task, **_: object) -> None:
    _notes.rpush(f"notes:{sender.request.id}", '"heard"')


if "BARE_SIGNAL" in os.environ:
    getattr(signals, os.environ["BARE_SIGNAL"]).connect(_listen)


@app.task(name="bare.mark", bind=True)
async def mark(self: Task, number: int) -> None:
    await asyncio.sleep(0.001 * (number % 5))
    if number % 10 == 0 and self.request.retries == 0:
        raise ValueError(number)
    _notes.rpush(f"notes:{self.request.id}", number)


@app.task(name="bare.add", bind=True)
async def add(self: Task, *numbers: int) -> int:
    await asyncio.sleep(0)
    _notes.rpush(f"notes:{self.request.id}", sum(numbers))
    return sum(numbers)


@app.task(name="bare.total")
async def total(numbers: list[int]) -> int:
    return sum(numbers)


class Hooked(Task):
    """A task class with one hook for its end."""

    abstract = True

    def on_success(self, retval: int, task_id: str, args: object, kwargs: object) -> None:
        _notes.rpush(f"notes:{task_id}", retval)


@app.task(name="bare.hooked", base=Hooked)
async def hooked(number: int) -> int:
    return number


@app.task(name="bare.twice", bind=True)
async def twice(self: Task) -> None:
    """Run once more, as one that has not failed."""
    _notes.rpush(f"notes:{self.request.id}", self.request.retries)
    if self.request.retries == 0:
        self.retry(countdown=0, throw=False)
