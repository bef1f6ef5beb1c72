"""When a status is worth a write, and what is news."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from celeriac.spec.conditions import Condition, ConditionStatus, ConditionType, Reason
from celeriac.spec.status import MessageQueueStatus, ScalingStatus
from celeriac_operator.reporting import (
    COUNTS_S,
    REST_S,
    event,
    must_write,
    news_of,
    parse_status,
    transitions_to_tell,
)
from celeriac_operator.seen import queue_seen

if TYPE_CHECKING:
    from tests.unit.operator.conftest import Raw


def condition(
    type_: ConditionType = ConditionType.READY,
    status: ConditionStatus = "True",
    reason: Reason = Reason.RUNNING,
    message: str = "",
) -> Condition:
    return Condition(
        type=type_,
        status=status,
        reason=reason,
        message=message,
        last_transition_time="2026-01-31T09:30:00Z",
        observed_generation=1,
    )


def status(*conditions: Condition, **given: Any) -> MessageQueueStatus:
    return MessageQueueStatus(
        observed_generation=given.pop("generation", 1), conditions=list(conditions), **given
    )


@pytest.mark.parametrize(
    "new",
    [
        status(condition(), generation=2),
        status(condition(), ready_replicas=1),
        status(condition(), desired_replicas=1),
        status(condition(), draining_replicas=1),
        status(condition(status="False")),
        status(condition(reason=Reason.IDLE)),
        status(condition(), scaling=ScalingStatus(limited_by="MaxReplicas")),
    ],
)
def test_facts_are_written_at_once(new: MessageQueueStatus) -> None:
    assert must_write(status(condition()), new, since_s=0)
    assert not must_write(new, new, since_s=1e9)


def test_the_first_status_is_written() -> None:
    assert must_write(None, status(), since_s=0)


@pytest.mark.parametrize(
    ("before", "now", "noticeable"),
    [
        (0, 1, True),
        (1, 0, True),
        (100, 110, True),
        (100, 90, True),
        (100, 109, False),
        (100, 91, False),
    ],
)
@pytest.mark.parametrize("name", ["ready", "leased", "delayed", "dead"])
def test_counts_are_written_when_they_moved_noticeably(
    name: str, before: int, now: int, noticeable: bool
) -> None:
    old, new = status(condition(), **{name: before}), status(condition(), **{name: now})
    assert not must_write(old, new, since_s=COUNTS_S - 0.1)
    assert must_write(old, new, since_s=COUNTS_S) is noticeable


@pytest.mark.parametrize(
    ("before", "now", "written"),
    [
        (0, 9, False),
        (0, 10, True),
        (10, 19, False),
        (10, 20, True),
        (600, 1199, False),
        (600, 0, False),
    ],
)
def test_an_age_is_written_each_time_it_has_doubled(before: int, now: int, written: bool) -> None:
    old = status(condition(), oldest_ready_seconds=before)
    new = status(condition(), oldest_ready_seconds=now)
    assert must_write(old, new, since_s=COUNTS_S) is written


def test_a_little_is_written_in_the_end() -> None:
    old, new = status(condition(), ready=100), status(condition(), ready=101)
    assert not must_write(old, new, since_s=REST_S - 0.1)
    assert must_write(old, new, since_s=REST_S)


def test_the_mere_passing_of_time_is_not() -> None:
    old = status(condition(), scaling=ScalingStatus(hold_seconds=30), oldest_ready_seconds=1000)
    new = status(condition(), scaling=ScalingStatus(hold_seconds=3), oldest_ready_seconds=1060)
    assert not must_write(old, new, since_s=REST_S)


def test_another_text_is_written_soon_and_another_number_in_it_is_not() -> None:
    old = status(condition(message="3 workers ready"))
    assert not must_write(old, status(condition(message="4 workers ready")), since_s=COUNTS_S)
    other = status(condition(message="no Secret"))
    assert must_write(old, other, since_s=COUNTS_S)
    assert not must_write(old, other, since_s=COUNTS_S - 0.1)


def test_only_transitions_are_told() -> None:
    told: dict[ConditionType, str] = {}

    def tell(*conditions: Condition) -> list[tuple[str, str]]:
        return [(it.type, it.status) for it in transitions_to_tell(told, conditions)]

    broker, stalled = ConditionType.BROKER_REACHABLE, ConditionType.STALLED
    normal = (condition(), condition(broker), condition(stalled, "False"))
    assert tell(*normal) == [], "that all is well from the beginning is no news"
    assert tell(*normal) == []
    assert tell(condition(broker, "False")) == [(broker, "False")]
    assert tell(condition(broker, "False")) == []
    assert tell(condition(broker)) == [(broker, "True")]
    assert tell(condition(stalled, "True")) == [(stalled, "True")]


def test_trouble_from_the_beginning_is_told() -> None:
    found = transitions_to_tell({}, [condition(ConditionType.STALLED, "True")])
    assert [it.type for it in found] == ["Stalled"]


def test_one_piece_of_news_is_told_once() -> None:
    told = {ConditionType.READY: "True", ConditionType.STALLED: "False"}
    why = (Reason.QUEUE_TAKEN, "it is somebody else's")
    both = [
        condition(ConditionType.READY, "False", *why),
        condition(ConditionType.STALLED, "True", *why),
    ]
    assert len(transitions_to_tell(told, both)) == 1
    assert told == {ConditionType.READY: "False", ConditionType.STALLED: "True"}
    assert transitions_to_tell(told, both) == []


def test_a_start_of_workers_is_no_news() -> None:
    told = {ConditionType.READY: "True"}
    assert not transitions_to_tell(told, [condition(status="False", reason=Reason.STARTING)])
    assert not transitions_to_tell(told, [condition()])
    assert not transitions_to_tell(told, [condition(ConditionType.RECONCILING, "True")])
    assert not transitions_to_tell(told, [condition(ConditionType.DEAD_LETTERS_PRESENT, "Unknown")])


@pytest.mark.parametrize(
    ("type_", "given", "kind"),
    [
        (ConditionType.READY, "False", "Warning"),
        (ConditionType.READY, "True", "Normal"),
        (ConditionType.STALLED, "True", "Warning"),
        (ConditionType.DEAD_LETTERS_PRESENT, "False", "Normal"),
    ],
)
def test_an_event_names_its_resource_and_is_short_enough(
    raw: Raw, type_: ConditionType, given: ConditionStatus, kind: str
) -> None:
    news = news_of(condition(type_, given, message="x" * 5000))
    made = event(
        queue_seen(raw.queue()), news, identity="i" * 300, now=datetime(2026, 1, 31, tzinfo=UTC)
    )
    assert made["type"] == kind
    assert made["regarding"]["uid"] == "uid-of-mail"
    assert made["eventTime"] == "2026-01-31T00:00:00.000000Z"
    assert len(made["note"]) <= 1024 and len(made["reportingInstance"]) <= 128
    assert made["metadata"]["name"].startswith("mail.")


@pytest.mark.parametrize(
    "stored", [None, {}, {"observedGeneration": -1}, {"conditions": "broken"}, {"ready": -1}]
)
def test_a_status_that_cannot_be_read_counts_as_none(stored: Any) -> None:
    assert parse_status(stored) is None
