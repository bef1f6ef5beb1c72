"""The Celery app that faults are tried on, the same for Celeriac and for stock Celery."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from celery import Celery, signals

from tests.chaos.processes import READY_FILE
from tests.chaos.sidefile import noted

SIDE_FILE = os.environ.get("CHAOS_SIDE_FILE", "")

app = Celery("chaos")
app.conf.update(json.loads(os.environ.get("CHAOS_CELERY", "{}")))


def _noted(task: Any, job: str) -> Any:
    return noted(SIDE_FILE, job, task.request.delivery_info.get("delivery", 0))


@app.task(bind=True, name="chaos.work", ignore_result=True)
def work(self: Any, job: str, ms: float = 0) -> None:
    """Do nothing for so many milliseconds."""
    with _noted(self, job):
        if ms:
            time.sleep(ms / 1000)


@app.task(bind=True, name="chaos.die", ignore_result=True)
def die(self: Any, job: str, how: str) -> None:
    """Take the process along."""
    with _noted(self, job):
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif how == "exit":
            os._exit(3)
        else:
            ctypes.string_at(8)  # a segmentation fault


@app.task(bind=True, name="chaos.hang", ignore_result=True)
def hang(self: Any, job: str, how: str, seconds: int = 60) -> None:
    """Be busy for ever: asleep, in a loop, or in C code that holds the interpreter."""
    with _noted(self, job):
        until = time.monotonic() + seconds
        if how == "sleep":
            time.sleep(seconds)
        elif how == "loop":
            while time.monotonic() < until:
                pass
        else:
            ctypes.PyDLL(None).sleep(seconds)


@signals.worker_ready.connect
def _announce(**_: Any) -> None:
    ready_file = os.environ.get(READY_FILE)
    if ready_file:
        Path(ready_file).touch()
