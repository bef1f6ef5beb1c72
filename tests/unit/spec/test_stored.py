"""What a newer version stored is read without what this version does not know, and that is named."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from celeriac.spec.load import SpecError, parse_queues, spell
from celeriac.spec.policies import QueuePolicy
from celeriac.spec.queue import MessageQueue
from celeriac.spec.stored import NotUnderstood, read_stored

QUEUE: dict[str, Any] = {
    "apiVersion": "celeriac.dev/v1alpha1",
    "kind": "MessageQueue",
    "metadata": {"name": "mail"},
    "spec": {
        "worker": {"app": "a", "env": [{"name": "A", "value": "1"}]},
        "retry": {
            "byError": [
                {"error": "TimeoutError", "backoff": {"initialSeconds": 1}},
                {"error": "ValueError", "action": "DeadLetter"},
            ]
        },
        "schedules": [{"name": "daily", "cron": "0 3 * * *", "task": "clean"}],
        "autoscaling": {"maxReplicas": 20},
    },
}


def with_fields(*paths: str) -> dict[str, Any]:
    raw = copy.deepcopy(QUEUE)
    for path in paths:
        *outer, name = [int(it) if it.isdigit() else it for it in path.split(".")]
        inner: Any = raw
        for part in outer:
            inner = inner[part]
        inner[name] = {"some": ["thing", {"new": 1}]}
    return raw


@pytest.mark.parametrize(
    "path",
    [
        "metadata.newField",
        "spec.newField",
        "spec.worker.newField",
        "spec.worker.env.0.newField",
        "spec.retry.newField",
        "spec.retry.byError.0.newField",
        "spec.retry.byError.1.newField",
        "spec.retry.byError.0.backoff.newField",
        "spec.schedules.0.newField",
        "spec.autoscaling.newField",
        # Here a name in Python is no name on the wire: it is as unknown as any other.
        "spec.autoscaling.max_replicas",
    ],
)
def test_a_field_that_is_not_known_is_ignored_and_named(path: str) -> None:
    raw = with_fields(path)
    before = copy.deepcopy(raw)
    queue, ignored = read_stored(MessageQueue, raw)
    assert queue == MessageQueue.model_validate(QUEUE)
    assert [".".join(map(str, it)) for it in ignored] == [path]
    assert raw == before


def test_all_of_several_are_named() -> None:
    paths = ["spec.worker.newField", "spec.retry.byError.1.newField", "spec.schedules.0.newField"]
    queue, ignored = read_stored(MessageQueue, with_fields(*paths))
    assert queue == MessageQueue.model_validate(QUEUE)
    assert [spell(it) for it in ignored] == [
        "spec.worker.newField",
        "spec.retry.byError[1].newField",
        "spec.schedules[0].newField",
    ]


def test_what_is_known_is_read_as_it_stands() -> None:
    assert read_stored(MessageQueue, QUEUE) == (MessageQueue.model_validate(QUEUE), ())


@pytest.mark.parametrize(
    ("over", "field"),
    [
        ({"pool": "Gevent", "newField": 1}, ("spec", "worker", "pool")),
        ({"concurrency": 0, "newField": 1}, ("spec", "worker", "concurrency")),
        # A rule over several fields is tried once the unknown ones are out of the way.
        ({"softTimeoutSeconds": 9, "timeoutSeconds": 9, "newField": 1}, ("spec", "worker")),
        (
            {"env": [{"name": "A", "valueFrom": {"newSource": {}}}]},
            ("spec", "worker", "env", 0, "valueFrom"),
        ),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_and_what_was_ignored_is_told(
    over: dict[str, Any], field: tuple[str | int, ...]
) -> None:
    raw = copy.deepcopy(QUEUE)
    raw["spec"]["worker"] |= over
    with pytest.raises(NotUnderstood) as refusal:
        read_stored(MessageQueue, raw)
    assert [it["loc"] for it in refusal.value.error.errors()] == [field]
    assert [it[-1] for it in refusal.value.ignored] in (["newField"], ["newSource"])


def test_a_policy_of_a_newer_operator_is_read_by_an_older_worker() -> None:
    raw = QueuePolicy().model_dump(by_alias=True, mode="json")
    raw["retry"]["budget"] = {"percent": 20}
    raw["fairness"] = "ByKey"
    policy, ignored = read_stored(QueuePolicy, raw)
    assert policy == QueuePolicy()
    assert sorted(ignored) == [("fairness",), ("retry", "budget")]


def test_files_stay_strict() -> None:
    text = (
        "apiVersion: celeriac.dev/v1alpha1\nkind: MessageQueue\nmetadata: {name: a}\n"
        "spec: {worker: {app: a, newField: 1}}\n"
    )
    with pytest.raises(SpecError, match=r"spec\.worker\.newField: is not a field here"):
        parse_queues(text)
