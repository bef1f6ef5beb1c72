"""What the messaging chart makes of its six queues, and what the operator makes of them."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from celeriac.spec.queue import MessageQueue
from celeriac_messaging.settings import from_environment
from celeriac_operator.resources.deployment import BrokerSecret, deployment
from tests.chart.charts import CHARTS, NAMESPACE, ROOT, Helm, Object, find
from tests.chart.rules import pod_complaints

SOURCE = {
    it["metadata"]["name"]: it
    for it in yaml.safe_load_all((ROOT / "src/celeriac_messaging/queues.yaml").read_text())
}


def queues(rendering: list[Object]) -> dict[str, MessageQueue]:
    """The queues of a rendering, as the platform reads them."""
    found = [it for it in rendering if it["kind"] == "MessageQueue"]
    return {it["metadata"]["name"]: MessageQueue.model_validate(it) for it in found}


def queue(helm: Helm, name: str, **values: Any) -> MessageQueue:
    """One queue, rendered with some values."""
    return queues(helm.render("messaging", values))[name]


def environment(it: MessageQueue) -> dict[str, str | None]:
    return {one.name: one.value for one in it.spec.worker.env}


def test_all_six_are_there_and_are_those_of_one_machine(helm: Helm) -> None:
    found = queues(helm.render("messaging"))
    assert list(found) == list(SOURCE)
    for name, it in found.items():
        own = MessageQueue.model_validate(SOURCE[name])
        assert it.spec.policy == own.spec.policy
        assert it.spec.schedules == own.spec.schedules
        assert it.spec.autoscaling == own.spec.autoscaling
        worker = ("app", "pool", "concurrency", "timeout_seconds", "drain_seconds")
        assert [getattr(it.spec.worker, one) for one in worker] == [
            getattr(own.spec.worker, one) for one in worker
        ]


@pytest.mark.parametrize("claim", ["", "messages"])
def test_the_operator_makes_restricted_pods_of_them(helm: Helm, claim: str) -> None:
    values = {"persistence": {"existingClaim": claim}, "secretName": "settings"}
    for it in queues(helm.render("messaging", values)).values():
        broker = BrokerSecret("celeriac-broker", "url", digest="0")
        made = deployment(it, image=it.spec.worker.image, broker=broker)
        spec = made["spec"]["template"]["spec"]
        assert [*pod_complaints(spec)] == []
        assert spec["securityContext"]["fsGroup"] == 65532
        data = next(volume for volume in spec["volumes"] if volume["name"] == "data")
        assert ("persistentVolumeClaim" in data) == bool(claim)


def test_settings_arrive_as_they_were_written(helm: Helm) -> None:
    given = {
        "MESSAGING_DEDUP_SECONDS": 1_000_000,
        "MESSAGING_SMTP_HOST": "mail.example.com",
        "MESSAGING_DEMO": False,
    }
    found = environment(queue(helm, "message-delivery", env=given))
    assert found == {
        "MESSAGING_DATA_DIR": "/data",
        "MESSAGING_DEDUP_SECONDS": "1000000",
        "MESSAGING_SMTP_HOST": "mail.example.com",
        "MESSAGING_DEMO": "false",
    }
    settings = from_environment({k: v for k, v in found.items() if v is not None})
    assert settings.dedup_seconds == 1_000_000


def test_one_queue_overrules_all_queues_which_overrule_the_file(helm: Helm) -> None:
    values = {
        "defaults": {"autoscaling": {"maxReplicas": 7}, "retry": {"maxAttempts": 9}},
        "queues": {"message-delivery": {"autoscaling": {"maxReplicas": 20}}},
    }
    delivery = queue(helm, "message-delivery", **values)
    assert delivery.spec.autoscaling.max_replicas == 20
    assert delivery.spec.retry.max_attempts == 9
    assert delivery.spec.retry.backoff.max_seconds == 32, "the rest of a section stays"
    assert queue(helm, "message-cleanup", **values).spec.autoscaling.max_replicas == 7


def test_named_things_are_laid_over_by_name(helm: Helm) -> None:
    worker = {
        "env": [
            {"name": "MESSAGING_DATA_DIR", "value": "/elsewhere"},
            {"name": "MORE", "value": "1"},
        ],
        "podTemplate": {
            "spec": {
                "containers": [
                    {"name": "worker", "volumeMounts": [{"name": "ca", "mountPath": "/ca"}]},
                    {"name": "proxy", "image": "proxy:1"},
                ],
                "volumes": [{"name": "ca", "secret": {"secretName": "ca"}}],
            }
        },
    }
    schedules = [{"name": "forget-effects", "cron": "5 5 * * *"}]
    values = {
        "env": {"MESSAGING_LOG_LEVEL": "DEBUG"},
        "queues": {"message-cleanup": {"worker": worker, "schedules": schedules}},
    }
    it = queue(helm, "message-cleanup", **values)
    assert environment(it) == {
        "MESSAGING_DATA_DIR": "/elsewhere",
        "MESSAGING_LOG_LEVEL": "DEBUG",
        "MORE": "1",
    }
    pod = it.spec.worker.pod_template.spec
    assert [one["name"] for one in pod["containers"]] == ["worker", "proxy"]
    assert [one["name"] for one in pod["containers"][0]["volumeMounts"]] == ["data", "ca"]
    assert [one["name"] for one in pod["volumes"]] == ["data", "ca"]
    assert [(one.name, one.cron) for one in it.spec.schedules] == [
        ("forget-effects", "5 5 * * *"),
        ("shred-old-messages", "41 3 * * 0"),
    ]
    assert it.spec.schedules[0].task == "messaging.cleanup"


def test_a_second_mount_of_a_volume_takes_the_first_from_nobody(helm: Helm) -> None:
    mount = {"name": "data", "mountPath": "/other", "subPath": "x"}
    over = {
        "spec": {
            "containers": [
                {"name": "worker", "volumeMounts": [mount, {**mount, "mountPath": "/more"}]}
            ]
        }
    }
    it = queue(helm, "message-delivery", defaults={"worker": {"podTemplate": over}})
    (one,) = it.spec.worker.pod_template.spec["containers"]
    assert [mount["mountPath"] for mount in one["volumeMounts"]] == ["/data", "/other", "/more"]


def test_what_has_no_name_is_replaced(helm: Helm) -> None:
    rule = {"error": "OSError", "action": "Retry"}
    it = queue(helm, "message-delivery", defaults={"retry": {"byError": [rule]}})
    assert [one.error for one in it.spec.retry.by_error] == ["OSError"]


def test_workers_pull_with_the_secrets_that_were_named(helm: Helm) -> None:
    it = queue(helm, "message-delivery", imagePullSecrets=[{"name": "registry"}])
    assert it.spec.worker.pod_template.spec["imagePullSecrets"] == [{"name": "registry"}]


def test_a_broker_of_its_own_is_for_queues_and_test_alike(helm: Helm) -> None:
    values = {"broker": {"secretName": "redis", "secretKey": "REDIS_URL"}}
    rendering = helm.render("messaging", values)
    reference = {"name": "redis", "key": "REDIS_URL"}
    send = find(rendering, "Pod")["spec"]["containers"][0]
    assert send["env"] == [
        {"name": "CELERIAC_BROKER_URL", "valueFrom": {"secretKeyRef": reference}}
    ]
    for it in queues(rendering).values():
        assert it.spec.broker is not None
        assert it.spec.broker.secret_ref.model_dump() == reference


def test_the_operators_broker_is_found_in_any_namespace(helm: Helm) -> None:
    rendering = helm.render("messaging")
    send = find(rendering, "Pod")["spec"]["containers"][0]
    references = [it["valueFrom"]["secretKeyRef"] for it in send["env"]]
    assert [it["name"] for it in references] == ["celeriac-broker", "message-indexing-broker"]
    assert all(it["optional"] for it in references), "one of the two is there"
    assert find(rendering, "Pod")["metadata"]["namespace"] == NAMESPACE


def test_notes_name_what_is_missing(helm: Helm) -> None:
    def notes(*flags: str) -> str:
        text = helm.run("install", "mine", CHARTS / "messaging", "--dry-run=client", *flags)
        return text.partition("NOTES:")[2]

    assert "persistence.existingClaim" in notes()
    assert "No Secret with MESSAGING_... settings" in notes()
    assert "No Secret" not in notes("--set=secretName=settings")
    assert "existingClaim" not in notes("--set=persistence.existingClaim=messages")
    assert "helm -n default test mine" in notes()
