"""The short way of plain calls puts the same message into the queue as Celery's own, and knows its limits."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from celery import Celery, chain, group, signals
from celery.app.task import Task
from kombu import Exchange
from kombu import Queue as KombuQueue
from kombu.exceptions import EncodeError, OperationalError
from pydantic import BaseModel

from celeriac.broker.message import Message
from celeriac.broker.queue import Queue
from celeriac.client.envelope import decode
from celeriac.spec.policies import QueuePolicy
from celeriac.transport.fast_path import FastPath


class Order(BaseModel):
    number: int


class Renamed(Task):  # type: ignore[misc]
    def shadow_name(self, *args: Any, **options: Any) -> str:
        return "renamed"


@pytest.fixture
def app(valkey: Any, queue_name: str) -> Iterator[Celery]:
    app = Celery("test", broker=f"{valkey.url}?prefix=test-{queue_name}", set_as_current=False)
    app.conf.update(task_ignore_result=True, task_default_queue=queue_name)

    @app.task(name="t.add", shared=False)
    def add(x: Any, y: Any = 0) -> None: ...

    @app.task(name="t.limited", shared=False, time_limit=30, soft_time_limit=20)
    def limited(x: Any) -> None: ...

    @app.task(name="t.kept", shared=False, ignore_result=False)
    def kept(x: Any) -> None: ...

    @app.task(name="t.expiring", shared=False, expires=60)
    def expiring(x: Any) -> None: ...

    @app.task(name="t.modelled", shared=False, pydantic=True)
    def modelled(order: Order) -> None: ...

    class Classic(app.Task):  # type: ignore[misc,name-defined]
        name = "t.classic"

        def run(self, x: Any) -> None: ...

    app.register_task(Classic())

    @app.task(name="t.renamed", shared=False, base=Renamed)
    def renamed(x: Any) -> None: ...

    app.finalize()
    yield app
    app.close()


@pytest.fixture
def queue(redis_client: redis.Redis, queue_name: str) -> Queue:
    queue = Queue(redis_client, queue_name, prefix=f"test-{queue_name}")
    queue.declare(QueuePolicy())
    return queue


@pytest.fixture
def sent_plainly(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of messages that went the short way."""
    ids: list[str] = []
    send = FastPath.send

    def watch(self: FastPath, task: Any, args: Any, kwargs: Any, id: str, options: Any) -> Any:
        result = send(self, task, args, kwargs, id, options)
        if result is not None:
            ids.append(id)
        return result

    monkeypatch.setattr(FastPath, "send", watch)
    return ids


def look(message: Message) -> dict[str, Any]:
    """Everything in a message but its id and its time."""
    headers, properties, content_type, encoding = decode(message.head, "id", message.task)
    return {
        "task": message.task,
        "priority": message.priority,
        "expires": bool(message.expires_ms),
        "body": json.loads(message.body),
        "headers": headers,
        "properties": properties,
        "type": (content_type, encoding),
    }


CALLS: list[tuple[str, dict[str, Any]]] = [
    ("t.add", {"args": (1, 2)}),
    ("t.add", {"args": [1], "kwargs": {"y": "täglich 🚚"}}),
    ("t.add", {"args": (b"bytes",), "ignore_result": False}),
    ("t.add", {"args": ("\ud800",)}),
    *(("t.add", {"args": (1,), "priority": priority}) for priority in (0, 2, 3, 6, 9)),
    ("t.limited", {"args": (1,)}),
    ("t.limited", {"args": (1,), "priority": 9}),
    ("t.kept", {"args": (1,)}),
    ("t.classic", {"args": (1,)}),
]


@pytest.mark.parametrize(("task", "call"), CALLS)
def test_the_message_is_the_one_that_celery_would_send(
    app: Celery, queue: Queue, sent_plainly: list[str], task: str, call: dict[str, Any]
) -> None:
    plain = app.tasks[task].apply_async(**call)
    assert sent_plainly == [plain.id]

    def hears(**_: Any) -> None: ...

    signals.before_task_publish.connect(hears)
    try:
        slow = app.tasks[task].apply_async(**call)
    finally:
        signals.before_task_publish.disconnect(hears)
    assert sent_plainly == [plain.id]
    assert (type(plain), plain.ignored, plain.backend) == (type(slow), slow.ignored, slow.backend)
    by_id = {message.id: message for message in queue.claim("w", count=9).messages}
    assert look(by_id[plain.id]) == look(by_id[slow.id])


