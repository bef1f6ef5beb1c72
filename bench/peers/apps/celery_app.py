"""Stock Celery: the same app as in the core comparison, and kombu's batches for many."""

from __future__ import annotations

from typing import Any

from bench.tasks import QUEUE, app

BATCH = 500
#: kombu's Redis transport has four levels; 0 comes first and is what a message has that names none.
PRIORITIES = {"high": 0, "normal": 6}


def one(job: str, *args: Any, priority: str = "high") -> None:
    """Send one call."""
    app.tasks[f"bench.tasks.{job}"].apply_async(args, queue=QUEUE, priority=PRIORITIES[priority])


def many(job: str, count: int, *args: Any) -> None:
    """Send many calls: the best that stock Celery offers, kombu 5.7's batches."""
    task = app.tasks[f"bench.tasks.{job}"]
    with app.producer_pool.acquire(block=True) as producer:
        for start in range(0, count, BATCH):
            with producer.batch():
                for _ in range(min(BATCH, count - start)):
                    task.apply_async(args, queue=QUEUE, producer=producer, retry=False)
