"""The loop's steps on a queue: whose messages are taken back, and how many pages make a step."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from celeriac.broker.queue import Queue
from celeriac.control.broker import RedisBroker, RedisQueue
from tests.scripted import ScriptedRedis

from .conftest import Make

MOMENT = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)


def dead(*entries: str) -> list[Any]:
    """A page of dead letters, as the search script answers."""
    return [[entry.encode(), [b"i", b"m"], 0] for entry in entries]


def pages(*answers: object) -> Any:
    """Answer one after the other, and the last one for ever."""
    left = list(answers)
    return lambda *_: left.pop(0) if len(left) > 1 else left[0]


class Workers(Queue):
    """A queue whose workers are those that the test says."""

    seen: tuple[str, ...] = ()

    def stats(self) -> Any:
        return Make.stats(workers=[(name, 1) for name in self.seen])


def test_a_dead_workers_children_lose_what_they_held_and_nobody_else() -> None:
    client = ScriptedRedis(abandon=[2, 0])
    queue = Workers(client, "q")
    queue.seen = ("w1", "w1/0", "w1/1", "w10", "w2/0")
    assert RedisQueue(queue).take_back(["w1"]) == 6
    assert [arguments[0] for _, arguments in client.asked] == ["w1", "w1/0", "w1/1"]


def test_pages_of_due_messages_are_promoted_until_none_is_full() -> None:
    client = ScriptedRedis(promote=pages(200, 200, 17))
    RedisQueue(Queue(client, "q")).promote()
    assert client.times("promote") == 3


def test_a_million_due_messages_end_the_round_all_the_same() -> None:
    client = ScriptedRedis(promote=200)
    RedisQueue(Queue(client, "q")).promote()
    assert client.times("promote") == 50


def test_pages_of_expired_leases_are_reclaimed_until_none_is_left() -> None:
    client = ScriptedRedis(reclaim=pages(500, 3, 0))
    RedisQueue(Queue(client, "q")).reclaim()
    assert [arguments[-1] for _, arguments in client.asked] == ["watch"] * 3


def test_whoever_only_looks_reclaims_nothing() -> None:
    client = ScriptedRedis(reclaim=0)
    RedisQueue(Queue(client, "q")).reclaim(look_only=True)
    assert [arguments[-1] for _, arguments in client.asked] == ["look"]


def test_a_lease_is_as_long_as_the_spec_says() -> None:
    client = ScriptedRedis(reclaim=0)
    RedisBroker(client).queue("q", lease_seconds=7).reclaim()
    assert client.asked[0][1][0] == 7000


def test_a_purge_takes_what_waits_and_what_is_dead() -> None:
    gone = {"h": pages(5, 0), "delayed": pages(2, 0), "dead": pages(1)}
    client = ScriptedRedis(
        purge=lambda kind, *_: gone[kind]() if kind in gone else 0,
        search=pages([b"", dead("1-0")], [b"", []]),
    )
    assert RedisQueue(Queue(client, "q")).purge() == 8
    kinds = {arguments[0] for name, arguments in client.asked if name == "purge"}
    assert kinds == {"h", "n", "l", "i", "delayed", "dead"}
    assert ("purge", ("dead", 0, "1-0")) in client.asked


def test_the_times_of_schedules_come_back_as_they_were_written() -> None:
    client = ScriptedRedis(
        hset=1, hdel=1, hgetall={b"clean": b"2026-01-31T09:30:00Z", b"new": b"2026-01-31T00:00:00Z"}
    )
    queue = RedisQueue(Queue(client, "q"))
    queue.remember_schedules({"clean": MOMENT}, forget=["old"])
    written, forgotten = client.asked
    assert written[1][-2:] == ("clean", "2026-01-31T09:30:00Z") and forgotten[1][-1:] == ("old",)
    assert queue.remembered_schedules()["clean"] == MOMENT


def test_nothing_to_remember_asks_nothing() -> None:
    client = ScriptedRedis()
    RedisQueue(Queue(client, "q")).remember_schedules({})
    assert client.asked == []
