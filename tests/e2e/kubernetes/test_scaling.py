"""0 -> N -> 0 on depth, and no running job ever pays for it."""

from __future__ import annotations

import time

from celeriac import Job
from tests.e2e.kubernetes.harness import Object, Platform
from tests.e2e.kubernetes.waiting import eventually, stays


def test_pods_appear_with_the_first_message_and_go_with_the_last(
    platform: Platform, name: str
) -> None:
    platform.declare(name)
    platform.wait_ready(name)
    assert platform.pods(name, leaving=True) == []

    sent = time.monotonic()
    jobs = [Job("e2e.work", args=(name, n, 2.0)) for n in range(8)]
    platform.client().send_many(name, jobs)
    eventually(
        lambda: len(platform.pods(name)) == 4, seconds=5, what="four pods asked for", every=0.05
    )
    asked = time.monotonic() - sent
    eventually(
        lambda: len(platform.ledger.started(name)) > 0, seconds=60, what="the first job has begun"
    )
    assert asked < 5
    platform.wait_done(name)
    platform.wait_pods(name, 0)
    platform.ledger.check(name, range(8))
    assert platform.get("deployment", name)["spec"]["replicas"] == 0
    stats = platform.queue(name).stats()
    assert (stats.done, stats.redelivered, stats.imbalance) == (8, 0, 0)


def test_scaling_down_lets_running_jobs_finish(platform: Platform, name: str) -> None:
    """Three of four workers must go while each of them is in the middle of a long job."""
    platform.declare(name, worker={"concurrency": 1})
    platform.wait_ready(name)
    jobs = [Job("e2e.work", args=(name, n, 15.0)) for n in range(4)]
    platform.client().send_many(name, jobs)
    eventually(
        lambda: len(platform.ledger.started(name)) == 4, seconds=90, what="four jobs at once"
    )

    platform.patch("mq", name, {"spec": {"autoscaling": {"maxReplicas": 1}}})
    eventually(
        lambda: len(platform.pods(name)) == 1, seconds=10, what="three of four workers told to go"
    )
    assert len(platform.ledger.finished(name)) < 4, "nobody was in the middle of a job"
    platform.wait_done(name)
    platform.wait_pods(name, 0)
    platform.ledger.check(name, range(4))
    stats = platform.queue(name).stats()
    assert (stats.done, stats.redelivered, stats.retried) == (4, 0, 0)


def test_the_least_number_runs_though_there_is_nothing_to_do(platform: Platform, name: str) -> None:
    platform.declare(name, autoscaling={"minReplicas": 1})
    platform.wait_ready(name)
    platform.wait_pods(name, 1)
    stays(
        lambda: platform.get("deployment", name)["spec"]["replicas"], seconds=5, what="the number"
    )


def test_a_worker_that_is_told_to_go_while_it_starts_goes(platform: Platform, name: str) -> None:
    platform.declare(name, autoscaling={"minReplicas": 1})
    starting = eventually(
        lambda: next(iter(pod for pod in platform.pods(name) if _runs(pod)), None),
        seconds=60,
        what="a worker that has just begun",
        every=0.05,
    )
    platform.kubectl("delete", "pod", starting["metadata"]["name"], "--wait=false")
    eventually(
        lambda: not platform.exists("pod", starting["metadata"]["name"]),
        seconds=15,
        what="the end of that worker",
    )
    platform.wait_pods(name, 1)


def _runs(pod: Object) -> bool:
    return any("running" in it["state"] for it in pod["status"].get("containerStatuses", []))
