"""What the API server refuses, and what it says: a person must know what to do from the text alone."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from tests.cluster.cluster import Cluster

GOOD: dict[str, Any] = {
    "apiVersion": "celeriac.dev/v1alpha1",
    "kind": "MessageQueue",
    "metadata": {"name": "orders", "namespace": "default"},
    "spec": {"worker": {"image": "shop:1", "app": "shop.app:app"}},
}

#: Where the change is made, the value put there, and what the refusal must say.
REFUSED = [
    ("worker.app", None, "spec.worker.app: Required value"),
    ("worker.app", "", "spec.worker.app"),
    ("worker.app", "not a module", "spec.worker.app"),
    ("worker", None, "spec.worker: Required value"),
    ("worker.pool", "Gevent", 'supported values: "Solo", "Prefork", "Threads", "Asyncio"'),
    ("worker.concurrency", 0, "greater than or equal to 1"),
    ("worker.concurrency", 100_000, "less than or equal to 1000"),
    ("worker.concurrency", "four", "must be of type integer"),
    ("worker.concurrency", 2.5, "must be of type integer"),
    ("worker.softTimeoutSeconds", -1, "greater than or equal to 0"),
    (
        "worker",
        {"app": "a", "softTimeoutSeconds": 60, "timeoutSeconds": 50},
        "must be less than timeoutSeconds",
    ),
    (
        "worker",
        {"app": "a", "softTimeoutSeconds": 60, "timeoutSeconds": 60},
        "must be less than timeoutSeconds",
    ),
    ("worker.leaseSeconds", 1, "greater than or equal to 3"),
    ("worker.env", [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}], "Duplicate value"),
    (
        "worker.env",
        [{"name": "A", "value": "1", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
        "value and valueFrom must not both be given",
    ),
    ("queue", "with space", "spec.queue"),
    ("queue", "q" * 200, "Too long"),
    ("retry.maxAttempts", 0, "greater than or equal to 1"),
    (
        "retry.backoff",
        {"initialSeconds": 60, "maxSeconds": 30},
        "initialSeconds must not be greater than maxSeconds",
    ),
    ("retry.backoff", {"jitterPercent": 120}, "less than or equal to 100"),
    ("retry.byError", [{"error": "ValueError", "action": "Ignore"}], "supported values"),
    (
        "retry.byError",
        [{"error": "ValueError", "action": "Discard", "maxAttempts": 3}],
        "must be absent unless action is Retry",
    ),
    ("deadLetter.maxDeliveries", 0, "greater than or equal to 1"),
    ("deadLetter.retentionSeconds", 1, "greater than or equal to 60"),
    ("priority", {"mode": "Fair"}, 'supported values: "Strict", "Weighted"'),
    (
        "priority",
        {"weights": {"high": 1, "normal": 2, "low": 3}},
        "order them as high >= normal >= low",
    ),
    ("limits.maxMessageBytes", 10, "greater than or equal to 1024"),
    (
        "autoscaling",
        {"minReplicas": 5, "maxReplicas": 2},
        "minReplicas must not be greater than maxReplicas",
    ),
    ("autoscaling.mode", "Auto", 'supported values: "Native", "KEDA", "HPA", "Off"'),
    ("autoscaling.maxReplicas", 0, "greater than or equal to 1"),
    (
        "schedules",
        [{"name": "Bad Name", "cron": "* * * * *", "task": "t"}],
        "spec.schedules[0].name",
    ),
    ("schedules", [{"name": "a", "cron": "* * * * *"}], "task: Required value"),
    (
        "schedules",
        [
            {"name": "a", "cron": "* * * * *", "task": "t"},
            {"name": "a", "cron": "* * * * *", "task": "u"},
        ],
        "Duplicate value",
    ),
    ("deletionPolicy", "Delete", 'supported values: "Retain", "Purge"'),
    ("broker", {}, "secretRef: Required value"),
    ("paused", "yes", "must be of type boolean"),
    ("replicas", -1, "greater than or equal to 0"),
]


def with_change(path: str, value: Any) -> dict[str, Any]:
    """A good resource with one field of its spec set, or removed for None."""
    resource = copy.deepcopy(GOOD)
    where = resource["spec"]
    *parents, last = path.split(".")
    for name in parents:
        where = where.setdefault(name, {})
    if value is None:
        del where[last]
    else:
        where[last] = value
    return resource


def create(api: Cluster, resource: dict[str, Any], *options: str) -> str:
    return api.kubectl("create", *options, "-f", "-", stdin=json.dumps(resource))


@pytest.mark.parametrize(
    ("path", "value", "says"), REFUSED, ids=[f"{n:02}-{row[0]}" for n, row in enumerate(REFUSED)]
)
def test_a_bad_resource_is_refused_and_the_text_says_why(
    api: Cluster, path: str, value: Any, says: str
) -> None:
    with pytest.raises(RuntimeError) as refusal:
        create(api, with_change(path, value), "--dry-run=server")
    assert says in str(refusal.value)


def test_the_good_resource_is_accepted(api: Cluster) -> None:
    assert "orders" in create(api, GOOD, "--dry-run=server")


def test_a_field_that_does_not_exist_is_refused(api: Cluster) -> None:
    with pytest.raises(RuntimeError, match=r"field not declared in schema|unknown field"):
        create(api, with_change("worker.concurency", 3), "--dry-run=server")


def test_a_name_that_is_too_long_for_pods_is_refused(api: Cluster) -> None:
    resource = copy.deepcopy(GOOD)
    resource["metadata"]["name"] = "n" * 48
    with pytest.raises(RuntimeError, match="at most 47 characters"):
        create(api, resource, "--dry-run=server")


@pytest.mark.parametrize(("before", "after"), [("a", "b"), (None, "b"), ("a", None)])
def test_the_queue_cannot_be_changed(api: Cluster, before: str | None, after: str | None) -> None:
    def named(queue: str | None) -> dict[str, Any]:
        resource = with_change("queue", queue or "x")
        resource["metadata"]["name"] = "fixed"
        if queue is None:
            del resource["spec"]["queue"]
        return resource

    api.kubectl("create", "-f", "-", stdin=json.dumps(named(before)))
    try:
        with pytest.raises(RuntimeError, match="queue must not be changed"):
            api.kubectl("replace", "-f", "-", stdin=json.dumps(named(after)))
    finally:
        api.kubectl("delete", "mq", "fixed")


def test_defaults_are_written_into_the_stored_resource(api: Cluster) -> None:
    create(api, GOOD)
    try:
        spec = api.get("mq", "orders")["spec"]
    finally:
        api.kubectl("delete", "mq", "orders")
    assert spec["retry"]["maxAttempts"] == 5
    assert spec["autoscaling"] == {
        "mode": "Native",
        "minReplicas": 0,
        "maxReplicas": 10,
        "startWaitSeconds": 10,
        "scaleDownDelaySeconds": 30,
    }