def test_delays_and_queues_of_a_call(app: Celery, queue: Queue, sent_plainly: list[str]) -> None:
    late = app.tasks["t.add"].apply_async((1,), countdown=60)
    other = app.tasks["t.add"].apply_async((1,), queue="other")
    named = app.tasks["t.add"].apply_async((1,), task_id="mine")
    assert sent_plainly == [late.id, other.id, named.id]
    stats = queue.stats()
    assert (stats.delayed, stats.ready, named.id) == (1, 1, "mine")
    there = Queue(queue.client, "other", prefix=queue.prefix)
    assert [message.id for message in there.claim("w", count=9).messages] == [other.id]


def test_routes_lead_to_other_queues(app: Celery, queue: Queue, sent_plainly: list[str]) -> None:
    app.conf.task_routes = {"t.add": {"queue": "routed", "priority": 9}}
    result = app.tasks["t.add"].delay(1)
    assert sent_plainly == [result.id]
    there = Queue(queue.client, "routed", prefix=queue.prefix)
    assert [message.priority for message in there.claim("w", count=9).messages] == ["low"]


def _with_producer(app: Celery) -> Any:
    with app.producer_or_acquire() as producer:
        return app.tasks["t.add"].apply_async((1,), producer=producer)


def _with(app: Celery, **conf: Any) -> Any:
    app.tasks["t.add"].delay(1)  # the sender is made before the setting changes
    app.conf.update(**conf)
    return app.tasks["t.add"].delay(1)


UNUSUAL: dict[str, Callable[[Celery], Any]] = {
    "expires": lambda app: app.tasks["t.add"].apply_async((1,), expires=60),
    "expires of the task": lambda app: app.tasks["t.expiring"].delay(1),
    "eta": lambda app: app.tasks["t.add"].apply_async((1,), eta="2999-01-01T00:00:00+00:00"),
    "a serializer": lambda app: app.tasks["t.add"].apply_async((1,), serializer="yaml"),
    "a header": lambda app: app.tasks["t.add"].apply_async((1,), headers={"tenant": "t"}),
    "a callback": lambda app: app.tasks["t.add"].apply_async((1,), link=app.tasks["t.add"].s(1)),
    "a name for people": lambda app: app.tasks["t.add"].apply_async((1,), shadow="s"),
    "a task that names its calls": lambda app: app.tasks["t.renamed"].delay(1),
    "models": lambda app: app.tasks["t.modelled"].delay(Order(number=1)),
    "a chain": lambda app: chain(app.tasks["t.add"].s(1), app.tasks["t.add"].s(1)).delay(),
    "a group": lambda app: group(app.tasks["t.add"].s(1), app.tasks["t.add"].s(1)).delay(),
    "a producer": _with_producer,
    "events": lambda app: _with(app, task_send_sent_event=True),
    "eager": lambda app: _with(app, task_always_eager=True),
    "an exchange": lambda app: app.tasks["t.add"].apply_async(
        (1,), queue=KombuQueue("q", Exchange("x", type="topic"), routing_key="#")
    ),
}


@pytest.mark.parametrize("call", UNUSUAL.values(), ids=UNUSUAL)
def test_what_is_unusual_goes_celerys_way(
    app: Celery, queue: Queue, sent_plainly: list[str], call: Callable[[Celery], Any]
) -> None:
    result = call(app)
    assert result.id not in sent_plainly


def test_wrong_arguments_are_refused_as_celery_does(
    app: Celery, queue: Queue, sent_plainly: list[str]
) -> None:
    add = app.tasks["t.add"]
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        add.apply_async()
    with pytest.raises(TypeError, match="must be a list or tuple"):
        add.apply_async("x")
    with pytest.raises(EncodeError, match="is not JSON serializable"):
        add.apply_async((object(),))
    assert (sent_plainly, queue.stats().accepted) == ([], 0)


def test_a_broker_that_is_away_is_told_as_celery_tells_it(queue_name: str) -> None:
    for retry in (True, False):
        app = Celery("away", broker="celeriac://127.0.0.1:1", set_as_current=False)
        app.conf.update(
            task_default_queue=queue_name,
            task_publish_retry=retry,
            task_publish_retry_policy={"max_retries": 1, "interval_start": 0.01},
        )

        @app.task(name="t.away", shared=False)
        def add() -> None: ...

        with pytest.raises(OperationalError):
            add.delay()
