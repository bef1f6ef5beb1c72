"""What is applied, when once more, and what is never touched."""

from __future__ import annotations

from typing import Any

import pytest

from celeriac.spec.conditions import Reason
from celeriac_operator import kinds
from celeriac_operator.api import ApiError
from celeriac_operator.apply import Applier, Blocked
from celeriac_operator.fence import Fence
from celeriac_operator.resources import Object, names
from celeriac_operator.resources.config_map import config_map
from celeriac_operator.resources.deployment import BrokerSecret, deployment, seed
from celeriac_operator.world import World
from tests.unit.operator.conftest import Time, declare
from tests.unit.operator.dictionary import Dictionary

RESYNC_S = 300
OWNER = {"uid": "uid-of-mail", "controller": True}


class Bench:
    """An Applier with all that it needs; every answer of the server is seen at once."""

    def __init__(self, clock: Time) -> None:
        self.clock = clock
        self.api = Dictionary(open_fence())
        self.world = World(monotonic=clock)
        self.applier = Applier(self.api, self.world, resync_s=RESYNC_S, monotonic=clock)

    def see(self) -> None:
        for kind in (kinds.CONFIG_MAPS, kinds.DEPLOYMENTS):
            items = self.api.list(kind, None, labels=names.QUEUE_LABEL)
            self.world.replace(kind, items, namespace=None, since=float("inf"))

    def ensure(self, **spec: Any) -> list[str]:
        """Ensure the ConfigMap; return what was written."""
        self.see()
        self.applier.ensure(kinds.CONFIG_MAPS, config_map(declare(**spec)))
        return self.api.written()

    def ensure_deployment(self, **spec: Any) -> list[str]:
        self.see()
        queue = declare(**spec)
        body = deployment(queue, image="shop:1", broker=BrokerSecret("b", "url", digest="0"))
        first = seed(queue, image="shop:1", replicas=2)
        self.applier.ensure(kinds.DEPLOYMENTS, body, seed=first)
        return self.api.written()


def open_fence() -> Fence:
    fence = Fence()
    fence.open_until(float("inf"))
    return fence


@pytest.fixture
def bench(clock: Time) -> Bench:
    return Bench(clock)


APPLIED = "PATCH configmaps mail-worker"


def test_an_object_is_applied_once_with_force_and_as_the_operator(bench: Bench) -> None:
    bench.see()
    bench.applier.ensure(kinds.CONFIG_MAPS, config_map(declare()))
    (write,) = bench.api.writes
    assert (write.what, write.manager, write.forced) == (APPLIED, "celeriac-operator", True)
    assert write.body["data"]["CELERIAC_WORKER_APP"] == "shop.app:app"
    assert bench.api.written() == [APPLIED]
    assert bench.ensure() == []


def test_a_change_is_applied_to_the_very_object_that_was_seen(bench: Bench) -> None:
    bench.ensure()
    bench.see()
    bench.applier.ensure(kinds.CONFIG_MAPS, config_map(declare(worker={"concurrency": 9})))
    (write,) = bench.api.writes
    found = bench.api.find(kinds.CONFIG_MAPS, "mail-worker")
    assert found is not None
    assert write.body["metadata"]["uid"] == found["metadata"]["uid"]
    assert found["data"]["CELERIAC_WORKER_CONCURRENCY"] == "9"


def edit(bench: Bench, **over: Any) -> None:
    found = bench.api.find(kinds.CONFIG_MAPS, "mail-worker")
    assert found is not None
    bench.api.put(kinds.CONFIG_MAPS, {**found, **over})


def test_what_somebody_else_changes_is_repaired(bench: Bench) -> None:
    bench.ensure()
    edit(bench, data={"CELERIAC_WORKER_APP": "their.app"})
    assert bench.ensure() == [APPLIED]
    found = bench.api.find(kinds.CONFIG_MAPS, "mail-worker")
    assert found is not None
    assert found["data"]["CELERIAC_WORKER_APP"] == "shop.app:app"
    assert bench.ensure() == []


def test_what_is_deleted_is_made_anew(bench: Bench) -> None:
    bench.ensure()
    bench.api.delete(kinds.CONFIG_MAPS, "shop", "mail-worker")
    bench.api.written()
    assert bench.ensure() == [APPLIED]


def test_after_a_start_each_object_is_applied_once_more_within_a_resync(
    bench: Bench, clock: Time
) -> None:
    bench.ensure()
    bench.applier = Applier(bench.api, bench.world, resync_s=RESYNC_S, monotonic=clock)
    assert bench.ensure() == [], "not all at once"
    clock.now += RESYNC_S
    assert bench.ensure() == [APPLIED]
    clock.now += 10 * RESYNC_S
    assert bench.ensure() == []


