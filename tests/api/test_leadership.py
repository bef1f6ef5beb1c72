"""One operator works at a time, and another takes over within seconds, whatever becomes of the first."""

from __future__ import annotations

import json
import os
import signal
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from celeriac.broker.queue import Queue
from celeriac_operator import kinds
from celeriac_operator.api import ApiError
from tests.api.conftest import Broker, StartOperator
from tests.api.kube import Kube
from tests.api.operator_process import NAMESPACE, OperatorProcess, until

pytestmark = pytest.mark.usefixtures("kubelet")


def lease(kube: Kube) -> dict[str, object]:
    found = Kube(kube.cluster, NAMESPACE).get(kinds.LEASES, kube.namespace)
    return dict(found["spec"])


@pytest.fixture
def pair(
    kube: Kube, broker: Broker, start_operator: StartOperator
) -> tuple[OperatorProcess, OperatorProcess]:
    """A leader and a standby."""
    kube.secret("celeriac-broker", url=broker.url)
    leader = start_operator(identity=f"a-{kube.namespace}")
    until(leader.leads)
    standby = start_operator(identity=f"b-{kube.namespace}")
    until(lambda: standby.get("/readyz")[0] == 200)
    return leader, standby


def writes(operator: OperatorProcess) -> float:
    verbs = ("POST", "PATCH", "DELETE")
    return sum(operator.metric("mq_api_requests_total", verb=verb) for verb in verbs)


def test_one_leads_and_the_other_writes_nothing(
    kube: Kube, pair: tuple[OperatorProcess, OperatorProcess]
) -> None:
    leader, standby = pair
    kube.declare("orders")
    until(lambda: kube.is_ready("orders"))
    assert lease(kube)["holderIdentity"] == leader.name
    assert (leader.metric("mq_leader"), standby.metric("mq_leader")) == (1, 0)
    assert writes(leader) > 0
    assert writes(standby) == 0
    assert standby.metric("mq_api_requests_total", verb="PUT") == 0
    assert standby.get("/livez")[0] == standby.get("/readyz")[0] == 200


def test_a_killed_leader_is_replaced_within_fifteen_seconds(
    kube: Kube, pair: tuple[OperatorProcess, OperatorProcess]
) -> None:
    leader, standby = pair
    kube.declare("before")
    until(lambda: kube.is_ready("before"))
    leader.stop(kill=True)
    began = time.monotonic()
    kube.declare("after")

    until(lambda: kube.is_ready("after"), seconds=15)
    assert time.monotonic() - began < 15
    assert lease(kube)["holderIdentity"] == standby.name
    assert lease(kube)["leaseTransitions"] == 1


def test_a_leader_that_stops_hands_over_at_once(
    kube: Kube, pair: tuple[OperatorProcess, OperatorProcess]
) -> None:
    leader, standby = pair
    leader.stop()
    assert "gave the Lease back" in leader.log
    began = time.monotonic()
    until(standby.leads, seconds=6)
    assert time.monotonic() - began < 6


def test_a_leader_that_lost_the_lease_writes_nothing_more_and_ends(
    kube: Kube, pair: tuple[OperatorProcess, OperatorProcess]
) -> None:
    leader, standby = pair
    standby.stop()
    own = Kube(kube.cluster, NAMESPACE)

    def stolen() -> bool:
        found = own.get(kinds.LEASES, kube.namespace)
        found["spec"] |= {"holderIdentity": "thief", "leaseDurationSeconds": 3600}
        try:
            own.request("PUT", kinds.LEASES.path(NAMESPACE, kube.namespace), found)
        except ApiError:
            return False
        return True

    until(stolen)
    until(lambda: leader.get("/livez")[0] == 0, seconds=8)
    assert "lost the Lease" in leader.log
    kube.declare("orders")
    leader.start()
    time.sleep(4)
    assert kube.queue("orders")["status"] == {"observedGeneration": -1}, "nobody wrote it"
    assert kube.find(kinds.DEPLOYMENTS, "orders") is None
    assert writes(leader) == 0


def test_a_leader_that_wakes_up_too_late_writes_nothing(
    kube: Kube, broker: Broker, pair: tuple[OperatorProcess, OperatorProcess]
) -> None:
    """It was frozen for longer than its Lease, and finds more messages than workers when it wakes."""
    leader, standby = pair
    kube.declare("orders", autoscaling={"maxReplicas": 5})
    until(lambda: kube.is_ready("orders"))
    os.kill(leader.pid, signal.SIGSTOP)
    try:
        until(lambda: standby.metric("mq_leader") == 1)
        # The one that leads now is slow: all that there is to do is left to the one that wakes up.
        os.kill(standby.pid, signal.SIGSTOP)
        broker.publish(kube.on_broker("orders"), 5)
    finally:
        awake = datetime.now(tz=UTC)
        os.kill(leader.pid, signal.SIGCONT)
    try:
        until(lambda: leader.get("/livez")[0] == 0)
    finally:
        os.kill(standby.pid, signal.SIGCONT)
    assert "lost the Lease" in leader.log
    wrote = writes_of(kube, leader.name, since=awake)
    assert {it["objectRef"]["resource"] for it in wrote} <= {"leases"}, wrote
    assert all(it["responseStatus"]["code"] == 409 for it in wrote), wrote
    until(lambda: kube.get(kinds.DEPLOYMENTS, "orders")["spec"]["replicas"] == 5)
    assert any(it["objectRef"]["resource"] == "deployments" for it in writes_of(kube, standby.name))


