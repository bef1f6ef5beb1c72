"""Builders of observations and specs, so that a table shows only what matters to it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from celeriac.backend.base import Fleet
from celeriac.broker.message import Histogram, QueueStats, WorkerSeen
from celeriac.control.observe import Declared, Observation
from celeriac.spec.queue import MessageQueue

NOW = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
_NO_TIMES = Histogram(bounds_ms=(1,), counts=(0, 0), sum_ms=0)


class Make:
    """Makes things of a queue named ``mail``."""

    now = NOW

    @staticmethod
    def queue(**spec: Any) -> MessageQueue:
        worker = {"app": "a", "pool": "Threads", "concurrency": 10} | spec.pop("worker", {})
        return MessageQueue.model_validate(
            {
                "apiVersion": "celeriac.dev/v1alpha1",
                "kind": "MessageQueue",
                "metadata": {"name": "mail"},
                "spec": {"worker": worker, **spec},
            }
        )

    @staticmethod
    def stats(**given: Any) -> QueueStats:
        workers = [WorkerSeen(name, 0, leased) for name, leased in given.pop("workers", ())]
        ready = given.pop("ready", 0)
        return QueueStats(
            **{
                "name": "mail",
                "now_ms": 1_000_000_000,
                "accepted": 0,
                "done": 0,
                "discarded": 0,
                "purged": 0,
                "retried": 0,
                "redelivered": 0,
                "redriven": 0,
                "dead": 0,
                "dead_total": 0,
                "discarded_by": {},
                "ready_by": {"normal": ready},
                "leased": 0,
                "delayed": 0,
                "due": 0,
                "oldest_ready_ms": 0,
                "declared": True,
                "paused": False,
                "version": 1,
                "workers": workers,
                "wait": _NO_TIMES,
                "run": _NO_TIMES,
                **given,
            }
        )

    def observation(
        self,
        *,
        fleet: Fleet | None = None,
        stats: QueueStats | None = None,
        error: str = "",
        seconds: float = 1000.0,
        declared: Declared | None = None,
        answering_s: float = 600.0,
    ) -> Observation:
        return Observation(
            now=NOW,
            seconds=seconds,
            fleet=fleet or Fleet(),
            stats=None if error else stats or self.stats(),
            error=error,
            declared=declared,
            answering_s=answering_s,
        )


@pytest.fixture
def make() -> Make:
    return Make()
