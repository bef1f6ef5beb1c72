"""A primary dies: what lies on others goes on, and what lay on it comes back with its replica."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import redis

from celeriac import Client
from celeriac.broker.bulk_stats import BulkStats
from celeriac.broker.connection import connect
from celeriac.broker.message import QueueStats
from celeriac.broker.queue import Queue
from celeriac.chaos.processes import eventually
from celeriac.control.metrics import read_all
from tests.contract.broker.handy import claim, drain, ids, policy, settle, some
from tests.programs import program
from tests.redis_cluster import PROGRAMS, RedisCluster, slot_of_queue


@pytest.fixture(params=PROGRAMS)
def cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RedisCluster]:
    """A cluster that may be harmed."""
    folder = tmp_path_factory.mktemp("cluster")
    with RedisCluster(folder, binary=program(request.param)) as running:
        yield running


def test_a_dead_primarys_queues_come_back_with_its_replica(
    cluster: RedisCluster, client: redis.Redis, names: list[str]
) -> None:
    for name in names:
        Queue(client, name).declare(policy())
        Queue(client, name).publish(some(10))
    queue, many, producer = Queue(client, names[0]), BulkStats(client), Client(cluster.url)
    held = claim(queue, 3)
    for name in names:
        producer.send(name, "t", id="before")
    many.measure(names)
    slot = slot_of_queue(names[0])
    victim = cluster.owner(slot)
    time.sleep(0.5)  # so that the replica has it all
    victim.kill()
    found = many.measure(names)
    assert [type(one) is QueueStats for one in found] == [False, True, True]
    assert isinstance(found[0], redis.ConnectionError)
    assert {one.name for one in read_all(client, "celeriac")()} == set(names[1:])
    with pytest.raises(redis.ConnectionError):
        queue.claim("w", count=1)
    assert cluster.wait_failover(slot) is not victim
    # Whoever has old connections finds the way, too.
    assert producer.send(names[0], "t", id="after").status == "accepted"
    assert queue.renew("w", [message.lease for message in held]) == set()
    assert settle(queue, held) == [True] * 3
    assert drain(queue) == [*(f"m{n}" for n in range(3, 10)), "before", "after"]
    assert [one.imbalance for one in many.measure(names) if isinstance(one, QueueStats)] == [0] * 3
    assert queue.stats().accepted == 12
    victim.start()
    cluster.wait_healthy()
    assert not victim.is_primary
    with connect(cluster.url_of([victim])) as through_it:
        assert Queue(through_it, names[0]).stats().done == 12


def test_a_silent_primary_is_not_asked_for_the_way(cluster: RedisCluster, names: list[str]) -> None:
    """A frozen node answers nothing, and its replica takes over; nobody waits for it again and again."""
    slot = slot_of_queue(names[0])
    with connect(cluster.url, socket_timeout=0.5, socket_connect_timeout=0.5) as client:
        queue = Queue(client, names[0])
        queue.declare(policy())
        queue.publish(some(3))
        victim = cluster.owner(slot)
        time.sleep(0.5)
        with victim.frozen():
            with pytest.raises(redis.TimeoutError):
                queue.claim("w", count=1)

            def claimed() -> list[str]:
                try:
                    return ids(claim(queue, 1, "other"))
                except (redis.ConnectionError, redis.TimeoutError):
                    return []

            assert eventually(claimed, within_s=30) == ["m0"]
            started = time.monotonic()
            for _ in range(20):
                queue.stats()
            assert time.monotonic() - started < 0.5
