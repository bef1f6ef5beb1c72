"""What goes through a link to a queue: reads from what was measured, and writes past the fence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import redis

from celeriac.broker.eviction import EvictingServer
from celeriac.broker.message import NewMessage
from celeriac.broker.url import parse
from celeriac.spec.policies import QueuePolicy
from celeriac_operator.broker_link import BrokerLink, LinkedQueue
from celeriac_operator.fence import Fence, Fenced
from celeriac_operator.seen import Key
from tests.scripted import ScriptedRedis
from tests.unit.control.conftest import Make
from tests.unit.control.memory import MemoryQueue
from tests.unit.operator.conftest import Time

KEY = ("shop", "mail")
NOW = datetime(2026, 1, 31, tzinfo=UTC)

WRITES: dict[str, Callable[[LinkedQueue], Any]] = {
    "declare": lambda queue: queue.declare(QueuePolicy()),
    "promote": lambda queue: queue.promote(),
    "reclaim": lambda queue: queue.reclaim(),
    "take_back": lambda queue: queue.take_back(["a"]),
    "trim_dead": lambda queue: queue.trim_dead(now_ms=1, retention_ms=1),
    "publish": lambda queue: queue.publish([NewMessage(id="a", task="t", body=b"")]),
    "purge": lambda queue: queue.purge(),
    "remember_schedules": lambda queue: queue.remember_schedules({"a": NOW}),
}


class StillLink(BrokerLink):
    """Measures when the test says so, not once a second."""

    def _run(self) -> None:
        """Nothing by itself."""


class Links:
    """A link whose broker answers as told, and what it has said."""

    def __init__(self, clock: Time) -> None:
        self.fence = Fence(monotonic=clock)
        self.changed: list[Key] = []
        self.refused = 0
        self.link = StillLink(
            parse("celeriac://redis.example"),
            fence=self.fence,
            changed=self.changed.append,
            refused=self._refuse,
        )
        self.server = ScriptedRedis(info={"maxmemory": 0})
        self.answer: Any = None
        self.link._client = self.server
        self.link._many = self  # type: ignore[assignment]
        self.link.include(KEY, "mail")

    def _refuse(self) -> None:
        self.refused += 1

    def measure(self, names: list[str]) -> list[Any]:
        assert names == ["mail"]
        if isinstance(self.answer, Exception):
            raise self.answer
        return [self.answer]

    def told(self, answer: Any, *, whole: bool = True) -> list[Key]:
        """Measure once; return whom it tells. An error is the broker's, unless not ``whole``."""
        self.changed.clear()
        self.answer = answer
        if not whole:
            self.measure = lambda names: [answer]  # type: ignore[method-assign]
        self.link._measure()
        return list(self.changed)


@pytest.fixture
def links(clock: Time) -> Iterator[Links]:
    made = Links(clock)
    yield made
    made.link.close()


@pytest.mark.parametrize("name", WRITES)
def test_who_does_not_lead_changes_nothing_on_a_broker(
    links: Links, clock: Time, name: str
) -> None:
    memory = MemoryQueue()
    queue = LinkedQueue(links.link, "mail", memory)
    with pytest.raises(Fenced):
        WRITES[name](queue)
    assert (memory.calls, memory.schedules) == ([], {})
    links.fence.open_until(clock.now + 1)
    WRITES[name](queue)
    assert memory.calls == [name] or memory.schedules


def test_what_was_measured_is_believed_until_the_queue_is_changed(
    links: Links, clock: Time
) -> None:
    links.fence.open_until(clock.now + 1)
    memory = MemoryQueue()
    queue = LinkedQueue(links.link, "mail", memory)
    queue.stats()
    assert memory.calls == ["stats"], "nothing is measured yet"
    measured = Make.stats(ready=3)
    links.told(measured)
    assert queue.stats() is measured
    assert links.link.all_stats() == {KEY: measured}
    queue.declare(QueuePolicy())
    queue.stats()
    assert memory.calls == ["stats", "declare", "stats"]


def test_only_news_is_told(links: Links) -> None:
    assert links.told(Make.stats()) == [KEY]
    assert links.told(Make.stats(now_ms=2_000_000_000)) == []
    assert links.told(Make.stats(ready=1)) == [KEY]
    assert links.told(Make.stats(ready=1, workers=(("a", 0),))) == [KEY]
    assert links.told(Make.stats(ready=1, workers=(("a", 1),))) == [KEY]
    assert links.told(Make.stats(ready=1, workers=(("a", 1),))) == []


def test_an_outage_is_told_when_it_begins_and_when_it_ends(links: Links) -> None:
    links.told(Make.stats())
    assert links.told(redis.ConnectionError("no route")) == [KEY]
    assert not links.link.up
    assert links.link.all_stats() == {}
    with pytest.raises(redis.ConnectionError):
        links.link.stats("mail")
    assert links.told(redis.ConnectionError("no route")) == []
    assert links.told(Make.stats()) == [KEY]
    assert links.link.up


def test_a_refused_login_lets_the_secret_be_read_anew(links: Links) -> None:
    links.told(redis.ConnectionError("no route"))
    assert links.refused == 0
    links.told(redis.AuthenticationError("WRONGPASS"))
    assert links.refused == 1


def test_one_queue_s_trouble_is_its_own(links: Links) -> None:
    trouble = redis.ResponseError("WRONGTYPE")
    assert links.told(trouble, whole=False) == [KEY]
    assert links.link.up
    with pytest.raises(redis.ResponseError):
        links.link.stats("mail")


def test_a_broker_that_would_delete_messages_is_refused_and_asked_again_after_an_outage(
    links: Links,
) -> None:
    links.server.answers["info"] = {"maxmemory": 1, "maxmemory_policy": "allkeys-lru"}
    links.told(Make.stats())
    with pytest.raises(EvictingServer):
        links.link.stats("mail")
    links.server.answers["info"] = {"maxmemory": 0}
    links.told(Make.stats())
    asked = links.server.times("info")
    links.told(Make.stats())
    assert links.server.times("info") == asked
    links.told(redis.ConnectionError("no route"))
    links.told(Make.stats())
    assert links.server.times("info") == asked + 1
