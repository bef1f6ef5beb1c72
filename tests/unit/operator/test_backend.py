"""Workers as pods: who says how many run, which of them go first, and what is removed."""

from __future__ import annotations

from typing import Any

import pytest

from celeriac_operator import kinds
from celeriac_operator.resources import names
from tests.unit.operator.shop import URL, Shop

SCALE = "PATCH deployments/scale mail"


@pytest.fixture
def shop() -> Shop:
    return Shop(image="default:1")


def begin(shop: Shop, **spec: Any) -> None:
    shop.declare(**spec)
    shop.looks(2)
    shop.api.written()


def test_without_an_image_of_its_own_a_queue_runs_the_operators(shop: Shop) -> None:
    begin(shop, worker={"image": ""})
    (container,) = shop.deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "default:1"


def test_without_any_image_nothing_can_be_run() -> None:
    shop = Shop()
    shop.declare(worker={"image": ""})
    shop.looks(2)
    assert shop.conditions()["Stalled"] == "True InvalidSpec"
    assert shop.api.find(kinds.DEPLOYMENTS, "mail") is None


@pytest.mark.parametrize("wanted", [True, False])
def test_a_network_policy_is_there_if_it_is_wanted_and_else_goes(wanted: bool) -> None:
    shop = Shop(network_policy=True)
    begin(shop, worker={"image": "shop:1"})
    assert shop.api.find(kinds.POLICIES, "mail")
    shop.backend._settings = shop.settings.model_copy(update={"network_policy": wanted})
    shop.looks(2)
    assert (shop.api.find(kinds.POLICIES, "mail") is not None) is wanted


def test_a_secret_from_elsewhere_is_copied_beside_the_workers(shop: Shop) -> None:
    del shop.api.objects["secrets", "shop", "celeriac-broker"]
    shop.secret(namespace="platform", url=URL)
    begin(shop)
    copied = shop.stored(kinds.SECRETS, "mail-broker")
    assert copied["metadata"]["ownerReferences"][0]["uid"] == "uid-of-mail"
    (container,) = shop.deployment["spec"]["template"]["spec"]["containers"]
    env = {it["name"]: it for it in container["env"]}
    reference = env["CELERIAC_BROKER_URL"]["valueFrom"]["secretKeyRef"]
    assert reference == {"name": "mail-broker", "key": "url"}


def test_a_secret_that_is_here_is_not_copied(shop: Shop) -> None:
    begin(shop)
    assert shop.api.find(kinds.SECRETS, "mail-broker") is None


# --- the number of workers ----------------------------------------------------------------------


def test_off_keeps_a_fixed_number(shop: Shop) -> None:
    begin(shop, autoscaling={"mode": "Off", "minReplicas": 2})
    shop.load(ready=1000)
    shop.looks(3)
    assert shop.replicas == 2


def test_somebody_elses_number_is_undone_by_us_alone(shop: Shop) -> None:
    begin(shop, autoscaling={"minReplicas": 2})
    found = shop.deployment
    found["spec"]["replicas"] = 7
    shop.api.put(kinds.DEPLOYMENTS, found)
    shop.looks(2)
    assert shop.replicas == 2
    assert shop.api.written().count(SCALE) == 1


def test_a_horizontal_pod_autoscaler_keeps_its_number(shop: Shop) -> None:
    begin(shop, autoscaling={"mode": "HPA"})
    assert shop.replicas == 1, "it could never start from zero"
    found = shop.deployment
    found["spec"]["replicas"] = 7
    shop.api.put(kinds.DEPLOYMENTS, found)
    shop.load(ready=0)
    shop.looks(3)
    assert shop.replicas == 7


def test_handing_over_to_an_autoscaler_gives_it_something_to_scale(shop: Shop) -> None:
    begin(shop)
    assert shop.replicas == 0
    shop.declare(autoscaling={"mode": "HPA", "minReplicas": 3})
    shop.looks(2)
    assert shop.replicas == 3


def test_keda_is_given_the_queue_and_we_keep_our_hands_off_its_number(shop: Shop) -> None:
    shop.api.keda = True
    begin(shop, autoscaling={"mode": "KEDA", "minReplicas": 1})
    scaled = shop.stored(kinds.SCALED_OBJECTS)
    assert scaled["spec"]["scaleTargetRef"] == {"name": "mail"}
    assert scaled["spec"]["minReplicaCount"] == 1
    shop.load(ready=1000)
    shop.looks(3)
    assert SCALE not in shop.api.written()
    assert shop.replicas == 0


