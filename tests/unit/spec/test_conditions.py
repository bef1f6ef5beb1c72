"""Conditions are dated by their last change of status."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from celeriac.spec.conditions import (
    Condition,
    ConditionStatus,
    ConditionType,
    Reason,
    transition,
    transitions,
    utc,
)

NOW = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)


def condition(status: ConditionStatus, reason: Reason, at: datetime = NOW) -> Condition:
    return Condition(
        type=ConditionType.READY, status=status, reason=reason, last_transition_time=utc(at)
    )


def test_a_new_condition_begins_now() -> None:
    new = condition("True", Reason.IDLE)

    assert transition(None, new, LATER).last_transition_time == "2026-01-31T09:35:00Z"


def test_another_reason_is_no_transition() -> None:
    dated = transition(condition("True", Reason.IDLE), condition("True", Reason.RUNNING), LATER)

    assert (dated.reason, dated.last_transition_time) == ("Running", "2026-01-31T09:30:00Z")


def test_another_status_is_a_transition() -> None:
    dated = transition(condition("True", Reason.IDLE), condition("False", Reason.STARTING), LATER)

    assert dated.last_transition_time == "2026-01-31T09:35:00Z"


def test_conditions_are_matched_by_type() -> None:
    dated = transitions(
        [condition("True", Reason.IDLE)], [condition("True", Reason.RUNNING)], LATER
    )

    assert [it.last_transition_time for it in dated] == ["2026-01-31T09:30:00Z"]


def test_times_are_spelled_in_utc() -> None:
    there = datetime(2026, 1, 31, 9, 30, tzinfo=timezone(timedelta(hours=2)))

    assert utc(there) == "2026-01-31T07:30:00Z"


def test_every_type_and_reason_is_one_camel_case_word() -> None:
    for name in [*ConditionType, *Reason]:
        assert name.value.isalnum()
        assert name.value[0].isupper()
