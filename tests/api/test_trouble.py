"""What the operator says, and does not do, when something is in the way."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from celeriac.broker.connection import parse
from celeriac.broker.queue import Queue
from celeriac_operator import kinds
from celeriac_operator.api import ApiError
from tests.api.conftest import Broker, StartOperator
from tests.api.fake_kubelet import FakeKubelet
from tests.api.kube import CRDS, Kube
from tests.api.operator_process import NAMESPACE, OperatorProcess, until

pytestmark = pytest.mark.usefixtures("kubelet")


def exported(operator: OperatorProcess, resource: str, type_: str) -> str:
    """The status of a condition as the metrics tell it; empty when they do not, or not only one."""
    labels = {"resource": resource, "type": type_}
    found = [
        status
        for status in ("True", "False", "Unknown")
        if operator.metric("mq_queue_condition", status=status, **labels) == 1
    ]
    return found[0] if len(found) == 1 else ""


# --- who owns a queue ---------------------------------------------------------------------------


def test_the_older_of_two_resources_keeps_the_queue(kube: Kube, operator: OperatorProcess) -> None:
    kube.declare("first", queue="shared" + kube.namespace)
    until(lambda: kube.is_ready("first"))
    time.sleep(1.1)  # creation times are whole seconds
    kube.declare("second", queue="shared" + kube.namespace)

    until(lambda: kube.condition("second", "Stalled") == ("True", "QueueTaken"))
    assert "first" in kube.message("second", "Stalled")
    assert kube.find(kinds.DEPLOYMENTS, "second") is None
    assert kube.is_ready("first")
    assert exported(operator, "second", "Stalled") == "True"
    assert exported(operator, "first", "Stalled") == "False"

    kube.delete(kinds.QUEUES, "first")
    until(lambda: kube.is_ready("second"), seconds=10)
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

    until(lambda: kube.is_ready("first") and kube.is_ready("second"))
    own_broker.publish("shared", 1)
    until(lambda: kube.replicas("second") == 1)
    assert kube.replicas("first") == 0


@pytest.mark.usefixtures("operator")
def test_what_belongs_to_somebody_else_is_not_taken_over(kube: Kube) -> None:
    taken = {"shop": (kinds.DEPLOYMENTS, "shop"), "mail": (kinds.CONFIG_MAPS, "mail-worker")}
    bodies: dict[str, Any] = {"shop": SOMEBODYS_DEPLOYMENT, "mail": {"data": {"mine": "1"}}}
    made = {}
    for queue, (kind, name) in taken.items():
        made[queue] = kube.create(kind, {"metadata": {"name": name}, **bodies[queue]})
        kube.declare(queue)

    def stalled(queue: str) -> bool:
        return kube.condition(queue, "Stalled") == ("True", "ObjectTaken")

    for queue, (kind, name) in taken.items():
        until(lambda queue=queue: stalled(queue))  # type: ignore[misc]
        assert f"a {kind.name} named {name}" in kube.message(queue, "Stalled")
        found = kube.get(kind, name)
        assert found["metadata"]["uid"] == made[queue]["metadata"]["uid"]
        assert "ownerReferences" not in found["metadata"]
        kube.delete(kind, name)
    for queue in taken:
        until(lambda queue=queue: kube.is_ready(queue), seconds=15)  # type: ignore[misc]
        assert kube.condition(queue, "Stalled") == ("False", "AsDeclared")


SOMEBODYS_DEPLOYMENT = {
    "spec": {
        "replicas": 0,
        "selector": {"matchLabels": {"app": "shop"}},
        "template": {
            "metadata": {"labels": {"app": "shop"}},
            "spec": {"containers": [{"name": "shop", "image": "shop:1"}]},
        },
    }
}


@pytest.mark.usefixtures("operator")
def test_an_annotation_keeps_the_operators_hands_off(kube: Kube) -> None:
    kube.declare("orders")
    until(lambda: kube.is_ready("orders"))
    kube.patch(
        kinds.QUEUES, "orders", {"metadata": {"annotations": {"celeriac.dev/paused": "true"}}}
    )
    until(lambda: kube.condition("orders", "Paused") == ("True", "HandsOff"))
    assert kube.condition("orders", "Reconciling") == ("False", "HandsOff")

    kube.delete(kinds.BUDGETS, "orders")
    kube.patch(kinds.DEPLOYMENTS, "orders", {"spec": {"replicas": 2}})
    time.sleep(3)
    assert kube.find(kinds.BUDGETS, "orders") is None
    assert kube.replicas("orders") == 2

    kube.patch(kinds.QUEUES, "orders", {"metadata": {"annotations": {"celeriac.dev/paused": None}}})
    until(lambda: kube.get(kinds.BUDGETS, "orders"))
    until(lambda: kube.condition("orders", "Paused") == ("False", "NotPaused"))


def test_a_resource_of_another_schema_is_told_and_left_in_peace(
    kube: Kube, operator: OperatorProcess
) -> None:
    kube.declare("orders")
    until(lambda: kube.is_ready("orders"))
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
        assert "spec.worker.concurrency: must be at most 1000" in kube.message("orders", "Stalled")
        assert kube.get(kinds.DEPLOYMENTS, "orders"), "the last good declaration stays in force"
        # An operator that never knew a good one.
        operator.start()
        until(lambda: exported(operator, "orders", "Stalled") == "True")
        assert kube.condition("orders", "Stalled") == ("True", "InvalidSpec")
        assert kube.get(kinds.DEPLOYMENTS, "orders"), "what runs goes on running"
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
    text = kube.message("orders", "BrokerReachable")
    assert "nowhere" in text and kube.namespace in text and "key url" in text
    assert kube.condition("orders", "Stalled") == ("True", "BrokerNotConfigured")
    assert kube.find(kinds.DEPLOYMENTS, "orders") is None

    kube.patch(kinds.QUEUES, "orders", {"spec": {"broker": {"secretRef": {"name": "mine"}}}})
    until(lambda: "the Secret mine does not exist" in kube.message("orders", "Stalled"))
    kube.secret("mine", wrong="x")
    until(lambda: "has no key url" in kube.message("orders", "Stalled"), seconds=10)
    kube.secret("mine", url="ftp://x")
    until(lambda: "is no broker URL" in kube.message("orders", "Stalled"), seconds=10)
    kube.secret("mine", url=broker.url)
    until(lambda: kube.is_ready("orders"), seconds=10)
    assert broker.url not in running.log
    assert str(parse(broker.url).password) not in running.log


def test_the_platforms_secret_is_copied_to_the_workers(
    kube: Kube, broker: Broker, start_operator: StartOperator
) -> None:
    own = Kube(kube.cluster, NAMESPACE)
    own.secret("shared-broker", url=broker.url)
    start_operator(broker_secret="shared-broker")
    kube.declare("orders")
    until(lambda: kube.is_ready("orders"))

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
    until(lambda: kube.is_ready("orders"))
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
    until(lambda: kube.is_ready("orders"))
    own_broker.publish(kube.on_broker("orders"), 3)
    until(lambda: kube.is_ready("orders", "Running") and kube.replicas("orders") == 3)

    own_broker.stop()
    until(lambda: kube.condition("orders", "BrokerReachable") == ("False", "BrokerUnreachable"))
    assert kube.condition("orders", "ScalingActive") == ("False", "BrokerUnreachable")
    time.sleep(4)
    assert kube.replicas("orders") == 3
    assert operator.metric("mq_broker_up", broker=parse(own_broker.url).redacted()) == 0

    own_broker.start()
    until(lambda: kube.condition("orders", "BrokerReachable")[0] == "True", seconds=10)
    with own_broker.client() as client:
        Queue(client, kube.on_broker("orders")).purge()
    until(lambda: kube.replicas("orders") == 0, seconds=10)
    until(lambda: ("Normal", "BrokerAnswers") in kube.events("orders"))
    assert kube.events("orders").count(("Normal", "BrokerAnswers")) == 1
    assert ("Warning", "BrokerUnreachable") in kube.events("orders")


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
        assert f"{reason}: made so by a test" in kube.message("orders", "Stalled")
        until(lambda: ("Warning", "WorkersFailing") in kube.events("orders"))
    finally:
        del kubelet.waiting["orders"]
    until(lambda: kube.is_ready("orders", "Running"))
    assert kube.condition("orders", "Stalled") == ("False", "AsDeclared")


@pytest.mark.usefixtures("operator")
def test_a_refused_pod_template_is_told_in_the_api_servers_words(kube: Kube) -> None:
    kube.declare("orders", worker={"podTemplate": {"spec": {"restartPolicy": "Sometimes"}}})

    until(lambda: kube.condition("orders", "Stalled") == ("True", "Refused"))
    assert 'Unsupported value: "Sometimes"' in kube.message("orders", "Stalled")
    kube.patch(
        kinds.QUEUES,
        "orders",
        {"spec": {"worker": {"podTemplate": {"spec": {"restartPolicy": "Always"}}}}},
    )
    until(lambda: kube.is_ready("orders"))
