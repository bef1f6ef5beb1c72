"""What the operator says, and does not do, when something is in the way."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from celeriac.broker.connection import parse
from celeriac.broker.queue import Queue
from celeriac_operator import kinds
from celeriac_operator.api import ApiError, Kind
from tests.api.conftest import Broker, StartOperator
from tests.api.fake_kubelet import FakeKubelet
from tests.api.kube import Kube
from tests.api.operator_process import NAMESPACE, OperatorProcess, until

pytestmark = pytest.mark.usefixtures("kubelet")

CRDS = Kind("CustomResourceDefinition", "customresourcedefinitions", "apiextensions.k8s.io", "v1")


def is_ready(kube: Kube, name: str, reason: str = "Idle") -> bool:
    return kube.condition(name, "Ready") == ("True", reason)


def replicas(kube: Kube, name: str) -> int:
    return int(kube.get(kinds.DEPLOYMENTS, name)["spec"]["replicas"])


def message(kube: Kube, name: str, type_: str) -> str:
    return str(kube.condition_of(name, type_)["message"])


def events(kube: Kube, name: str) -> list[tuple[str, str]]:
    found = [it for it in kube.list(kinds.EVENTS) if it["regarding"].get("name") == name]
    mine = [it for it in found if it["regarding"]["kind"] == "MessageQueue"]
    return [(it["type"], it["reason"]) for it in sorted(mine, key=lambda it: it["eventTime"])]


# --- who owns a queue ---------------------------------------------------------------------------


@pytest.mark.usefixtures("operator")
def test_the_older_of_two_resources_keeps_the_queue(kube: Kube) -> None:
    kube.declare("first", queue="shared" + kube.namespace)
    until(lambda: is_ready(kube, "first"))
    time.sleep(1.1)  # creation times are whole seconds
    kube.declare("second", queue="shared" + kube.namespace)

    until(lambda: kube.condition("second", "Stalled") == ("True", "QueueTaken"))
    assert "first" in message(kube, "second", "Stalled")
    assert kube.find(kinds.DEPLOYMENTS, "second") is None
    assert is_ready(kube, "first")

    kube.delete(kinds.QUEUES, "first")
    until(lambda: is_ready(kube, "second"), seconds=10)
    assert kube.get(kinds.DEPLOYMENTS, "second")


@pytest.mark.usefixtures("operator")
def test_one_name_on_two_brokers_is_two_queues(
    kube: Kube, broker: Broker, own_broker: Broker
) -> None:
    kube.secret("other", address=own_broker.url)
    kube.declare("first", queue="shared")
    time.sleep(1.1)
    kube.declare(
        "second", queue="shared", broker={"secretRef": {"name": "other", "key": "address"}}
    )

    until(lambda: is_ready(kube, "first") and is_ready(kube, "second"))
    own_broker.publish("shared", 1)
    until(lambda: replicas(kube, "second") == 1)
    assert replicas(kube, "first") == 0


@pytest.mark.usefixtures("operator")
@pytest.mark.parametrize(
    ("kind", "suffix", "body"),
    [
        (
            kinds.DEPLOYMENTS,
            "",
            {
                "spec": {
                    "replicas": 0,
                    "selector": {"matchLabels": {"app": "shop"}},
                    "template": {
                        "metadata": {"labels": {"app": "shop"}},
                        "spec": {"containers": [{"name": "shop", "image": "shop:1"}]},
                    },
                }
            },
        ),
        (kinds.CONFIG_MAPS, "-worker", {"data": {"mine": "1"}}),
    ],
)
def test_what_belongs_to_somebody_else_is_not_taken_over(
    kube: Kube, kind: Kind, suffix: str, body: dict[str, Any]
) -> None:
    made = kube.create(kind, {"metadata": {"name": "shop" + suffix}, **body})
    kube.declare("shop")

    until(lambda: kube.condition("shop", "Stalled") == ("True", "ObjectTaken"))
    assert f"a {kind.name} named shop{suffix}" in message(kube, "shop", "Stalled")
    found = kube.get(kind, "shop" + suffix)
    assert found["metadata"]["uid"] == made["metadata"]["uid"]
    assert "ownerReferences" not in found["metadata"]

    kube.delete(kind, "shop" + suffix)
    until(lambda: is_ready(kube, "shop"), seconds=15)
    assert kube.condition("shop", "Stalled") == ("False", "AsDeclared")


@pytest.mark.usefixtures("operator")
def test_an_annotation_keeps_the_operators_hands_off(kube: Kube) -> None:
    kube.declare("orders")
    until(lambda: is_ready(kube, "orders"))
    kube.patch(
        kinds.QUEUES, "orders", {"metadata": {"annotations": {"celeriac.dev/paused": "true"}}}
    )
    until(lambda: kube.condition("orders", "Paused") == ("True", "HandsOff"))
    assert kube.condition("orders", "Reconciling") == ("False", "HandsOff")

    kube.delete(kinds.BUDGETS, "orders")
    kube.patch(kinds.DEPLOYMENTS, "orders", {"spec": {"replicas": 2}})
    time.sleep(3)
    assert kube.find(kinds.BUDGETS, "orders") is None
    assert replicas(kube, "orders") == 2

    kube.patch(kinds.QUEUES, "orders", {"metadata": {"annotations": {"celeriac.dev/paused": None}}})
    until(lambda: kube.get(kinds.BUDGETS, "orders"))
    until(lambda: kube.condition("orders", "Paused") == ("False", "NotPaused"))


@pytest.mark.usefixtures("operator")
def test_a_resource_of_another_schema_is_told_and_left_in_peace(kube: Kube) -> None:
    kube.declare("orders")
    until(lambda: is_ready(kube, "orders"))
    name = "messagequeues.celeriac.dev"
    crd = kube.request("GET", CRDS.path(None, name))
    changed = json.loads(json.dumps(crd))
    spec = changed["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    spec["properties"]["worker"]["properties"]["concurrency"]["maximum"] = 100_000
    kube.request("PUT", CRDS.path(None, name), changed)
    try:

        def accepted() -> bool:
            try:
                kube.patch(kinds.QUEUES, "orders", {"spec": {"worker": {"concurrency": 5000}}})
            except ApiError:
                return False
            return True

        until(accepted)
        until(lambda: kube.condition("orders", "Stalled") == ("True", "InvalidSpec"))
        assert "spec.worker.concurrency: must be at most 1000" in message(kube, "orders", "Stalled")
        assert kube.get(kinds.DEPLOYMENTS, "orders"), "the last good declaration stays in force"
    finally:
        latest = kube.request("GET", CRDS.path(None, name))
        kube.request("PUT", CRDS.path(None, name), {**latest, "spec": crd["spec"]})


# --- the broker's Secret ------------------------------------------------------------------------


def test_a_missing_secret_is_named_and_found_once_it_is_there(
    kube: Kube, broker: Broker, start_operator: StartOperator
) -> None:
    running = start_operator(broker_secret="nowhere")
    kube.declare("orders")
    until(lambda: kube.condition("orders", "BrokerReachable") == ("False", "BrokerNotConfigured"))
    text = message(kube, "orders", "BrokerReachable")
    assert "nowhere" in text and kube.namespace in text and "key url" in text
    assert kube.condition("orders", "Stalled") == ("True", "BrokerNotConfigured")
    assert kube.find(kinds.DEPLOYMENTS, "orders") is None

    kube.patch(kinds.QUEUES, "orders", {"spec": {"broker": {"secretRef": {"name": "mine"}}}})
    until(lambda: "the Secret mine does not exist" in message(kube, "orders", "Stalled"))
    kube.secret("mine", wrong="x")
    until(lambda: "has no key url" in message(kube, "orders", "Stalled"), seconds=10)
    kube.secret("mine", url="ftp://x")
    until(lambda: "is no broker URL" in message(kube, "orders", "Stalled"), seconds=10)
    kube.secret("mine", url=broker.url)
    until(lambda: is_ready(kube, "orders"), seconds=10)
    assert broker.url not in running.log
    assert str(parse(broker.url).password) not in running.log


def test_the_platforms_secret_is_copied_to_the_workers(
    kube: Kube, broker: Broker, start_operator: StartOperator
) -> None:
    own = Kube(kube.cluster, NAMESPACE)
    own.secret("shared-broker", url=broker.url)
    start_operator(broker_secret="shared-broker")
    kube.declare("orders")
    until(lambda: is_ready(kube, "orders"))

    copy = kube.get(kinds.SECRETS, "orders-broker")
    assert copy["metadata"]["ownerReferences"][0]["name"] == "orders"
    (container,) = kube.get(kinds.DEPLOYMENTS, "orders")["spec"]["template"]["spec"]["containers"]
    env = {it["name"]: it for it in container["env"]}
    reference = env["CELERIAC_BROKER_URL"]["valueFrom"]["secretKeyRef"]
    assert reference == {"name": "orders-broker", "key": "url"}


def test_a_rotated_password_needs_no_restart(
    kube: Kube, own_broker: Broker, operator: OperatorProcess
) -> None:
    kube.secret("mine", url=own_broker.url)
    kube.declare("orders", broker={"secretRef": {"name": "mine"}})
    until(lambda: is_ready(kube, "orders"))
    template = kube.get(kinds.DEPLOYMENTS, "orders")["spec"]["template"]["metadata"]
    old = parse(own_broker.url)
    assert old.password is not None
    with own_broker.client() as client:
        client.config_set("requirepass", "another")
        for it in client.client_list():
            if it["name"] == "celeriac" and int(it["id"]) != client.client_id():
                client.client_kill_filter(_id=it["id"])
    until(lambda: kube.condition("orders", "BrokerReachable")[0] == "False", seconds=10)

    kube.secret("mine", url=own_broker.url.replace(old.password, "another"))
    until(lambda: kube.condition("orders", "BrokerReachable")[0] == "True", seconds=20)
    changed = until(lambda: kube.get(kinds.DEPLOYMENTS, "orders"))["spec"]["template"]["metadata"]
    assert (
        changed["annotations"]["celeriac.dev/broker"]
        != template["annotations"]["celeriac.dev/broker"]
    )
    assert changed["labels"]["celeriac.dev/template"] != template["labels"]["celeriac.dev/template"]


def test_a_broker_that_is_away_changes_no_number(
    kube: Kube, own_broker: Broker, operator: OperatorProcess
) -> None:
    kube.secret("mine", url=own_broker.url)
    kube.declare(
        "orders",
        broker={"secretRef": {"name": "mine"}},
        autoscaling={"scaleDownDelaySeconds": 1, "maxReplicas": 5},
    )
    until(lambda: is_ready(kube, "orders"))
    own_broker.publish(kube.on_broker("orders"), 3)
    until(lambda: is_ready(kube, "orders", "Running") and replicas(kube, "orders") == 3)

    own_broker.stop()
    until(lambda: kube.condition("orders", "BrokerReachable") == ("False", "BrokerUnreachable"))
    assert kube.condition("orders", "ScalingActive") == ("False", "BrokerUnreachable")
    time.sleep(4)
    assert replicas(kube, "orders") == 3
    assert operator.metric("mq_broker_up", broker=parse(own_broker.url).redacted()) == 0

    own_broker.start()
    until(lambda: kube.condition("orders", "BrokerReachable")[0] == "True", seconds=10)
    with own_broker.client() as client:
        Queue(client, kube.on_broker("orders")).purge()
    until(lambda: replicas(kube, "orders") == 0, seconds=10)
    until(lambda: ("Normal", "BrokerAnswers") in events(kube, "orders"))
    assert events(kube, "orders").count(("Normal", "BrokerAnswers")) == 1
    assert ("Warning", "BrokerUnreachable") in events(kube, "orders")


# --- workers that do not run --------------------------------------------------------------------


@pytest.mark.usefixtures("operator")
@pytest.mark.parametrize("reason", ["ImagePullBackOff", "CreateContainerConfigError"])
def test_workers_that_cannot_start_are_told_with_the_reason(
    kube: Kube, kubelet: FakeKubelet, reason: str
) -> None:
    kubelet.waiting["orders"] = reason
    try:
        kube.declare("orders", autoscaling={"minReplicas": 1})
        until(lambda: kube.condition("orders", "Stalled") == ("True", "WorkersFailing"))
        assert kube.condition("orders", "Ready") == ("False", "WorkersFailing")
        assert f"{reason}: made so by a test" in message(kube, "orders", "Stalled")
        until(lambda: ("Warning", "WorkersFailing") in events(kube, "orders"))
    finally:
        del kubelet.waiting["orders"]
    until(lambda: is_ready(kube, "orders", "Running"))
    assert kube.condition("orders", "Stalled") == ("False", "AsDeclared")


@pytest.mark.usefixtures("operator")
def test_a_refused_pod_template_is_told_in_the_api_servers_words(kube: Kube) -> None:
    kube.declare("orders", worker={"podTemplate": {"spec": {"restartPolicy": "Sometimes"}}})

    until(lambda: kube.condition("orders", "Stalled") == ("True", "Refused"))
    assert 'Unsupported value: "Sometimes"' in message(kube, "orders", "Stalled")
    kube.patch(
        kinds.QUEUES,
        "orders",
        {"spec": {"worker": {"podTemplate": {"spec": {"restartPolicy": "Always"}}}}},
    )
    until(lambda: is_ready(kube, "orders"))


# --- who scales ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("operator")
def test_without_keda_its_mode_is_stalled_and_native_works(kube: Kube, broker: Broker) -> None:
    kube.declare("orders", autoscaling={"mode": "KEDA"})
    until(lambda: kube.condition("orders", "Stalled") == ("True", "KEDAMissing"))

    kube.patch(kinds.QUEUES, "orders", {"spec": {"autoscaling": {"mode": "Native"}}})
    until(lambda: is_ready(kube, "orders"))
    broker.publish(kube.on_broker("orders"), 2)
    until(lambda: replicas(kube, "orders") == 2)


@pytest.mark.usefixtures("operator")
def test_hpa_gets_something_to_scale_and_is_left_alone(kube: Kube, broker: Broker) -> None:
    kube.declare("orders", autoscaling={"mode": "HPA", "minReplicas": 2, "maxReplicas": 9})
    until(lambda: is_ready(kube, "orders", "Running"))
    assert replicas(kube, "orders") == 2
    assert kube.condition("orders", "ScalingActive") == ("False", "External")
    kube.patch(kinds.DEPLOYMENTS, "orders", {"spec": {"replicas": 4}})
    broker.publish(kube.on_broker("orders"), 30)
    time.sleep(4)
    assert replicas(kube, "orders") == 4
    assert kube.queue("orders")["status"]["desiredReplicas"] == 4


@pytest.mark.usefixtures("operator")
def test_off_is_the_number_that_scale_asks_for(kube: Kube, broker: Broker) -> None:
    kube.declare("orders", autoscaling={"mode": "Off"})
    until(lambda: is_ready(kube, "orders"))
    broker.publish(kube.on_broker("orders"), 30)
    kube.cluster.kubectl("scale", "mq", "orders", "-n", kube.namespace, "--replicas=3")
    until(lambda: replicas(kube, "orders") == 3)
    assert kube.condition("orders", "ScalingActive") == ("False", "Fixed")
    kube.patch(kinds.QUEUES, "orders", {"spec": {"autoscaling": {"mode": "HPA"}}})
    until(lambda: kube.condition("orders", "ScalingActive") == ("False", "External"))
    assert replicas(kube, "orders") == 3, "handed over as it is"


# --- the end ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("operator")
def test_retained_messages_stay_and_nothing_is_left_on_the_resource(
    kube: Kube, broker: Broker
) -> None:
    kube.declare("orders")
    until(lambda: is_ready(kube, "orders"))
    broker.publish(kube.on_broker("orders"), 3)
    kube.delete(kinds.QUEUES, "orders")
    until(lambda: kube.find(kinds.QUEUES, "orders") is None, seconds=2)
    until(lambda: kube.find(kinds.DEPLOYMENTS, "orders") is None)
    until(lambda: not kube.pods("orders"))
    assert broker.stats(kube.on_broker("orders")).ready == 3


@pytest.mark.usefixtures("operator")
def test_purge_empties_the_queue_before_the_resource_goes(kube: Kube, broker: Broker) -> None:
    kube.declare("orders", deletionPolicy="Purge")
    until(lambda: is_ready(kube, "orders"))
    assert kube.queue("orders")["metadata"]["finalizers"] == ["celeriac.dev/purge"]
    broker.publish(kube.on_broker("orders"), 3)
    until(lambda: is_ready(kube, "orders", "Running"))

    kube.delete(kinds.QUEUES, "orders")
    until(lambda: kube.find(kinds.QUEUES, "orders") is None)
    stats = broker.stats(kube.on_broker("orders"))
    assert (stats.ready, stats.purged, stats.imbalance) == (0, 3, 0)


@pytest.mark.usefixtures("operator")
def test_the_finalizer_goes_when_the_policy_changes(kube: Kube) -> None:
    kube.declare("orders", deletionPolicy="Purge")
    until(lambda: kube.queue("orders")["metadata"].get("finalizers") == ["celeriac.dev/purge"])
    kube.patch(kinds.QUEUES, "orders", {"spec": {"deletionPolicy": "Retain"}})
    until(lambda: "finalizers" not in kube.queue("orders")["metadata"])


@pytest.mark.usefixtures("operator")
@pytest.mark.parametrize("secret_too", [False, True])
def test_a_broker_that_is_gone_holds_up_no_deletion(
    kube: Kube, own_broker: Broker, secret_too: bool
) -> None:
    kube.secret("mine", url=own_broker.url)
    kube.declare("orders", deletionPolicy="Purge", broker={"secretRef": {"name": "mine"}})
    until(lambda: is_ready(kube, "orders"))
    own_broker.stop()
    if secret_too:
        kube.delete(kinds.SECRETS, "mine")
    kube.delete(kinds.QUEUES, "orders")

    until(lambda: kube.find(kinds.QUEUES, "orders") is None, seconds=30)
    until(lambda: ("Warning", "NotPurged") in events(kube, "orders"))


@pytest.mark.usefixtures("operator")
def test_who_never_had_the_queue_purges_nothing(kube: Kube, broker: Broker) -> None:
    shared = f"shared-{kube.namespace}"
    kube.declare("first", queue=shared)
    until(lambda: is_ready(kube, "first"))
    broker.publish(shared, 3)
    time.sleep(1.1)
    kube.declare("second", queue=shared, deletionPolicy="Purge")
    until(lambda: kube.condition("second", "Stalled") == ("True", "QueueTaken"))
    kube.delete(kinds.QUEUES, "second")

    until(lambda: kube.find(kinds.QUEUES, "second") is None, seconds=10)
    assert (broker.stats(shared).ready, broker.stats(shared).purged) == (3, 0)
    until(lambda: ("Warning", "NotPurged") in events(kube, "second"))


@pytest.mark.usefixtures("operator")
def test_hands_off_purges_nothing_and_holds_nothing_up(kube: Kube, broker: Broker) -> None:
    kube.declare("orders", deletionPolicy="Purge")
    until(lambda: is_ready(kube, "orders"))
    kube.patch(
        kinds.QUEUES, "orders", {"metadata": {"annotations": {"celeriac.dev/paused": "true"}}}
    )
    until(lambda: kube.condition("orders", "Paused") == ("True", "HandsOff"))
    broker.publish(kube.on_broker("orders"), 2)
    kube.delete(kinds.QUEUES, "orders")

    until(lambda: kube.find(kinds.QUEUES, "orders") is None, seconds=10)
    assert broker.stats(kube.on_broker("orders")).ready == 2
