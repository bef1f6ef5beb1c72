"""Two operators: one works, the other is ready; the end of either, at any moment, costs nothing but time."""

from __future__ import annotations

import time

from celeriac import Job
from tests.cluster.cluster import Cluster
from tests.e2e.kubernetes import faults
from tests.e2e.kubernetes.harness import Platform, lives
from tests.e2e.kubernetes.waiting import eventually, stays

FAILOVER_S = 15


def test_two_replicas_are_up_and_one_of_them_leads(platform: Platform) -> None:
    assert_two_operators(platform)
    stays(lambda: (platform.leader(), lives(platform.operators())), seconds=5, what="the leader")


def test_another_operator_takes_over_from_one_that_was_deleted(
    platform: Platform, name: str
) -> None:
    assert_two_operators(platform)
    first = platform.leader()
    began = time.monotonic()
    platform.kubectl("delete", "pod", first, "--force", "--grace-period=0", "--wait=false")
    platform.declare(name)
    assert_taken_over(platform, first, began)
    platform.wait_ready(name, seconds=30)


def test_another_operator_takes_over_from_one_that_hangs(
    platform: Platform, own_cluster: Cluster, name: str
) -> None:
    """The first cannot give its Lease back, and wakes up when another one has it."""
    assert_two_operators(platform)
    platform.declare(name, autoscaling={"minReplicas": 1})
    platform.wait_pods(name, 1)
    platform.wait_ready(name)
    before = lives(platform.pods(name))
    first = platform.leader()
    with faults.frozen(own_cluster, platform.get("pod", first)):
        began = time.monotonic()
        platform.patch("mq", name, {"spec": {"autoscaling": {"minReplicas": 2}}})
        assert_taken_over(platform, first, began)
        platform.wait_pods(name, 2, seconds=30)
        second = platform.leader()
    # Awake again, with everything it knew: it must see that its time is over before it writes anything.
    eventually(
        lambda: sum(lives([platform.get("pod", first)]).values()) > 0,
        seconds=30,
        what="the first one's end",
    )
    assert platform.leader() == second
    platform.wait_pods(name, 2)
    assert before.items() <= lives(platform.pods(name)).items()


def test_an_operator_killed_in_the_middle_of_things_leaves_nothing_half_done(
    platform: Platform, own_cluster: Cluster, name: str
) -> None:
    """Killed again and again, while queues appear, get work, change and are deleted."""
    assert_two_operators(platform)
    names = [f"{name}-{n}" for n in range(4)]
    client = platform.client()
    for number, one in enumerate(names):
        platform.declare(one, autoscaling={"maxReplicas": 1})
        client.send_many(one, [Job("e2e.work", args=(one, n, 0.2)) for n in range(5)])
        if number % 2 == 0:
            faults.kill(own_cluster, platform.get("pod", platform.leader()))
    platform.kubectl("delete", "mq", names[-1], "--wait=false")
    faults.kill(own_cluster, platform.operators()[0])
    for one in names[:-1]:
        platform.wait_ready(one, seconds=90)
        platform.wait_done(one)
        platform.ledger.check(one, range(5))
    eventually(
        lambda: (
            not platform.get("deployments,pods", "-l", f"celeriac.dev/queue={names[-1]}")["items"]
        ),
        seconds=60,
        what="nothing left of the deleted queue",
    )
    assert_two_operators(platform)


def assert_two_operators(platform: Platform) -> None:
    """Wait until two operators are ready, and one of them leads."""

    def look() -> bool:
        running = platform.get("deployment", "celeriac")["status"].get("readyReplicas") == 2
        names = {it["metadata"]["name"] for it in platform.operators()}
        return running and len(names) == 2 and platform.leader() in names

    eventually(look, seconds=90, what="two operators, one of which leads")


def assert_taken_over(platform: Platform, first: str, began: float) -> None:
    """Hold that another one leads in time."""
    eventually(
        lambda: platform.leader() not in ("", first), seconds=FAILOVER_S, what="another leader"
    )
    assert time.monotonic() - began < FAILOVER_S
