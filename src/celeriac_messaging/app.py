"""The Celery app that workers run: ``celeriac_messaging.app:app``.

Tasks are found by name; queues, retries and limits are declared in ``queues.yaml``. A setting that
cannot be read stops the import, with the variable's name.
"""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from celery.signals import setup_logging, task_retry, task_revoked

from celeriac_messaging import logs
from celeriac_messaging.settings import from_environment

TASK_MODULES = [
    "celeriac_messaging.tasks.send_message",
    "celeriac_messaging.tasks.confirm_delivery",
    "celeriac_messaging.tasks.notify",
    "celeriac_messaging.tasks.encrypt",
    "celeriac_messaging.tasks.index",
    "celeriac_messaging.tasks.send_batch",
    "celeriac_messaging.tasks.cleanup",
]
DEMO_MODULES = ["celeriac_messaging.demo.crash"]

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
task_retry.connect(logs.tell_retry, weak=False)
task_revoked.connect(logs.tell_revoked, weak=False)
