"""Celeriac: its own client, which needs no Celery app."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from celeriac import Client, Job

QUEUE = "bench"
client = Client(os.environ.get("BENCH_URL"))


def one(job: str, *args: Any, priority: str = "normal") -> None:
    """Send one call."""
    client.send(QUEUE, f"bench.tasks.{job}", args=args, priority=priority)


def many(job: str, count: int, *args: Any) -> None:
    """Send many calls, hundreds in one round trip; every one of them must be accepted."""
    receipt = client.send_many(QUEUE, (Job(f"bench.tasks.{job}", args) for _ in range(count)))
    if receipt.accepted != count:
        raise AssertionError(f"{receipt.accepted} of {count} accepted")


def each(job: str, calls: Sequence[tuple[Any, ...]], *, priority: str = "normal") -> None:
    """Send calls with arguments of their own, in one round trip."""
    client.send_many(QUEUE, (Job(f"bench.tasks.{job}", args, priority=priority) for args in calls))
