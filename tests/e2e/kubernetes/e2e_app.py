"""A Celery app for tests: every run leaves a line when it starts and one when it ends."""

import os
import time
from functools import cache

import redis
from celery import Celery

from celeriac.broker.connection import connect

app = Celery("e2e")


@cache
def notes() -> redis.Redis:
    return connect(os.environ["CELERIAC_BROKER_URL"])


@app.task(name="e2e.work", ignore_result=True)
def work(key: str, number: int, seconds: float = 0.0) -> None:
    notes().rpush(f"celeriac:e2e:{key}:started", number)
    time.sleep(seconds)
    notes().rpush(f"celeriac:e2e:{key}:finished", number)
