"""Statistics of an imaginary queue on which 100 messages came and 90 went well."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from celeriac.broker.message import Histogram, QueueStats, WorkerSeen

NOW_MS = 1_764_000_000_000

MakeWorker = Callable[..., WorkerSeen]
MakeStats = Callable[..., QueueStats]


@pytest.fixture
def make_worker() -> MakeWorker:
    def make(name: str, *, silent_ms: int = 100, leased: int = 0) -> WorkerSeen:
        return WorkerSeen(name, NOW_MS - silent_ms, leased)

    return make


@pytest.fixture
def make_stats(make_worker: MakeWorker) -> MakeStats:
    def make(**changes: Any) -> QueueStats:
        workers = [
            make_worker("mail@a/0", leased=1),
            make_worker("mail@a/1"),
            make_worker("mail@b"),
        ]
        values: dict[str, Any] = {
            "name": "mail",
            "now_ms": NOW_MS,
            "accepted": 100,
            "done": 90,
            "discarded": 3,
            "purged": 1,
            "retried": 12,
            "redelivered": 2,
            "redriven": 1,
            "dead": 2,
            "dead_total": 3,
            "discarded_by": {"expired": 1, "cancelled": 1, "revoked": 1},
            "ready_by": {"high": 0, "normal": 1, "low": 0, "isolated": 0},
            "leased": 1,
            "delayed": 2,
            "due": 0,
            "oldest_ready_ms": 4_200,
            "declared": True,
            "paused": False,
            "version": 1,
            "workers": workers,
            "wait": Histogram((5, 100), (40, 30, 20), 9_000),
            "run": Histogram((5, 100), (80, 8, 4), 3_500),
        }
        return QueueStats(**(values | changes))

    return make
