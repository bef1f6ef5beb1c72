"""What is measured of a queue and its workers at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from celeriac.backend.base import Fleet
from celeriac.broker.message import QueueStats
from celeriac.spec.conditions import Reason
from celeriac.spec.policies import QueuePolicy


@dataclass(frozen=True, slots=True)
class Declared:
    """The record that was written to the broker last."""

    version: int
    policy: QueuePolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One look at a queue. Without ``stats`` the broker did not answer, and ``error`` says why."""

    now: datetime
    seconds: float
    """The same moment on a monotonic clock."""
    fleet: Fleet
    stats: QueueStats | None = None
    error: str = ""
    unreadable: Reason = Reason.BROKER_UNREACHABLE
    """What kind of ``error`` it is."""
    answering_s: float = 0.0
    """For how long the broker has answered without a break."""
    declared: Declared | None = None


def heard(stats: QueueStats | None) -> dict[str, int]:
    """The workers that the broker has heard of, with the number of messages each holds.

    The children ``name/0``, ``name/1`` of a worker are one with it.
    """
    found: dict[str, int] = {}
    for worker in stats.workers if stats else ():
        name = worker_of(worker.name)
        found[name] = found.get(name, 0) + worker.leased
    return found


def worker_of(consumer: str) -> str:
    """The worker that a consumer of the broker belongs to."""
    return consumer.partition("/")[0]
