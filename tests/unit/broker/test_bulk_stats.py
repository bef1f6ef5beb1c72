"""Many queues in one read, from a client that answers what the test says."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from celeriac.broker.bulk_stats import BulkStats, stats_of

ONE = [b"accepted", b"3", b"done", b"1"]


def reply(now_ms: int = 1000, *, ready: int = 2) -> list[Any]:
    """What lua/stats.lua answers for a queue with so many ready messages."""
    streams = [[0, 0, 0], [ready, 0, 500], [0, 0, 0], [0, 0, 0]]
    record = [b"4", b"0", None, b"{}"]
    return [now_ms, ONE, record, streams, 0, 0, 0, [b"w", b"900"], [], [5, 10]]


class Client:
    """Answers pipelines one after the other."""

    def __init__(self, *answers: list[Any]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def pipeline(self, *, transaction: bool) -> Client:
        assert not transaction
        return self

    def execute_command(self, *args: Any) -> None:
        self.asked.append(args[0])

    def execute(self, *, raise_on_error: bool) -> list[Any]:
        assert not raise_on_error
        return [b"sha", *self.answers.pop(0)]


def bulk(*answers: list[Any]) -> tuple[BulkStats, Client]:
    client = Client(*answers)
    return BulkStats(client), client  # type: ignore[arg-type]


def test_a_queues_trouble_is_its_own() -> None:
    trouble = redis.ResponseError("WRONGTYPE")
    found = bulk([reply(), trouble, reply(ready=1)])[0].measure(["a", "b", "c"])

    first, second, third = found
    assert second is trouble
    assert not isinstance(first, redis.RedisError)
    assert not isinstance(third, redis.RedisError)
    assert (first.name, first.ready, first.accepted, first.done, first.imbalance) == (
        *("a", 2, 3, 1),
        0,
    )
    assert (third.name, third.ready) == ("c", 1)


def test_measured_once_it_raises() -> None:
    client: Any = Client([reply(), redis.ResponseError("WRONGTYPE")])
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        stats_of(client, ["a", "b"])


def test_one_trip_for_two_hundred_queues() -> None:
    many, client = bulk([reply()] * 200, [reply()] * 50)

    assert len(many.measure([f"q{n}" for n in range(250)])) == 250
    assert client.asked.count("SCRIPT") == 2
    assert client.asked.count("EVALSHA") == 250


def test_what_says_nothing_new_is_not_parsed_again_but_for_the_time() -> None:
    many, _ = bulk([reply(1000, ready=0)], [reply(2000, ready=0)], [reply(3000, ready=2)])
    (first,), (second,), (third,) = (many.measure(["a"]) for _ in range(3))
    assert not isinstance(first, redis.RedisError)
    assert not isinstance(second, redis.RedisError)
    assert not isinstance(third, redis.RedisError)

    assert (first.now_ms, second.now_ms, third.now_ms) == (1000, 2000, 3000)
    assert second.workers is first.workers
    assert third.ready == 2
    assert third.oldest_ready_ms == 2500
