"""Conditions: what is true of a MessageQueue now, since when, and why.

Types and reasons are part of the API: other tools match on them, so none is ever renamed. There is
no ``phase``: every condition stands for itself, and ``Ready`` sums them up.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Literal

from pydantic import Field

from celeriac.spec.rules import StatusModel
from celeriac.spec.text import CamelCase, UtcTime

ConditionStatus = Literal["True", "False", "Unknown"]


class ConditionType(StrEnum):
    """What a condition is about."""

    READY = "Ready"
    """The queue works as declared: messages that arrive now will be run."""
    RECONCILING = "Reconciling"
    """Workers are on their way to what is declared. Abnormal when true."""
    STALLED = "Stalled"
    """What is declared cannot be reached without somebody's help. Abnormal when true."""
    BROKER_REACHABLE = "BrokerReachable"
    """The broker answered the last time it was asked."""
    SCALING_ACTIVE = "ScalingActive"
    """The number of workers follows the queue; false while it is held."""
    PAUSED = "Paused"
    """No messages are handed out, because somebody wants it so."""
    DEAD_LETTERS_PRESENT = "DeadLettersPresent"
    """Messages were given up and wait for a person. Abnormal when true."""


class Reason(StrEnum):
    """Why a condition is as it is."""

    RUNNING = "Running"
    """Workers run."""
    IDLE = "Idle"
    """There is nothing to do, and no worker runs."""
    AS_DECLARED = "AsDeclared"
    """Nothing is left to do."""
    STARTING = "Starting"
    """Workers were started and are not ready yet."""
    SCALING_UP = "ScalingUp"
    """More workers are wanted than run."""
    DRAINING = "Draining"
    """Workers finish what they hold, and then stop."""
    RETRYING = "Retrying"
    """A planned change could not be made; it is tried again soon."""
    ROLLING = "Rolling"
    """Workers are replaced one for one, because what they run has changed."""
    WORKERS_FAILING = "WorkersFailing"
    """Workers die again and again; they are restarted after growing waits."""
    INVALID_SPEC = "InvalidSpec"
    """What is declared cannot be used; the last good declaration stays in force."""
    QUEUE_TAKEN = "QueueTaken"
    """An older resource names the same queue on the same broker, and keeps it."""
    OBJECT_TAKEN = "ObjectTaken"
    """An object that belongs to somebody else has the name that one of ours needs."""
    KEDA_MISSING = "KEDAMissing"
    """The autoscaling mode is KEDA, and the cluster has none."""
    REFUSED = "Refused"
    """The API server refuses what the declaration leads to."""
    HANDS_OFF = "HandsOff"
    """The resource's annotation tells the operator to change nothing."""
    BROKER_ANSWERS = "BrokerAnswers"
    """The broker answered."""
    BROKER_UNREACHABLE = "BrokerUnreachable"
    """The broker did not answer: workers are neither started nor stopped."""
    BROKER_NOT_CONFIGURED = "BrokerNotConfigured"
    """Where the broker is, is not known: the Secret with its URL is missing or wrong."""
    BROKER_EVICTS = "BrokerEvicts"
    """The broker would delete messages when it is full: nothing is started on it."""
    NATIVE = "Native"
    """The platform itself scales the queue."""
    EXTERNAL = "External"
    """An outside autoscaler sets the number of workers."""
    FIXED = "Fixed"
    """The number of workers is fixed."""
    SPEC_PAUSED = "SpecPaused"
    """The resource says paused."""
    HELD_ON_BROKER = "HeldOnBroker"
    """The queue was paused on the broker."""
    NOT_PAUSED = "NotPaused"
    """Messages are handed out."""
    DEAD_LETTERS = "DeadLetters"
    """Dead letters are kept; look at them, then redrive or purge them."""
    NO_DEAD_LETTERS = "NoDeadLetters"
    """No message was given up."""
    NOT_OBSERVED = "NotObserved"
    """Nothing is known yet."""


class Condition(StatusModel):
    """One thing that is true or false of the queue."""

    type: CamelCase
    """What the condition is about."""
    status: ConditionStatus
    """True, False or Unknown."""
    reason: CamelCase
    """Why, in one CamelCase word that tools can match."""
    message: str = Field(default="", max_length=32_768)
    """Why, for people."""
    last_transition_time: UtcTime
    """When status last changed."""
    observed_generation: int = Field(default=0, ge=0, le=2**53)
    """Generation of the resource that this was seen for."""


def transition(old: Condition | None, new: Condition, now: datetime) -> Condition:
    """Date ``new``: its time is ``now`` if the status changed, else that of ``old``."""
    if old is not None and old.status == new.status:
        return new.model_copy(update={"last_transition_time": old.last_transition_time})
    return new.model_copy(update={"last_transition_time": utc(now)})


def transitions(
    old: Iterable[Condition], new: Iterable[Condition], now: datetime
) -> list[Condition]:
    """Date every condition of ``new`` by its forerunner of the same type in ``old``."""
    before = {condition.type: condition for condition in old}
    return [transition(before.get(condition.type), condition, now) for condition in new]


def utc(moment: datetime) -> str:
    """Spell an aware time as conditions do: UTC, whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
