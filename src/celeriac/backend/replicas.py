"""The replicas of a queue's workers, and what to do next about them. Pure.

A replica is a worker, or the gap that a dead one left. A gap is filled again after a wait that grows
while workers die young; other replicas, and other queues, do not wait for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

#: A worker that lived so long (seconds) did not die of its start.
PROVEN_S = 30.0
LONGEST_WAIT_S = 30.0


class State(Enum):
    """How a replica is."""

    STARTING = "starting"
    READY = "ready"
    WAITING = "waiting"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """One worker or gap. Times are seconds on a monotonic clock."""

    name: str
    revision: str
    state: State
    since: float
    """When the worker was started; for a gap, when it may be filled."""
    failures: int = 0
    """Deaths soon after a start, in a row."""
    held: int = 0
    """Messages the worker holds."""


@dataclass(frozen=True, slots=True)
class Start:
    """Start a worker; ``gap`` names the replica it fills, if it fills one."""

    gap: str = ""
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Drain:
    """Let a worker finish what it holds, and stop it."""

    name: str


@dataclass(frozen=True, slots=True)
class Close:
    """Fill a gap no more."""

    name: str


Step = Start | Drain | Close


def restart_wait_s(failures: int) -> float:
    """Seconds until a dead worker is started again: at once, then 1, 2, 4 and so on."""
    return 0.0 if failures <= 1 else min(LONGEST_WAIT_S, 2.0 ** min(failures - 2, 16))


def after_death(replica: Replica, *, now: float) -> Replica:
    """The gap that a worker leaves which died by itself."""
    failures = 1 if now - replica.since >= PROVEN_S else replica.failures + 1
    return Replica(
        name=replica.name,
        revision=replica.revision,
        state=State.WAITING,
        since=now + restart_wait_s(failures),
        failures=failures,
    )


def next_steps(
    replicas: Sequence[Replica], *, wanted: int, revision: str, one_by_one: bool, now: float
) -> list[Step]:
    """Say what to do to come closer to ``wanted`` workers of ``revision``.

    ``one_by_one`` lets only one worker start at a time: for an app that has just failed to start.
    """
    standing = [replica for replica in replicas if replica.state is not State.DRAINING]
    outdated = [replica for replica in standing if replica.revision != revision]
    surplus = len(standing) - wanted
    if not outdated or not wanted:
        steps = [_leave(replica) for replica in _least_missed(standing)[: max(0, surplus)]]
        return [*steps, *_starts(standing, steps, -surplus, one_by_one=one_by_one, now=now)]
    return _roll(standing, outdated, wanted, one_by_one=one_by_one, now=now)


def _roll(
    standing: Sequence[Replica],
    outdated: Sequence[Replica],
    wanted: int,
    *,
    one_by_one: bool,
    now: float,
) -> list[Step]:
    """One more than wanted may stand while old workers are replaced."""
    surplus = len(standing) - wanted
    fresh = [replica for replica in standing if replica not in outdated]
    unready = [replica for replica in fresh if replica.state is not State.READY]
    gone: list[Step] = []
    if surplus > 0:
        # A new worker that is not ready yet replaces nobody: it may never be.
        droppable = surplus - len(unready)
        gone = [_leave(replica) for replica in _least_missed(outdated)[: max(0, droppable)]]
        surplus -= len(gone)
    room = 1 - surplus if not unready or surplus < 0 else 0
    count = min(room, wanted - len(fresh))
    return [*gone, *_starts(standing, gone, count, one_by_one=one_by_one, now=now)]


def _starts(
    standing: Sequence[Replica],
    leaving: Iterable[Step],
    count: int,
    *,
    one_by_one: bool,
    now: float,
) -> list[Step]:
    closed = {step.name for step in leaving if isinstance(step, Close)}
    gaps = [it for it in standing if it.state is State.WAITING and it.name not in closed]
    if one_by_one:
        # The replica that failed most often tries again, and all others wait for what comes of it.
        gaps.sort(key=lambda gap: -gap.failures)
        if any(it.state is State.STARTING for it in standing) or any(it.since > now for it in gaps):
            return []
    starts: list[Step] = [Start(it.name, it.failures) for it in gaps if it.since <= now]
    starts += [Start()] * max(0, count)
    return starts[:1] if one_by_one else starts


def _leave(replica: Replica) -> Step:
    return Close(replica.name) if replica.state is State.WAITING else Drain(replica.name)


def _least_missed(replicas: Iterable[Replica]) -> list[Replica]:
    """Gaps first, then who is not ready, then who holds least, then the youngest."""
    order = {State.WAITING: 0, State.STARTING: 1, State.READY: 2, State.DRAINING: 3}
    return sorted(replicas, key=lambda it: (order[it.state], it.held, -it.since))
