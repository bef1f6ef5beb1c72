"""The World: the newest news stands, whoever brings it; and what is gone is gone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from celeriac_operator import kinds
from celeriac_operator.world import World

if TYPE_CHECKING:
    from tests.unit.operator.conftest import Raw

KEY = ("shop", "mail")


@pytest.fixture
def world() -> World:
    return World()


def test_news_that_changes_something_names_the_queue(world: World, raw: Raw) -> None:
    assert world.put(kinds.DEPLOYMENTS, raw.deployment(replicas=1)) == KEY
    assert world.put(kinds.DEPLOYMENTS, raw.deployment(replicas=1)) is None, "only its version"
    assert world.put(kinds.DEPLOYMENTS, raw.deployment(replicas=2)) == KEY
    assert world.put(kinds.PODS, raw.pod(ready=False)) == KEY
    assert world.put(kinds.PODS, raw.pod(ready=True)) == KEY


def test_our_own_status_is_no_news(world: World, raw: Raw) -> None:
    assert world.put(kinds.QUEUES, raw.queue()) == KEY
    changed = raw.queue()
    changed["status"] = {"ready": 7}
    assert world.put(kinds.QUEUES, changed) is None
    seen = world.queue(KEY)
    assert seen is not None
    assert seen.status == {"ready": 7}


@pytest.mark.parametrize(
    "meta",
    [
        {"annotations": {"celeriac.dev/paused": "true"}},
        {"finalizers": ["celeriac.dev/purge"]},
        {"deletionTimestamp": "2026-01-31T11:00:00Z"},
        {"generation": 2},
    ],
)
def test_other_changes_of_a_resource_are(world: World, raw: Raw, meta: dict[str, object]) -> None:
    world.put(kinds.QUEUES, raw.queue())
    assert world.put(kinds.QUEUES, raw.queue(meta=meta)) == KEY


def test_old_news_changes_nothing(world: World, raw: Raw) -> None:
    old, new = raw.deployment(replicas=1), raw.deployment(replicas=2)
    world.put(kinds.DEPLOYMENTS, new)
    assert world.put(kinds.DEPLOYMENTS, old) is None
    seen = world.deployment(*KEY)
    assert seen is not None
    assert seen.replicas == 2


def test_an_answer_that_comes_after_the_end_brings_nothing_back(world: World, raw: Raw) -> None:
    first = raw.deployment()
    world.put(kinds.DEPLOYMENTS, first)
    assert world.drop(kinds.DEPLOYMENTS, first) == KEY
    assert world.put(kinds.DEPLOYMENTS, raw.deployment()) is None
    assert world.deployment(*KEY) is None


def test_an_object_that_was_made_anew_is_another(world: World, raw: Raw) -> None:
    first = raw.deployment()
    second = raw.deployment()
    second["metadata"]["uid"] = "another"
    world.put(kinds.DEPLOYMENTS, first)
    assert world.put(kinds.DEPLOYMENTS, second) == KEY
    assert world.drop(kinds.DEPLOYMENTS, first) is None
    seen = world.deployment(*KEY)
    assert seen is not None
    assert seen.uid == "another"


def test_a_list_removes_what_it_does_not_hold(world: World, raw: Raw) -> None:
    world.put(kinds.PODS, raw.pod("mail-1"))
    world.put(kinds.PODS, raw.pod("mail-2"))
    changed = world.replace(
        kinds.PODS, [raw.pod("mail-2")], namespace=None, since=time.monotonic() + 1
    )
    assert changed == {KEY}
    assert [pod.name for pod in world.pods(KEY)] == ["mail-2"]
    assert not world.gone(KEY), "whether its containers have ended, nobody knows"


def test_a_list_keeps_what_came_while_it_was_read(world: World, raw: Raw) -> None:
    since = time.monotonic()
    world.put(kinds.PODS, raw.pod("mail-1"))
    assert world.replace(kinds.PODS, [], namespace=None, since=since) == set()
    assert world.pods(KEY)


def test_a_list_of_a_namespace_touches_no_other(world: World, raw: Raw) -> None:
    world.put(kinds.PODS, raw.pod("mail-1"))
    assert world.replace(kinds.PODS, [], namespace="other", since=time.monotonic() + 1) == set()


ENDED = {"terminated": {"exitCode": 0, "finishedAt": "2026-01-31T11:00:10Z"}}


@pytest.mark.parametrize(("state", "sure"), [(ENDED, True), (None, False)])
def test_a_pod_is_surely_gone_only_when_its_kubelet_said_so(
    world: World, raw: Raw, state: dict[str, object] | None, sure: bool
) -> None:
    world.put(kinds.PODS, raw.pod())
    world.drop(kinds.PODS, raw.pod(state=state, deleting=True))
    assert (tuple(world.gone(KEY)) == ("mail-1",)) is sure
    assert not world.pods(KEY)


def test_namesakes_are_found_by_the_name_on_the_broker(world: World, raw: Raw) -> None:
    world.put(kinds.QUEUES, raw.queue(queue="shared"))
    world.put(kinds.QUEUES, raw.queue(meta={"name": "other", "uid": "u2"}, queue="shared"))
    assert {it.name for it in world.namesakes("shared")} == {"mail", "other"}
    assert world.namesakes("mail") == []
    world.drop(kinds.QUEUES, raw.queue(queue="shared"))
    assert {it.name for it in world.namesakes("shared")} == {"other"}


def test_our_own_scaling_is_known_before_its_event(world: World, raw: Raw) -> None:
    world.put(kinds.DEPLOYMENTS, raw.deployment(replicas=1))
    seen = world.deployment(*KEY)
    assert seen is not None
    world.scaled(seen, 5, seen.version + 1)
    later = world.deployment(*KEY)
    assert later is not None
    assert later.replicas == 5
    world.scaled(seen, 9, seen.version)
    assert world.deployment(*KEY) == later


def waiting(reason: str) -> dict[str, object]:
    return {"waiting": {"reason": reason, "message": "not found"}}


def test_an_image_that_is_pulled_once_more_in_vain_is_no_news(world: World, raw: Raw) -> None:
    first = world.put(kinds.PODS, raw.pod(ready=False, state=waiting("ErrImagePull")))
    assert first == KEY
    assert world.put(kinds.PODS, raw.pod(ready=False, state=waiting("ImagePullBackOff"))) == KEY
    for reason in ("ErrImagePull", "ImagePullBackOff", "ErrImagePull"):
        assert world.put(kinds.PODS, raw.pod(ready=False, state=waiting(reason))) is None
        assert [pod.waiting for pod in world.pods(KEY)] == ["ImagePullBackOff"]
    assert world.put(kinds.PODS, raw.pod()) == KEY
    assert [pod.waiting for pod in world.pods(KEY)] == [""]
