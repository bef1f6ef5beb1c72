"""taskiq on a Redis stream, with its own acknowledgement by XACK."""

from __future__ import annotations

import os
from typing import Any

from taskiq_redis import RedisStreamBroker

from bench import jobs

broker = RedisStreamBroker(os.environ.get("BENCH_URL", ""), consumer_id="0")
tasks = {
    name: broker.task(task_name=name)(job) for name, job in jobs.all_jobs(coroutines=True).items()
}


async def start() -> None:
    """Connect, and make the stream's group: nobody gets what was sent before there was one."""
    await broker.startup()


async def one(job: str, *args: Any) -> None:
    """Send one call."""
    await tasks[job].kiq(*args)
