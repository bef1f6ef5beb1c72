"""A look after a queue: from what is stored and measured to what is written, and when to look again."""

from __future__ import annotations

from typing import Any

import pytest

from celeriac.spec.conditions import ConditionType
from celeriac_operator import kinds
from celeriac_operator.api import ApiError
from celeriac_operator.fence import Fenced
from celeriac_operator.reconcile import (
    BLOCKED_S,
    MOVING_S,
    PURGE_S,
    RUNNING_S,
)
from celeriac_operator.resources import names
from tests.unit.operator.shop import KEY, Shop

PURGE: dict[str, Any] = {"deletionPolicy": "Purge"}


@pytest.fixture
def shop() -> Shop:
    return Shop()


# --- running ------------------------------------------------------------------------------------


def test_a_declared_queue_has_all_its_objects_and_a_status(shop: Shop) -> None:
    shop.declare(worker={"image": "shop:7"})
    look = shop.look()
    assert (look.again_s, look.trouble) == (shop.settings.resync, "")
    for kind, name in (
        (kinds.CONFIG_MAPS, "mail-worker"),
        (kinds.BUDGETS, "mail"),
        (kinds.DEPLOYMENTS, "mail"),
    ):
        meta = shop.stored(kind, name)["metadata"]
        assert meta["labels"][names.QUEUE_LABEL] == "mail"
        assert [(it["uid"], it["controller"]) for it in meta["ownerReferences"]] == [
            ("uid-of-mail", True)
        ]
    (container,) = shop.deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "shop:7"
    assert shop.replicas == 0
    assert shop.on_broker().policy is not None
    assert shop.links[0].leases == {"mail": 15}
    assert shop.conditions()["Ready"] == "True Idle"
    assert shop.stored(kinds.QUEUES)["status"]["observedGeneration"] == 1
    by = {(it.plural, it.sub): it.manager for it in shop.api.writes}
    assert by["messagequeues", "status"] == by["deployments", ""] == names.MANAGER


def test_messages_are_followed_up_at_once_and_down_after_the_delay(shop: Shop) -> None:
    shop.declare(worker={"pool": "Threads", "concurrency": 10})
    shop.look()
    shop.load(ready=35)
    shop.api.written()
    look = shop.look()
    assert shop.replicas == 4
    scaled = next(it for it in shop.api.writes if it.sub == "scale")
    assert (scaled.what, scaled.manager) == ("PATCH deployments/scale mail", names.SCALER)
    assert look.again_s == MOVING_S
    assert shop.conditions()["Reconciling"] == "True ScalingUp"

    shop.load(ready=0)
    shop.looks(30)
    assert shop.replicas == 4
    shop.looks(3)
    assert shop.replicas == 0


def test_the_number_stays_between_the_least_and_the_most(shop: Shop) -> None:
    shop.declare(autoscaling={"minReplicas": 2, "maxReplicas": 5}, worker={"pool": "Solo"})
    shop.looks(2)
    assert shop.replicas == 2
    shop.load(ready=100)
    shop.looks(2)
    assert shop.replicas == 5


def test_nothing_is_written_while_nothing_changes(shop: Shop) -> None:
    shop.declare(autoscaling={"minReplicas": 1})
    shop.looks(2)
    shop.pod()
    shop.looks(2)
    shop.api.written()
    look = shop.looks(30)
    assert shop.api.written() == []
    assert look.again_s == RUNNING_S


def test_an_edit_reaches_workers_and_broker(shop: Shop) -> None:
    shop.declare()
    shop.look()
    shop.declare(worker={"image": "shop:2"}, retry={"maxAttempts": 9}, queue=None)
    shop.look()
    (container,) = shop.deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "shop:2"
    policy = shop.on_broker().policy
    assert policy is not None
    assert policy.retry.max_attempts == 9
    assert shop.stored(kinds.QUEUES)["status"]["observedGeneration"] == 2


def test_what_a_dead_worker_held_is_taken_back(shop: Shop) -> None:
    shop.declare(autoscaling={"minReplicas": 1})
    shop.looks(2)
    shop.pod("mail-1", last={"terminated": {"exitCode": 1}}, restarts=1)
    shop.load(workers=("mail-1:5", "mail-1:99999999999"), leased=1)
    shop.looks(2)
    assert shop.on_broker().taken_back == ["mail-1:5"]


