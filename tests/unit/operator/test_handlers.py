"""Events into the World, keys into the work queue, and another list noticed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from celeriac_operator import kinds
from celeriac_operator.api import Kind
from celeriac_operator.handlers import WATCHED, Lists, registry, settings, tell
from celeriac_operator.resources import names
from celeriac_operator.seen import Key
from celeriac_operator.world import World

if TYPE_CHECKING:
    from tests.unit.operator.conftest import Raw


class Told:
    def __init__(self) -> None:
        self.keys: list[Key] = []
        self.lists = 0
        self.noticing = Lists(self.listed)
        self.world = World()

    def listed(self) -> None:
        self.lists += 1

    def event(self, kind: Kind, type_: str | None, raw: dict[str, object]) -> None:
        tell(self.world, kind, type_, raw, affected=self.keys.append, lists=self.noticing)


@pytest.fixture
def told() -> Told:
    return Told()


def test_an_event_of_a_child_is_its_queue_s(told: Told, raw: Raw) -> None:
    told.event(kinds.PODS, "ADDED", raw.pod())
    told.event(kinds.PODS, "MODIFIED", raw.pod())
    told.event(kinds.PODS, "DELETED", raw.pod(deleting=True))
    assert told.keys == [("shop", "mail")] * 2, "the second one changed nothing"
    assert not told.world.pods(("shop", "mail"))


def test_namesakes_hear_of_a_queue_that_goes(told: Told, raw: Raw) -> None:
    told.event(kinds.QUEUES, "ADDED", raw.queue(queue="shared"))
    told.event(kinds.QUEUES, "ADDED", raw.queue(queue="shared", meta={"name": "b", "uid": "b"}))
    told.keys.clear()
    told.event(kinds.QUEUES, "DELETED", raw.queue(queue="shared"))
    assert set(told.keys) == {("shop", "mail"), ("shop", "b")}


def test_the_first_list_is_expected_and_another_one_is_noticed(told: Told, raw: Raw) -> None:
    for name in ("a", "b"):
        told.event(kinds.PODS, None, raw.pod(name))
    assert told.lists == 0
    told.event(kinds.PODS, None, raw.pod("b"))
    assert told.lists == 1


def test_a_list_after_events_is_noticed_whatever_it_shows(told: Told, raw: Raw) -> None:
    told.event(kinds.PODS, "ADDED", raw.pod("a"))
    told.event(kinds.BUDGETS, None, raw.child("PodDisruptionBudget", spec={}))
    assert told.lists == 0
    told.event(kinds.PODS, None, raw.pod("b"))
    assert told.lists == 1


def test_children_are_watched_by_their_label_and_kopf_writes_nothing() -> None:
    made = settings(WATCHED)
    assert made.posting.enabled is False
    selected = made.watching.label_selectors.items()
    selectors = {getattr(it, "any_name", it): label for it, label in selected}
    assert selectors == {kind.plural: names.QUEUE_LABEL for kind in WATCHED if kind != kinds.QUEUES}
    found = registry(
        World(), WATCHED, affected=lambda key: None, lists=Lists(lambda: None), beat=lambda: None
    )
    assert len(found._watching.get_all_handlers()) == len(WATCHED)
    assert not found._changing.get_all_handlers()
    assert not found._spawning.get_all_handlers()