def test_replicas_are_nobodys_change_of_a_deployment(bench: Bench) -> None:
    bench.ensure_deployment()
    found = bench.api.find(kinds.DEPLOYMENTS, "mail")
    assert found is not None
    found["spec"]["replicas"] = 9
    bench.api.put(kinds.DEPLOYMENTS, found)
    assert bench.ensure_deployment() == []


def test_a_deployment_is_created_by_who_scales_it_and_then_applied(bench: Bench) -> None:
    bench.see()
    queue = declare()
    body = deployment(queue, image="shop:1", broker=BrokerSecret("b", "url", digest="0"))
    bench.applier.ensure(kinds.DEPLOYMENTS, body, seed=seed(queue, image="shop:1", replicas=2))
    created, applied = bench.api.writes
    assert (created.what, created.manager) == (
        "POST deployments mail",
        "celeriac-operator-scale",
    )
    assert created.body["spec"]["replicas"] == 2
    assert (applied.what, applied.manager) == ("PATCH deployments mail", "celeriac-operator")
    assert "replicas" not in applied.body["spec"]


def foreign(kind: str, owners: list[Object], **meta: Any) -> Object:
    return {
        "kind": kind,
        "metadata": {
            "name": "mail" if kind == "Deployment" else "mail-worker",
            "namespace": "shop",
            "ownerReferences": owners,
            **meta,
        },
        "spec": {"template": {"metadata": {}}},
        "data": {"theirs": "1"},
    }


@pytest.mark.parametrize(
    "owners", [[], [{"uid": "another", "controller": True}], [{**OWNER, "controller": False}]]
)
@pytest.mark.parametrize("labels", [{}, {names.QUEUE_LABEL: "mail"}])
def test_what_belongs_to_somebody_else_is_never_written(
    bench: Bench, owners: list[Object], labels: dict[str, str]
) -> None:
    before = bench.api.put(kinds.CONFIG_MAPS, foreign("ConfigMap", owners, labels=labels))
    with pytest.raises(Blocked) as blocked:
        bench.ensure()
    assert blocked.value.obstacle.reason is Reason.OBJECT_TAKEN
    assert bench.api.find(kinds.CONFIG_MAPS, "mail-worker") == before
    other = bench.api.put(kinds.DEPLOYMENTS, foreign("Deployment", owners, labels=labels))
    with pytest.raises(Blocked):
        bench.ensure_deployment()
    assert bench.api.find(kinds.DEPLOYMENTS, "mail") == other


def test_an_object_that_is_still_going_is_waited_for(bench: Bench) -> None:
    bench.ensure()
    edit_meta = {"finalizers": ["foregroundDeletion"]}
    found = bench.api.find(kinds.CONFIG_MAPS, "mail-worker")
    assert found is not None
    bench.api.put(kinds.CONFIG_MAPS, {**found, "metadata": {**found["metadata"], **edit_meta}})
    bench.api.delete(kinds.CONFIG_MAPS, "shop", "mail-worker")
    bench.api.written()
    with pytest.raises(ApiError, match="still going"):
        bench.ensure()
    assert bench.api.written() == []


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 403, 405, 422])
def test_a_refusal_is_told_and_believed_for_a_while(bench: Bench, clock: Time, status: int) -> None:
    bench.api.fail(APPLIED, status=status, reason="Invalid", message="image: is wrong")
    with pytest.raises(Blocked) as blocked:
        bench.ensure()
    assert blocked.value.obstacle.reason is Reason.REFUSED
    assert blocked.value.obstacle.message == (
        "the API server refuses the ConfigMap mail-worker: image: is wrong"
    )
    bench.api.written()
    with pytest.raises(Blocked):
        bench.ensure()
    assert bench.api.written() == [], "the same thing is not tried at once"
    clock.now += 10
    with pytest.raises(Blocked):
        bench.ensure()
    assert bench.api.written() == [APPLIED]
    with pytest.raises(Blocked):
        bench.ensure(worker={"concurrency": 9})
    assert bench.api.written() == [APPLIED], "another one is"
    bench.api.failures.clear()
    assert bench.ensure() == [APPLIED]


@pytest.mark.parametrize("status", [0, 409, 429, 503])
def test_a_passing_trouble_is_tried_again_at_once(bench: Bench, status: int) -> None:
    bench.api.fail(APPLIED, status=status, times=1)
    with pytest.raises(ApiError) as error:
        bench.ensure()
    assert error.value.status == status
    bench.api.written()
    assert bench.ensure() == [APPLIED]


