"""Deleting queues, Secrets and namespaces in any order, broker or no broker, operator or no operator."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

from celeriac import Job
from tests.e2e.kubernetes import faults
from tests.e2e.kubernetes.harness import Object, Platform
from tests.e2e.kubernetes.test_operators import assert_two_operators
from tests.e2e.kubernetes.waiting import eventually

#: Nothing may take longer to go.
GONE_S = 40
NOWHERE = "celeriac://10.123.9.9:6379/0"
KINDS = "mq,deployments,pods,configmaps,secrets,poddisruptionbudgets"


def test_a_deleted_queue_takes_everything_along_but_its_messages(
    platform: Platform, name: str
) -> None:
    _declare(platform, name, paused=True)
    platform.wait_ready(name)
    _send(platform, name)
    platform.kubectl("delete", "mq", name, f"--timeout={GONE_S}s")
    _gone(platform, name)
    assert platform.queue(name).stats().ready == 3


def test_a_queue_that_purges_takes_its_messages_along(platform: Platform, name: str) -> None:
    _declare(platform, name, paused=True, deletionPolicy="Purge")
    platform.wait_ready(name)
    _send(platform, name)
    platform.kubectl("delete", "mq", name, f"--timeout={GONE_S}s")
    _gone(platform, name)
    stats = platform.queue(name).stats()
    assert (stats.ready, stats.purged, stats.imbalance) == (0, 3, 0)


def test_queue_secret_and_namespace_go_in_any_order(platform: Platform, name: str) -> None:
    orders = (("queue", "secret"), ("secret", "queue"), ("secret",), ())
    brokers = (platform.secret("celeriac-broker")["url"], NOWHERE)
    cases = list(itertools.product(brokers, orders))
    places = [_namespace(platform, f"{name}-{n}") for n in range(len(cases))]
    for place, (url, _) in zip(places, cases, strict=True):
        _declare_with_secret(place, url)
    for place, (url, _) in zip(places, cases, strict=True):
        if url == NOWHERE:
            place.wait_unreachable(place.namespace)
        else:
            place.wait_ready(place.namespace)
    what = {"queue": "mq/{}", "secret": "secret/own"}
    for place, (_, order) in zip(places, cases, strict=True):
        for one in order:
            place.kubectl("delete", what[one].format(place.namespace), "--wait=false")
        platform.kubectl("delete", "namespace", place.namespace, "--wait=false")
    for place in places:
        eventually(_no_namespace(place), seconds=GONE_S, what=f"the end of {place.namespace}")


def test_deletion_while_the_broker_is_away(platform: Platform, name: str) -> None:
    names = {f"{name}-retain": "Retain", f"{name}-purge": "Purge"}
    for one, policy in names.items():
        _declare(platform, one, deletionPolicy=policy, autoscaling={"minReplicas": 1})
    for one in names:
        platform.wait_ready(one)
    with faults.no_broker(platform):
        for one in names:
            platform.kubectl("delete", "mq", one, "--wait=false")
        for one in names:
            _gone(platform, one)
        told = platform.get("events.events.k8s.io", "--field-selector=reason=NotPurged")["items"]
        assert f"{name}-purge" in {it["regarding"]["name"] for it in told}


def test_deletion_while_no_operator_runs(platform: Platform, name: str) -> None:
    other = _namespace(platform, f"{name}-other")
    _declare(other, name, autoscaling={"minReplicas": 1})
    _declare(platform, f"{name}-retain", autoscaling={"minReplicas": 1})
    _declare(platform, f"{name}-purge", deletionPolicy="Purge")
    other.wait_ready(name)
    for one in ("retain", "purge"):
        platform.wait_ready(f"{name}-{one}")
    with faults.no_operator(platform):
        platform.kubectl("delete", "mq", f"{name}-retain", f"{name}-purge", "--wait=false")
        platform.kubectl("delete", "namespace", other.namespace, "--wait=false")
        _gone(platform, f"{name}-retain")
        eventually(_no_namespace(other), seconds=GONE_S, what=f"the end of {other.namespace}")
        # Its messages cannot be purged yet: it waits for an operator, and for nothing else.
        assert platform.exists("mq", f"{name}-purge")
    _gone(platform, f"{name}-purge")
    assert_two_operators(platform)


def _declare(platform: Platform, name: str, **spec: object) -> None:
    """Declare a queue that needs nothing but our image."""
    worker = {
        "image": platform.image,
        "app": "celeriac.selftest:app",
        "pool": "Solo",
        "concurrency": 1,
        "drainSeconds": 5,
    }
    resource: Object = {
        "apiVersion": "celeriac.dev/v1alpha1",
        "kind": "MessageQueue",
        "metadata": {"name": name},
        "spec": {"worker": worker, **spec},
    }
    platform.apply(resource)


def _declare_with_secret(place: Platform, url: str) -> None:
    """Declare a queue that purges, on a broker of its own namespace's Secret."""
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "own"},
        "stringData": {"url": url},
    }
    place.apply(secret)
    _declare(
        place,
        place.namespace,
        broker={"secretRef": {"name": "own"}},
        deletionPolicy="Purge",
        autoscaling={"minReplicas": 1},
    )


def _send(platform: Platform, name: str) -> None:
    jobs = [Job("celeriac.selftest.echo", args=("x",)) for _ in range(3)]
    platform.client().send_many(name, jobs)


def _namespace(platform: Platform, name: str) -> Platform:
    platform.kubectl("create", "namespace", name)
    return dataclasses.replace(platform, namespace=name)


def _no_namespace(place: Platform) -> Callable[[], bool]:
    return lambda: (
        not place.site.kubectl(
            "get", "namespace", place.namespace, "--ignore-not-found", "-o", "name"
        )
    )


def _gone(platform: Platform, name: str) -> None:
    """Wait until nothing of a queue is left in the cluster."""

    def left() -> list[str]:
        items = platform.get(KINDS)["items"]
        names = [it["metadata"]["name"] for it in items]
        return [it for it in names if it.startswith(name)]

    eventually(lambda: not left(), seconds=GONE_S, what=f"nothing left of {name}")
