"""Asyncio: coroutines of many messages run on one event loop, in the main thread.

pool.py        what the worker sees          scheduler.py   starts and ends attempts on the loop
runner.py      an attempt in three parts     tracer.py      its last part: Celery's own tracer
drive.py       one coroutine and its limits  stacks.py      Celery's stacks, one for each coroutine
loop.py        the loop, with exact timers   watch.py       notices when a task holds the loop up
"""

from __future__ import annotations

from celeriac.worker.pools.asyncio.pool import Asyncio

__all__ = ["Asyncio"]
