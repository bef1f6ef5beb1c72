"""How to run a worker."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from celeriac.spec.text import must_be_queue_name


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """How to run a worker. Times are in seconds; a limit of 0 means none."""

    queue: str
    pool: str = "prefork"
    """One of `celeriac.spec.pools.POOLS`."""
    concurrency: int = 1
    name: str = ""
    broker: str | None = None
    soft_timeout_s: float = 0
    timeout_s: float = 0
    drain_s: float = 30
    lease_s: int = 15
    http_host: str = "127.0.0.1"
    http_port: int | None = None
    log_level: str = "INFO"


def check(options: WorkerOptions) -> None:
    """Raise ValueError when options contradict each other, or a worker cannot run here."""
    if "," in options.queue:
        each = " and ".join(part.strip() for part in options.queue.split(","))
        raise ValueError(f"a worker serves one queue: start one for {each}")
    must_be_queue_name(options.queue)
    if options.timeout_s and options.soft_timeout_s >= options.timeout_s:
        raise ValueError("the soft time limit must be less than the hard one")
    if threading.current_thread() is not threading.main_thread():
        raise ValueError("a worker must run in the main thread, where signals arrive")
