"""The Celery app that faults are tried on, and its one harmless task: it notes its runs in the side file.

celeriac worker -A celeriac.chaos.jobs:app -Q ...    with CHAOS_SIDE_FILE in the environment
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from celery import Celery, signals

from celeriac.chaos.processes import COROUTINES, READY_FILE
from celeriac.chaos.sidefile import SIDE_FILE, noted

app = Celery("chaos")
# It would leave keys behind that belong to no queue.
app.conf.worker_enable_remote_control = False


def noted_run(task: Any, job: str) -> AbstractContextManager[None]:
    """Note a run of a bound task's job for as long as the block takes."""
    delivery = task.request.delivery_info.get("delivery", 0)
    return noted(os.environ[SIDE_FILE], job, delivery)


def task(name: str, function: Callable[..., None], coroutine: Callable[..., Any]) -> None:
    """Make a bound task of a function, or of a coroutine that does the same, as the worker is told."""
    chosen = coroutine if COROUTINES in os.environ else function
    app.task(bind=True, name=name, ignore_result=True)(chosen)


def work(self: Any, job: str, ms: float = 0) -> None:
    """Do nothing for so many milliseconds."""
    with noted_run(self, job):
        if ms:
            time.sleep(ms / 1000)


async def work_async(self: Any, job: str, ms: float = 0) -> None:
    """Let others run for so many milliseconds."""
    with noted_run(self, job):
        if ms:
            await asyncio.sleep(ms / 1000)


task("chaos.work", work, work_async)


@signals.worker_ready.connect  # type: ignore[untyped-decorator]
def _announce(**_: Any) -> None:
    ready_file = os.environ.get(READY_FILE)
    if ready_file:
        Path(ready_file).touch()
