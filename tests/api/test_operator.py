"""The operator on a real API server: objects appear, are kept as declared, and belong to whom they should."""

from __future__ import annotations

import time
from typing import Any

import pytest

from celeriac.broker.queue import Queue
from celeriac_operator import kinds
from tests.api.conftest import Broker
from tests.api.fake_kubelet import FakeKubelet
from tests.api.kube import Kube
from tests.api.operator_process import OperatorProcess, until

pytestmark = pytest.mark.usefixtures("kubelet", "operator")

SCALER, MANAGER = "celeriac-operator-scale", "celeriac-operator"


@pytest.fixture
def orders(kube: Kube) -> str:
    """A queue that is Ready."""
    kube.declare("orders")
    until(lambda: kube.is_ready("orders"))
    return "orders"


def test_a_queue_gets_its_objects_and_owns_them(kube: Kube, orders: str) -> None:
    uid = kube.queue(orders)["metadata"]["uid"]
    for kind, name in (
        (kinds.DEPLOYMENTS, orders),
        (kinds.BUDGETS, orders),
        (kinds.CONFIG_MAPS, f"{orders}-worker"),
    ):
        meta = kube.get(kind, name)["metadata"]
        assert [(it["uid"], it["controller"]) for it in meta["ownerReferences"]] == [(uid, True)]
        assert meta["labels"]["celeriac.dev/queue"] == orders
    assert kube.find(kinds.SECRETS, f"{orders}-broker") is None, "the Secret is here already"


def test_fields_belong_to_whom_they_should(kube: Kube, broker: Broker, orders: str) -> None:
    broker.publish(kube.on_broker(orders), 2)
    until(lambda: kube.replicas(orders) == 2)

    assert kube.owners_of(kinds.DEPLOYMENTS, orders, "spec.replicas") == {SCALER}
    assert MANAGER in kube.owners_of(kinds.DEPLOYMENTS, orders, "spec.template")
    assert kube.owners_of(kinds.QUEUES, orders, "status") == {MANAGER}
    assert not kube.owners_of(kinds.QUEUES, orders, "spec") & {SCALER, MANAGER}
    meta = kube.queue(orders)["metadata"]
    assert "finalizers" not in meta and "annotations" not in meta, "kopf leaves no trace"


def test_the_status_is_one_that_tools_understand(kube: Kube, orders: str) -> None:
    found = kube.queue(orders)
    status = found["status"]
    assert status["observedGeneration"] == found["metadata"]["generation"]
    assert status["selector"] == f"celeriac.dev/queue={orders}"
    assert {it["type"]: it["status"] for it in status["conditions"]} == {
        "Ready": "True",
        "Reconciling": "False",
        "Stalled": "False",
        "BrokerReachable": "True",
        "ScalingActive": "True",
        "Paused": "False",
        "DeadLettersPresent": "False",
    }
    kube.cluster.kubectl(
        *("wait", "mq", orders, "-n", kube.namespace, "--for=condition=Ready", "--timeout=1s")
    )


def test_get_shows_what_people_ask_first(kube: Kube, broker: Broker, orders: str) -> None:
    broker.publish(kube.on_broker(orders), 1, priority="low")
    until(lambda: kube.is_ready(orders, "Running"))

    def table(*options: str) -> tuple[list[str], list[str]]:
        shown = kube.cluster.kubectl("get", "mq", "-n", kube.namespace, *options)
        head, row = shown.splitlines()
        return head.split(), row.split()

    until(lambda: table()[1][:5] == [orders, "True", "1", "1", "0"])
    assert table()[0] == ["NAME", "READY", "REPLICAS", "DEPTH", "DEAD", "AGE"]
    head, row = table("-o", "wide")
    assert (head[-1], row[-1]) == ("REASON", "Running")


