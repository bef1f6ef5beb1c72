"""Workers of queues on different nodes, and Celery's remote control, whose keys have a node of their own."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import redis
from celery import Celery, chain, chord
from celery.app.task import Context
from kombu import Exchange
from kombu.common import Broadcast

from celeriac.broker.bulk_stats import stats_of
from celeriac.broker.connection import connect, connection_pool, parse
from celeriac.broker.hash_slots import slot_of
from celeriac.broker.keys import kombu_prefix
from celeriac.broker.queue import Queue
from celeriac.chaos.processes import eventually
from tests.contract.broker.handy import policy
from tests.programs import program
from tests.redis_cluster import RedisCluster

POOLS = ("solo", "threads", "prefork")
KOMBU = slot_of(kombu_prefix("celeriac", cluster=True))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """One program is enough for what is above the queue: the older one, where it is."""
    name = "redis-server" if shutil.which("redis-server") else "embedded"
    with RedisCluster(tmp_path_factory.mktemp("cluster"), binary=program(name)) as running:
        yield running


@pytest.fixture(scope="module")
def workers(cluster: RedisCluster, run: Any) -> dict[str, Any]:
    """A worker for each of three queues on three nodes, each of another pool."""
    names = [names[0] for names in cluster.names_on_each(1, prefix="yard")]
    with connect(cluster.url) as client:
        for name in names:
            Queue(client, name).declare(policy(retry={"maxAttempts": 1}))
        started = {
            name: run(
                *("worker", "-A", "yard:app", "-Q", name, "--pool", pool, "--lease", "5"),
                *("--concurrency", 1 if pool == "solo" else 2, "--name", f"{pool}@{name}"),
            )
            for name, pool in zip(names, POOLS, strict=True)
        }
        app = Celery("yard", broker=cluster.url, set_as_current=False)
        eventually(lambda: len(app.control.ping(timeout=1)) == 3, within_s=60)
    return started


def pinged(app: Celery) -> int:
    """How many workers answer; none while the way to them has changed."""
    with suppress(redis.ConnectionError):
        return len(app.control.ping(timeout=2, limit=3))
    return 0


@pytest.fixture
def names(workers: dict[str, Any]) -> list[str]:
    return list(workers)


def test_tasks_run_on_every_node_in_every_pool(
    app: Celery, client: redis.Redis, names: list[str]
) -> None:
    results = [
        app.send_task("yard.add", (number, 1), queue=name, countdown=number % 2)
        for number in range(10)
        for name in names
    ]
    assert [result.get(timeout=30) for result in results] == [
        number + 1 for number in range(10) for _ in names
    ]
    for name in names:
        app.send_task("yard.fail", queue=name)
        queue = Queue(client, name)
        (letter,) = eventually(queue.dead, within_s=20)
        assert letter.error == "ValueError"
        stats = queue.stats()
        assert (stats.accepted, stats.done, stats.dead, stats.imbalance) == (11, 10, 1, 0)


def test_canvas_goes_from_queue_to_queue(app: Celery, names: list[str]) -> None:
    first, second, third = names
    add = app.signature("yard.add")
    steps = [add.clone((number,)).set(queue=name) for number, name in enumerate(names)]
    assert chain(*steps).apply_async().get(timeout=30) == 3
    total = app.signature("yard.add", args=(5,), immutable=True, queue=third)
    members = [add.clone((1, 2)).set(queue=first), add.clone((3, 4)).set(queue=second)]
    assert chord(members, total).apply_async().get(timeout=30) == 5


def test_remote_control_returns_when_its_slot_has_moved(
    cluster: RedisCluster, app: Celery, names: list[str]
) -> None:
    before = cluster.owner(KOMBU)
    cluster.move(KOMBU, next(node for node in cluster.primaries() if node is not before))
    eventually(lambda: pinged(app) == 3, within_s=30)
    app.control.ping(timeout=0.1)
    # Here the producer, too, has a connection to the node of before. One error, and it finds the way.
    cluster.move(KOMBU, before)
    with pytest.raises(redis.ConnectionError, match="is not served here"):
        app.control.ping(timeout=2)
    eventually(lambda: pinged(app) == 3, within_s=30)


def test_kombus_keys_lie_together_under_the_prefix(
    cluster: RedisCluster, app: Celery, client: redis.Redis, names: list[str]
) -> None:
    eventually(lambda: pinged(app) == 3, within_s=30)
    own = ("celeriac:queues", *(f"celeriac:{{{name}}}:" for name in names))
    strangers = {
        key.decode()
        for node in cluster.primaries()
        for key in node.ask("KEYS", "*")
        if not key.startswith((b"celeriac:kombu:{celeriac}:", b"celeriac:queues", b"celeriac:{"))
    }
    assert strangers == set(), own


def test_broadcasts_reach_every_listener(cluster: RedisCluster, app: Celery) -> None:
    exchange = Exchange("all-of-us", type="fanout")
    heard: list[str] = []
    with app.connection_for_read() as one, app.connection_for_read() as other:
        for name, it in (("one", one), ("other", other)):
            callback = partial(lambda name, body, message: heard.append(name), name)
            it.Consumer(Broadcast("all-of-us", exchange=exchange), callbacks=[callback]).consume()

        def both() -> bool:
            with app.connection_for_write() as sender:
                sender.Producer().publish("news", exchange=exchange, declare=[exchange])
            for it in (one, other):
                with suppress(TimeoutError):
                    it.drain_events(timeout=0.2)
            return {"one", "other"} <= set(heard)

        eventually(both, within_s=20)


def test_events_arrive(app: Celery) -> None:
    got: list[str] = []

    def receive() -> None:
        with app.connection_for_read() as connection:
            receiver = app.events.Receiver(
                connection, handlers={"custom-thing": lambda event: got.append(event["what"])}
            )
            for _ in receiver.consume(limit=None, timeout=0.2, wakeup=False):
                if got:
                    return

    thread = threading.Thread(target=receive, daemon=True)
    thread.start()

    def arrived() -> bool:
        with app.events.default_dispatcher() as dispatcher:
            dispatcher.send("custom-thing", what="happened")
        thread.join(0.2)
        return bool(got)

    eventually(arrived, within_s=20)
    thread.join(10)


def test_results_sent_back_over_the_broker_arrive(cluster: RedisCluster, queue_name: str) -> None:
    app = Celery("test", broker=cluster.url, backend="rpc://", set_as_current=False)
    result = app.send_task("t.x", queue=queue_name)
    request = Context(reply_to=app.thread_oid, correlation_id=result.id)
    app.backend.store_result(result.id, 42, "SUCCESS", request=request)
    assert result.get(timeout=10) == 42
    app.close()


def test_kombus_connection_follows_its_slot(cluster: RedisCluster) -> None:
    with redis.Redis.from_pool(connection_pool(parse(cluster.url))) as kombus:
        key = kombu_prefix("celeriac", cluster=True) + "test"
        kombus.set(key, "1")
        before = cluster.owner(KOMBU)
        cluster.move(KOMBU, next(node for node in cluster.primaries() if node is not before))
        with pytest.raises(redis.ConnectionError, match="is not served here"):
            kombus.get(key)
        assert kombus.get(key) == b"1"
    with connect(cluster.url) as client:
        client.delete(key)


def test_remote_control_reaches_every_worker(
    app: Celery, client: redis.Redis, workers: dict[str, Any]
) -> None:
    names = list(workers)
    before = sum(one.discarded for one in stats_of(client, names))
    hosts = {f"{pool}@{name}" for name, pool in zip(names, POOLS, strict=True)}
    ask = app.control.inspect(timeout=5, limit=3)
    eventually(lambda: pinged(app) == 3, within_s=30)
    assert set(ask.ping() or ()) == hosts
    running = app.send_task("yard.nap", (60,), queue=names[2])
    eventually(lambda: "yard.nap" in json.dumps(ask.active()), within_s=20)
    waiting = app.send_task("yard.nap", (60,), queue=names[0], countdown=600)
    app.control.revoke([running.id, waiting.id], terminate=True)
    eventually(lambda: not any(one.unfinished for one in stats_of(client, names)), within_s=20)
    assert sum(one.discarded for one in stats_of(client, names)) - before == 2
    app.control.shutdown()
    assert [worker.wait(30) for worker in workers.values()] == [0, 0, 0]
