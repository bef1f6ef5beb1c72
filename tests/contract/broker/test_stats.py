"""What is measured, where it lies, and who may touch it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.exceptions import OutOfMemoryError

from celeriac.broker.bulk_stats import stats_of
from celeriac.broker.connection import connect
from celeriac.broker.embedded import EmbeddedServer
from celeriac.broker.message import DeadLetter, Discard, Outcome, RetryAt
from celeriac.broker.queue import Queue
from celeriac.cli.permissions import acl_rule
from celeriac.spec.policies import QueuePolicy
from tests.conftest import RunningServer
from tests.contract.broker.handy import claim, drain, new, one, pause_ms, policy, settle, some
from tests.contract.broker.life import live


def test_an_empty_queue_has_empty_statistics(redis_client: redis.Redis, queue_name: str) -> None:
    stats = Queue(redis_client, queue_name).stats()
    assert (stats.declared, stats.paused, stats.version, stats.workers) == (False, False, 0, [])
    assert (stats.accepted, stats.unfinished, stats.oldest_ready_ms, stats.imbalance) == (
        0,
        0,
        0,
        0,
    )


def test_statistics_tell_every_state_and_who_holds_what(queue: Queue) -> None:
    queue.publish([*some(3), new("later", delay_ms=60_000), new("soon", delay_ms=1)])
    claim(queue, 2, "a")  # which makes ready what is due
    pause_ms(60)
    claim(queue, 1, "b")
    stats = queue.stats()
    assert (stats.ready, stats.leased, stats.delayed, stats.due) == (1, 3, 1, 0)
    assert [(worker.name, worker.leased) for worker in stats.workers] == [("a", 2), ("b", 1)]
    assert all(stats.now_ms - 5000 < worker.seen_ms <= stats.now_ms for worker in stats.workers)
    assert (stats.ready_by["normal"], stats.ready_by["isolated"]) == (1, 0)
    drain(queue)
    assert queue.stats().oldest_ready_ms == 0


def test_the_age_of_the_oldest_ready_message_ignores_leased_ones(queue: Queue) -> None:
    queue.publish([new("old")])
    pause_ms(300)
    queue.publish([new("young", priority="low"), new("younger")])
    assert queue.stats().oldest_ready_ms >= 300
    claim(queue, 1)
    assert queue.stats().oldest_ready_ms < 300
    claim(queue)
    queue.publish([new("youngest")])
    assert queue.stats().oldest_ready_ms < 300


def test_many_queues_are_measured_as_each_alone(redis_client: redis.Redis, queue_name: str) -> None:
    names = [f"{queue_name}-{number}" for number in range(5)]
    for number, name in enumerate(names):
        queue = Queue(redis_client, name)
        queue.declare(QueuePolicy())
        queue.publish(some(number))
        settle(queue, claim(queue, 2), Discard("x"))
    redis_client.script_flush()
    together = stats_of(redis_client, [*names, "nobody"])
    alone = [Queue(redis_client, name).stats() for name in [*names, "nobody"]]
    for one_of_many, single in zip(together, alone, strict=True):
        assert one_of_many.name == single.name
        assert one_of_many.accepted == single.accepted
        assert one_of_many.discarded_by == single.discarded_by
        assert one_of_many.ready_by == single.ready_by
        assert one_of_many.wait == single.wait
    assert stats_of(redis_client, []) == []


def test_everything_lies_under_the_prefix(valkey: RunningServer, queue_name: str) -> None:
    prefix = f"team-{queue_name}"
    with valkey.client() as client:
        before = set(client.scan_iter(count=1000))
        live(Queue(client, queue_name, prefix=prefix))
        made = set(client.scan_iter(count=1000)) - before
    assert made
    assert all(key.startswith(f"{prefix}:".encode()) for key in made)
    slots = {key.partition(b"{")[2].partition(b"}")[0] for key in made if b"{" in key}
    assert slots == {queue_name.encode()}  # one hash tag: a queue fits one slot of a cluster


def test_two_prefixes_on_one_server_do_not_see_each_other(queue: Queue) -> None:
    other = Queue(queue.client, queue.name, prefix="elsewhere")
    queue.publish([new()])
    assert (other.stats().declared, other.stats().accepted) == (False, 0)


def test_a_user_limited_to_the_prefix_can_do_everything(
    valkey: RunningServer, queue_name: str
) -> None:
    with valkey.client() as admin:
        rule = acl_rule(queue_name).split()
        admin.execute_command("ACL", "SETUSER", queue_name, "on", ">secret", *rule)
        user = redis.Redis(port=valkey.port, username=queue_name, password="secret")
        with user:
            live(Queue(user, "own", prefix=queue_name))
            (stats,) = stats_of(user, ["own"], prefix=queue_name)
            assert stats.imbalance == 0
            with pytest.raises(redis.exceptions.NoPermissionError):
                Queue(user, "own", prefix="celeriac").publish([new()])
        admin.execute_command("ACL", "DELUSER", queue_name)


# --- a server without memory ------------------------------------------------------------------------


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Queue]:
    """A queue with messages, on a server that then ran out of memory."""
    with EmbeddedServer(tmp_path / "data") as server, connect(server.url) as client:
        queue = Queue(client, "q")
        queue.declare(QueuePolicy())
        queue.publish(
            [*some(30), new("later", delay_ms=30), new("x" * 50, dedup_key="k", dedup_ttl_ms=9)]
        )
        client.config_set("maxmemory", 1)
        client.script_flush()
        yield queue


def test_a_full_server_refuses_a_publish_whole_and_says_why(full: Queue) -> None:
    for queue in (full, Queue(full.client, "q")):  # one that published before, and a fresh one
        with pytest.raises(OutOfMemoryError, match="maxmemory") as caught:
            queue.publish(some(700, "late", dedup_key="late", dedup_ttl_ms=60_000))
        assert caught.value.receipts == []  # type: ignore[attr-defined]
    assert (full.stats().accepted, full.stats().imbalance) == (32, 0)
    full.client.config_set("maxmemory", 0)
    receipts = full.publish([new("late", dedup_key="late", dedup_ttl_ms=60_000)])
    assert receipts[0].status == "accepted"


def test_on_a_full_server_workers_go_on_and_policies_change(full: Queue) -> None:
    first = claim(full, 4)
    outcomes: list[Outcome] = [RetryAt(delay_ms=0), RetryAt(delay_ms=60_000)]
    outcomes += [DeadLetter(reason="x"), Discard("y")]
    for message, outcome in zip(first, outcomes, strict=True):
        assert settle(full, [message], outcome) == [True]
    held = claim(full, 2, "other")
    assert full.renew("other", [held[0].lease]) == set()
    assert full.abandon("other") == 2
    assert full.redrive([letter.entry for letter in full.dead()]) == 1
    full.pause()
    assert full.declare(policy(limits={"maxMessages": 5})) > 1
    full.resume()
    assert full.wait(0.01)
    pause_ms(35)
    drain(full)
    assert (full.stats().delayed, full.stats().ready, full.stats().imbalance) == (1, 0, 0)
    assert full.purge() == 1


def test_one_call_does_not_need_the_scripts_to_be_there(queue: Queue) -> None:
    message = one(queue)
    queue.client.script_flush()
    assert settle(queue, [message]) == [True]
