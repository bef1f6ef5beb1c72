"""Resources that no keeper looks after, and what they say."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from celeriac.spec.conditions import ConditionType, Reason
from celeriac.spec.status import MessageQueueStatus
from celeriac_operator.declared import InvalidStored, declared
from celeriac_operator.seen import queue_seen
from celeriac_operator.statuses import hands_off, stalled

if TYPE_CHECKING:
    from tests.unit.operator.conftest import Raw

NOW = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
LATER = datetime(2026, 1, 31, 9, 45, tzinfo=UTC)


def blocked(before: MessageQueueStatus | None, now: datetime = NOW) -> MessageQueueStatus:
    return stalled(
        before, name="mail", generation=3, reason=Reason.QUEUE_TAKEN, message="it is taken", now=now
    )


def test_stalled_says_so_in_every_condition() -> None:
    found = blocked(None)
    assert {it.type for it in found.conditions} == set(ConditionType)
    assert {it.type: it.status for it in found.conditions}[ConditionType.READY] == "False"
    condition = found.condition(ConditionType.STALLED)
    assert condition is not None
    assert (condition.status, condition.reason, condition.message) == (
        "True",
        "QueueTaken",
        "it is taken",
    )
    assert found.observed_generation == condition.observed_generation == 3


def test_stalled_since_it_is() -> None:
    first = blocked(None)
    assert blocked(first, LATER) == first


def test_hands_off_leaves_the_rest_as_it_was() -> None:
    before = blocked(None)
    found = hands_off(before, LATER)
    paused, ready = found.condition(ConditionType.PAUSED), found.condition(ConditionType.READY)
    assert paused is not None
    assert (paused.status, paused.reason) == ("True", "HandsOff")
    assert ready == before.condition(ConditionType.READY)
    assert found.observed_generation == before.observed_generation
    assert hands_off(found, LATER) == found
    assert len(hands_off(None, NOW).conditions) == 2


def test_a_stored_resource_becomes_the_model(raw: Raw) -> None:
    stored = queue_seen(raw.queue(queue="orders", meta={"managedFields": [{"a": 1}]}))
    queue, ignored = declared(stored)
    assert ignored == ()
    assert (queue.name, queue.queue_name, queue.metadata.uid) == ("mail", "orders", "uid-of-mail")


def test_a_stored_resource_that_is_wrong_tells_all_of_it(raw: Raw) -> None:
    with pytest.raises(InvalidStored) as refusal:
        declared(queue_seen(raw.queue(worker={"concurrency": 0, "colour": "red"})))
    assert "spec.worker.concurrency: must be at least 1" in str(refusal.value)
    assert "spec.worker.colour: is not a field here" in str(refusal.value)


def test_a_field_of_a_newer_version_is_ignored_and_that_is_said(raw: Raw) -> None:
    stored = raw.queue(autoscaling={"maxReplicas": 7, "scaleUpDelaySeconds": 0})
    queue, ignored = declared(queue_seen(stored))
    assert queue.spec.autoscaling.max_replicas == 7
    assert ignored == (
        "spec.autoscaling.scaleUpDelaySeconds: is not a field here, in this version, and is ignored",
    )


def test_a_value_of_a_newer_version_is_refused_by_field_and_value(raw: Raw) -> None:
    with pytest.raises(InvalidStored) as refusal:
        declared(queue_seen(raw.queue(worker={"pool": "Gevent"}, deletionPolicy="Archive")))
    assert "spec.worker.pool: must be Solo, Prefork, Threads or Asyncio, not 'Gevent'" in str(
        refusal.value
    )
    assert "spec.deletionPolicy: must be Retain or Purge, not 'Archive'" in str(refusal.value)
