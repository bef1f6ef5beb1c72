"""Who says how many workers run: us, KEDA, a HorizontalPodAutoscaler or a person, and never two of them."""

from __future__ import annotations

import time
from typing import Any

import pytest

from celeriac_operator import kinds
from tests.api.conftest import Broker, StartOperator
from tests.api.kube import CRDS, Kube
from tests.api.operator_process import until

pytestmark = pytest.mark.usefixtures("kubelet")


@pytest.mark.usefixtures("operator")
def test_without_keda_its_mode_is_stalled_and_native_works(kube: Kube, broker: Broker) -> None:
    kube.declare("orders", autoscaling={"mode": "KEDA"})
    until(lambda: kube.condition("orders", "Stalled") == ("True", "KEDAMissing"))

    kube.patch(kinds.QUEUES, "orders", {"spec": {"autoscaling": {"mode": "Native"}}})
    until(lambda: kube.is_ready("orders"))
    broker.publish(kube.on_broker("orders"), 2)
    until(lambda: kube.replicas("orders") == 2)


def test_keda_that_is_installed_later_is_noticed(
    kube: Kube, broker: Broker, start_operator: StartOperator
) -> None:
    kube.secret("celeriac-broker", url=broker.url)
    operator = start_operator(resync="10")
    until(operator.leads)
    kube.declare("orders", autoscaling={"mode": "KEDA"})
    until(lambda: kube.condition("orders", "Stalled") == ("True", "KEDAMissing"))
    for name in KEDA_KINDS:
        kube.request("POST", CRDS.path(None), _anything(*name))
    try:
        until(lambda: operator.get("/livez")[0] == 0, seconds=40)
        assert "KEDA was installed" in operator.log
        operator.start()  # as its kubelet would
        until(lambda: kube.condition("orders", "Stalled") == ("False", "AsDeclared"))
        assert kube.get(kinds.SCALED_OBJECTS, "orders")
        kube.patch(kinds.QUEUES, "orders", {"spec": {"autoscaling": {"mode": "Native"}}})
        until(lambda: kube.find(kinds.SCALED_OBJECTS, "orders") is None)
        broker.publish(kube.on_broker("orders"), 2)
        until(lambda: kube.replicas("orders") == 2)
    finally:
        operator.stop()
        for kind, _ in KEDA_KINDS:
            kube.request("DELETE", CRDS.path(None, f"{kind}.keda.sh"))


KEDA_KINDS = (
    ("scaledobjects", "ScaledObject"),
    ("triggerauthentications", "TriggerAuthentication"),
)


def _anything(plural: str, kind: str) -> dict[str, Any]:
    """The definition of a kind of KEDA's, which takes any fields."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1alpha1", "served": True, "storage": True}
    return {
        "apiVersion": CRDS.api_version,
        "kind": CRDS.name,
        "metadata": {"name": f"{plural}.keda.sh"},
        "spec": {
            "group": "keda.sh",
            "scope": "Namespaced",
            "names": {"plural": plural, "kind": kind},
            "versions": [{**version, "schema": {"openAPIV3Schema": schema}}],
        },
    }


@pytest.mark.usefixtures("operator")
def test_hpa_gets_something_to_scale_and_is_left_alone(kube: Kube, broker: Broker) -> None:
    kube.declare("orders", autoscaling={"mode": "HPA", "minReplicas": 2, "maxReplicas": 9})
    until(lambda: kube.is_ready("orders", "Running"))
    assert kube.replicas("orders") == 2
    assert kube.condition("orders", "ScalingActive") == ("False", "External")
    kube.patch(kinds.DEPLOYMENTS, "orders", {"spec": {"replicas": 4}})
    broker.publish(kube.on_broker("orders"), 30)
    time.sleep(4)
    assert kube.replicas("orders") == 4
    assert kube.owners_of(kinds.DEPLOYMENTS, "orders", "spec.replicas") == {"kubectl-edit"}
    assert kube.queue("orders")["status"]["desiredReplicas"] == 4


@pytest.mark.usefixtures("operator")
def test_off_is_the_number_that_scale_asks_for(kube: Kube, broker: Broker) -> None:
    kube.declare("orders", autoscaling={"mode": "Off"})
    until(lambda: kube.is_ready("orders"))
    broker.publish(kube.on_broker("orders"), 30)
    kube.cluster.kubectl("scale", "mq", "orders", "-n", kube.namespace, "--replicas=3")
    until(lambda: kube.replicas("orders") == 3)
    assert kube.condition("orders", "ScalingActive") == ("False", "Fixed")
    scaler = {"celeriac-operator-scale"}
    assert kube.owners_of(kinds.DEPLOYMENTS, "orders", "spec.replicas") == scaler
    kube.patch(kinds.QUEUES, "orders", {"spec": {"autoscaling": {"mode": "HPA"}}})
    until(lambda: kube.condition("orders", "ScalingActive") == ("False", "External"))
    assert kube.replicas("orders") == 3, "handed over as it is"
