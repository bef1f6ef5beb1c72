"""A real KEDA on a real API server scales a queue that the operator handed to it, and gives it back."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from celeriac.broker.embedded import EmbeddedServer
from celeriac.broker.queue import Queue
from celeriac_operator import kinds
from tests.api.conftest import CRD, Broker
from tests.api.fake_kubelet import FakeKubelet
from tests.api.kube import NAMESPACES, Kube
from tests.api.operator_process import OperatorProcess, prepare, until
from tests.cluster import keda, programs
from tests.cluster.cluster import Cluster, control_plane

MAIL = "mail"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A control plane of its own: other tests rely on there being no KEDA."""
    lacking = programs.missing(programs.CONTROL_PLANE_NEEDS)
    if lacking and not os.environ.get("CI"):
        pytest.skip("no API server here: " + "; ".join(lacking))
    with control_plane() as running:
        running.kubectl("create", "-f", str(CRD))
        running.start_controllers()
        keda.start(running)  # type: ignore[attr-defined, unused-ignore]  # mypy takes the folder keda/ for it
        yield running
        keda.stop(running)  # type: ignore[attr-defined, unused-ignore]  # the same


@pytest.fixture(scope="module")
def broker(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    running = Broker(cluster, EmbeddedServer(tmp_path_factory.mktemp("broker")))
    running.start()
    yield running
    running.stop()


@pytest.fixture
def kube(cluster: Cluster, broker: Broker) -> Iterator[Kube]:
    """A namespace, an operator, and pods that are pretended."""
    found = Kube(cluster, "shop")
    found.request("POST", NAMESPACES.path(None), {"metadata": {"name": found.namespace}})
    found.secret("celeriac-broker", url=broker.url)
    kubelet = FakeKubelet(cluster)
    kubelet.start()
    operator = OperatorProcess(cluster, prepare(cluster), port=18099)
    operator.start()
    until(operator.leads)
    yield found
    operator.stop()
    kubelet.stop()


def replicas(kube: Kube) -> int:
    return int(kube.get(kinds.DEPLOYMENTS, MAIL)["spec"]["replicas"])


def status_of(kube: Kube, type_: str) -> str:
    found = kube.get(kinds.SCALED_OBJECTS, MAIL).get("status", {}).get("conditions", ())
    return next((str(it["status"]) for it in found if it["type"] == type_), "")


def test_keda_takes_a_queue_from_nothing_to_many_and_back(kube: Kube, broker: Broker) -> None:
    kube.declare(
        MAIL,
        worker={"pool": "Threads", "concurrency": 2},
        autoscaling={"mode": "KEDA", "maxReplicas": 8, "scaleDownDelaySeconds": 5},
    )
    until(lambda: status_of(kube, "Ready") == "True", seconds=60)
    assert kube.condition(MAIL, "ScalingActive") == ("False", "External")
    assert kube.condition(MAIL, "Stalled") == ("False", "AsDeclared")
    assert replicas(kube) == 0

    # Three of one priority and three of another: the sum counts, not the greater.
    broker.publish(kube.on_broker(MAIL), 3)
    broker.publish(kube.on_broker(MAIL), 3, priority="high")
    until(lambda: replicas(kube) == 3, seconds=90, every=0.5)
    until(lambda: kube.queue(MAIL)["status"]["readyReplicas"] == 3)
    assert kube.queue(MAIL)["status"]["desiredReplicas"] == 3
    assert kube.condition(MAIL, "Ready") == ("True", "Running")
    scalers = {"keda", "keda-operator", "kube-controller-manager"}
    assert kube.owners_of(kinds.DEPLOYMENTS, MAIL, "spec.replicas") <= scalers

    with broker.client() as client:
        Queue(client, kube.on_broker(MAIL)).purge()
    until(lambda: replicas(kube) == 0, seconds=90, every=0.5)

    kube.patch(kinds.QUEUES, MAIL, {"spec": {"autoscaling": {"mode": "Native"}}})
    until(lambda: kube.find(kinds.SCALED_OBJECTS, MAIL) is None)
    until(lambda: kube.find(kinds.AUTHENTICATIONS, MAIL) is None)
    broker.publish(kube.on_broker(MAIL), 2)
    until(lambda: replicas(kube) == 1)