def test_keda_lets_go_before_we_scale(shop: Shop) -> None:
    shop.api.keda = True
    begin(shop, autoscaling={"mode": "KEDA", "minReplicas": 1})
    shop.declare(autoscaling={"minReplicas": 1})
    held = shop.stored(kinds.SCALED_OBJECTS)
    held["metadata"]["finalizers"] = ["finalizer.keda.sh"]
    shop.api.put(kinds.SCALED_OBJECTS, held)
    shop.looks(3)
    assert SCALE not in shop.api.written()
    del shop.api.objects["scaledobjects", "shop", "mail"]
    shop.looks(2)
    assert shop.replicas == 1


def test_a_password_reaches_keda_by_a_secret_beside_it(shop: Shop) -> None:
    shop.api.keda = True
    shop.secret(url="celeriac://:secret@redis.example:6379/0")
    begin(shop, autoscaling={"mode": "KEDA"})
    login = shop.stored(kinds.AUTHENTICATIONS)
    assert login["spec"]["secretTargetRef"][0]["name"] == "mail-broker"
    assert shop.stored(kinds.SECRETS, "mail-broker")


# --- which of them ------------------------------------------------------------------------------


def test_idle_workers_go_first(shop: Shop) -> None:
    begin(shop, worker={"pool": "Solo"}, autoscaling={"scaleDownDelaySeconds": 0})
    shop.load(ready=3)
    shop.looks(2)
    for name in ("a", "b", "c"):
        shop.pod(name)
    shop.load(ready=0, leased=1, workers=("b:99999999999",))
    shop.api.written()
    shop.looks(2)
    lines = shop.api.written()
    assert lines.index("PATCH pods b") < lines.index(SCALE)
    costs = {
        name: shop.stored(kinds.PODS, name)["metadata"]
        .get("annotations", {})
        .get(names.DELETION_COST, "0")
        for name in ("a", "b", "c")
    }
    assert costs == {"a": "0", "b": "1", "c": "0"}


def test_a_cost_that_cannot_be_written_holds_up_no_scale_down(shop: Shop) -> None:
    begin(shop, worker={"pool": "Solo"}, autoscaling={"scaleDownDelaySeconds": 0})
    shop.load(ready=3)
    shop.looks(2)
    shop.pod("a")
    shop.load(ready=0, leased=1, workers=("a:99999999999",))
    shop.api.fail("PATCH pods")
    shop.looks(2)
    assert shop.replicas == 1


def test_only_pods_that_drain_are_hurried_and_only_those_very_pods(shop: Shop) -> None:
    begin(shop)
    shop.pod("a")
    shop.pod("b", deleting=True)
    shop.see()
    kept = shop.reconciler._keepers.find(shop.world.queue(("shop", "mail")))  # type: ignore[arg-type]
    assert kept is not None
    shop.backend.hurry(kept.keeper.queue)
    (write,) = shop.api.writes
    assert write.what == "DELETE pods b"
    assert write.body["gracePeriodSeconds"] == 1
    assert write.body["preconditions"] == {"uid": "uid-of-Pod-b"}


def test_of_a_queue_that_gives_way_all_goes_that_is_its_own(shop: Shop) -> None:
    shop.api.keda = True
    begin(shop, autoscaling={"mode": "KEDA"})
    shop.see()
    kept = shop.reconciler._keepers.find(shop.world.queue(("shop", "mail")))  # type: ignore[arg-type]
    assert kept is not None
    shop.backend.remove(kept.keeper.queue)
    assert set(shop.api.written()) == {
        "DELETE scaledobjects mail",
        "DELETE deployments mail",
        "DELETE poddisruptionbudgets mail",
        "DELETE configmaps mail-worker",
    }


def test_a_deployment_of_another_queue_of_that_name_is_not_taken_for_ours(shop: Shop) -> None:
    begin(shop, autoscaling={"minReplicas": 1})
    shop.pod()
    found = shop.deployment
    found["metadata"]["ownerReferences"][0]["uid"] = "another"
    theirs = shop.api.put(kinds.DEPLOYMENTS, found)
    shop.looks(2)
    assert shop.conditions()["Stalled"] == "True ObjectTaken"
    assert shop.deployment == theirs
