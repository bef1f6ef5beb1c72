"""huey: pickled calls on a list, popped by whoever is free."""

from __future__ import annotations

import os
from typing import Any

from huey import RedisHuey

from bench import jobs

huey = RedisHuey("bench", url=os.environ.get("BENCH_URL"), results=False)
tasks = {name: huey.task(name=name)(job) for name, job in jobs.all_jobs().items()}


def one(job: str, *args: Any) -> None:
    """Send one call."""
    tasks[job](*args)
