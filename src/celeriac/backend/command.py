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


def worker_options(queue: MessageQueue) -> dict[str, str]:
    """What a queue declares for its workers, by the names of `celeriac worker`'s options."""
    worker = queue.spec.worker
    return {
        "app": worker.app,
        "queue": queue.queue_name,
        "pool": worker.pool.lower(),
        "concurrency": str(worker.slots),
        "soft-timeout": str(worker.soft_timeout_seconds),
        "timeout": str(worker.timeout_seconds),
        "drain": str(worker.drain_seconds),
        "lease": str(worker.lease_seconds),
    }


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
    options = (f"--{name}={value}" for name, value in worker_options(queue).items())
    variables = queue.spec.worker.env
    given = {it.name: it.value or "" for it in variables if it.value_from is None}
    missing = [
        it.name for it in variables if it.value_from is not None and it.name not in environment
    ]
    return Command(
        arguments=("-m", "celeriac.cli", "worker", *options),
        environment=(*given.items(), (BROKER_URL, broker_url)),
        missing=tuple(missing),
    )
