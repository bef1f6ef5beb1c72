"""What a queue owns in the cluster, field by field."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.core import ParameterSource

from celeriac.broker.url import parse
from celeriac.cli.worker import worker
from celeriac_operator.apply import rendered
from celeriac_operator.resources import names
from celeriac_operator.resources.broker_secret import broker_secret
from celeriac_operator.resources.config_map import config_map, options
from celeriac_operator.resources.deployment import BrokerSecret, deployment, seed
from celeriac_operator.resources.disruption import disruption_budget
from celeriac_operator.resources.network import network_policy
from celeriac_operator.resources.scaled_object import scaled_object, trigger_authentication
from tests.unit.operator.conftest import declare

URL = "celeriac://shop:secret@redis.example:6380/2?prefix=shop"
REF = {"name": "mail-broker", "key": "url"}


def built(
    broker_digest: str = "b1", image: str = "shop:1", ca: bool = False, **spec: Any
) -> dict[str, Any]:
    broker = BrokerSecret(REF["name"], REF["key"], digest=broker_digest, ca=ca)
    return deployment(declare(**spec), image=image, broker=broker)


def pod(**spec: Any) -> dict[str, Any]:
    found: dict[str, Any] = built(**spec)["spec"]["template"]["spec"]
    return found


def container(**spec: Any) -> dict[str, Any]:
    found: dict[str, Any] = pod(**spec)["containers"][0]
    return found


def template(**given: Any) -> str:
    return str(built(**given)["spec"]["template"]["metadata"]["labels"][names.TEMPLATE])


def test_replicas_are_nobodys_but_the_scalers() -> None:
    assert "replicas" not in built()["spec"]
    assert seed(declare(), image="x")["spec"]["replicas"] == 0
    assert seed(declare(), image="x", replicas=3)["spec"]["replicas"] == 3


def test_everything_goes_with_its_queue_and_is_found_by_its_label() -> None:
    queue = declare()
    for body in (
        built(),
        seed(queue, image="x"),
        config_map(queue),
        disruption_budget(queue),
        network_policy(queue),
        scaled_object(queue, url=parse(URL)),
        broker_secret(queue, text=URL, url=parse(URL)),
    ):
        meta = body["metadata"]
        assert meta["namespace"] == "shop"
        assert meta["labels"]["celeriac.dev/queue"] == "mail"
        (owner,) = meta["ownerReferences"]
        assert (owner["uid"], owner["controller"], owner["blockOwnerDeletion"]) == (
            "uid-of-mail",
            True,
            False,
        )
    selector = built()["spec"]["selector"]["matchLabels"]
    assert selector.items() <= built()["spec"]["template"]["metadata"]["labels"].items()


def test_pods_are_restricted_and_write_to_tmp_alone() -> None:
    spec, one = pod(), container()
    assert spec["securityContext"] == {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert one["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert one["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False


def test_the_grace_outlasts_the_drain() -> None:
    assert pod(worker={"drainSeconds": 300})["terminationGracePeriodSeconds"] > 300


def test_a_worker_is_not_the_first_process_of_its_pod_unless_somebody_wants_that() -> None:
    assert pod()["shareProcessNamespace"] is True
    own = {"podTemplate": {"spec": {"shareProcessNamespace": False}}}
    assert pod(worker=own)["shareProcessNamespace"] is False


def test_the_broker_decides_readiness_and_never_life() -> None:
    one = container()
    assert (
        one["livenessProbe"]["httpGet"]["path"]
        == one["startupProbe"]["httpGet"]["path"]
        == "/livez"
    )
    assert one["readinessProbe"]["httpGet"]["path"] == "/readyz"


def test_options_are_those_of_the_command_line() -> None:
    data = config_map(
        declare(
            queue="orders",
            worker={
                "pool": "Threads",
                "concurrency": 7,
                "softTimeoutSeconds": 50,
                "timeoutSeconds": 60,
                "drainSeconds": 70,
                "leaseSeconds": 20,
            },
        )
    )["data"]
    assert {name.removeprefix("CELERIAC_WORKER_"): it for name, it in data.items()} == {
        "APP": "shop.app:app",
        "QUEUE": "orders",
        "POOL": "threads",
        "CONCURRENCY": "7",
        "SOFT_TIMEOUT": "50",
        "TIMEOUT": "60",
        "DRAIN": "70",
        "LEASE": "20",
        "HTTP_HOST": "0.0.0.0",
        "HTTP_PORT": "8080",
    }


def test_the_command_reads_every_option(monkeypatch: pytest.MonkeyPatch) -> None:
    given = options(declare())
    for name, value in given.items():
        monkeypatch.setenv(name, value)

    with worker.make_context("worker", [], auto_envvar_prefix="CELERIAC_WORKER") as context:
        sources = [context.get_parameter_source(name) for name in context.params]

    assert sources.count(ParameterSource.ENVIRONMENT) == len(given)


def test_what_the_platform_sets_cannot_be_set_by_a_queue() -> None:
    env = container(
        worker={
            "env": [
                {"name": "CELERIAC_BROKER_URL", "value": "mine"},
                {"name": "GREETING", "value": "hello"},
            ],
            "envFrom": [{"secretRef": {"name": "smtp"}, "prefix": "SMTP_"}],
        }
    )
    by_name = {it["name"]: it for it in env["env"]}
    assert len(by_name) == len(env["env"]), "a name given twice is refused by the API server"
    assert by_name["CELERIAC_BROKER_URL"]["valueFrom"] == {"secretKeyRef": REF}
    assert by_name["GREETING"] == {"name": "GREETING", "value": "hello"}
    assert env["envFrom"] == [
        {"prefix": "SMTP_", "secretRef": {"name": "smtp"}},
        {"configMapRef": {"name": "mail-worker"}},
    ]


@pytest.mark.parametrize(
    ("change", "starts_new"),
    [
        ({"worker": {"concurrency": 9}}, True),
        ({"worker": {"drainSeconds": 99}}, True),
        ({"worker": {"env": [{"name": "A", "value": "1"}]}}, True),
        ({"worker": {"resources": {"limits": {"memory": "1Gi"}}}}, True),
        ({"image": "shop:2"}, True),
        ({"broker_digest": "b2"}, True),
        ({"retry": {"maxAttempts": 9}}, False),
        ({"deadLetter": {"maxDeliveries": 9}}, False),
        ({"paused": True}, False),
        ({"limits": {"maxMessages": 9}}, False),
        ({"priority": {"mode": "Weighted"}}, False),
        ({"autoscaling": {"maxReplicas": 9}}, False),
        ({"deletionPolicy": "Purge"}, False),
    ],
)
def test_only_what_a_process_reads_at_its_start_starts_new_ones(
    change: dict[str, Any], starts_new: bool
) -> None:
    assert (template(**change) != template()) is starts_new


def test_the_brokers_ca_is_mounted_where_workers_look_for_it() -> None:
    spec = built(ca=True)["spec"]["template"]["spec"]
    (one,) = spec["containers"]
    env = {it["name"]: it.get("value") for it in one["env"]}
    assert env["CELERIAC_BROKER_CA"] == "/etc/celeriac/broker/ca.crt"
    assert {it["mountPath"] for it in one["volumeMounts"]} == {"/tmp", "/etc/celeriac/broker"}
    assert spec["volumes"][1]["secret"] == {
        "secretName": "mail-broker",
        "items": [{"key": "ca.crt", "path": "ca.crt"}],
    }
    assert "CELERIAC_BROKER_CA" not in {it["name"] for it in container()["env"]}


def test_the_digest_is_that_of_the_object_without_it() -> None:
    one, two = rendered(built()), rendered(built(image="shop:2"))
    assert one["metadata"]["annotations"][names.MODE] == "Native"
    assert (
        one["metadata"]["annotations"][names.RENDERED]
        != two["metadata"]["annotations"][names.RENDERED]
    )
    assert names.RENDERED not in built()["metadata"]["annotations"]


def test_two_mounts_of_one_volume_both_arrive_beside_the_platforms() -> None:
    mounts = [
        {"name": "conf", "mountPath": "/etc/app/a.yaml", "subPath": "a.yaml"},
        {"name": "conf", "mountPath": "/etc/app/b.yaml", "subPath": "b.yaml"},
    ]
    over = {
        "volumes": [{"name": "conf", "configMap": {"name": "conf"}}],
        "containers": [{"name": "worker", "volumeMounts": mounts}],
    }
    one = container(worker={"podTemplate": {"spec": over}})
    assert one["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}, *mounts]


def test_a_pod_template_takes_no_option_from_a_worker() -> None:
    over = {"containers": [{"name": "worker", "envFrom": [{"secretRef": {"name": "smtp"}}]}]}
    one = container(worker={"podTemplate": {"spec": over}})
    assert one["envFrom"] == [
        {"configMapRef": {"name": "mail-worker"}},
        {"secretRef": {"name": "smtp"}},
    ]


def test_labels_and_annotations_of_ones_own_cannot_undo_the_platforms() -> None:
    meta = built(
        worker={
            "podTemplate": {
                "metadata": {
                    "labels": {"team": "mail", "celeriac.dev/queue": "x"},
                    "annotations": {"note": "1"},
                }
            }
        }
    )["spec"]["template"]["metadata"]
    assert (meta["labels"]["team"], meta["labels"]["celeriac.dev/queue"]) == ("mail", "mail")
    assert meta["annotations"]["note"] == "1"


# --- KEDA ---------------------------------------------------------------------------------------


def test_keda_counts_every_stream_by_the_slots_of_a_worker() -> None:
    queue = declare(worker={"pool": "Threads", "concurrency": 10}, autoscaling={"mode": "KEDA"})
    body = scaled_object(queue, url=parse(URL), authentication=True)
    triggers = body["spec"]["triggers"]
    assert [it["metadata"]["stream"] for it in triggers] == [
        f"shop:{{mail}}:{stream}" for stream in ("high", "normal", "low", "isolated")
    ]
    one = triggers[0]
    assert one["type"] == "redis-streams"
    assert one["metadata"]["streamLength"] == "10"
    assert one["metadata"]["address"] == "redis.example:6380"
    assert one["metadata"]["databaseIndex"] == "2"
    assert one["authenticationRef"] == {"name": "mail"}
    assert body["spec"]["advanced"]["scalingModifiers"] == {
        "formula": "high + normal + low + isolated",
        "target": "10",
        "metricType": "AverageValue",
    }
    assert [it["name"] for it in triggers] == ["high", "normal", "low", "isolated"]


def test_keda_holds_a_paused_queue() -> None:
    body = scaled_object(declare(paused=True), url=parse(URL))
    assert body["metadata"]["annotations"] == {"autoscaling.keda.sh/paused": "true"}


def test_keda_trusts_the_brokers_ca() -> None:
    url = parse("celeriacs://redis.example")
    body = trigger_authentication(declare(), url=url, ca="PEM")
    assert body is not None
    assert body["spec"]["secretTargetRef"] == [
        {"parameter": "ca", "name": "mail-broker", "key": "ca.crt"}
    ]
    trigger = scaled_object(declare(), url=url)["spec"]["triggers"][0]
    assert trigger["metadata"]["enableTLS"] == "true"
    assert "authenticationRef" not in trigger, "without one there is nothing to refer to"


def test_keda_gets_no_password_but_from_a_secret() -> None:
    queue, url = declare(autoscaling={"mode": "KEDA"}), parse(URL)
    assert "secret" not in json.dumps(scaled_object(queue, url=url)["spec"])
    body = trigger_authentication(queue, url=url)
    assert body is not None
    assert body["spec"]["secretTargetRef"] == [
        {"parameter": "password", "name": "mail-broker", "key": "password"},
        {"parameter": "username", "name": "mail-broker", "key": "username"},
    ]
    secret = broker_secret(queue, text=URL, url=url)["stringData"]
    assert (secret["username"], secret["password"]) == ("shop", "secret")
    assert parse(secret["url"]) == url
    assert trigger_authentication(queue, url=parse("celeriac://redis.example")) is None


def test_keda_and_sentinel() -> None:
    url = parse("celeriac+sentinel://s1:26379,s2:26379/0?master=main")
    trigger = scaled_object(declare(), url=url)["spec"]["triggers"][0]
    assert trigger["type"] == "redis-sentinel-streams"
    assert trigger["metadata"]["addresses"] == "s1:26379,s2:26379"
    assert trigger["metadata"]["sentinelMaster"] == "main"


def test_keda_and_a_cluster() -> None:
    url = parse("celeriac+cluster://n1:7001,n2:7002")
    trigger = scaled_object(declare(), url=url)["spec"]["triggers"][0]
    assert trigger["type"] == "redis-cluster-streams"
    assert trigger["metadata"]["addresses"] == "n1:7001,n2:7002"
    assert not {"address", "databaseIndex"} & trigger["metadata"].keys()