@pytest.mark.parametrize(
    ("kind", "suffix", "change", "path"),
    [
        (kinds.CONFIG_MAPS, "-worker", {"data": {"CELERIAC_WORKER_LEASE": "99"}}, "data"),
        (kinds.BUDGETS, "", {"spec": {"maxUnavailable": 7}}, "spec"),
        (
            kinds.DEPLOYMENTS,
            "",
            {"spec": {"template": {"spec": {"enableServiceLinks": True}}}},
            "spec",
        ),
        (
            kinds.DEPLOYMENTS,
            "",
            {"metadata": {"labels": {"celeriac.dev/queue": "x"}}},
            "metadata.labels",
        ),
    ],
)
def test_what_was_changed_by_hand_is_put_right(
    kube: Kube, orders: str, kind: Any, suffix: str, change: Any, path: str
) -> None:
    name = orders + suffix

    def part() -> Any:
        found = kube.get(kind, name)
        for key in path.split("."):
            found = found[key]
        return found

    before = part()
    kube.patch(kind, name, change)
    until(lambda: part() == before, seconds=10)


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [(kinds.DEPLOYMENTS, ""), (kinds.CONFIG_MAPS, "-worker"), (kinds.BUDGETS, "")],
)
def test_what_was_deleted_by_hand_comes_back(
    kube: Kube, orders: str, kind: Any, suffix: str
) -> None:
    before = kube.get(kind, orders + suffix)["metadata"]["uid"]
    kube.delete(kind, orders + suffix)

    until(lambda: kube.get(kind, orders + suffix)["metadata"]["uid"] != before, seconds=10)
    until(lambda: kube.is_ready(orders))


def test_replicas_that_were_set_by_hand_are_set_back(kube: Kube, orders: str) -> None:
    changed = kube.patch(kinds.DEPLOYMENTS, orders, {"spec": {"replicas": 4}})
    assert changed["spec"]["replicas"] == 4
    # The scaling law gives what it finds the benefit of the doubt at the first glance only.
    until(lambda: kube.replicas(orders) == 0, seconds=10)


def test_a_change_of_policy_reaches_the_broker_and_no_process(
    kube: Kube, broker: Broker, orders: str
) -> None:
    before = kube.get(kinds.DEPLOYMENTS, orders)
    changed = kube.patch(kinds.QUEUES, orders, {"spec": {"retry": {"maxAttempts": 9}}})
    began = time.monotonic()

    def attempts() -> int:
        with broker.client() as client:
            return Queue(client, kube.on_broker(orders)).record()[1].retry.max_attempts

    until(lambda: attempts() == 9, seconds=2)
    took = time.monotonic() - began
    until(
        lambda: (
            kube.queue(orders)["status"]["observedGeneration"] == changed["metadata"]["generation"]
        )
    )
    after = kube.get(kinds.DEPLOYMENTS, orders)
    assert took < 2
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
    assert after["spec"] == before["spec"]


def test_another_image_rolls_the_workers_one_for_one(
    kube: Kube, kubelet: FakeKubelet, orders: str
) -> None:
    kube.patch(kinds.QUEUES, orders, {"spec": {"autoscaling": {"minReplicas": 2}}})
    until(
        lambda: (
            kube.is_ready(orders, "Running") and kube.queue(orders)["status"]["readyReplicas"] == 2
        )
    )
    old = set(kube.pods(orders))

    kube.patch(kinds.QUEUES, orders, {"spec": {"worker": {"image": "fake:2"}}})
    seen = []

    def rolled() -> bool:
        pods = kube.pods(orders)
        living = [it for it in pods.values() if "deletionTimestamp" not in it["metadata"]]
        seen.append(sum(_is_ready(it) for it in living))
        return len(pods) == 2 and not set(pods) & old

    until(rolled)
    assert min(seen) >= 2, "never fewer than before"
    until(lambda: kube.condition(orders, "Reconciling") == ("False", "AsDeclared"))
    images = {it["spec"]["containers"][0]["image"] for it in kube.pods(orders).values()}
    assert images == {"fake:2"}


def _is_ready(pod: Any) -> bool:
    conditions = pod["status"].get("conditions", ())
    return any(it["type"] == "Ready" and it["status"] == "True" for it in conditions)


