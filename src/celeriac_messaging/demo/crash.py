"""A task that kills its own worker process, to show that it is stopped and harms nobody.

Only registered where ``MESSAGING_DEMO`` is set.
"""

from __future__ import annotations

import os
import signal

from celery import shared_task

NAME = "messaging.demo.crash"


def crash() -> None:
    """End this process as the kernel's out-of-memory killer would."""
    os.kill(os.getpid(), signal.SIGKILL)


shared_task(name=NAME)(crash)