def test_a_schedule_is_looked_at_when_it_is_due(shop: Shop) -> None:
    shop.declare(schedules=[{"name": "clean", "cron": "* * * * *", "task": "shop.clean"}])
    look = shop.look()
    assert look.again_s == pytest.approx(60, abs=1)
    shop.clock.now += 61
    shop.look()
    assert [it.task for it in shop.on_broker().published] == ["shop.clean"]


def test_another_password_means_another_link_and_other_workers(shop: Shop) -> None:
    shop.declare()
    shop.look()
    before = shop.deployment["spec"]["template"]["metadata"]
    shop.secret(url="celeriac://:new@redis.example:6379/0")
    shop.clock.now += 16
    shop.look()
    assert [it.closed for it in shop.links] == [True, False]
    assert shop.links[1].included == {KEY: "mail"}
    assert shop.deployment["spec"]["template"]["metadata"] != before
    assert shop.conditions()["Ready"] == "True Idle"


def test_a_queue_that_is_gone_is_forgotten(shop: Shop) -> None:
    shop.declare()
    shop.look()
    assert shop.reconciler.statuses()[KEY].queue_name == "mail"
    shop.delete()
    look = shop.look()
    assert (look.again_s, look.trouble) == (None, "")
    assert shop.api.written() == []
    assert shop.links[0].closed
    assert not shop.reconciler.statuses()


def test_queues_of_one_broker_share_a_link_until_the_last_is_gone(shop: Shop) -> None:
    for name in ("mail", "orders"):
        shop.declare(name)
        shop.look(name)
    (link,) = shop.links
    assert link.included == {KEY: "mail", ("shop", "orders"): "orders"}
    shop.delete()
    shop.look()
    assert not link.closed
    assert [it.url for it in shop.brokers.links()] == [link.url]
    shop.delete("orders")
    shop.look("orders")
    assert link.closed
    assert not shop.brokers.links()


def test_a_new_operator_goes_on_from_the_status_that_stands(shop: Shop) -> None:
    shop.declare()
    shop.looks(2)
    before = shop.stored(kinds.QUEUES)["status"]["conditions"]
    shop.clock.now += 3600
    shop.start()
    shop.declare(retry={"maxAttempts": 9})
    shop.look()
    after = shop.stored(kinds.QUEUES)["status"]["conditions"]
    since = "lastTransitionTime"
    assert [it[since] for it in after] == [it[since] for it in before]
    assert after != before


def test_a_resource_made_anew_inherits_nothing(shop: Shop) -> None:
    shop.declare(autoscaling={"minReplicas": 1})
    shop.look()
    shop.delete()
    shop.declare(meta={"uid": "another"}, worker={"pool": "Gevent"})
    shop.on_broker().calls.clear()
    look = shop.look()
    assert look.again_s == shop.settings.resync
    assert shop.on_broker().calls == []
    assert shop.api.find(kinds.DEPLOYMENTS, "mail") is None


# --- what is in the way -------------------------------------------------------------------------


def test_a_silent_broker_keeps_the_number_of_workers(shop: Shop) -> None:
    shop.declare(worker={"pool": "Solo"})
    shop.look()
    shop.load(ready=3)
    shop.looks(2)
    shop.broker_goes()
    look = shop.looks(40)
    assert shop.replicas == 3
    assert look.again_s == BLOCKED_S
    assert shop.conditions()["BrokerReachable"] == "False BrokerUnreachable"
    shop.broker_comes()
    shop.look()
    assert shop.conditions()["BrokerReachable"] == "True BrokerAnswers"


def test_without_a_broker_nothing_is_made_until_its_secret_is_there(shop: Shop) -> None:
    del shop.api.objects["secrets", "shop", "celeriac-broker"]
    shop.declare()
    look = shop.look()
    assert look.again_s == BLOCKED_S
    assert shop.conditions()["Stalled"] == "True BrokerNotConfigured"
    assert shop.api.find(kinds.DEPLOYMENTS, "mail") is None
    shop.secret(url="celeriac://redis.example:6379/0")
    shop.looks(2)
    assert shop.conditions()["Ready"] == "True Idle"
    assert shop.deployment