def test_depth_brings_workers_and_an_empty_queue_none(
    kube: Kube, broker: Broker, operator: OperatorProcess
) -> None:
    kube.declare("mail", autoscaling={"maxReplicas": 3, "scaleDownDelaySeconds": 1})
    until(lambda: kube.is_ready("mail"))
    began = time.monotonic()
    broker.publish(kube.on_broker("mail"), 5)
    until(lambda: kube.replicas("mail") == 3, seconds=5)
    assert time.monotonic() - began < 5
    until(lambda: kube.is_ready("mail", "Running"))
    status = kube.queue("mail")["status"]
    assert status["scaling"]["limitedBy"] == "MaxReplicas"
    assert status["scaling"]["needed"] == 5

    with broker.client() as client:
        Queue(client, kube.on_broker("mail")).purge()
    until(lambda: kube.replicas("mail") == 0, seconds=10)
    until(lambda: kube.is_ready("mail") and not kube.pods("mail"))


def test_the_idle_go_first(kube: Kube, broker: Broker, kubelet: FakeKubelet) -> None:
    """A scale-down takes the pods that hold nothing."""
    kube.declare("mail", autoscaling={"maxReplicas": 4, "scaleDownDelaySeconds": 1})
    until(lambda: kube.is_ready("mail"))
    broker.publish(kube.on_broker("mail"), 4)
    until(lambda: len(kube.pods("mail")) == 4 and kube.is_ready("mail", "Running"))
    busy = sorted(kube.pods("mail"))[2]
    worker = until(lambda: kubelet.pods()[busy].worker)
    with broker.client() as client:
        queue = Queue(client, kube.on_broker("mail"))
        assert len(queue.claim(worker, count=1).messages) == 1
        queue.purge()

    until(lambda: kube.replicas("mail") == 1, seconds=10)
    until(lambda: set(kube.pods("mail")) == {busy})


def test_the_messages_of_a_dead_worker_are_taken_back_at_once(
    kube: Kube, broker: Broker, kubelet: FakeKubelet
) -> None:
    kube.declare(
        "mail", worker={"leaseSeconds": 600}, autoscaling={"minReplicas": 1, "maxReplicas": 1}
    )
    until(lambda: kube.is_ready("mail", "Running"))
    (pod,) = kube.pods("mail")
    first = kubelet.pods()[pod].worker
    time.sleep(1.1)  # what started in the same second as another is given the benefit of the doubt
    broker.publish(kube.on_broker("mail"), 3)
    with broker.client() as client:
        queue = Queue(client, kube.on_broker("mail"), lease_ms=600_000)
        assert len(queue.claim(first, count=1).messages) == 1
    kubelet.kill(pod)

    until(lambda: kubelet.pods()[pod].worker != first)
    until(lambda: broker.stats(kube.on_broker("mail")).leased == 0, seconds=5)
    second = kubelet.pods()[pod].worker
    with broker.client() as client:
        assert len(Queue(client, kube.on_broker("mail")).claim(second, count=1).messages) == 1
    kube.delete(kinds.PODS, pod)
    until(lambda: broker.stats(kube.on_broker("mail")).leased == 0, seconds=10)
    assert broker.stats(kube.on_broker("mail")).redelivered == 2
    assert broker.stats(kube.on_broker("mail")).imbalance == 0


def test_nothing_is_written_when_nothing_changes(kube: Kube, operator: OperatorProcess) -> None:
    for number in range(5):
        kube.declare(f"idle-{number}")
    for number in range(5):
        until(lambda number=number: kube.is_ready(f"idle-{number}"))  # type: ignore[misc]
    time.sleep(2)
    before = {
        verb: operator.metric("mq_api_requests_total", verb=verb)
        for verb in ("POST", "PATCH", "DELETE")
    }
    versions = [kube.queue(f"idle-{number}")["metadata"]["resourceVersion"] for number in range(5)]
    time.sleep(8)

    assert before == {verb: operator.metric("mq_api_requests_total", verb=verb) for verb in before}
    assert versions == [
        kube.queue(f"idle-{number}")["metadata"]["resourceVersion"] for number in range(5)
    ]
