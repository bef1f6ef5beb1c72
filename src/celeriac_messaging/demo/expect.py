"""What must come true in the demo, computed from the sample, and what did not. All pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from celeriac_messaging import payloads
from celeriac_messaging.demo.sample import Line, delivered
from celeriac_messaging.demo.sinks import Arrival
from celeriac_messaging.metrics import QueueMetrics
from celeriac_messaging.payloads import Payload
from celeriac_messaging.routing import QUEUES, ROUTES

FLAKY = "/hooks/northside-pharmacy"
"""Refuses twice, then takes the message."""
BROKEN = "/hooks/old-mill-archive"
"""Fails every time, until it is repaired."""
GONE = "/hooks/closed-account"
"""Says that there is nobody any more."""
REFUSALS = 2
DELIVERY, ENCRYPTION = "message-delivery", "message-encryption"


@dataclass(frozen=True, slots=True)
class Expected:
    """The numbers of a demo that went as it should."""

    accepted: Mapping[str, int]
    refused: int
    broken: int
    """Messages to the broken recipient: dead letters first, done after the redrive."""
    dead_for_good: Mapping[str, int]
    taken: Mapping[str, int]
    """Effects that recipients took, by channel."""

    @property
    def total(self) -> int:
        """All messages that the broker accepts, in all queues."""
        return sum(self.accepted.values())


def expected(lines: Sequence[Line]) -> Expected:
    """From the sample, plus the two that the demo adds: one unvalidated, one that kills."""
    jobs = [line.job for line in lines if line.job is not None]
    accepted = dict.fromkeys(QUEUES, 0)
    for job in jobs:
        accepted[ROUTES[type(job)].queue] += 1
        if isinstance(job, payloads.BatchSend):
            accepted[DELIVERY] += len(job.recipients)
    accepted[DELIVERY] += 1
    accepted[ENCRYPTION] += 1
    gone = _to(jobs, GONE)
    taken = delivered(jobs)
    taken["webhook"] -= gone
    return Expected(
        accepted=accepted,
        refused=len(lines) - len(jobs),
        broken=_to(jobs, BROKEN),
        dead_for_good={DELIVERY: gone + 1, ENCRYPTION: 1},
        taken=taken,
    )


def _to(jobs: Sequence[Payload], path: str) -> int:
    return sum(
        isinstance(job, payloads.SendMessage) and job.recipient.key.endswith(path) for job in jobs
    )


def channel(arrival: Arrival) -> str:
    """The channel that an arrival came by."""
    if not arrival.place.startswith("/"):
        return "email"
    return "push" if arrival.place.startswith("/push/") else "webhook"


def broken_laws(metrics: Mapping[str, QueueMetrics]) -> list[str]:
    """Queues in which a message was lost or doubled."""
    return [
        f"{queue}: accepted {now.accepted} is not what became of them, {now.imbalance:+} apart"
        for queue, now in metrics.items()
        if now.imbalance
    ]


def complaints(
    wanted: Expected, metrics: Mapping[str, QueueMetrics], arrivals: Sequence[Arrival]
) -> list[str]:
    """What did not come true at the end, after the redrive."""
    found = broken_laws(metrics)
    for queue, now in metrics.items():
        dead = wanted.dead_for_good.get(queue, 0)
        found += _differs(f"{queue}: accepted", now.accepted, wanted.accepted[queue])
        found += _differs(f"{queue}: dead letters", now.dead, dead)
        found += _differs(f"{queue}: done", now.done, wanted.accepted[queue] - dead)
        found += _differs(f"{queue}: unfinished", now.unfinished, 0)
    if metrics[DELIVERY].redriven < wanted.broken:  # more, if a demo was killed with its recipients
        found.append(f"{DELIVERY}: only {metrics[DELIVERY].redriven} redriven")
    if metrics[DELIVERY].retried < REFUSALS:
        found.append(f"{DELIVERY}: only {metrics[DELIVERY].retried} retries")
    return found + _at_recipients(wanted, arrivals)


def _at_recipients(wanted: Expected, arrivals: Sequence[Arrival]) -> list[str]:
    found: list[str] = []
    taken = [(channel(one), one.place, one.id) for one in arrivals if one.accepted]
    for name, count in wanted.taken.items():
        distinct = {effect for effect in taken if effect[0] == name}
        found += _differs(f"{name}: taken by recipients", len(distinct), count)
    found += _differs("effects taken twice", len(taken) - len(set(taken)), 0)
    flaky = [one.status for one in arrivals if one.place == FLAKY]
    if flaky != [503] * REFUSALS + [201]:
        found.append(f"{FLAKY}: answered {flaky}")
    return found


def _differs(what: str, seen: int, wanted: int) -> list[str]:
    return [] if seen == wanted else [f"{what}: {seen}, expected {wanted}"]
