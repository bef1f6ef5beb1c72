"""A queue's slot moves to another node while it is in use: it stands still, and is whole afterwards."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from typing import Any

import pytest
import redis

from celeriac import Client
from celeriac.broker.bulk_stats import BulkStats
from celeriac.broker.cluster import ClusterClient
from celeriac.broker.message import DeadLetter, QueueStats
from celeriac.broker.queue import Queue
from celeriac.broker.scripts import script
from celeriac.broker.topology import ClusterUnavailable
from tests.contract.broker.handy import claim, drain, ids, new, policy, settle, some
from tests.redis_cluster import Node, RedisCluster


@pytest.fixture
def queue(client: redis.Redis, queue_name: str) -> Queue:
    """A queue of which every key exists, with m0 to m3 ready, the first of which is cancelled."""
    queue = Queue(client, queue_name)
    queue.declare(policy())
    queue.publish([new("dead"), new("late", delay_ms=10**7)])
    settle(queue, claim(queue), DeadLetter(reason="rejected"))
    queue.publish(some(4))
    queue.cancel("m0")
    missing = [key for key in queue.keys.all if not client.exists(key)]
    assert not missing
    return queue


def test_commands_find_the_queue_where_it_went(
    cluster: RedisCluster, queue: Queue, slot: int, elsewhere: Node
) -> None:
    held = claim(queue, 2)
    with Client(cluster.url) as producer:
        producer.send(queue.name, "t", id="before")
        cluster.move(slot, elsewhere)
        assert cluster.owner(slot) is elsewhere
        producer.send(queue.name, "t", id="after")
    assert ids(held) == ["m1"]
    assert queue.renew("w", [held[0].lease]) == set()
    assert all(settle(queue, held))
    assert drain(queue) == ["m2", "m3", "before", "after"]
    stats = queue.stats()
    assert (stats.accepted, stats.done, stats.delayed, stats.dead) == (8, 5, 1, 1)
    assert stats.imbalance == 0


def test_everybody_waits_while_the_keys_are_between_two_nodes(
    cluster: RedisCluster, queue: Queue, slot: int, elsewhere: Node
) -> None:
    with Client(cluster.url) as producer, ThreadPoolExecutor(4) as threads:
        producer.send(queue.name, "t", id="before")
        with cluster.moving(slot, elsewhere) as move_keys:
            calls: list[Future[Any]] = [
                threads.submit(producer.send, queue.name, "t", id="meanwhile"),
                threads.submit(queue.claim, "other", count=1),
                threads.submit(BulkStats(queue.client).measure, [queue.name]),
            ]
            time.sleep(0.3)
            assert not any(call.done() for call in calls)
            # What needs one key only is answered by whoever has it.
            assert queue.record()[0] == 1
            assert queue.client.xlen(queue.keys.dead) == 1
            move_keys()
            assert queue.record()[0] == 1
            assert queue.client.xlen(queue.keys.dead) == 1
            assert not any(call.done() for call in calls)
        sent, claimed, measured = (call.result(10) for call in calls)
    assert sent.status == "accepted"
    assert isinstance(measured[0], QueueStats)
    settle(queue, claimed.messages)
    assert sorted(ids(claimed.messages) + drain(queue)) == ["before", "m1", "m2", "m3", "meanwhile"]
    assert queue.stats().imbalance == 0


def test_a_script_is_refused_rather_than_stopped_half_way(
    cluster: RedisCluster,
    queue: Queue,
    slot: int,
    elsewhere: Node,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = queue.stats()
    with cluster.moving(slot, elsewhere), monkeypatch.context() as patch:
        patch.setattr(ClusterClient, "patience_s", 0.2)
        # It would drop m0, and with it the last of the cancelled: a key that would then be disowned.
        with pytest.raises(ClusterUnavailable, match="on its way to another node"):
            queue.claim("w", count=4)
        with pytest.raises(ClusterUnavailable):
            queue.publish([new("never", dedup_key="k", dedup_ttl_ms=1000)])
    after = queue.stats()
    for name in ("accepted", "ready", "leased", "discarded", "dead", "delayed", "imbalance"):
        assert (name, getattr(after, name)) == (name, getattr(before, name))
    assert drain(queue) == ["m1", "m2", "m3"]


def test_an_idle_worker_is_woken_where_the_queue_went(
    cluster: RedisCluster, queue: Queue, slot: int, elsewhere: Node
) -> None:
    drain(queue)
    queue.claim("w", count=1)  # which leaves no wake-up behind
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(queue.wait, 20)
        time.sleep(0.3)
        assert not waiting.done()
        cluster.move(slot, elsewhere)
        time.sleep(0.3)
        assert not waiting.done()
        with Client(cluster.url) as producer:
            producer.send(queue.name, "t")
        assert waiting.result(10) is True


def test_a_slot_may_move_there_and_back(
    cluster: RedisCluster, queue: Queue, slot: int, elsewhere: Node
) -> None:
    home = cluster.owner(slot)
    drain(queue)
    with Client(cluster.url) as producer:
        for number in range(6):
            cluster.move(slot, (elsewhere, home)[number % 2])
            producer.send(queue.name, "t", id=f"n{number}")
            assert drain(queue) == [f"n{number}"]


def test_what_travels_with_a_command_goes_where_the_command_went(
    cluster: RedisCluster, client: redis.Redis, queue: Queue, slot: int, elsewhere: Node
) -> None:
    """A pipeline that writes and then asks how many replicas know it must ask where it wrote."""
    read = script("stats")
    queue.stats()

    def ask() -> list[object]:
        pipeline = client.pipeline(transaction=False)
        pipeline.execute_command("SCRIPT", "LOAD", read.text)
        pipeline.execute_command("EVALSHA", read.sha, len(queue.keys.all), *queue.keys.all)
        pipeline.execute_command("INFO", "server")
        return pipeline.execute()

    cluster.move(slot, elsewhere)
    assert ask()[2]["tcp_port"] == elsewhere.port  # type: ignore[index]
    assert isinstance(client, ClusterClient)
    home = next(node for node in cluster.primaries() if node is not elsewhere)
    with cluster.moving(slot, home), pytest.MonkeyPatch.context() as patch:
        patch.setattr(ClusterClient, "patience_s", 0.2)
        with pytest.raises(ClusterUnavailable):
            ask()
    assert ask()[2]["tcp_port"] == cluster.owner(slot).port  # type: ignore[index]


def test_a_slot_may_move_in_one_moment(
    cluster: RedisCluster, queue: Queue, slot: int, elsewhere: Node
) -> None:
    """The atomic migration of Valkey 9: nobody waits, and nothing is refused."""
    if elsewhere.binary.name == "redis-server":
        with pytest.raises(redis.ResponseError):
            cluster.move_at_once(slot, elsewhere)
        return
    over = threading.Event()
    with Client(cluster.url) as producer, ThreadPoolExecutor(1) as threads:

        def send() -> int:
            for number in count():
                producer.send(queue.name, "t", id=f"n{number}")
                if over.is_set():
                    return number + 1
            return 0

        sent = threads.submit(send)
        time.sleep(0.1)
        cluster.move_at_once(slot, elsewhere)
        time.sleep(0.1)
        over.set()
        number = sent.result(10)
    assert cluster.owner(slot) is elsewhere
    assert drain(queue) == ["m1", "m2", "m3", *(f"n{it}" for it in range(number))]
    assert queue.stats().imbalance == 0


def test_a_send_that_follows_its_queue_counts_the_replicas_there(
    cluster: RedisCluster, queue: Queue, slot: int, elsewhere: Node
) -> None:
    with Client(f"{cluster.url}?wait_replicas=1&wait_timeout=5") as producer:
        assert producer.send(queue.name, "t").replicated
        cluster.move(slot, elsewhere)
        receipt = producer.send(queue.name, "t")
        assert (receipt.status, receipt.replicas) == ("accepted", 1)
    with Client(f"{cluster.url}?wait_replicas=2&wait_timeout=0.1") as producer:
        receipt = producer.send(queue.name, "t")
        assert (receipt.status, receipt.replicas, receipt.replicated) == ("accepted", 1, False)
