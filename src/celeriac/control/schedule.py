"""Which schedules are due. Pure: timers and a moment go in, due times come out.

A due time is dealt with once. Those that were missed while nobody looked are not made up for, but
for the newest of the last hour. Two loops may look after one queue: a due time has one message id
and one dedup key, whoever sends it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from celeriac.broker.message import PRIORITIES, NewMessage, Priority
from celeriac.spec.conditions import utc
from celeriac.spec.cron import newest_due, next_due
from celeriac.spec.queue import Schedule

#: How long ago a due time may be that is still made up for.
LATEST = timedelta(hours=1)
#: The dedup key must outlive the time in which another loop may still send the same due time.
_DEDUP_MS = 3 * 3_600_000
_NAMESPACE = uuid.UUID("5f0b7f57-0b0e-5c2c-9a43-6f4a8c0d2b11")
_EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


@dataclass(frozen=True, slots=True)
class Timer:
    """A schedule, the time up to which it is dealt with, and the time it is due next."""

    schedule: Schedule
    last: datetime
    next: datetime | None

    def dealt_with(self, until: datetime) -> Timer:
        """The timer once every due time up to ``until`` is dealt with."""
        return replace(self, last=until, next=_next(self.schedule, until))


@dataclass(frozen=True, slots=True)
class Due:
    """A message to send for a schedule."""

    schedule: Schedule
    at: datetime


def timers(
    schedules: Iterable[Schedule], remembered: Mapping[str, datetime], *, now: datetime
) -> dict[str, Timer]:
    """Set the timers. A schedule that nobody remembers is new: it begins now."""
    found = {}
    for schedule in schedules:
        last = max(remembered.get(schedule.name, now), now - LATEST)
        found[schedule.name] = Timer(schedule, last, _next(schedule, last))
    return found


def catch_up(timer: Timer, *, now: datetime) -> Timer:
    """Give up due times that were missed too long ago, as after a night's sleep of the machine."""
    if timer.next is None or timer.next >= now - LATEST:
        return timer
    return timer.dealt_with(now - LATEST)


def due(set_timers: Iterable[Timer], *, now: datetime) -> list[Due]:
    """The newest due time of every timer that is over."""
    found = []
    for timer in set_timers:
        schedule = timer.schedule
        if timer.next is not None and timer.next <= now:
            at = newest_due(schedule.cron, schedule.time_zone, after=timer.last, until=now)
            found.append(Due(schedule, at or timer.next))
    return found


def message_of(queue: str, it: Due) -> NewMessage:
    """The Celery message (protocol 2) of a due time."""
    key = f"schedule:{it.schedule.name}:{utc(it.at)}"
    body = [it.schedule.args, it.schedule.kwargs, _EMBED]
    return NewMessage(
        id=str(uuid.uuid5(_NAMESPACE, f"{queue}:{key}")),
        task=it.schedule.task,
        body=json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode(),
        priority=_priority(it.schedule),
        dedup_key=key,
        dedup_ttl_ms=_DEDUP_MS,
    )


def _priority(schedule: Schedule) -> Priority:
    return next(name for name in PRIORITIES if name == schedule.priority.lower())


def _next(schedule: Schedule, after: datetime) -> datetime | None:
    return next_due(schedule.cron, schedule.time_zone, after=after)
