"""RQ: a hash for each job, ids in a list, and registries of what runs and what failed."""

from __future__ import annotations

import os
from typing import Any

from redis import Redis
from rq import Queue

queue = Queue("bench", connection=Redis.from_url(os.environ.get("BENCH_URL", "redis://")))
CHUNK = 500


def one(job: str, *args: Any) -> None:
    """Send one call."""
    queue.enqueue(f"bench.jobs.{job}", *args, result_ttl=0)


def many(job: str, count: int, *args: Any) -> None:
    """Send many calls, hundreds in one pipeline."""
    for start in range(0, count, CHUNK):
        queue.enqueue_many(
            [
                Queue.prepare_data(f"bench.jobs.{job}", args, result_ttl=0)
                for _ in range(min(CHUNK, count - start))
            ]
        )
