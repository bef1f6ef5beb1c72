"""Dramatiq: messages in a hash, their ids in a list, acknowledged one by one."""

from __future__ import annotations

import os
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from bench import jobs

broker = RedisBroker(url=os.environ.get("BENCH_URL"))
dramatiq.set_broker(broker)
actors = {
    name: dramatiq.actor(actor_name=name, broker=broker)(job)
    for name, job in jobs.all_jobs().items()
}


def one(job: str, *args: Any) -> None:
    """Send one call."""
    actors[job].send(*args)
