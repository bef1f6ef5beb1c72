"""The client on a real broker: one, many, duplicates, refusals, a broker that goes away."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis

from celeriac import BulkInterrupted, Client, Job, Progress, report_progress
from celeriac.broker.connection import connect
from celeriac.broker.embedded import EmbeddedServer
from celeriac.broker.queue import Queue
from celeriac.client import progress
from celeriac.client.progress import QueueProgress
from celeriac.spec.policies import Limits, QueuePolicy


@pytest.fixture
def client(valkey: Any) -> Iterator[Client]:
    with Client(valkey.url) as client:
        yield client


@pytest.fixture
def queue(redis_client: redis.Redis, queue_name: str) -> Queue:
    queue = Queue(redis_client, queue_name)
    queue.declare(QueuePolicy())
    return queue


def test_one_message(client: Client, queue: Queue) -> None:
    receipt = client.send(queue.name, "t.x", args=[1], kwargs={"a": 2}, priority="low")

    (message,) = queue.claim("w", count=10).messages
    assert (receipt.status, receipt.id) == ("accepted", message.id)
    assert (message.task, message.priority) == ("t.x", "low")
    assert json.loads(message.body)[:2] == [[1], {"a": 2}]


def test_many_messages_keep_their_order(client: Client, queue: Queue) -> None:
    bulk = client.send_many(queue.name, (Job("t.x", [n]) for n in range(2500)))

    assert bulk.accepted == len(bulk.receipts) == 2500
    messages = queue.claim("w", count=3000).messages
    assert [message.id for message in messages] == [receipt.id for receipt in bulk.receipts]
    assert [json.loads(message.body)[0][0] for message in messages] == list(range(2500))


def test_big_messages_are_split_by_size(client: Client, queue: Queue) -> None:
    bulk = client.send_many(queue.name, (Job("t.x", ["x" * 300_000]) for _ in range(10)))

    assert bulk.accepted == 10
    assert client.stats(queue.name).accepted == 10


def test_no_jobs_at_all(client: Client, queue: Queue) -> None:
    assert client.send_many(queue.name, []).receipts == []


def test_duplicates_and_refusals_are_told_one_by_one(client: Client, queue: Queue) -> None:
    queue.declare(QueuePolicy(limits=Limits(max_messages=3, max_message_bytes=1024)))

    bulk = client.send_many(
        queue.name,
        [
            Job("t.x", id="a", dedup_key="k"),
            Job("t.x", id="b", dedup_key="k"),
            Job("t.x", ["x" * 2000], id="c"),
            Job("t.x", id="d"),
            Job("t.x", id="e"),
            Job("t.x", id="f"),
        ],
    )

    assert [(receipt.id, receipt.status) for receipt in bulk.receipts] == [
        ("a", "accepted"),
        ("a", "duplicate"),
        ("c", "refused"),
        ("d", "accepted"),
        ("e", "accepted"),
        ("f", "refused"),
    ]
    assert (bulk.accepted, bulk.duplicates) == (3, 1)
    assert "maxMessageBytes" in bulk.refused[0].reason
    assert "queue is full" in bulk.refused[1].reason
    assert queue.stats().accepted == 3


def test_a_dedup_key_is_free_again_after_its_time(client: Client, queue: Queue) -> None:
    options: Any = {"dedup_key": "k", "dedup_seconds": 0.05}
    first = client.send(queue.name, "t.x", **options)
    again = client.send(queue.name, "t.x", **options)
    time.sleep(0.08)
    later = client.send(queue.name, "t.x", **options)

    assert (again.status, again.id) == ("duplicate", first.id)
    assert later.status == "accepted"


def test_a_job_that_cannot_be_sent_stops_before_its_chunk(client: Client, queue: Queue) -> None:
    jobs = [Job("t.x"), Job("t.x", [object()])]

    with pytest.raises(TypeError):
        client.send_many(queue.name, jobs)

    assert queue.stats().accepted == 0


def test_the_broker_goes_away_in_the_middle(tmp_path: Path, queue_name: str) -> None:
    with EmbeddedServer(tmp_path) as server, Client(server.url) as client:

        def jobs() -> Iterator[Job]:
            for n in range(2000):
                if n == 1000:
                    assert client.stats(queue_name).accepted == 800  # its answer is on its way
                    server.stop()
                yield Job("t.x", id=str(n))

        with pytest.raises(BulkInterrupted, match="800 answered, 400 uncertain, 800 not") as caught:
            client.send_many(queue_name, jobs())

        broken = caught.value
        assert broken.receipt.accepted == 800
        assert [job.id for job in broken.uncertain] == [str(n) for n in range(800, 1200)]
        assert [job.id for job in broken.unsent] == [str(n) for n in range(1200, 2000)]
        server.start()
        assert client.stats(queue_name).accepted == 800
        assert client.send_many(queue_name, [*broken.uncertain, *broken.unsent]).accepted == 1200


def test_the_next_chunk_is_made_while_the_server_works(
    client: Client, queue: Queue, redis_client: redis.Redis
) -> None:
    begun: list[float] = []

    def jobs() -> Iterator[Job]:
        for n in range(1200):
            begun.append(time.monotonic())
            yield Job("t.x", [n])

    client.send(queue.name, "t.first")
    redis_client.client_pause(300, all=False)
    paused = time.monotonic()
    assert client.send_many(queue.name, jobs()).accepted == 1200
    assert time.monotonic() - paused > 0.2, "the server was not paused"
    second, third = begun[799], begun[-1]
    assert second - paused < 0.2 < third - paused


def test_a_server_that_is_full_from_the_start_is_told_as_such(
    tmp_path: Path, queue_name: str
) -> None:
    with EmbeddedServer(tmp_path) as server, Client(server.url) as client:
        admin = connect(server.url)
        Queue(admin, queue_name).declare(QueuePolicy())
        admin.config_set("maxmemory", "1mb")
        with pytest.raises(BulkInterrupted, match="the broker is full") as caught:
            client.send_many(queue_name, [Job("t.x", id=str(n)) for n in range(900)])
        assert [job.id for job in caught.value.unsent] == [str(n) for n in range(900)]
        assert not caught.value.uncertain and not caught.value.receipt.receipts


def test_what_cannot_be_sent_leaves_the_chunk_before_it_whole(
    tmp_path: Path, queue_name: str
) -> None:
    def jobs() -> Iterator[Job]:
        yield from (Job("t.x", [n]) for n in range(500))
        raise LookupError("the source ran dry")

    with EmbeddedServer(tmp_path) as server, Client(server.url) as client:
        admin = connect(server.url)
        for call in range(1, 20):
            with pytest.raises(LookupError, match="ran dry"):
                client.send_many(queue_name, jobs())
            assert client.stats(queue_name).accepted == call * 400
        assert len(admin.client_list()) < 10, "each call kept a connection"
        admin.close()


def test_a_broker_that_is_away_is_a_connection_error(tmp_path: Path, queue_name: str) -> None:
    with EmbeddedServer(tmp_path) as server, Client(server.url) as client:
        client.send(queue_name, "t.x")
        server.stop()
        with pytest.raises(redis.ConnectionError):
            client.send(queue_name, "t.x")
        server.start()
        assert client.send(queue_name, "t.x").status == "accepted"


def test_cancel_and_stats(client: Client, queue: Queue) -> None:
    delayed = client.send(queue.name, "t.x", delay=60)
    ready = client.send(queue.name, "t.x")

    assert client.stats(queue.name).delayed == 1
    assert client.cancel(queue.name, delayed.id) == "cancelled"
    assert client.cancel(queue.name, ready.id) == "requested"
    assert queue.claim("w", count=10).messages == []
    stats = client.stats(queue.name)
    assert (stats.delayed, stats.discarded, stats.imbalance) == (0, 2, 0)


def test_looking_at_a_queue_does_not_make_it(client: Client, redis_client: redis.Redis) -> None:
    client.stats("never-seen")
    client.progress("never-seen", "id1")

    assert list(redis_client.scan_iter(match="*never-seen*")) == []


def test_progress_is_seen_by_whoever_sent(client: Client, queue: Queue) -> None:
    assert client.progress(queue.name, "id1") is None
    token = progress.current.set(QueueProgress(queue, "id1"))
    try:
        report_progress(0, 3)
        report_progress(1, 3)
        assert client.progress(queue.name, "id1").done == 0  # type: ignore[union-attr]
        report_progress(3, 3, "ready 🎉")
    finally:
        progress.current.reset(token)

    seen = client.progress(queue.name, "id1")
    assert isinstance(seen, Progress)
    assert (seen.done, seen.total, seen.note) == (3, 3, "ready 🎉")
    assert queue.client.ttl(queue.keys.progress("id1")) > 86_000


def test_a_client_of_ones_own_may_be_given(redis_client: redis.Redis, queue: Queue) -> None:
    redis_client.ping()
    with Client(redis_client) as client:
        assert client.send(queue.name, "t.x").status == "accepted"
    pool: Any = redis_client.connection_pool
    assert all(connection._sock for connection in pool._available_connections)
    assert queue.stats().accepted == 1


def test_threads_and_forks_share_a_client(client: Client, queue: Queue) -> None:
    client.send(queue.name, "t.x")
    pid = os.fork()
    if pid == 0:
        try:
            for _ in range(100):
                client.send(queue.name, "t.x")
            os._exit(0)
        except BaseException:  # noqa: BLE001
            os._exit(1)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: client.send(queue.name, "t.x"), range(400)))

    assert os.waitpid(pid, 0)[1] == 0
    assert queue.stats().accepted == 501


def test_threads_give_their_connections_back(client: Client, queue: Queue) -> None:
    for _ in range(20):
        thread = threading.Thread(target=client.send, args=(queue.name, "t.x"))
        thread.start()
        thread.join()

    pool: Any = client._client.connection_pool
    assert len(pool._available_connections) + len(pool._in_use_connections) <= 3
    assert queue.stats().accepted == 20


def test_an_interrupted_wait_leaves_no_reply_for_the_next_command(
    client: Client, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.send(queue.name, "t.x")
    connection = client._client._local.held.connection  # type: ignore[attr-defined]
    read = connection.read_response

    def interrupted(*args: Any, **options: Any) -> Any:
        connection.read_response = read
        raise KeyboardInterrupt

    connection.read_response = interrupted
    with pytest.raises(KeyboardInterrupt):
        client.send(queue.name, "t.x", dedup_key="k", id="one")

    assert client.send(queue.name, "t.x", dedup_key="k", id="two").id == "one"


def test_a_send_inside_a_send_has_a_connection_of_its_own(client: Client, queue: Queue) -> None:
    client.send(queue.name, "t.x")
    connection = client._client._local.held.connection  # type: ignore[attr-defined]
    read = connection.read_response

    def nested(*args: Any, **options: Any) -> Any:
        connection.read_response = read
        client.send(queue.name, "t.inner")
        return read(*args, **options)

    connection.read_response = nested
    client.send(queue.name, "t.outer")

    tasks = sorted(message.task for message in queue.claim("w", count=10).messages)
    assert tasks == ["t.inner", "t.outer", "t.x"]
