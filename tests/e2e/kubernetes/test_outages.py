"""Under load the broker, the API server or the kubelet goes away, and comes back: nothing is lost.

E2E_LONG=1 makes every outage a minute long.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.cluster import node
from tests.cluster.cluster import Cluster
from tests.e2e.kubernetes import faults
from tests.e2e.kubernetes.harness import VALKEY, Platform, lives
from tests.e2e.kubernetes.load import Load
from tests.e2e.kubernetes.waiting import eventually

OUTAGE_S = 60 if os.environ.get("E2E_LONG") else 12
#: Controllers leave when they cannot renew their Leases; here they hold none, and are killed too.
CONTROL_PLANE = ("kube-controller-manager", "kube-scheduler", "kube-apiserver")
WORKERS = {"minReplicas": 2, "maxReplicas": 2}


def test_the_broker_is_gone_for_a_while(
    platform: Platform, own_cluster: Cluster, name: str
) -> None:
    with _under_load(platform, name) as load:
        with faults.no_broker(platform):
            platform.wait_unreachable(name)
            time.sleep(OUTAGE_S)
            assert platform.get("deployment", name)["spec"]["replicas"] == 2
            assert platform.ready_pods(name) == [], "workers without a broker call themselves ready"
        _wait_caught_up(platform, name, load)
    assert load.errors > 0, "the producer has noticed nothing"


def test_the_broker_stands_still_for_a_while(
    platform: Platform, own_cluster: Cluster, name: str
) -> None:
    with _under_load(platform, name) as load:
        with faults.frozen(own_cluster, platform.get("pod", f"{VALKEY}-0")):
            time.sleep(OUTAGE_S)
        _wait_caught_up(platform, name, load)


def test_the_broker_is_killed(platform: Platform, own_cluster: Cluster, name: str) -> None:
    with _under_load(platform, name) as load:
        faults.kill(own_cluster, platform.get("pod", f"{VALKEY}-0"))
        _wait_caught_up(platform, name, load)


def test_the_api_server_is_gone_for_a_while(
    platform: Platform, own_cluster: Cluster, name: str
) -> None:
    with _under_load(platform, name) as load:
        for process in CONTROL_PLANE:
            own_cluster.processes.stop(process, kill=True)
        try:
            sent = len(load.accepted)
            time.sleep(OUTAGE_S)
            assert len(load.accepted) > sent + OUTAGE_S * 5
            eventually(
                lambda: len(platform.ledger.finished(name)) > sent + OUTAGE_S * 5,
                seconds=5,
                what="jobs that ran meanwhile",
            )
        finally:
            own_cluster.start_api_server()
            own_cluster.start_controllers()
            # It would look for the API server again after up to half a minute.
            own_cluster.processes.stop("kubelet")
            node.start_kubelet(own_cluster)
        platform.patch("mq", name, {"spec": {"retry": {"maxAttempts": 9}}})
        eventually(
            lambda: platform.queue(name).record()[1].retry.max_attempts == 9,
            seconds=60,
            what="an edit after the outage is carried out",
        )


def test_the_kubelet_is_restarted(platform: Platform, own_cluster: Cluster, name: str) -> None:
    with _under_load(platform, name) as load:
        before = lives(platform.pods(name))
        own_cluster.processes.stop("kubelet")
        time.sleep(5)
        node.start_kubelet(own_cluster)
        eventually(own_cluster.node_is_ready, seconds=60, what="the node ready")
        sent = len(load.accepted)
        eventually(lambda: len(load.accepted) > sent + 30, seconds=30, what="more load")
    platform.kubectl("delete", "pod", "-l", f"celeriac.dev/queue={name}", "--wait=false")
    eventually(
        lambda: not before.keys() & lives(platform.pods(name, leaving=True)).keys(),
        seconds=60,
        what="the kubelet starts and ends pods",
    )
    platform.wait_pods(name, 2)


@contextmanager
def _under_load(platform: Platform, name: str) -> Iterator[Load]:
    """Two workers are busy when the block begins; at its end nothing is lost, repeated or disturbed."""
    platform.declare(name, autoscaling=WORKERS)
    platform.wait_pods(name, 2)
    platform.wait_ready(name)
    before = lives(platform.pods(name))
    with Load(platform.client(), name) as load:
        _wait_under_way(platform, name, load)
        yield load
    _check(platform, name, load, before)


def _wait_under_way(platform: Platform, name: str, load: Load) -> None:
    """Wait until jobs come and go."""
    eventually(
        lambda: len(load.accepted) > 30 and len(platform.ledger.finished(name)) > 10,
        seconds=60,
        what="some load",
    )


def _wait_caught_up(platform: Platform, name: str, load: Load) -> None:
    """Wait until the producer and the workers are at it again."""
    sent = len(load.accepted)
    eventually(lambda: len(load.accepted) > sent + 20, seconds=60, what="the producer goes on")
    eventually(
        lambda: load.accepted[sent] in platform.ledger.finished(name),
        seconds=60,
        what="the workers go on",
    )


def _check(platform: Platform, name: str, load: Load, before: dict[str, int]) -> None:
    """Hold that nothing was lost or repeated, and that no worker was disturbed."""
    platform.wait_done(name, seconds=60)
    platform.ledger.check(name, load.accepted)
    stats = platform.queue(name).stats()
    assert (stats.accepted, stats.imbalance) == (len(load.accepted), 0)
    platform.wait_ready(name)
    assert lives(platform.pods(name, leaving=True)) == before
