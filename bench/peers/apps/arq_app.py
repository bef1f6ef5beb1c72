"""arq: pickled calls under keys of their own, their ids in a sorted set that workers poll."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, ClassVar

import arq
from arq.connections import ArqRedis, RedisSettings

from bench import jobs

settings = RedisSettings.from_dsn(os.environ.get("BENCH_URL", "redis://"))
_pool: list[ArqRedis] = []


def _without_context(job: Callable[..., Any]) -> Callable[..., Any]:
    async def run(ctx: dict[Any, Any], *args: Any) -> None:
        await job(*args)

    return run


class Worker:
    """What the `arq` command runs."""

    functions: ClassVar = [
        arq.func(_without_context(job), name=name)
        for name, job in jobs.all_jobs(coroutines=True).items()
    ]
    redis_settings = settings
    max_jobs = int(os.environ.get("BENCH_SLOTS", "10"))
    poll_delay = 0.01
    keep_result = 0
    log_results = False


async def start() -> None:
    """Connect."""
    _pool.append(await arq.create_pool(settings))


async def one(job: str, *args: Any) -> None:
    """Send one call."""
    await _pool[0].enqueue_job(job, *args)
