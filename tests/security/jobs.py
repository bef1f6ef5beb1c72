"""The Celery app that attackers aim at: each task notes in a file beside the broker that it ran."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from celery import Celery, signals

from celeriac.chaos.processes import READY_FILE
from celeriac.chaos.sidefile import noted

SIDE_FILE = os.environ.get("CHAOS_SIDE_FILE", "")

app = Celery("security")
app.conf.task_default_queue = "chaos"
app.conf.result_backend = os.environ.get("CELERY_RESULT_BACKEND")


@app.task(bind=True, name="chaos.work", ignore_result=True)
def work(self: Any, job: str, *_: Any, **__: Any) -> None:
    """Note that this ran."""
    with noted(SIDE_FILE, job, self.request.delivery_info["delivery"]):
        pass


@app.task(bind=True, name="chaos.again", ignore_result=True, max_retries=5)
def again(self: Any, job: str, left: int) -> None:
    """Retry with other arguments, then call another task."""
    with noted(SIDE_FILE, f"{job}-{left}", self.request.delivery_info["delivery"]):
        if left:
            raise self.retry(args=(job, left - 1), countdown=0)
        work.apply_async((f"{job}-next",))


@app.task(bind=True, name="chaos.fail", ignore_result=True)
def fail(self: Any, job: str) -> None:
    """Fail at the first attempt; the queue's policy retries it."""
    with noted(SIDE_FILE, job, self.request.delivery_info["delivery"]):
        if self.request.retries == 0:
            raise ValueError("once")


@signals.worker_ready.connect
def _announce(**_: Any) -> None:
    ready_file = os.environ.get(READY_FILE)
    if ready_file:
        Path(ready_file).touch()
