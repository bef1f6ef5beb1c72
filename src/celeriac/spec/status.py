"""The status of a MessageQueue: reconstituted from what is seen, never remembered.

Exact counts belong to the metrics; the numbers here are those of the last report.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from celeriac.spec.conditions import Condition, ConditionType
from celeriac.spec.rules import ListMap, StatusModel
from celeriac.spec.text import ScheduleName, UtcTime

#: observedGeneration before anybody has looked: tools that wait for a resource know that it is not ready.
NEVER_OBSERVED = -1

Count = Annotated[int, Field(ge=0, le=2**53)]
LimitedBy = Literal[
    "Depth",
    "MinReplicas",
    "MaxReplicas",
    "Replicas",
    "Stabilisation",
    "Paused",
    "BrokerUnreachable",
]


class ScalingStatus(StatusModel):
    """The arithmetic behind the number of workers, term by term."""

    ready: Count = 0
    """Ready messages that were counted."""
    leased: Count = 0
    """Leased messages that were counted."""
    due: Count = 0
    """Delayed messages whose time has come."""
    slots: Count = 1
    """Messages that one worker runs at once."""
    needed: Count = 0
    """Workers for all of these: (ready + leased + due) / slots, rounded up."""
    min_replicas: Count = 0
    """The least number of workers, as declared or asked for through /scale."""
    max_replicas: Count = 0
    """The greatest number of workers."""
    current: Count = 0
    """Workers that ran, or were starting, when this was calculated."""
    desired: Count = 0
    """What came out."""
    limited_by: LimitedBy = "Depth"
    """Which term decided: Depth when the number is just what the messages need."""
    hold_seconds: Count = 0
    """Seconds until fewer workers may run, if depth stays as low as it is."""
    oldest_ready_seconds: Count = 0
    """How long the oldest ready message has waited."""
    start_wait_seconds: Count = 0
    """How long it should wait at most."""


class ScheduleStatus(StatusModel):
    """What became of a schedule."""

    name: ScheduleName
    """Name of the schedule."""
    last_due_time: UtcTime | None = None
    """The newest due time that was dealt with; for a new schedule, the time it was first seen."""
    next_due_time: UtcTime | None = None
    """When it is due next."""


class MessageQueueStatus(StatusModel):
    """What is true of the queue and its workers."""

    observed_generation: int = Field(default=0, ge=NEVER_OBSERVED, le=2**53)
    """Generation of the resource that this status describes; -1 before it has one."""
    conditions: Annotated[list[Condition], Field(max_length=16), ListMap("type")] = []
    """Ready, Reconciling, Stalled, BrokerReachable, ScalingActive, Paused, DeadLettersPresent."""
    replicas: Count = 0
    """Workers that run, including those that are starting; those that drain do not count."""
    ready_replicas: Count = 0
    """Workers that are ready for messages."""
    desired_replicas: Count = 0
    """Workers that should run."""
    draining_replicas: Count = 0
    """Workers that finish what they hold, and then stop."""
    selector: str = Field(default="", max_length=256)
    """Label selector of the workers' pods, for autoscalers."""
    ready: Count = 0
    """Messages that a worker could take now."""
    leased: Count = 0
    """Messages that workers hold."""
    delayed: Count = 0
    """Messages that wait for their time."""
    dead: Count = 0
    """Dead letters."""
    oldest_ready_seconds: Count = 0
    """How long the oldest ready message has waited, in seconds."""
    scaling: ScalingStatus = ScalingStatus()
    """The arithmetic behind desiredReplicas."""
    schedules: Annotated[list[ScheduleStatus], Field(max_length=64), ListMap("name")] = []
    """What became of each schedule."""

    def condition(self, type: ConditionType) -> Condition | None:
        """Find a condition by its type."""
        return next((it for it in self.conditions if it.type == type), None)