def test_hands_off_means_that_nothing_but_the_status_is_written(shop: Shop) -> None:
    shop.declare(autoscaling={"minReplicas": 1})
    shop.look()
    shop.api.written()
    shop.declare(
        meta={"annotations": {names.PAUSED: "true"}},
        worker={"image": "shop:2"},
        autoscaling={"minReplicas": 3},
    )
    look = shop.look()
    assert look.again_s is None
    assert shop.api.written() == ["PATCH messagequeues/status mail"]
    assert shop.conditions()["Paused"] == "True HandsOff"
    assert shop.replicas == 1


def test_what_cannot_be_read_stalls_its_queue_and_makes_nothing(shop: Shop) -> None:
    shop.declare(worker={"pool": "Gevent"})
    look = shop.look()
    assert look.again_s == shop.settings.resync
    assert shop.conditions()["Stalled"] == "True InvalidSpec"
    assert "not 'Gevent'" in shop.message(ConditionType.STALLED)
    assert shop.events() == ["InvalidSpec"]
    shop.look()
    assert shop.events() == ["InvalidSpec"], "once"
    assert shop.api.find(kinds.DEPLOYMENTS, "mail") is None


def test_the_last_good_declaration_stays_in_force(shop: Shop) -> None:
    shop.declare(worker={"pool": "Solo"})
    shop.look()
    shop.declare(worker={"pool": "Gevent"})
    shop.load(ready=3)
    shop.looks(2)
    assert shop.replicas == 3
    assert shop.conditions()["Stalled"] == "True InvalidSpec"
    shop.declare(worker={"pool": "Solo"})
    shop.look()
    assert shop.conditions()["Stalled"] == "False AsDeclared"


def test_what_only_a_newer_version_knows_is_said(shop: Shop) -> None:
    shop.declare(newField=1)
    shop.look()
    assert shop.conditions()["Ready"] == "True Idle"
    assert "spec.newField" in shop.message(ConditionType.RECONCILING)


def test_the_older_of_two_keeps_a_queue_and_the_other_gives_way(shop: Shop) -> None:
    shop.declare(meta={"creationTimestamp": "2026-01-02T00:00:00Z"}, autoscaling={"minReplicas": 1})
    shop.look()
    old = {"creationTimestamp": "2026-01-01T00:00:00Z"}
    shop.declare("elder", meta=old, queue="mail")
    look = shop.look()
    assert look.again_s == shop.settings.resync
    assert shop.conditions()["Stalled"] == "True QueueTaken"
    assert "elder" in shop.message(ConditionType.STALLED)
    assert shop.api.find(kinds.DEPLOYMENTS, "mail") is None
    shop.look("elder")
    assert shop.conditions("elder")["Ready"] == "True Idle"
    shop.delete("elder")
    shop.looks(2)
    assert shop.replicas == 1


def test_another_broker_has_other_queues(shop: Shop) -> None:
    shop.secret("mine", url="celeriac://elsewhere.example:6379/0")
    old = {"creationTimestamp": "2026-01-01T00:00:00Z"}
    shop.declare("elder", meta=old, queue="mail", broker={"secretRef": {"name": "mine"}})
    shop.declare(meta={"creationTimestamp": "2026-01-02T00:00:00Z"})
    shop.look()
    assert shop.conditions()["Ready"] == "True Idle"


def test_an_object_of_somebody_elses_is_left_alone_and_told(shop: Shop) -> None:
    meta = {"name": "mail", "namespace": "shop", "labels": {names.QUEUE_LABEL: "mail"}}
    template: dict[str, Any] = {"metadata": {}, "spec": {"containers": []}}
    theirs = shop.api.put(
        kinds.DEPLOYMENTS, {"metadata": meta, "spec": {"replicas": 9, "template": template}}
    )
    shop.declare(autoscaling={"minReplicas": 1})
    look = shop.look()
    assert look.again_s is not None and look.again_s < 1, "the status does not tell of it yet"
    look = shop.look()
    assert (look.again_s, look.trouble) == (BLOCKED_S, "")
    assert shop.conditions()["Stalled"] == "True ObjectTaken"
    assert shop.deployment == theirs
    assert shop.stored(kinds.QUEUES)["status"]["desiredReplicas"] == 1, "nor are theirs counted"
    del shop.api.objects["deployments", "shop", "mail"]
    shop.clock.now += 10
    shop.looks(2)
    assert shop.conditions()["Stalled"] == "False AsDeclared"