def test_a_namespace_that_goes_is_no_refusal(bench: Bench) -> None:
    text = "unable to create new content in namespace shop because it is being terminated"
    bench.api.fail(APPLIED, status=403, reason="Forbidden", message=text)
    with pytest.raises(ApiError, match="being terminated"):
        bench.ensure()


def test_a_cluster_without_keda_is_told_what_it_lacks(bench: Bench) -> None:
    body = {"metadata": {**config_map(declare())["metadata"], "name": "mail"}, "spec": {}}
    with pytest.raises(Blocked) as blocked:
        bench.applier.ensure(kinds.SCALED_OBJECTS, body)
    assert blocked.value.obstacle.reason is Reason.KEDA_MISSING


# --- secrets, deletion --------------------------------------------------------------------------


def secret(text: str) -> Object:
    meta = {**config_map(declare())["metadata"], "name": "mail-broker"}
    return {"metadata": meta, "stringData": {"url": text}}


def test_a_secret_is_read_now_and_then_and_written_when_it_differs(
    bench: Bench, clock: Time
) -> None:
    def ensure(text: str) -> list[str]:
        bench.applier.ensure_secret(secret(text))
        return bench.api.written()

    assert ensure("a") == ["PATCH secrets mail-broker"]
    bench.api.asked.clear()
    assert ensure("a") == []
    assert bench.api.asked == []
    assert ensure("b") == ["PATCH secrets mail-broker"]
    found = bench.api.find(kinds.SECRETS, "mail-broker")
    assert found is not None
    bench.api.put(kinds.SECRETS, {**found, "stringData": {"url": "theirs"}})
    clock.now += RESYNC_S
    assert ensure("b") == ["PATCH secrets mail-broker"]


def test_a_secret_of_somebody_elses_is_never_written(bench: Bench) -> None:
    before = bench.api.put(
        kinds.SECRETS,
        {"metadata": {"name": "mail-broker", "namespace": "shop"}, "stringData": {"url": "x"}},
    )
    with pytest.raises(Blocked):
        bench.applier.ensure_secret(secret("a"))
    assert bench.api.find(kinds.SECRETS, "mail-broker") == before


def test_only_what_belongs_to_the_queue_is_deleted_and_that_very_object(bench: Bench) -> None:
    bench.ensure()
    bench.see()
    bench.applier.delete(kinds.CONFIG_MAPS, "shop", "mail-worker", owner="another")
    assert bench.api.written() == []
    found = bench.api.find(kinds.CONFIG_MAPS, "mail-worker")
    assert found is not None
    bench.applier.delete(kinds.CONFIG_MAPS, "shop", "mail-worker", owner="uid-of-mail")
    (write,) = bench.api.writes
    assert write.body["preconditions"] == {"uid": found["metadata"]["uid"]}
    assert write.body["propagationPolicy"] == "Background"
    assert bench.api.find(kinds.CONFIG_MAPS, "mail-worker") is None


def test_another_object_of_that_name_is_not_ours_to_delete(bench: Bench) -> None:
    bench.ensure()
    bench.see()
    edit(bench, metadata={"name": "mail-worker", "namespace": "shop", "uid": "another"})
    bench.applier.delete(kinds.CONFIG_MAPS, "shop", "mail-worker", owner="uid-of-mail")
    assert bench.api.find(kinds.CONFIG_MAPS, "mail-worker") is not None


def test_what_is_going_already_is_not_deleted_again(bench: Bench) -> None:
    bench.ensure()
    found = bench.api.find(kinds.CONFIG_MAPS, "mail-worker")
    assert found is not None
    going = {**found["metadata"], "deletionTimestamp": "2026-01-31T09:30:00Z", "finalizers": ["x"]}
    bench.api.put(kinds.CONFIG_MAPS, {**found, "metadata": going})
    bench.see()
    bench.applier.delete(kinds.CONFIG_MAPS, "shop", "mail-worker", owner="uid-of-mail")
    assert bench.api.written() == []


def test_a_queue_that_is_gone_is_forgotten_with_its_refusals(bench: Bench) -> None:
    bench.api.fail(APPLIED, status=422, times=1)
    with pytest.raises(Blocked):
        bench.ensure()
    bench.api.written()
    bench.applier.forget(("other", "mail"))
    with pytest.raises(Blocked):
        bench.ensure()
    bench.applier.forget(("shop", "mail"))
    assert bench.ensure() == [APPLIED]
