"""The contract of all backends, held by Deployments: a real API server and controllers, a fake kubelet."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from typing import Any

import pytest

from celeriac.broker.url import parse
from celeriac.spec.queue import MessageQueue
from celeriac_operator import kinds
from celeriac_operator.api import ApiError
from celeriac_operator.apply import Applier, Blocked
from celeriac_operator.backend import KubernetesBackend, key_of
from celeriac_operator.brokers import BrokerAddress
from celeriac_operator.declared import declared
from celeriac_operator.resources import names
from celeriac_operator.seen import queue_seen
from celeriac_operator.settings import Settings
from celeriac_operator.world import World
from tests.api.fake_kubelet import FakeKubelet
from tests.api.kube import Kube, admin_api
from tests.contract.test_backends import (
    Yard,
    test_a_changed_worker_replaces_all_one_for_one,
    test_a_killed_worker_is_told_as_lost_until_acknowledged_and_replaced,
    test_a_policy_change_replaces_nobody,
    test_a_removed_queue_drains_and_is_forgotten,
    test_an_unknown_queue_has_no_workers,
    test_one_queue_s_workers_are_not_another_s,
    test_what_is_wanted_already_changes_nothing,
    test_workers_come_up_to_the_number_and_go_down_to_it,
    yard,
)

__all__ = [
    "test_a_changed_worker_replaces_all_one_for_one",
    "test_a_killed_worker_is_told_as_lost_until_acknowledged_and_replaced",
    "test_a_policy_change_replaces_nobody",
    "test_a_removed_queue_drains_and_is_forgotten",
    "test_an_unknown_queue_has_no_workers",
    "test_one_queue_s_workers_are_not_another_s",
    "test_what_is_wanted_already_changes_nothing",
    "test_workers_come_up_to_the_number_and_go_down_to_it",
    "yard",
]

#: Nobody connects to it: the broker's part in this is played by the harness.
URL = "celeriac://redis.example:6379/0"
WATCHED = (kinds.DEPLOYMENTS, kinds.PODS, kinds.CONFIG_MAPS, kinds.BUDGETS)


class _Backend(KubernetesBackend):
    """Does everything inside the cluster's network, and reads the World before each look."""

    harness: KubernetesHarness

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in ("observe", "ensure", "remove", "hurry", "acknowledge"):
            return found

        def inside(*args: Any, **kwargs: Any) -> Any:
            with self.harness.kube.cluster.namespace.entered():
                if name == "observe":
                    self.harness.read()
                return found(*args, **kwargs)

        return inside

    def acknowledge(self, queue: MessageQueue, workers: Collection[str]) -> None:
        super().acknowledge(queue, workers)
        self.harness.dead -= set(workers)


class KubernetesHarness:
    """Plays the broker: it has heard of every worker that runs, and of the dead until told otherwise."""

    step_s = 0.1

    def __init__(self, kube: Kube, kubelet: FakeKubelet) -> None:
        self.kube = kube
        self.kubelet = kubelet
        self.dead: set[str] = set()
        self.api = admin_api(kube.cluster)
        self.world = World()
        settings = Settings(namespace=kube.namespace, image="fake:1")
        self.later_s = 0.0
        applier = Applier(self.api, self.world, resync_s=300, monotonic=self.monotonic)
        self.backend = _Backend(self.api, self.world, applier, settings)
        self.backend.harness = self

    def monotonic(self) -> float:
        """The applier's clock, which may be put forward."""
        return time.monotonic() + self.later_s

    def read(self) -> None:
        """Read the World anew, as watching would."""
        for kind in WATCHED:
            since = time.monotonic()
            items = self.api.list(kind, self.kube.namespace, labels=names.QUEUE_LABEL)
            self.world.replace(kind, items, namespace=self.kube.namespace, since=since)

    def declare(self, queue: MessageQueue) -> MessageQueue:
        spec = queue.model_dump(by_alias=True, exclude_defaults=True, mode="json")["spec"]
        try:
            made = self.kube.create(kinds.QUEUES, {"metadata": {"name": queue.name}, "spec": spec})
        except ApiError:
            made = self.kube.patch(kinds.QUEUES, queue.name, {"spec": spec})
        found, _ = declared(queue_seen(made))
        address = BrokerAddress((self.kube.namespace, "celeriac-broker"), "url", URL, parse(URL))
        self.backend.reach(key_of(found), address)
        return found

    def heard(self, queue: MessageQueue) -> dict[str, int]:
        return dict.fromkeys((*self.workers(queue), *self.dead), 0)

    def workers(self, queue: MessageQueue) -> set[str]:
        pods = self.kube.pods(queue.name)
        known = self.kubelet.pods()
        return {known[name].worker for name in pods if name in known and known[name].began}

    def kill(self, queue: MessageQueue, worker: str) -> None:
        self.dead.add(worker)
        self.kubelet.kill(worker.partition(":")[0])

    def close(self) -> None:
        pass


@pytest.fixture
def harness(kube: Kube, kubelet: FakeKubelet) -> Iterator[KubernetesHarness]:
    """The harness that the suite's other fixtures ask for."""
    made = KubernetesHarness(kube, kubelet)
    yield made
    made.close()


def test_the_suite_runs_against_this_harness(yard: Yard) -> None:
    """Its tests come from another module, which has harnesses of its own."""
    assert isinstance(yard.harness, KubernetesHarness)


def test_an_obstacle_of_before_hides_no_trouble_of_now(
    harness: KubernetesHarness, yard: Yard
) -> None:
    kube, queue = harness.kube, yard.queue
    taken = queue.name + names.WORKER_SUFFIX
    kube.create(kinds.CONFIG_MAPS, {"metadata": {"name": taken}})
    with pytest.raises(Blocked, match="belongs to somebody else"):
        harness.backend.ensure(queue, replicas=1)
    assert harness.backend.obstacle(key_of(queue)) is not None
    kube.delete(kinds.CONFIG_MAPS, taken)
    ours = {"apiVersion": "celeriac.dev/v1alpha1", "kind": "MessageQueue", "controller": True}
    owner = {**ours, "name": queue.name, "uid": queue.metadata.uid}
    meta = {"name": taken, "finalizers": ["test/stays"], "ownerReferences": [owner]}
    kube.create(kinds.CONFIG_MAPS, {"metadata": meta})
    kube.delete(kinds.CONFIG_MAPS, taken)
    harness.later_s = 60  # a refusal is believed for a while
    with pytest.raises(ApiError, match="still going"):
        harness.backend.ensure(queue, replicas=1)
    assert harness.backend.obstacle(key_of(queue)) is None
    kube.patch(kinds.CONFIG_MAPS, taken, {"metadata": {"finalizers": None}})