def test_a_passing_trouble_is_told_so_that_it_is_tried_again(shop: Shop) -> None:
    shop.declare()
    shop.api.fail("PATCH deployments mail", status=500, message="a webhook is down", times=1)
    assert "a webhook is down" in shop.look().trouble
    assert shop.look().trouble == ""
    assert shop.deployment["spec"]["template"]["metadata"]["labels"][names.TEMPLATE]


TYPO = (
    "failed to create typed patch object (shop/mail; apps/v1, Kind=Deployment): "
    ".spec.template.spec.nodeSelectr: field not declared in schema"
)


def test_a_field_that_no_pod_has_stalls_the_queue_by_name_until_it_is_gone(shop: Shop) -> None:
    shop.declare()
    shop.look()
    shop.declare(worker={"image": "shop:2"})
    shop.api.fail("PATCH deployments mail", status=500, reason="InternalError", message=TYPO)
    shop.looks(2)
    assert shop.conditions()["Stalled"] == "True Refused"
    assert "Deployment mail: " in shop.message(ConditionType.STALLED)
    assert ".spec.template.spec.nodeSelectr" in shop.message(ConditionType.STALLED)
    assert shop.conditions()["Reconciling"] == "Unknown Refused"
    shop.api.failures.clear()
    shop.declare(worker={"image": "shop:3"})
    shop.looks(2)
    assert shop.conditions()["Stalled"] == "False AsDeclared"
    assert shop.conditions()["Reconciling"] == "False AsDeclared"


def test_a_change_that_could_not_be_made_is_not_called_as_declared(shop: Shop) -> None:
    shop.declare()
    shop.look()
    shop.declare(worker={"image": "shop:2"})
    shop.api.fail("PATCH deployments mail", status=500, message="failed calling webhook", times=3)
    for _ in range(3):
        assert shop.look().trouble
        assert shop.conditions()["Reconciling"] == "True Retrying"
        message = shop.message(ConditionType.RECONCILING)
        assert "the Deployment mail could not be written: failed calling webhook" in message
    shop.look()
    assert shop.conditions()["Reconciling"] == "False AsDeclared"


def test_an_older_schema_gets_as_much_of_the_status_as_it_knows(shop: Shop) -> None:
    shop.declare()
    text = "failed to create typed patch object: .status.new: field not declared in schema"
    shop.api.fail("PATCH messagequeues/status", status=500, message=text, times=1)
    shop.look()
    assert shop.conditions()["Ready"] == "True Idle"


def test_what_was_known_of_a_broker_is_not_used_when_its_secret_is_gone(shop: Shop) -> None:
    shop.declare()
    shop.look()
    del shop.api.objects["secrets", "shop", "celeriac-broker"]
    shop.clock.now += 61
    shop.declare(worker={"image": "shop:2"})
    shop.api.written()
    shop.look()
    assert shop.conditions()["Stalled"] == "True BrokerNotConfigured"
    kinds_written = {it.split()[1] for it in shop.api.written()}
    assert kinds_written == {"messagequeues/status", "events"}
    assert shop.links[0].closed


def test_an_event_that_is_refused_holds_up_nothing(shop: Shop) -> None:
    shop.api.fail("POST events", status=403)
    shop.declare(worker={"pool": "Gevent"})
    assert shop.look().trouble == ""
    assert shop.conditions()["Stalled"] == "True InvalidSpec"


def test_a_status_that_cannot_be_written_is_a_trouble_and_is_written_later(shop: Shop) -> None:
    shop.declare()
    shop.api.fail("PATCH messagequeues/status", times=1)
    with pytest.raises(ApiError):
        shop.look()
    shop.look()
    assert shop.conditions()["Ready"] == "True Idle"


def test_who_does_not_lead_writes_nothing_anywhere(shop: Shop) -> None:
    shop.declare(autoscaling={"minReplicas": 1})
    shop.fence.open_until(0.0)
    with pytest.raises(Fenced):
        shop.look()
    assert shop.api.written() == []
    assert not shop.links or "declare" not in shop.on_broker().calls


