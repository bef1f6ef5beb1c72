"""A real KEDA takes a queue from nothing to many workers and back, while we leave `replicas` alone."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from celeriac import Job
from celeriac.broker.message import Priority
from tests.cluster import keda
from tests.cluster.cluster import Cluster
from tests.e2e.kubernetes.harness import Platform
from tests.e2e.kubernetes.test_declared_state import owners
from tests.e2e.kubernetes.test_operators import assert_two_operators
from tests.e2e.kubernetes.waiting import eventually

#: Who may write `replicas` while KEDA scales: itself, and the HorizontalPodAutoscaler that it makes.
SCALERS = {"keda", "keda-operator", "kube-controller-manager"}


@pytest.fixture
def running_keda(platform: Platform, own_cluster: Cluster) -> Iterator[None]:
    """KEDA in the cluster; the operator looks for it when it starts."""
    keda.start(own_cluster)
    platform.kubectl("rollout", "restart", "deployment/celeriac")
    platform.kubectl("rollout", "status", "deployment/celeriac", "--timeout=90s")
    assert_two_operators(platform)
    yield
    keda.stop(own_cluster)


@pytest.mark.usefixtures("running_keda")
def test_keda_takes_a_queue_from_zero_to_many_and_back(platform: Platform, name: str) -> None:
    scaling = {"mode": "KEDA", "maxReplicas": 8, "scaleDownDelaySeconds": 5}
    platform.declare(name, autoscaling=scaling)
    platform.wait_ready(name)
    eventually(
        lambda: _ready(platform, name) == "True", seconds=60, what="KEDA accepts the ScaledObject"
    )
    assert platform.pods(name) == []

    sent = time.monotonic()
    # Three of one priority and three of another, two for each worker: the sum counts, not the greater.
    priorities: list[Priority] = ["normal", "high"] * 3
    jobs = [Job("e2e.work", args=(name, n, 12.0), priority=it) for n, it in enumerate(priorities)]
    platform.client().send_many(name, jobs)
    eventually(lambda: len(platform.pods(name)) == 3, seconds=60, what="three pods", every=0.1)
    asked = time.monotonic() - sent
    assert owners(platform, name, "spec", "replicas") <= SCALERS
    eventually(
        lambda: platform.get("mq", name)["status"]["desiredReplicas"] == 3,
        seconds=10,
        what="the status follows whoever scales",
    )
    platform.wait_done(name)
    platform.wait_pods(name, 0, seconds=120)
    platform.ledger.check(name, range(6))
    assert asked < 45
    active = platform.condition(name, "ScalingActive")
    assert (active["reason"], active["message"]) == ("External", "KEDA writes replicas")

    platform.declare(name, autoscaling={"mode": "Native"})
    platform.wait_ready(name)
    eventually(
        lambda: not platform.exists("scaledobject", name), seconds=30, what="no ScaledObject"
    )
    platform.client().send(name, "e2e.work", args=(name, 6, 1.0))
    eventually(lambda: len(platform.pods(name)) == 1, seconds=10, what="a pod asked for by us")
    platform.wait_done(name)
    platform.ledger.check(name, range(7))


def _ready(platform: Platform, name: str) -> str:
    found = platform.get("scaledobject", name)
    conditions = found.get("status", {}).get("conditions", [])
    return next((it["status"] for it in conditions if it["type"] == "Ready"), "")
