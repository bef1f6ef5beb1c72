"""Statuses of queues that no keeper looks after: stalled before anything began, or left alone. Pure."""

from __future__ import annotations

from datetime import datetime

from celeriac.spec.conditions import (
    Condition,
    ConditionStatus,
    ConditionType,
    Reason,
    transitions,
    utc,
)
from celeriac.spec.status import MessageQueueStatus


def stalled(
    before: MessageQueueStatus | None,
    *,
    name: str,
    generation: int,
    reason: Reason,
    message: str,
    now: datetime,
) -> MessageQueueStatus:
    """What is declared cannot be done at all."""
    verdicts: dict[ConditionType, tuple[ConditionStatus, Reason, str]] = {
        ConditionType.READY: ("False", reason, message),
        ConditionType.RECONCILING: ("False", reason, ""),
        ConditionType.STALLED: ("True", reason, message),
        ConditionType.BROKER_REACHABLE: ("Unknown", Reason.NOT_OBSERVED, ""),
        ConditionType.SCALING_ACTIVE: ("False", reason, ""),
        ConditionType.PAUSED: ("Unknown", Reason.NOT_OBSERVED, ""),
        ConditionType.DEAD_LETTERS_PRESENT: ("Unknown", Reason.NOT_OBSERVED, ""),
    }
    conditions = [
        Condition(
            type=type_,
            status=status,
            reason=why,
            message=text[:4096],
            last_transition_time=utc(now),
            observed_generation=generation,
        )
        for type_, (status, why, text) in verdicts.items()
    ]
    return MessageQueueStatus(
        observed_generation=generation,
        conditions=transitions(before.conditions if before else (), conditions, now),
        selector=f"celeriac.dev/queue={name}",
    )


def hands_off(before: MessageQueueStatus | None, now: datetime) -> MessageQueueStatus:
    """Nothing is changed, because an annotation says so; the rest of the status is as it was."""
    base = before or MessageQueueStatus()
    kept = {it.type: it for it in base.conditions}
    text = "the annotation celeriac.dev/paused is true: the operator changes nothing"
    for type_, status, message in (
        (ConditionType.RECONCILING, "False", text),
        (ConditionType.PAUSED, "True", text),
    ):
        kept[type_] = Condition(
            type=type_,
            status="True" if status == "True" else "False",
            reason=Reason.HANDS_OFF,
            message=message,
            last_transition_time=utc(now),
            observed_generation=base.observed_generation,
        )
    conditions = transitions(base.conditions, kept.values(), now)
    return base.model_copy(update={"conditions": conditions})
