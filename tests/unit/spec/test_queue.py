"""The resource: names, slots, the policy it carries, and which changes it allows."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from celeriac.spec.queue import MessageQueue, change_errors


def queue(**spec: Any) -> MessageQueue:
    return MessageQueue.model_validate(
        {
            "apiVersion": "celeriac.dev/v1alpha1",
            "kind": "MessageQueue",
            "metadata": {"name": "message-delivery"},
            "spec": {"worker": {"app": "celeriac_messaging.app:app"}, **spec},
        }
    )


def test_the_queue_is_called_as_the_resource_unless_it_says_otherwise() -> None:
    assert queue().queue_name == "message-delivery"
    assert queue(queue="old.Name").queue_name == "old.Name"


def test_a_solo_worker_has_one_slot_whatever_its_concurrency() -> None:
    assert queue(worker={"app": "a", "pool": "Solo", "concurrency": 8}).spec.worker.slots == 1
    assert queue(worker={"app": "a", "pool": "Threads", "concurrency": 8}).spec.worker.slots == 8


def test_the_policy_is_what_can_change_without_a_new_process() -> None:
    policy = queue(paused=True, limits={"maxMessages": 7}, retry={"maxAttempts": 2}).spec.policy

    assert (policy.paused, policy.limits.max_messages, policy.retry.max_attempts) == (True, 7, 2)


def test_the_name_of_the_queue_cannot_be_changed() -> None:
    assert change_errors(queue(), queue(paused=True)) == []
    for old, new in [(None, "b"), ("a", "b"), ("a", None)]:
        before = queue(queue=old) if old else queue()
        after = queue(queue=new) if new else queue()
        assert "must not be changed" in change_errors(before, after)[0]


@pytest.mark.parametrize(
    ("spec", "wrong"),
    [
        ({"autoscaling": {"minReplicas": 3, "maxReplicas": 2}}, "minReplicas must not be greater"),
        (
            {"worker": {"app": "a", "softTimeoutSeconds": 60, "timeoutSeconds": 60}},
            "softTimeoutSeconds must be less",
        ),
        ({"worker": {"app": "a", "env": [{"name": "A"}, {"name": "A"}]}}, "stands twice"),
        (
            {"worker": {"app": "a", "env": [{"name": "A", "value": "1", "valueFrom": {}}]}},
            "exactly one of",
        ),
        (
            {"schedules": [{"name": "a", "cron": "0 0 31 2 *", "task": "t"}]},
            "bad day-of-month",
        ),
        (
            {"schedules": [{"name": "a", "cron": "0 0 0 * * *", "task": "t"}]},
            "cron",
        ),
        (
            {"schedules": [{"name": "a", "cron": "0 0 * * *", "task": "t", "timeZone": "Mars"}]},
            "time zone",
        ),
        ({"queue": "a{b}"}, "queue"),
        ({"replicas": -1}, "replicas"),
    ],
)
def test_what_cannot_work_is_refused(spec: dict[str, Any], wrong: str) -> None:
    with pytest.raises(ValidationError, match=wrong):
        queue(**spec)


def test_limits_are_allowed_in_every_pool() -> None:
    """Threads cannot keep a hard limit; the worker says so at its start."""
    worker = {"app": "a", "pool": "Threads", "softTimeoutSeconds": 50, "timeoutSeconds": 60}

    assert queue(worker=worker).spec.worker.timeout_seconds == 60


def test_what_kubernetes_adds_to_the_metadata_is_accepted() -> None:
    data = queue().model_dump(by_alias=True, exclude_none=True)
    data["metadata"] |= {"uid": "u", "resourceVersion": "1", "managedFields": [{"manager": "m"}]}

    assert MessageQueue.model_validate(data).metadata.uid == "u"


def test_a_status_of_another_version_is_read() -> None:
    data = queue().model_dump(by_alias=True, exclude_none=True) | {"status": {"news": 1, "dead": 2}}
    status = MessageQueue.model_validate(data).status

    assert status is not None
    assert status.dead == 2
