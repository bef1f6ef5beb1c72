"""Releases side by side: what an older one wrote is understood, what a newer one wrote is left alone.

The data below is written command by command, as the first release left it: it must stay as it is here, so
that every later release is held to reading it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from celeriac.broker import layout
from celeriac.broker.connection import connect
from celeriac.broker.embedded import EmbeddedServer
from celeriac.broker.message import DONE, NewMessage, RetryAt, Settlement
from celeriac.broker.queue import Queue
from celeriac.broker.refusal import NewerLayout
from celeriac.broker.scripts import script
from celeriac.spec.policies import QueuePolicy

_NAMES = ("p", "i", "t", "q", "a", "d", "l", "x", "y", "h", "b")
_PACK = "redis.call('HSET', KEYS[1], ARGV[1], cmsgpack.pack({unpack(ARGV, 2)})); return 1"


def _values(id_: str, *, attempt: int = 0, history: str = "") -> list[str]:
    numbers = ["1764000000000", str(attempt), str(attempt), "0", "0"]
    return ["n", id_, "a.task", *numbers, history, "", '[[1],{},{"chain":null}]']


def _fields(id_: str, **more: Any) -> dict[Any, Any]:
    return dict(zip(_NAMES, _values(id_, **more), strict=True))


@pytest.fixture
def old(redis_client: redis.Redis, queue_name: str) -> Queue:
    """A queue as the first release left it: one message in each state, and a bare record."""
    queue = Queue(redis_client, queue_name)
    base = queue.keys.base
    for stream in ("high", "normal", "low", "isolated"):
        redis_client.xgroup_create(base + stream, "workers", "0", mkstream=True)
    policy = '{"deadLetter":{"maxDeliveries":3}}'
    record: dict[Any, Any] = {"version": "4", "policy": policy, "paused": "0", "order": "hnl"}
    redis_client.hset(queue.keys.record, mapping=record)
    redis_client.xadd(base + "normal", _fields("leased"))
    redis_client.xreadgroup("workers", "old-worker", {base + "normal": ">"})
    redis_client.zadd(base + "workers", {"old-worker": 1764000000000})
    redis_client.xadd(base + "normal", _fields("ready"))
    redis_client.eval(_PACK, 1, base + "bodies", "delayed", *_values("delayed", attempt=1))
    redis_client.zadd(base + "delayed", {"delayed": 1764000000000})
    line = (
        '{"reason":"failed","error":"ValueError","attempt":3,"delivery":3,"endedMs":1764000000000}'
    )
    dead = {**_fields("dead", attempt=3, history=line + "\n"), "r": "attempts_exhausted"}
    redis_client.xadd(base + "dead", dead)
    redis_client.hset(base + "counters", mapping={"accepted": 4, "dead": 1, "retried": 1})
    return queue


def _settle_all(queue: Queue) -> list[str]:
    messages = queue.claim("new-worker", count=10).messages
    assert all(queue.settle([Settlement(message, DONE, 1) for message in messages]))
    return sorted(message.id for message in messages)


def test_what_the_first_release_wrote_is_understood(old: Queue):
    stats = old.stats()
    assert (stats.ready, stats.leased, stats.delayed, stats.dead) == (1, 1, 1, 1)
    assert stats.imbalance == 0 and stats.due == 1
    assert old.record()[1].dead_letter.max_deliveries == 3
    (letter,) = old.dead_letters()
    assert (letter.id, letter.reason, letter.error) == ("dead", "attempts_exhausted", "ValueError")
    assert _settle_all(old) == ["delayed", "ready"]
    assert old.redrive([letter.entry]) == 1
    assert old.abandon("old-worker") == 1
    assert _settle_all(old) == ["dead", "leased"]
    after = old.stats()
    assert (after.done, after.unfinished, after.imbalance) == (4, 0, 0)


def test_declaring_it_anew_keeps_its_messages(old: Queue):
    assert old.declare(QueuePolicy()) == 5
    assert old.declare(QueuePolicy()) == 5
    assert _settle_all(old) == ["delayed", "ready"]


def test_a_policy_with_fields_of_a_newer_release_is_read_without_them(
    old: Queue, caplog: pytest.LogCaptureFixture
):
    policy = '{"deadLetter":{"maxDeliveries":4,"sink":"s3"},"fairness":{"by":"key"}}'
    old.client.hset(old.keys.record, "policy", policy)
    assert old.record()[1] == QueuePolicy.model_validate({"deadLetter": {"maxDeliveries": 4}})
    assert "does not know deadLetter.sink, and ignores it" in caplog.text
    assert "does not know fairness, and ignores it" in caplog.text


def _raise_layout(queue: Queue) -> None:
    queue.client.hset(queue.keys.record, "layout", "2")


@pytest.mark.parametrize(
    "call",
    [
        lambda queue: queue.claim("worker", count=1),
        lambda queue: queue.publish([NewMessage(id="new", task="a.task", body=b"")]),
        lambda queue: queue.declare(QueuePolicy()),
        lambda queue: queue.declare(QueuePolicy(), only_if_absent=True),
        lambda queue: queue.reclaim(lease_ms=1),
        lambda queue: queue.promote(),
        lambda queue: queue.redrive([letter.entry for letter in queue.dead_letters()]),
        lambda queue: queue.purge(),
    ],
)
def test_what_a_newer_release_wrote_is_left_alone(old: Queue, call: Callable[[Queue], object]):
    _raise_layout(old)
    keys = [*old.client.keys(old.keys.base + "*")]
    before = {key: old.client.dump(key) for key in keys}
    with pytest.raises(NewerLayout, match="layout 2, and this release knows 1 at most"):
        call(old)
    assert {key: old.client.dump(key) for key in old.client.keys(old.keys.base + "*")} == before


def test_what_is_held_when_a_newer_release_takes_over_is_settled_or_handed_back(old: Queue):
    first, second = old.claim("worker", count=2).messages
    _raise_layout(old)
    assert old.renew("worker", [first.lease, second.lease]) == set()
    assert old.settle([Settlement(first, DONE, 1)]) == [True]
    assert old.settle([Settlement(second, RetryAt(delay_ms=0), 1)]) == [True]
    stats = old.stats()
    assert (stats.done, stats.retried, stats.imbalance) == (1, 2, 0)
    assert old.release("old-worker", ["n" + _pending(old)]) == 1


def _pending(queue: Queue) -> str:
    rows: Any = queue.client.xpending_range(queue.keys.base + "normal", "workers", "-", "+", 1)
    return str(rows[0]["message_id"].decode())


def _scripts_run(queue: Queue) -> int:
    stats: Any = queue.client.info("commandstats")
    return sum(it["calls"] for name, it in stats.items() if name.startswith("cmdstat_eval"))


@pytest.fixture(params=[1, 2])
def release(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A release whose layout has this number."""
    monkeypatch.setattr(layout, "LAYOUT", request.param)
    script.cache_clear()
    yield request.param
    script.cache_clear()


def test_a_release_of_any_layout_publishes_in_one_script(release: int, tmp_path: Path):
    with EmbeddedServer(tmp_path) as server, connect(server.url) as client:
        queue = Queue(client, "q")
        queue.declare(QueuePolicy())
        queue.publish([NewMessage(id="first", task="a.task", body=b"")])
        client.config_resetstat()
        for n in range(20):
            queue.publish([NewMessage(id=f"{n}", task="a.task", body=b"")])
        assert _scripts_run(queue) == 20
        assert len(queue.claim("w", count=100).messages) == 21