# --- the end ------------------------------------------------------------------------------------


def finalizers(shop: Shop) -> list[str]:
    found: list[str] = shop.stored(kinds.QUEUES)["metadata"].get("finalizers", [])
    return found


def test_a_finalizer_is_there_while_and_only_while_there_is_something_to_purge(shop: Shop) -> None:
    shop.declare(meta={"finalizers": ["somebody.else/s"]}, **PURGE)
    shop.looks(2)
    assert finalizers(shop) == ["somebody.else/s", names.PURGE_FINALIZER]
    shop.declare()
    shop.looks(2)
    assert finalizers(shop) == ["somebody.else/s"]


def test_a_finalizer_is_set_on_the_very_version_that_was_seen(shop: Shop) -> None:
    shop.declare(**PURGE)
    shop.look()
    (write,) = (it for it in shop.api.writes if "finalizers" in it.body.get("metadata", {}))
    assert write.body["metadata"]["uid"] == "uid-of-mail"
    assert int(write.body["metadata"]["resourceVersion"]) > 0


def with_a_worker(shop: Shop, **more: Any) -> None:
    shop.declare(autoscaling={"minReplicas": 1}, **{**PURGE, **more})
    shop.looks(2)
    shop.pod()
    shop.looks(2)
    shop.delete()


def test_a_queue_is_purged_once_its_workers_are_gone_and_then_it_goes(shop: Shop) -> None:
    with_a_worker(shop)
    assert shop.look().again_s == MOVING_S
    assert shop.api.find(kinds.DEPLOYMENTS, "mail") is None, "its workers drain"
    assert "purge" not in shop.on_broker().calls
    assert finalizers(shop) == [names.PURGE_FINALIZER]
    shop.api.delete(kinds.PODS, "shop", "mail-1")
    look = shop.looks(2)
    assert look.again_s is None
    assert shop.on_broker().calls.count("purge") == 1
    assert shop.api.find(kinds.QUEUES, "mail") is None
    assert shop.events()[-1] == "Purged"
    assert shop.links[0].closed


def test_a_worker_that_drains_for_long_does_not_hold_up_the_deletion(shop: Shop) -> None:
    with_a_worker(shop)
    shop.look()
    shop.clock.now += PURGE_S + 1
    shop.looks(2)
    assert "purge" in shop.on_broker().calls
    assert shop.api.find(kinds.QUEUES, "mail") is None


def test_a_broker_that_is_gone_does_not_hold_up_the_deletion_for_long(shop: Shop) -> None:
    with_a_worker(shop)
    shop.broker_goes()
    assert shop.look().again_s == MOVING_S
    shop.clock.now += PURGE_S + 1
    shop.look()
    assert shop.api.find(kinds.QUEUES, "mail") is None
    assert shop.events()[-1] == "NotPurged"


def test_hands_off_holds_for_the_messages_too(shop: Shop) -> None:
    shop.declare(**PURGE)
    shop.looks(2)
    shop.declare(meta={"annotations": {names.PAUSED: "true"}}, **PURGE)
    shop.delete()
    shop.look()
    assert "purge" not in shop.on_broker().calls
    assert shop.api.find(kinds.QUEUES, "mail") is None
    assert shop.events() == ["NotPurged"]


def test_a_queue_of_somebody_elses_is_not_purged(shop: Shop) -> None:
    shop.declare("elder", meta={"creationTimestamp": "2026-01-01T00:00:00Z"}, queue="mail")
    shop.look("elder")
    shop.declare(
        meta={
            "creationTimestamp": "2026-01-02T00:00:00Z",
            "finalizers": [names.PURGE_FINALIZER],
        },
        **PURGE,
    )
    shop.delete()
    shop.look()
    assert "purge" not in shop.on_broker().calls
    assert shop.api.find(kinds.QUEUES, "mail") is None
    assert shop.events()[-1] == "NotPurged"


def test_without_our_finalizer_a_deletion_is_nobodys_business(shop: Shop) -> None:
    shop.declare(meta={"finalizers": ["somebody.else/s"]})
    shop.look()
    shop.delete()
    look = shop.look()
    assert (look.again_s, look.trouble) == (None, "")
    assert shop.api.written() == []
