"""The Celery app that stock Celery and Celeriac both run: the same tasks, the same settings.

`BENCH_BROKER` says whose broker it talks to, and with it which Celery this is. With `BENCH_COROUTINES` the
jobs are coroutines, for the Asyncio pool.
"""

from __future__ import annotations

import os

from celery import Celery

from bench import jobs

BROKER = os.environ.get("BENCH_BROKER", "")
QUEUE = "bench"

if BROKER.startswith("celeriac"):
    import celeriac  # noqa: F401 (it teaches kombu the scheme; stock must run without it)

app = Celery("bench", broker=BROKER or None)
app.conf.update(
    # What makes stock fast and safe; the first three mean nothing, or are always so, on Celeriac.
    task_acks_late=True,
    worker_prefetch_multiplier=int(os.environ.get("BENCH_PREFETCH", "64")),
    worker_disable_rate_limits=True,
    task_ignore_result=True,
    worker_send_task_events=False,
    task_send_sent_event=False,
    task_default_queue=QUEUE,
    broker_connection_retry_on_startup=True,
)

for name, job in jobs.all_jobs(coroutines=bool(os.environ.get("BENCH_COROUTINES"))).items():
    app.task(job, name=f"bench.tasks.{name}")


@app.task
def nothing(payload: dict[str, object]) -> None:
    """Nothing, and without a trace: what the core comparison counts is the broker's own numbers."""
