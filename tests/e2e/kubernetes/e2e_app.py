"""A Celery app for tests: each run notes its start and its end in a ledger that no test disturbs."""

import json
import os
import time
from functools import cache

import redis
from celery import Celery

app = Celery("e2e")


@cache
def ledger() -> redis.Redis:
    return redis.Redis.from_url(os.environ["E2E_LEDGER"])


def note(key: str, number: int, what: str) -> None:
    line = {
        "number": number,
        "what": what,
        "pod": os.environ["CELERIAC_POD"],
        "version": os.environ.get("E2E_VERSION", ""),
        "at": time.time(),
    }
    ledger().rpush(f"ledger:{key}", json.dumps(line))


@app.task(name="e2e.work", ignore_result=True)
def work(key: str, number: int, seconds: float = 0.0) -> None:
    note(key, number, "started")
    time.sleep(seconds)
    note(key, number, "finished")
