"""The Celery app that workers run: ``messaging.app:app``.

Tasks are found by name; queues, retries and limits are declared in ``queues.yaml``. A setting that
cannot be read stops the import, with the variable's name.
"""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from celery.signals import setup_logging

from messaging import logs
from messaging.settings import from_environment

TASK_MODULES = [
    "messaging.tasks.send_message",
    "messaging.tasks.confirm_delivery",
    "messaging.tasks.notify",
    "messaging.tasks.encrypt",
    "messaging.tasks.index",
    "messaging.tasks.send_batch",
    "messaging.tasks.cleanup",
]
DEMO_MODULES = ["messaging.demo.crash"]

settings = from_environment()

app = Celery(
    "messaging",
    broker=os.environ.get("CELERIAC_BROKER_URL"),
    include=TASK_MODULES + (DEMO_MODULES if settings.demo else []),
)
app.conf.update(
    task_ignore_result=True,
    task_serializer="json",
    accept_content=["json"],
    enable_utc=True,
    worker_redirect_stdouts=False,
)


def _structured_logs(**_: Any) -> None:
    """Take logging over from Celery: connecting to this signal is how."""
    logs.configure(settings.log_level)


setup_logging.connect(_structured_logs, weak=False)
