"""A queue that is deleted: what goes with it, what stays, and what must not hold it up."""

from __future__ import annotations

import time

import pytest

from celeriac_operator import kinds
from tests.api.conftest import Broker
from tests.api.kube import Kube
from tests.api.operator_process import until

pytestmark = pytest.mark.usefixtures("kubelet", "operator")


def test_retained_messages_stay_and_nothing_is_left_on_the_resource(
    kube: Kube, broker: Broker
) -> None:
    kube.declare("orders")
    until(lambda: kube.is_ready("orders"))
    broker.publish(kube.on_broker("orders"), 3)
    kube.delete(kinds.QUEUES, "orders")
    until(lambda: kube.find(kinds.QUEUES, "orders") is None, seconds=2)
    until(lambda: kube.find(kinds.DEPLOYMENTS, "orders") is None)
    until(lambda: not kube.pods("orders"))
    assert broker.stats(kube.on_broker("orders")).ready == 3


def test_purge_empties_the_queue_before_the_resource_goes(kube: Kube, broker: Broker) -> None:
    kube.declare("orders", deletionPolicy="Purge")
    until(lambda: kube.is_ready("orders"))
    assert kube.queue("orders")["metadata"]["finalizers"] == ["celeriac.dev/purge"]
    broker.publish(kube.on_broker("orders"), 3)
    until(lambda: kube.is_ready("orders", "Running"))

    kube.delete(kinds.QUEUES, "orders")
    until(lambda: kube.find(kinds.QUEUES, "orders") is None)
    stats = broker.stats(kube.on_broker("orders"))
    assert (stats.ready, stats.purged, stats.imbalance) == (0, 3, 0)


def test_the_finalizer_goes_when_the_policy_changes(kube: Kube) -> None:
    kube.declare("orders", deletionPolicy="Purge")
    until(lambda: kube.queue("orders")["metadata"].get("finalizers") == ["celeriac.dev/purge"])
    kube.patch(kinds.QUEUES, "orders", {"spec": {"deletionPolicy": "Retain"}})
    until(lambda: "finalizers" not in kube.queue("orders")["metadata"])


def test_who_never_had_the_queue_purges_nothing(kube: Kube, broker: Broker) -> None:
    shared = f"shared-{kube.namespace}"
    kube.declare("first", queue=shared)
    until(lambda: kube.is_ready("first"))
    broker.publish(shared, 3)
    time.sleep(1.1)
    kube.declare("second", queue=shared, deletionPolicy="Purge")
    until(lambda: kube.condition("second", "Stalled") == ("True", "QueueTaken"))
    kube.delete(kinds.QUEUES, "second")

    until(lambda: kube.find(kinds.QUEUES, "second") is None, seconds=10)
    assert (broker.stats(shared).ready, broker.stats(shared).purged) == (3, 0)
    until(lambda: ("Warning", "NotPurged") in kube.events("second"))


def test_hands_off_purges_nothing_and_holds_nothing_up(kube: Kube, broker: Broker) -> None:
    kube.declare("orders", deletionPolicy="Purge")
    until(lambda: kube.is_ready("orders"))
    kube.patch(
        kinds.QUEUES, "orders", {"metadata": {"annotations": {"celeriac.dev/paused": "true"}}}
    )
    until(lambda: kube.condition("orders", "Paused") == ("True", "HandsOff"))
    broker.publish(kube.on_broker("orders"), 2)
    kube.delete(kinds.QUEUES, "orders")

    until(lambda: kube.find(kinds.QUEUES, "orders") is None, seconds=10)
    assert broker.stats(kube.on_broker("orders")).ready == 2
