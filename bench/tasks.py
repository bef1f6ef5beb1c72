"""The Celery app that both contenders run: the same tasks, the same settings.

`BENCH_BROKER` says whose broker it talks to, and with it which Celery this is.
"""

from __future__ import annotations

import os
import time

from celery import Celery

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

_marks: int | None = None


@app.task
def noop(payload: dict[str, object]) -> None:
    """Nothing: what is measured is the way there and back."""


@app.task
def mark(sent_ns: int) -> None:
    """Write down when it was sent, and that it runs now, on the clock of this machine."""
    global _marks  # noqa: PLW0603 (one file for each process, opened when first needed)
    now = time.monotonic_ns()
    if _marks is None:
        _marks = os.open(os.environ["BENCH_MARKS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(_marks, b"%d %d\n" % (sent_ns, now))


def payload(size: int = 500) -> dict[str, object]:
    """A payload that takes ``size`` bytes as JSON."""
    fields: dict[str, object] = {
        "version": 1,
        "conversation": "c-4711",
        "sender": "ada",
        "text": "",
    }
    import json

    fields["text"] = "x" * (size - len(json.dumps(fields, separators=(",", ":"))))
    return fields
