"""What travels: a message on its way in, a message on lease, and what a finished attempt leads to.

These are values. The queue knows how to move them; the worker's policy decides which outcome applies.
Neither kombu nor Celery is known here: ``body`` and ``head`` are bytes that the broker never opens.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, Literal

Priority = Literal["high", "normal", "low"]
PRIORITIES: tuple[Priority, ...] = ("high", "normal", "low")

#: A claim on one message: stream letter and entry id. It is also the fencing token, because a message
#: that is reclaimed becomes a new entry.
Lease = str

_MESSAGE_CHARS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMessage:
    """A message to publish.

    ``delay_ms`` and ``ttl_ms`` are durations, so that the server's clock alone decides; ``ttl_ms`` 0
    means never expires. Within ``dedup_ttl_ms`` a second message with the same ``dedup_key`` is not
    accepted.
    """

    id: str
    task: str
    body: bytes
    head: bytes = b""
    priority: Priority = "normal"
    delay_ms: int = 0
    ttl_ms: int = 0
    dedup_key: str = ""
    dedup_ttl_ms: int = 0

    @property
    def size(self) -> int:
        """How many bytes count, for the queue's limit and for what travels together."""
        return len(self.body) + len(self.head)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a published message; for a duplicate, ``id`` is the first one's."""

    id: str
    status: Literal["accepted", "duplicate", "refused"]
    reason: str = ""
    replicas: int = 0
    """How many replicas were known to have it when the call returned; counted only if some are wanted."""
    wanted: int = 0
    """How many were wanted: the broker URL's `wait_replicas`."""

    @property
    def replicated(self) -> bool:
        """Whether as many replicas have it as were wanted. If not, it may be lost with the primary."""
        return self.replicas >= self.wanted


@dataclass(slots=True)
class Message:
    """A message on lease. Times are milliseconds since the epoch on the server's clock."""

    lease: Lease
    id: str
    task: str
    body: bytes
    head: bytes
    priority: Priority
    enqueued_ms: int
    ready_ms: int
    attempt: int
    """Attempts that finished before this delivery."""
    delivery: int
    """This hand-out's number, from 1."""
    lost: int
    """Deliveries that ended with their worker's death."""
    expires_ms: int
    history: bytes
    last: bool = False
    """Whether the queue's limit allows no delivery after this one."""

    @property
    def isolated(self) -> bool:
        """Whether it must run alone, because workers died with it before."""
        return self.lease[0] == "i"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why an attempt did not succeed: one line of a message's history."""

    reason: str
    error: str = ""
    message: str = ""
    digest: str = ""
    worker: str = ""
    started_ms: int = 0
    ended_ms: int = 0

    def line(self, *, attempt: int, delivery: int) -> bytes:
        """Write the history line for the attempt and delivery that failed."""
        record = {
            "reason": self.reason,
            "error": self.error,
            "message": self.message[:_MESSAGE_CHARS],
            "digest": self.digest,
            "worker": self.worker,
            "startedMs": self.started_ms,
            "endedMs": self.ended_ms,
            "attempt": attempt,
            "delivery": delivery,
        }
        kept = {name: value for name, value in record.items() if value not in ("", None)}
        return json.dumps(kept, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True)
class Done:
    """The attempt succeeded; the message is finished."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryAt:
    """Run again after ``delay_ms``; ``head`` and ``body`` replace the message's own when given."""

    delay_ms: int
    failure: Failure | None = None
    head: bytes | None = None
    body: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """Keep the message among the dead letters, for a person to look at."""

    reason: str
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Discard:
    """Drop the message on purpose: it expired, or it was revoked or cancelled."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Postpone:
    """Hand the message back until ``delay_ms`` have passed, free of charge: it has not been tried."""

    delay_ms: int
    failure: Failure | None = None
    """What its history is to say, if anything."""


Outcome = Done | RetryAt | DeadLetter | Discard | Postpone
DONE = Done()


@dataclass(frozen=True, slots=True)
class Settlement:
    """An outcome for a leased message. ``run_ms`` is None when user code never ran."""

    message: Message
    outcome: Outcome
    run_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """What one claim handed out."""

    messages: list[Message]
    version: int
    paused: bool = False
    again: bool = False
    """Nothing usable came, but more may be ready: claim again at once."""
    next_due_ms: int = -1
    """Milliseconds until the next delayed message is due; -1 when there is none."""
    dropped: list[tuple[Message, str]] = field(default_factory=list)
    """Discarded on the way, and why: ``expired`` or ``cancelled``. They are finished, not leased."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadMessage:
    """A dead letter with its history, newest first."""

    entry: str
    """Names the dead letter for redrive and purge."""
    id: str
    task: str
    priority: Priority
    enqueued_ms: int
    dead_ms: int
    attempt: int
    delivery: int
    reason: str
    history: list[dict[str, Any]] = field(default_factory=list)
    head: bytes = b""
    body: bytes = b""
    """Its beginning, when the body is large and the letter comes from a list."""
    body_bytes: int = 0

    @property
    def error(self) -> str:
        """The class of the newest error in the history, or an empty string."""
        return next((str(line["error"]) for line in self.history if line.get("error")), "")

    @property
    def message(self) -> str:
        """The text of the newest error in the history, or an empty string."""
        return next((str(line["message"]) for line in self.history if line.get("message")), "")


@dataclass(frozen=True, slots=True)
class DeadPage:
    """Dead letters that were found, newest first."""

    letters: list[DeadMessage]
    before: str
    """Where the next page begins: the entry that was looked at last. Empty when that was the oldest."""


@dataclass(frozen=True, slots=True)
class WorkerSeen:
    """A consumer of the queue: when it last spoke, and how many messages it holds."""

    name: str
    seen_ms: int
    leased: int


@dataclass(frozen=True, slots=True)
class Histogram:
    """Cumulative-free bucket counts; ``bounds_ms`` are upper bounds, the last bucket is unbounded."""

    bounds_ms: tuple[int, ...]
    counts: tuple[int, ...]
    sum_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStats:
    """Everything measured of a queue at one instant of the server's clock."""

    name: str
    now_ms: int
    accepted: int
    done: int
    discarded: int
    purged: int
    retried: int
    redelivered: int
    redriven: int
    dead: int
    """Dead letters now."""
    dead_total: int
    """Messages that ever became dead letters."""
    discarded_by: dict[str, int]
    ready_by: dict[str, int]
    """Ready messages by priority; isolated ones stand under ``isolated``."""
    leased: int
    delayed: int
    due: int
    """Delayed messages whose time has come, but which no worker has asked for yet."""
    oldest_ready_ms: int
    """How long the oldest ready message has been ready, in milliseconds."""
    declared: bool
    paused: bool
    version: int
    workers: list[WorkerSeen]
    wait: Histogram
    run: Histogram

    @property
    def ready(self) -> int:
        """Messages that a worker could claim now."""
        return sum(self.ready_by.values())

    @property
    def unfinished(self) -> int:
        """Messages that are ready, leased or delayed."""
        return self.ready + self.leased + self.delayed

    @property
    def imbalance(self) -> int:
        """Zero as long as the conservation law holds: nothing lost, nothing doubled."""
        finished = self.done + self.discarded + self.purged + self.dead
        return self.accepted - finished - self.unfinished


def is_entry(name: str) -> bool:
    """Tell whether it looks like the entry of a dead letter, ``1764000000000-0``, and not like an id."""
    return re.fullmatch(r"[0-9]+-[0-9]+", name) is not None