def writes_of(kube: Kube, identity: str, *, since: datetime | None = None) -> list[dict[str, Any]]:
    """What a replica has asked the API server to write, as the server's audit log has it."""
    lines = kube.cluster.audit_log.read_text().splitlines()
    found = [it for it in map(json.loads, lines) if f"({identity})" in it["userAgent"]]
    return [
        it
        for it in found
        if since is None or datetime.fromisoformat(it["requestReceivedTimestamp"]) > since
    ]


def test_an_api_server_that_was_away_finds_everything_done_afterwards(
    kube: Kube, broker: Broker, start_operator: StartOperator
) -> None:
    """Workers and their broker need no API server; the operator ends, is started again, and catches up."""
    kube.secret("celeriac-broker", url=broker.url)
    operator = start_operator()
    until(operator.leads)
    kube.declare("orders", autoscaling={"minReplicas": 1, "maxReplicas": 3})
    until(lambda: kube.queue("orders")["status"]["readyReplicas"] == 1)
    (pod,) = kube.pods("orders")
    cluster = kube.cluster

    cluster.processes.stop("kube-apiserver")
    try:
        until(lambda: operator.get("/livez")[0] == 0, seconds=15)
        operator.start()  # as its kubelet would
        until(lambda: operator.get("/livez")[0] == 200)
        assert operator.get("/readyz")[0] == 503
        broker.publish(kube.on_broker("orders"), 3)
        time.sleep(5)
    finally:
        cluster.start_api_server()
        cluster.start_controllers()
    until(operator.leads, seconds=30)

    until(lambda: kube.get(kinds.DEPLOYMENTS, "orders")["spec"]["replicas"] == 3)
    until(lambda: kube.queue("orders")["status"]["readyReplicas"] == 3, seconds=30)
    assert pod in kube.pods("orders"), "it was left alone"
    with broker.client() as client:
        assert Queue(client, kube.on_broker("orders")).stats().imbalance == 0


def test_a_short_outage_of_the_api_server_is_not_even_noticed(
    kube: Kube, broker: Broker, start_operator: StartOperator
) -> None:
    """Watches go on where they were; what was deleted meanwhile is found too."""
    kube.secret("celeriac-broker", url=broker.url)
    operator = start_operator(lease_duration="60")
    until(operator.leads)
    kube.declare("orders")
    kube.declare("mail")
    until(lambda: kube.is_ready("orders") and kube.is_ready("mail"))
    pid = operator.pid

    kube.cluster.processes.stop("kube-apiserver", kill=True)
    time.sleep(3)
    kube.cluster.start_api_server()
    kube.cluster.start_controllers()  # for other tests
    kube.delete(kinds.BUDGETS, "orders")
    kube.delete(kinds.QUEUES, "mail")
    kube.declare("new")

    until(lambda: kube.is_ready("new"), seconds=15)
    until(lambda: kube.find(kinds.BUDGETS, "orders"), seconds=15)
    until(lambda: operator.metric("mq_queue_paused", queue=kube.on_broker("mail")) == 0)
    assert operator.pid == pid and operator.leads()


def test_a_network_policy_of_earlier_is_deleted_and_that_is_that(
    kube: Kube, broker: Broker, start_operator: StartOperator
) -> None:
    kube.secret("celeriac-broker", url=broker.url)
    strict = start_operator(network_policy="true")
    until(strict.leads)
    kube.declare("orders")
    until(lambda: kube.find(kinds.POLICIES, "orders"))
    strict.stop()
    operator = start_operator(identity="lenient", network_policy="false")
    until(lambda: kube.find(kinds.POLICIES, "orders") is None)

    def edit_is_seen(attempts: int) -> None:
        kube.patch(kinds.QUEUES, "orders", {"spec": {"retry": {"maxAttempts": attempts}}})
        generation = kube.queue("orders")["metadata"]["generation"]
        until(lambda: kube.condition_of("orders", "Ready")["observedGeneration"] == generation)

    edit_is_seen(6)
    since = datetime.now(UTC)
    for attempts in (7, 8, 9):
        edit_is_seen(attempts)
    wrote = [it["objectRef"]["resource"] for it in writes_of(kube, operator.name, since=since)]
    assert wrote
    assert "networkpolicies" not in wrote
