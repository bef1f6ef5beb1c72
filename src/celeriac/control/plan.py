"""What to change so that the world matches what is declared. Pure: a list of changes comes out.

The order is that of doing: what is on the broker first, since new workers read it when they start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from celeriac.control.observe import Observation
from celeriac.control.scale import ScaleDecision
from celeriac.control.schedule import Due
from celeriac.spec.policies import QueuePolicy
from celeriac.spec.queue import MessageQueue


@dataclass(frozen=True, slots=True)
class Declare:
    """Write the queue's record."""

    policy: QueuePolicy


@dataclass(frozen=True, slots=True)
class TakeBack:
    """Make ready again what dead workers held."""

    workers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reclaim:
    """Make ready again what silent workers hold too long; ``look_only``: not yet, but keep an eye on it."""

    look_only: bool = False


@dataclass(frozen=True, slots=True)
class Promote:
    """Make due messages ready."""


@dataclass(frozen=True, slots=True)
class Fire:
    """Send the message of a schedule."""

    due: Due


@dataclass(frozen=True, slots=True)
class TrimDead:
    """Delete dead letters that are older than the queue keeps them."""

    now_ms: int
    retention_ms: int


@dataclass(frozen=True, slots=True)
class Run:
    """Run this many workers of what is declared now: start, drain, replace, restart."""

    replicas: int


@dataclass(frozen=True, slots=True)
class Remove:
    """Drain the workers of a queue that is no longer declared."""


@dataclass(frozen=True, slots=True)
class Purge:
    """Delete the messages of a queue that is no longer declared, as its deletionPolicy wants."""


Change = Declare | TakeBack | Reclaim | Promote | Fire | TrimDead | Run | Remove | Purge


def plan(
    queue: MessageQueue,
    observation: Observation,
    decision: ScaleDecision,
    *,
    dues: Sequence[Due] = (),
    trim: bool = False,
) -> list[Change]:
    """Plan one round for a queue that is declared. ``trim`` says that it is time to."""
    changes: list[Change] = []
    if observation.stats is not None:
        if not _is_declared(queue, observation):
            changes.append(Declare(queue.spec.policy))
        changes += upkeep(queue, observation)
        changes += [Fire(due) for due in dues]
        if trim and observation.stats.dead:
            retention_ms = queue.spec.dead_letter.retention_seconds * 1000
            changes.append(TrimDead(observation.stats.now_ms, retention_ms))
    return [*changes, Run(decision.desired)]


def plan_removal(queue: MessageQueue, observation: Observation) -> list[Change]:
    """Plan one round for a queue that is no longer declared."""
    changes: list[Change] = [*upkeep(queue, observation), Remove()]
    fleet = observation.fleet
    gone = not (fleet.running or fleet.draining or fleet.waiting or fleet.lost)
    if gone and queue.spec.deletion_policy == "Purge" and observation.stats is not None:
        changes.append(Purge())
    return changes


def upkeep(queue: MessageQueue, observation: Observation) -> list[Change]:
    """What a queue needs although no worker of it may run.

    After an outage every lease looks expired, so nothing is reclaimed before the broker has answered
    for a whole lease: until then the workers that live on have renewed theirs.
    """
    stats = observation.stats
    if stats is None or not stats.declared:
        return []
    changes: list[Change] = []
    if observation.fleet.lost:
        changes.append(TakeBack(observation.fleet.lost))
    settled = observation.answering_s > queue.spec.worker.lease_seconds
    if stats.leased or stats.workers:
        changes.append(Reclaim(look_only=not settled))
    if stats.due:
        changes.append(Promote())
    return changes


def _is_declared(queue: MessageQueue, observation: Observation) -> bool:
    """Whether the record is ours: it may have been lost with the broker, or written by another."""
    stats, declared = observation.stats, observation.declared
    return (
        stats is not None
        and stats.declared
        and declared is not None
        and declared.version == stats.version
        and declared.policy == queue.spec.policy
    )
