"""What can change without a new process: retry, dead letters, priorities, limits, pause.

Together they are the ``QueuePolicy``, which is written into the queue's record on the broker, where
producers and workers both read it.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from celeriac.spec.rules import Rule, SpecModel
from celeriac.spec.text import ErrorName

ErrorAction = Literal["Retry", "DeadLetter", "Discard"]
PriorityMode = Literal["Strict", "Weighted"]

_DAY_S = 86_400


class Backoff(SpecModel):
    """How long a message waits before its next attempt."""

    initial_seconds: int = Field(default=2, ge=0, le=_DAY_S)
    """Wait after the first failed attempt, in seconds."""
    multiplier: int = Field(default=2, ge=1, le=10)
    """Every further wait is the one before times this."""
    max_seconds: int = Field(default=32, ge=0, le=7 * _DAY_S)
    """No wait is longer than this, in seconds."""
    jitter_percent: int = Field(default=20, ge=0, le=100)
    """Every wait is shortened at random by up to this share, so that messages spread out."""

    rules = (
        Rule(
            "self.initialSeconds <= self.maxSeconds",
            lambda it: it.initial_seconds <= it.max_seconds,
            "initialSeconds must not be greater than maxSeconds: raise maxSeconds or lower it",
        ),
    )


class ErrorRule(SpecModel):
    """What one class of errors leads to, in place of the queue's general policy."""

    error: ErrorName
    """Class (TimeoutError) or dotted name (smtplib.SMTPException); base classes match too."""
    action: ErrorAction = "Retry"
    """Retry after a wait, DeadLetter at once, or Discard the message."""
    max_attempts: int | None = Field(default=None, ge=1, le=1000)
    """Attempts in all for this error; absent: as the queue's policy says."""
    backoff: Backoff | None = None
    """Waits for this error; absent: as the queue's policy says."""

    rules = (
        Rule(
            "self.action == 'Retry' || (!has(self.maxAttempts) && !has(self.backoff))",
            lambda it: it.action == "Retry" or (it.max_attempts is None and it.backoff is None),
            "maxAttempts and backoff must be absent unless action is Retry: remove them",
        ),
    )


class RetryPolicy(SpecModel):
    """When a failed attempt is followed by another one."""

    max_attempts: int = Field(default=5, ge=1, le=1000)
    """Attempts before a message becomes a dead letter: 5 means at most five runs, four waits."""
    backoff: Backoff = Backoff()
    """Waits between attempts."""
    by_error: list[ErrorRule] = Field(default=[], max_length=32)
    """Rules for errors that need something else; the first that matches applies."""


class DeadLetterPolicy(SpecModel):
    """Messages that are given up: when, and how long they are kept for a person to look at."""

    max_deliveries: int = Field(default=5, ge=1, le=1000)
    """Hand-outs that may end with the worker's death before the message counts as poison."""
    retention_seconds: int = Field(default=14 * _DAY_S, ge=60, le=3650 * _DAY_S)
    """Dead letters older than this are deleted, in seconds."""
    max_messages: int = Field(default=100_000, ge=1, le=10_000_000)
    """The oldest dead letters are deleted above this number."""
    unknown_task_seconds: int = Field(default=300, ge=0, le=_DAY_S)
    """For so long, in seconds, a worker without a message's task leaves it to others, which may be newer."""


class PriorityWeights(SpecModel):
    """Shares of the claims when every priority has messages waiting."""

    high: int = Field(default=6, ge=1, le=100)
    """Share of high priority."""
    normal: int = Field(default=3, ge=1, le=100)
    """Share of normal priority."""
    low: int = Field(default=1, ge=1, le=100)
    """Share of low priority."""

    rules = (
        Rule(
            "self.high >= self.normal && self.normal >= self.low",
            lambda it: it.high >= it.normal >= it.low,
            "weights must not rise from high to low: order them as high >= normal >= low",
        ),
    )


class PriorityPolicy(SpecModel):
    """In which order waiting messages of the three priorities are served."""

    mode: PriorityMode = "Strict"
    """Strict serves high before normal before low; Weighted shares the claims out by weights."""
    weights: PriorityWeights = PriorityWeights()
    """Shares in Weighted mode."""
    starvation_bound: int = Field(default=20, ge=1, le=1000)
    """In Strict mode at least one in this many claims serves the lower priorities first."""


class Limits(SpecModel):
    """What a queue refuses to accept."""

    max_messages: int = Field(default=0, ge=0, le=100_000_000)
    """Unfinished messages above which new ones are refused; 0: no limit."""
    max_message_bytes: int = Field(default=1_048_576, ge=1024, le=67_108_864)
    """Largest body of a message, in bytes."""


class QueuePolicy(SpecModel):
    """All that can change without a new process."""

    retry: RetryPolicy = RetryPolicy()
    """When a failed attempt is followed by another one."""
    dead_letter: DeadLetterPolicy = DeadLetterPolicy()
    """When a message is given up, and how long it is kept."""
    priority: PriorityPolicy = PriorityPolicy()
    """In which order waiting messages are served."""
    limits: Limits = Limits()
    """What the queue refuses to accept."""
    paused: bool = False
    """Hand out no messages; producers may go on."""
