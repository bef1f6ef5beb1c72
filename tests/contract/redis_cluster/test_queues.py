"""Queues that lie on different nodes: all that one server does, through one client."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest
import redis

from celeriac import Client, Job
from celeriac.broker.bulk_stats import BulkStats, queue_names, stats_of
from celeriac.broker.cluster import ClusterClient
from celeriac.broker.connection import connect
from celeriac.broker.message import DeadLetter, QueueStats
from celeriac.broker.queue import Queue
from celeriac.broker.topology import ClusterUnavailable
from celeriac.client.progress import QueueProgress
from celeriac.worker.consumer import Consumer
from tests.contract.broker.handy import claim, drain, new, policy, settle, some
from tests.contract.broker.life import live
from tests.redis_cluster import RedisCluster, slot_of_queue


def test_queues_lead_their_whole_lives(
    cluster: RedisCluster, client: redis.Redis, names: list[str]
) -> None:
    assert len({cluster.owner(slot_of_queue(name)).port for name in names}) == 3
    for name in names:
        live(Queue(client, name))
    for node in cluster.primaries():
        node.ask("SCRIPT FLUSH")
    for name in names:
        live(Queue(client, f"{name}-again"))
    assert set(names) <= set(queue_names(client))


def test_a_worker_asks_for_nothing_ahead_of_a_queue_that_may_move(
    client: redis.Redis, names: list[str]
) -> None:
    for name in names:
        queue = Queue(client, name)
        queue.declare(policy())
        queue.publish(some(20))
        consumer = Consumer(queue, "w", slots=15)
        assert consumer.claim()
        consumer.prefetch.observe(0.0001)
        consumer.claim_ahead()
        assert not consumer.asking
        assert consumer.claim()
        assert consumer.inflight.waiting.qsize() == 20


def test_dead_letters_of_every_node_are_listed_and_redriven(
    client: redis.Redis, names: list[str]
) -> None:
    for name in names:
        queue = Queue(client, name)
        queue.declare(policy())
        queue.publish(some(5))
        settle(queue, claim(queue), DeadLetter(reason="rejected"))
        assert [letter.id for letter in queue.dead(count=2)] == ["m4", "m3"]
        assert queue.redrive([letter.entry for letter in queue.dead()]) == 5
        assert drain(queue) == ["m4", "m3", "m2", "m1", "m0"]
        assert queue.stats().imbalance == 0


def test_many_queues_are_measured_in_one_trip_to_each_node(
    cluster: RedisCluster, client: redis.Redis, names: list[str]
) -> None:
    for number, name in enumerate(names):
        queue = Queue(client, name)
        queue.declare(policy())
        queue.publish(some(number + 1))
    for node in cluster.primaries():
        node.ask("SCRIPT FLUSH")
    assert [one.ready for one in stats_of(client, names)] == [1, 2, 3]
    many = BulkStats(client)
    for _ in range(2):
        found = many.measure([*names, "nobody's"])
        assert [one.ready for one in found if isinstance(one, QueueStats)] == [1, 2, 3, 0]


def test_a_producer_reaches_every_node(cluster: RedisCluster, names: list[str]) -> None:
    with Client(cluster.url) as client:
        assert [client.send(name, "t", id="one").status for name in names] == ["accepted"] * 3
        for name in names:
            receipt = client.send_many(name, [Job("t", id=f"m{n}") for n in range(1000)])
            assert receipt.accepted == 1000
            assert client.send(name, "t", delay=60, id="late", dedup_key="k").status == "accepted"
            assert client.send(name, "t", dedup_key="k").status == "duplicate"
            assert client.cancel(name, "late") == "cancelled"
            stats = client.stats(name)
            assert (stats.accepted, stats.ready, stats.discarded) == (1002, 1001, 1)


def test_a_producer_survives_a_fork_and_serves_threads(
    cluster: RedisCluster, client: redis.Redis, names: list[str]
) -> None:
    producer = Client(cluster.url)
    producer.send(names[0], "t")
    if (child := os.fork()) == 0:
        try:
            os._exit(not all(producer.send(name, "t").id for name in names))
        finally:
            os._exit(2)
    threads = [
        threading.Thread(target=lambda: [producer.send(name, "t") for name in names * 20])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert os.waitpid(child, 0)[1] == 0
    assert [one.accepted for one in stats_of(client, names)] == [82, 81, 81]


def test_progress_is_kept_beside_the_queue(client: redis.Redis, names: list[str]) -> None:
    for name in names:
        queue = Queue(client, name)
        QueueProgress(queue, "m").report(1, 2, "half")
        assert client.hget(queue.keys.progress("m"), "note") == b"half"
        assert client.ttl(queue.keys.progress("m")) > 0


def test_any_node_will_do_as_an_entrance(cluster: RedisCluster, names: list[str]) -> None:
    replica = next(node for node in cluster.nodes if not node.is_primary)
    with connect(cluster.url_of([replica])) as client:
        for name in names:
            live(Queue(client, name))
    user, _, host = cluster.url_of([replica]).rpartition("@")
    with connect(f"{user}@127.0.0.1:1,{host}") as client:
        assert queue_names(client)


def test_prefixes_keep_apart_what_databases_do_elsewhere(
    cluster: RedisCluster, names: list[str]
) -> None:
    with Client(cluster.url), Client(f"{cluster.url}?prefix=other") as other:
        other.send(names[0], "t")
        assert other.stats(names[0]).ready == 1
    with connect(cluster.url) as client:
        assert not client.exists(f"celeriac:{{{names[0]}}}:record")


def test_one_server_is_told_from_a_cluster(valkey: Any, cluster: RedisCluster) -> None:
    url = valkey.url.replace("celeriac://", "celeriac+cluster://")
    with connect(url) as client, pytest.raises(ClusterUnavailable, match="is no node of a cluster"):
        queue_names(client)
    with connect(cluster.url) as client, pytest.raises(NotImplementedError, match="one node"):
        client.pipeline()


def test_nodes_that_left_are_forgotten(cluster: RedisCluster, names: list[str]) -> None:
    with connect(cluster.url) as client:
        assert isinstance(client, ClusterClient)
        stranger = client.node(("127.0.0.1", cluster.nodes[0].bus))
        queue_names(client)
        for name in names:
            Queue(client, name).publish([new()])
        assert client.node(("127.0.0.1", cluster.nodes[0].bus)) is not stranger
