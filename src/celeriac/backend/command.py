"""The command line and environment of a local worker, out of what a queue declares. Pure.

The broker's URL goes into the environment: a command line is there for everybody to read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from celeriac.spec.queue import MessageQueue

BROKER_URL = "CELERIAC_BROKER_URL"
#: Tells a worker whose child it is: it drains when that process is gone.
PARENT_PID = "CELERIAC_PARENT_PID"


@dataclass(frozen=True, slots=True)
class Command:
    """What to run for every worker of a queue."""

    arguments: tuple[str, ...]
    """Arguments of ``python``; the worker's name comes behind them."""
    environment: tuple[tuple[str, str], ...]
    """Variables beside those of this process."""
    missing: tuple[str, ...] = ()
    """Variables that would come from a Secret, ConfigMap or pod, and are not set here."""

    @property
    def revision(self) -> str:
        """Twelve hex digits that change when running workers have to be replaced."""
        text = json.dumps([self.arguments, self.environment])
        return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()[:12]


def worker_command(
    queue: MessageQueue, *, broker_url: str, environment: Mapping[str, str]
) -> Command:
    """Build the command; ``environment`` is that of this process, which workers inherit."""
    worker = queue.spec.worker
    arguments = [
        "-m",
        "celeriac.cli",
        "worker",
        f"--app={worker.app}",
        f"--queue={queue.queue_name}",
        f"--pool={worker.pool.lower()}",
        f"--concurrency={worker.slots}",
        f"--soft-timeout={worker.soft_timeout_seconds}",
        f"--timeout={worker.timeout_seconds}",
        f"--drain={worker.drain_seconds}",
        f"--lease={worker.lease_seconds}",
    ]
    given = {it.name: it.value or "" for it in worker.env if it.value_from is None}
    missing = [
        it.name for it in worker.env if it.value_from is not None and it.name not in environment
    ]
    return Command(
        arguments=tuple(arguments),
        environment=(*given.items(), (BROKER_URL, broker_url)),
        missing=tuple(missing),
    )
