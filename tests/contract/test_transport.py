"""A stock Celery app with a broker URL of ours: what it publishes, and what a worker would claim."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
import redis
from celery import Celery, chain, chord, group, signals
from celery.app import amqp as celery_amqp
from kombu import Connection, Consumer, Exchange, Producer
from kombu import Queue as KombuQueue
from kombu.compression import decompress
from kombu.exceptions import BatchPublishError, OperationalError

import celeriac
from celeriac.broker import capture
from celeriac.broker.bulk_stats import queue_names
from celeriac.broker.connection import parse
from celeriac.broker.embedded import EmbeddedServer
from celeriac.broker.message import Message, NewMessage
from celeriac.broker.queue import Queue
from celeriac.client.envelope import decode
from celeriac.spec.policies import Limits, QueuePolicy
from celeriac.transport.amqp import TaskProducerPool
from celeriac.transport.channel import TaskQueueNotConsumable


def make_app(url: str, **conf: Any) -> Celery:
    app = Celery("test", broker=url, set_as_current=False)
    app.conf.update(task_ignore_result=True, **conf)

    @app.task(name="t.add", shared=False)
    def add(x: int, y: int = 0) -> int:
        return x + y

    @app.task(name="t.total", shared=False)
    def total(values: list[int]) -> int:
        return sum(values)

    return app


@pytest.fixture
def prefix(queue_name: str) -> str:
    return f"test-{queue_name}"


@pytest.fixture
def url(valkey: Any, prefix: str) -> str:
    return f"{valkey.url}?prefix={prefix}"


@pytest.fixture
def app(url: str, queue_name: str) -> Iterator[Celery]:
    app = make_app(url, task_default_queue=queue_name)
    yield app
    app.close()


@pytest.fixture
def queue(redis_client: redis.Redis, queue_name: str, prefix: str) -> Queue:
    queue = Queue(redis_client, queue_name, prefix=prefix)
    queue.declare(QueuePolicy())
    return queue


def claim(queue: Queue, count: int = 100) -> list[Message]:
    return queue.claim("w1", count=count).messages


def claim_one(queue: Queue) -> Message:
    (message,) = claim(queue)
    return message


# --- what a task message looks like ---------------------------------------------------------------


def test_apply_async_puts_one_message_into_the_queue(app: Celery, queue: Queue) -> None:
    result = app.tasks["t.add"].apply_async((1,), {"y": 2})

    message = claim_one(queue)

    assert (message.id, message.task, message.priority) == (result.id, "t.add", "normal")
    args, kwargs, embed = json.loads(message.body)
    assert (args, kwargs) == ([1], {"y": 2})
    assert set(embed) == {"callbacks", "errbacks", "chain", "chord"}
    assert (message.attempt, message.delivery, message.expires_ms) == (0, 1, 0)
    headers, properties, content_type, encoding = decode(message.head, message.id, message.task)
    assert headers["root_id"] == result.id
    assert headers["ignore_result"] is True
    assert headers["origin"].startswith(f"gen{os.getpid()}@")
    assert "argsrepr" not in headers
    assert properties["reply_to"] == app.thread_oid
    assert (content_type, encoding) == ("application/json", "utf-8")


def test_a_queue_that_nobody_declared_is_declared_by_the_first_message(
    app: Celery, redis_client: redis.Redis, queue_name: str, prefix: str
) -> None:
    app.tasks["t.add"].delay(1)

    queue = Queue(redis_client, queue_name, prefix=prefix)
    assert queue.record() == (1, QueuePolicy())
    assert queue_names(redis_client, prefix=prefix) == [queue_name]
    assert len(claim(queue)) == 1


def test_a_policy_that_was_declared_is_left_alone(app: Celery, queue: Queue) -> None:
    policy = QueuePolicy(limits=Limits(max_messages=7))
    queue.declare(policy)

    app.tasks["t.add"].delay(1)

    assert queue.record()[1] == policy


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (None, "normal"),
        (0, "high"),
        (2, "high"),
        (3, "normal"),
        (6, "normal"),
        (7, "low"),
        (9, "low"),
    ],
)
def test_celerys_numbers_are_our_priorities(
    app: Celery, queue: Queue, number: int | None, name: str
) -> None:
    options = {} if number is None else {"priority": number}
    app.tasks["t.add"].apply_async((1,), **options)

    assert claim_one(queue).priority == name


def test_a_countdown_waits_on_the_broker(app: Celery, queue: Queue) -> None:
    app.tasks["t.add"].apply_async((1,), countdown=30)
    app.tasks["t.add"].apply_async((2,), eta=datetime.now(UTC) + timedelta(seconds=60))
    app.tasks["t.add"].apply_async((3,), eta=datetime.now(UTC) - timedelta(seconds=60))

    claimed = queue.claim("w1", count=10)

    assert [json.loads(message.body)[0] for message in claimed.messages] == [[3]]
    assert queue.stats().delayed == 2
    again = queue.claim("w1", count=10)
    assert 28_000 < again.next_due_ms <= 30_000


def test_a_short_countdown_comes_due(app: Celery, queue: Queue) -> None:
    app.tasks["t.add"].apply_async((1,), countdown=0.05)

    assert claim(queue) == []
    threading.Event().wait(0.08)

    assert len(claim(queue)) == 1


def test_expiry_is_kept_by_the_broker(app: Celery, queue: Queue) -> None:
    app.tasks["t.add"].apply_async((1,), expires=60)
    app.tasks["t.add"].apply_async((2,), expires=-1)  # Celery makes that "now"
    threading.Event().wait(0.01)

    message = claim_one(queue)

    assert json.loads(message.body)[0] == [1]
    assert 58_000 < message.expires_ms - message.enqueued_ms <= 60_000
    assert queue.stats().discarded_by == {"expired": 1}


def test_send_task_needs_no_task_here(app: Celery, queue: Queue) -> None:
    app.send_task("elsewhere.work", kwargs={"a": 1}, headers={"tenant": "t1", "flag": False})

    message = claim_one(queue)
    headers = decode(message.head, message.id, message.task)[0]
    assert message.task == "elsewhere.work"
    assert (headers["tenant"], headers["flag"]) == ("t1", False)
    assert headers["ignore_result"] is None  # left to the worker's task


def test_what_differs_from_the_default_travels_in_the_head(app: Celery, queue: Queue) -> None:
    app.tasks["t.add"].apply_async(
        (1,),
        soft_time_limit=5,
        time_limit=9,
        shadow="nice name",
        retries=2,
        priority=9,
        reply_to="there",
        correlation_id="c1",
        ignore_result=False,
    )

    message = claim_one(queue)
    headers, properties, _, _ = decode(message.head, message.id, message.task)
    assert headers["timelimit"] == [9, 5]
    assert (headers["shadow"], headers["retries"]) == ("nice name", 2)
    assert headers["ignore_result"] is False
    assert properties == {"reply_to": "there", "priority": 9, "correlation_id": "c1"}


def test_other_serializers_are_named_in_the_head(app: Celery, queue: Queue) -> None:
    app.tasks["t.add"].apply_async((1,), serializer="pickle")

    message = claim_one(queue)
    assert decode(message.head, message.id, message.task)[2:] == (
        "application/x-python-serialize",
        "binary",
    )


def test_a_compressed_body_says_so(app: Celery, queue: Queue) -> None:
    app.tasks["t.add"].apply_async((1,), compression="gzip")

    message = claim_one(queue)
    headers = decode(message.head, message.id, message.task)[0]
    assert headers["compression"] == "application/x-gzip"
    assert json.loads(decompress(message.body, headers["compression"]))[0] == [1]


def test_a_dedup_key_lets_one_message_in(app: Celery, queue: Queue) -> None:
    headers = {"celeriac_dedup_key": "order-7"}
    first = app.tasks["t.add"].apply_async((1,), headers=headers)
    app.tasks["t.add"].apply_async((1,), headers=headers)

    message = claim_one(queue)
    assert message.id == first.id
    assert b"dedup" not in message.head


# --- canvas -----------------------------------------------------------------------------------------


def test_a_chain_carries_its_next_steps(app: Celery, queue: Queue) -> None:
    add = app.tasks["t.add"]
    chain(add.s(1, 1), add.s(2), add.s(3)).apply_async()

    message = claim_one(queue)
    assert [step["args"] for step in json.loads(message.body)[2]["chain"]] == [[3], [2]]


def test_a_group_is_as_many_messages(app: Celery, queue: Queue) -> None:
    result = group(app.tasks["t.add"].s(n, n) for n in range(5)).apply_async()

    messages = claim(queue)
    heads = [decode(message.head, message.id, message.task)[0] for message in messages]
    assert {head["group"] for head in heads} == {result.id}
    assert sorted(head.get("group_index", 0) for head in heads) == list(range(5))


def test_a_chords_header_names_its_body(valkey: Any, app: Celery, queue: Queue) -> None:
    app.conf.result_backend = f"redis://:{quote(valkey.password)}@127.0.0.1:{valkey.port}/0"
    add, total = app.tasks["t.add"], app.tasks["t.total"]
    result = chord([add.s(1, 1), add.s(2, 2)])(total.s())
    result.forget()

    bodies = [json.loads(message.body)[2]["chord"] for message in claim(queue)]
    assert [body["task"] for body in bodies] == ["t.total", "t.total"]


# --- what is refused, and what fails -------------------------------------------------------------------


def test_an_oversized_message_is_refused_at_publish(app: Celery, queue: Queue) -> None:
    queue.declare(QueuePolicy(limits=Limits(max_message_bytes=1024)))

    with pytest.raises(celeriac.MessageRefused, match="maxMessageBytes 1024") as caught:
        app.send_task("t.add", ["x" * 2000])

    assert caught.value.receipt.status == "refused"
    assert queue.stats().accepted == 0


def test_a_full_queue_refuses(app: Celery, queue: Queue) -> None:
    queue.declare(QueuePolicy(limits=Limits(max_messages=1)))
    app.tasks["t.add"].delay(1)

    with pytest.raises(celeriac.MessageRefused, match="queue is full"):
        app.tasks["t.add"].delay(2)

    assert queue.stats().accepted == 1


def test_protocol_1_is_refused_with_the_reason(url: str) -> None:
    app = make_app(url, task_protocol=1)

    with pytest.raises(Exception, match="task_protocol must be 2"):
        app.tasks["t.add"].delay(1)


def test_publishing_survives_a_restart_of_the_broker(tmp_path: Any, queue_name: str) -> None:
    with EmbeddedServer(tmp_path) as server:
        app = make_app(server.url, task_default_queue=queue_name)
        add = app.tasks["t.add"]
        add.delay(1)

        server.stop()
        with pytest.raises(OperationalError):
            add.apply_async((2,), retry=False)
        with pytest.raises(OperationalError):
            add.apply_async((2,), retry_policy={"max_retries": 1, "interval_start": 0.01})
        starter = threading.Timer(0.5, server.start)
        starter.start()
        add.apply_async(
            (3,), retry_policy={"max_retries": 60, "interval_start": 0.1, "interval_max": 0.1}
        )
        starter.join()
        add.delay(4)

        client = redis.Redis.from_url(server.url.replace("celeriac://", "redis://"))
        messages = claim(Queue(client, queue_name))
        assert [json.loads(message.body)[0] for message in messages] == [[1], [3], [4]]
        app.close()


# --- the rest of Celery's publishing --------------------------------------------------------------------


def test_signals_fire_and_may_change_the_message(app: Celery, queue: Queue) -> None:
    seen: list[tuple[str, Any]] = []

    def before(
        sender: str, headers: dict[str, Any], routing_key: str, exchange: str, **rest: Any
    ) -> None:
        headers["trace"] = "abc"
        seen.append(("before", (sender, exchange, routing_key)))

    def after(sender: str, headers: dict[str, Any], **rest: Any) -> None:
        seen.append(("after", headers["id"]))

    signals.before_task_publish.connect(before)
    signals.after_task_publish.connect(after)
    try:
        result = app.tasks["t.add"].delay(1)
    finally:
        signals.before_task_publish.disconnect(before)
        signals.after_task_publish.disconnect(after)

    message = claim_one(queue)
    assert seen == [("before", ("t.add", "", queue.name)), ("after", result.id)]
    assert decode(message.head, message.id, message.task)[0]["trace"] == "abc"


def test_routes_lead_to_other_queues(
    app: Celery, redis_client: redis.Redis, queue_name: str, prefix: str
) -> None:
    app.conf.task_routes = {"t.add": {"queue": f"{queue_name}-b"}}
    app.tasks["t.add"].delay(1)
    app.tasks["t.add"].apply_async((1,), queue=f"{queue_name}-c")

    assert queue_names(redis_client, prefix=prefix) == [f"{queue_name}-b", f"{queue_name}-c"]


def test_eager_tasks_publish_nothing(app: Celery, queue: Queue) -> None:
    app.conf.task_always_eager = True

    assert app.tasks["t.add"].delay(1, 2).get() == 3
    assert queue.stats().accepted == 0


def test_a_producer_of_ones_own_works(app: Celery, queue: Queue) -> None:
    with app.connection_for_write() as connection:
        with app.amqp.Producer(connection) as producer:
            app.tasks["t.add"].apply_async((1,), producer=producer)
        app.tasks["t.add"].apply_async((2,), connection=connection)

    assert [json.loads(m.body)[0] for m in claim(queue)] == [[1], [2]]


def test_a_batch_leaves_in_one_go(app: Celery, queue: Queue) -> None:
    with app.producer_pool.acquire(block=True) as producer:
        assert producer.supports_batch_publish
        with producer.batch():
            for n in range(50):
                app.tasks["t.add"].apply_async((n,), producer=producer, priority=9)
            assert queue.stats().accepted == 0

    messages = claim(queue)
    assert [json.loads(message.body)[0] for message in messages] == [[n] for n in range(50)]
    assert {message.priority for message in messages} == {"low"}


def test_a_batch_that_is_not_accepted_fails(app: Celery, queue: Queue) -> None:
    queue.declare(QueuePolicy(limits=Limits(max_messages=3)))

    def send_five() -> None:
        with app.producer_pool.acquire(block=True) as producer, producer.batch():
            for n in range(5):
                app.tasks["t.add"].apply_async((n,), producer=producer)

    with pytest.raises(BatchPublishError, match="queue is full"):
        send_five()

    assert queue.stats().accepted == 3


def test_a_batch_that_is_aborted_sends_nothing(app: Celery, queue: Queue) -> None:
    def give_up() -> None:
        with app.producer_pool.acquire(block=True) as producer, producer.batch():
            app.tasks["t.add"].apply_async((1,), producer=producer)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        give_up()

    assert queue.stats().accepted == 0


def test_many_threads_share_an_app(app: Celery, queue: Queue) -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda n: app.tasks["t.add"].delay(n).id, range(400)))

    assert {message.id for message in claim(queue, 500)} == set(ids)


def test_a_fork_publishes_on_connections_of_its_own(app: Celery, queue: Queue) -> None:
    add = app.tasks["t.add"]
    add.delay(0)
    children = []
    for n in (1, 2):
        pid = os.fork()
        if pid == 0:
            try:
                for _ in range(50):
                    add.delay(n)
                os._exit(0)
            except BaseException:  # noqa: BLE001
                os._exit(1)
        children.append(pid)
    for _ in range(50):
        add.delay(3)

    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0]
    assert len(claim(queue, 500)) == 151


def test_a_running_attempt_may_take_the_message(app: Celery, queue: Queue) -> None:
    taken: list[tuple[str, NewMessage]] = []

    class Taker:
        def offer(self, queue_name: str, message: NewMessage) -> bool:
            taken.append((queue_name, message))
            return message.id == "mine"

    token = capture.current.set(Taker())
    try:
        app.tasks["t.add"].apply_async((1,), task_id="mine", countdown=5)
        app.tasks["t.add"].apply_async((2,), task_id="another")
    finally:
        capture.current.reset(token)

    assert [(name, message.id) for name, message in taken] == [
        (queue.name, "mine"),
        (queue.name, "another"),
    ]
    assert 4000 < taken[0][1].delay_ms <= 5000
    assert claim_one(queue).id == "another"


def test_a_batch_offers_its_messages_too(app: Celery, queue: Queue) -> None:
    class TakesAll:
        def offer(self, queue_name: str, message: NewMessage) -> bool:
            return True

    token = capture.current.set(TakesAll())
    try:
        with app.producer_pool.acquire(block=True) as producer, producer.batch():
            app.tasks["t.add"].apply_async((1,), producer=producer)
    finally:
        capture.current.reset(token)

    assert queue.stats().accepted == 0


def test_other_brokers_are_not_touched(valkey: Any) -> None:
    app = make_app(f"redis://:{quote(valkey.password)}@127.0.0.1:{valkey.port}/0")

    assert not isinstance(app.amqp.producer_pool, TaskProducerPool)
    message = app.amqp.create_task_message("id1", "t.add", ("shown",))
    assert message.headers["argsrepr"] == "('shown',)"


# --- kombu without Celery -------------------------------------------------------------------------------


def task_headers(id: str) -> dict[str, str]:
    return {"task": "t.add", "id": id}


def test_a_plain_kombu_producer_reaches_the_queue(url: str, queue: Queue) -> None:
    with Connection(url) as connection:
        Producer(connection).publish(
            [[1], {}, {}], routing_key=queue.name, headers=task_headers("k1")
        )
        Producer(connection).publish(
            [[1], {}, {}], routing_key=queue.name, headers=task_headers("k2"), priority=8
        )

    assert [(m.id, m.priority) for m in claim(queue)] == [("k1", "normal"), ("k2", "low")]


def test_a_topic_exchange_routes_to_what_is_bound(url: str, queue: Queue, queue_name: str) -> None:
    exchange = Exchange(f"x-{queue_name}", type="topic")
    with Connection(url) as connection:
        producer = Producer(connection, exchange)
        with pytest.raises(celeriac.MessageRefused, match="no task queue is bound"):
            producer.publish([], routing_key="mail.new", headers=task_headers("k0"))
        KombuQueue(queue.name, exchange, "mail.#")(connection.default_channel).declare()
        producer.publish([], routing_key="mail.new", headers=task_headers("k1"))

    assert [message.id for message in claim(queue)] == ["k1"]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("direct", {"exchange": "x", "routing_key": "k"}),
        ("topic", {"exchange": "x", "routing_key": "k"}),
        ("fanout", {"exchange": "x", "routing_key": "k"}),
        ("fanout", {"exchange": "x"}),
        ("direct", {"queue": "q"}),
        ("topic", {"queue": "q"}),
        ("fanout", {"queue": "q"}),
    ],
)
def test_a_queue_of_task_queues_is_reached_by_name_or_exchange_with_no_worker_up(
    app: Celery, queue: Queue, kind: str, options: dict[str, str]
) -> None:
    names = {"q": queue.name, "x": f"x-{queue.name}"}
    exchange = Exchange(names["x"], type=kind)
    app.conf.task_queues = [KombuQueue(queue.name, exchange, routing_key="k")]
    options = {name: names.get(value, value) for name, value in options.items()}

    result = app.tasks["t.add"].apply_async((1,), **options)

    assert [message.id for message in claim(queue)] == [result.id]


def test_a_fanout_exchange_hands_a_copy_to_each_queue(
    app: Celery, queue: Queue, prefix: str
) -> None:
    exchange = Exchange(f"x-{queue.name}", type="fanout")
    other = Queue(queue.client, f"{queue.name}-2", prefix=prefix)
    app.conf.task_queues = [KombuQueue(it.name, exchange) for it in (queue, other)]

    result = app.tasks["t.add"].apply_async((1,), exchange=exchange.name)

    assert [[message.id for message in claim(it)] for it in (queue, other)] == [[result.id]] * 2


@pytest.mark.parametrize("kind", ["fanout", "direct", "topic"])
def test_a_route_to_an_exchange_without_a_queue_is_refused(app: Celery, kind: str) -> None:
    app.conf.task_routes = {"t.add": {"exchange": "nowhere", "exchange_type": kind}}

    why = "its route names no queue" if kind == "direct" else "is bound to exchange 'nowhere'"
    with pytest.raises(celeriac.MessageRefused, match=why):
        app.tasks["t.add"].apply_async((1,))


@pytest.mark.parametrize("serializer", ["json", "pickle", "yaml"])
def test_a_task_of_protocol_1_is_refused_and_not_put_where_nobody_reads(
    app: Celery, queue: Queue, serializer: str
) -> None:
    app.conf.task_protocol = 1
    stock = celery_amqp.AMQP(app)
    message = stock.as_task_v1("k1", "t.add", args=(1,), kwargs={})
    with app.connection_for_write() as connection:
        producer = Producer(connection)
        with pytest.raises(celeriac.MessageRefused, match="set task_protocol = 2"):
            producer.publish(
                message.body,
                routing_key=queue.name,
                serializer=serializer,
                headers=message.headers,
                **message.properties,
            )


def test_a_key_prefix_of_the_old_transport_is_refused(app: Celery, queue: Queue) -> None:
    app.conf.broker_transport_options = {"global_keyprefix": "staging:"}

    with pytest.raises(celeriac.BrokerURLError, match=r"write \?prefix=staging into"):
        app.tasks["t.add"].delay(1)

    assert claim(queue) == []


@pytest.mark.parametrize("priority", [-1, 10, 11, 5.5, True, "5", "urgent"])
def test_a_priority_that_means_nothing_is_refused(app: Celery, queue: Queue, priority: Any) -> None:
    with pytest.raises(ValueError, match="priority"):
        app.tasks["t.add"].apply_async((1,), priority=priority)
    with pytest.raises(ValueError, match="priority"):  # by Celery's own way
        app.tasks["t.add"].apply_async((1,), priority=priority, link=app.tasks["t.add"].s(1))

    assert claim(queue) == []


def test_queue_declare_size_and_purge_see_our_queue(app: Celery, queue: Queue) -> None:
    app.tasks["t.add"].delay(1)
    app.tasks["t.add"].apply_async((1,), countdown=60)
    with app.connection_for_write() as connection:
        channel = connection.default_channel
        assert channel.queue_declare(queue.name, passive=True).message_count == 1
        with pytest.raises(Exception, match="NOT_FOUND"):
            channel.queue_declare(f"{queue.name}-never", passive=True)
        assert channel.queue_purge(queue.name) == 2

    stats = queue.stats()
    assert (stats.purged, stats.imbalance) == (2, 0)
    assert app.control.purge() == 0


def test_kombu_cannot_read_a_task_queue(url: str, queue: Queue) -> None:
    with Connection(url) as connection:
        kombu_queue = KombuQueue(queue.name, Exchange(queue.name), queue.name)
        consumer = Consumer(connection, [kombu_queue], callbacks=[print])
        with pytest.raises(TaskQueueNotConsumable, match=f"celeriac worker -A .* -Q {queue.name}"):
            consumer.consume()
        with pytest.raises(TaskQueueNotConsumable):
            kombu_queue(connection.default_channel).get()


# --- what connections show ------------------------------------------------------------------------------


def test_no_password_is_shown(valkey: Any, url: str) -> None:
    app = Celery(broker=url, set_as_current=False)
    connection = app.connection_for_write()

    info = connection.info()
    info.pop("password")  # Celery does the same before it answers `inspect stats`

    assert valkey.password not in repr(info) + connection.as_uri() + repr(connection)
    assert valkey.password in connection.as_uri(include_password=True)
    assert (info["hostname"], info["port"]) == ("127.0.0.1", valkey.port)
    assert json.dumps(info["hostname"]) == '"127.0.0.1"'


def test_copies_of_a_connection_reach_the_same_broker(url: str) -> None:
    with Connection(url) as connection, connection.clone() as copy:
        assert copy.transport.broker == connection.transport.broker == parse(url)
        assert copy.clone().default_channel.client.ping()
