"""The operator needs the rights of its rule file and no more, in the cluster or in one namespace."""

from __future__ import annotations

import pytest

from celeriac_operator import kinds
from tests.api.conftest import Broker
from tests.api.kube import NAMESPACES, Kube
from tests.api.operator_process import OperatorProcess, prepare, until

pytestmark = pytest.mark.usefixtures("kubelet")


def test_rights_in_one_namespace_are_enough_to_look_after_it(kube: Kube, broker: Broker) -> None:
    kube.secret("celeriac-broker", url=broker.url)
    elsewhere = Kube(kube.cluster, f"{kube.namespace}-elsewhere")
    elsewhere.request("POST", NAMESPACES.path(None), {"metadata": {"name": elsewhere.namespace}})
    elsewhere.declare("orders")
    config = prepare(kube.cluster, only=kube.namespace, name=f"of-{kube.namespace}")
    operator = OperatorProcess(
        kube.cluster,
        config,
        name=f"narrow-{kube.namespace}",
        port=18098,
        watch_namespaces=kube.namespace,
        lease_name=kube.namespace,
        network_policy="true",
    )
    operator.start()
    try:
        until(operator.leads)
        kube.declare("orders", deletionPolicy="Purge")
        until(lambda: kube.condition("orders", "Ready") == ("True", "Idle"))
        assert kube.get(kinds.POLICIES, "orders")["spec"]["policyTypes"] == ["Ingress"]
        broker.publish(kube.on_broker("orders"))
        until(lambda: kube.condition("orders", "Ready") == ("True", "Running"))
        kube.delete(kinds.QUEUES, "orders")
        until(lambda: kube.find(kinds.QUEUES, "orders") is None)
        assert elsewhere.queue("orders")["status"] == {"observedGeneration": -1}, "nobody wrote it"
        assert operator.metric("mq_api_requests_total", code="403") == 0, "it asks for nothing else"
        assert "orbidden" not in operator.log
    finally:
        operator.stop()
        elsewhere.request("DELETE", NAMESPACES.path(None, elsewhere.namespace))
