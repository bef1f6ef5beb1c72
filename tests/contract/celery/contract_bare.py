"""An app that listens to nothing and keeps no results: nobody is to be called at a coroutine's end."""

from __future__ import annotations

import asyncio
import os

import redis
from celery import Celery, Task

app = Celery("bare")
_notes = redis.Redis.from_url(os.environ["CONTRACT_NOTES"])


@app.task(name="bare.mark", bind=True)
async def mark(self: Task, number: int) -> None:
    await asyncio.sleep(0.001 * (number % 5))
    if number % 10 == 0 and self.request.retries == 0:
        raise ValueError(number)
    _notes.rpush(f"notes:{self.request.id}", number)
