"""A plain call by the short way is Celery's own message, and what is not plain goes Celery's way."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from celery import signals
from celery._state import _task_stack
from kombu.exceptions import OperationalError

from celeriac.broker.refusal import BrokerFull
from celeriac.client.publisher import MessageRefused

from .conftest import Post, Sent

PLAIN: list[tuple[str, dict[str, Any]]] = [
    ("add", {}),
    ("add", {"priority": 0}),
    ("add", {"priority": 9}),
    ("add", {"queue": "other"}),
    ("add", {"ignore_result": True}),
    ("add", {"countdown": 5}),
    ("limited", {}),
    ("limited", {"priority": 8}),
]


def by_celerys_way(post: Post) -> None:
    post.app.amqp.__dict__["fast_path"] = None


def kombus(post: Post) -> list[dict[str, Any]]:
    """Put a list in the place of kombu's own producer."""
    published: list[dict[str, Any]] = []

    class Real:
        def publish(self, body: Any, key: str, **options: Any) -> None:
            published.append({"routing_key": key, **options})

        def release(self) -> None: ...

    post.app.amqp.producer_pool.acquire_real = lambda *_: Real()
    return published


def without_the_moment(sent: Sent) -> Sent:
    """An eta is a date, and so a little less than the countdown when it is sent."""
    headers = {**sent.headers, **({"eta": "then"} if "eta" in sent.headers else {})}
    return replace(sent, delay_ms=round(sent.delay_ms, -3), headers=headers)


def test_a_call_that_waits_says_when_it_is_due(post: Post) -> None:
    now = datetime.now(UTC)
    post.app.amqp.fast_path.send(post.tasks["add"], (1,), {}, "id1", {"countdown": 60})
    eta = datetime.fromisoformat(post.sent[0].headers["eta"])
    assert timedelta(seconds=59) < eta - now < timedelta(seconds=75)


@pytest.mark.parametrize(("task", "options"), PLAIN)
def test_both_ways_send_the_same(post: Post, task: str, options: dict[str, Any]) -> None:
    took_it = post.app.amqp.fast_path.send(post.tasks[task], (1,), {}, "id1", dict(options))
    assert took_it is not None
    by_celerys_way(post)
    post.tasks[task].apply_async((1,), task_id="id1", **options)
    fast, celerys = map(without_the_moment, post.sent)
    assert fast == celerys
    queues = [key for key in post.client.asked if key[0] == "hexists"]
    assert len(queues) == 1, "both into one queue"


@pytest.mark.parametrize(
    ("priority", "letter"), [(0, "h"), (2, "h"), (3, "n"), (None, "n"), (6, "n"), (7, "l")]
)
@pytest.mark.parametrize("fast", [True, False])
def test_priorities(post: Post, priority: int | None, letter: str, fast: bool) -> None:
    if not fast:
        by_celerys_way(post)
    post.tasks["add"].apply_async((1,), priority=priority)
    assert [sent.priority for sent in post.sent] == [letter]


@pytest.mark.parametrize(
    ("task", "options"),
    [
        ("add", {"expires": 60}),
        ("add", {"eta": datetime(2030, 1, 1, tzinfo=UTC)}),
        ("add", {"headers": {"mine": 1}}),
        ("add", {"countdown": -1}),
        ("expiring", {}),
    ],
)
def test_what_is_not_plain_goes_celerys_way(post: Post, task: str, options: dict[str, Any]) -> None:
    fast_path = post.app.amqp.fast_path
    assert fast_path.send(post.tasks[task], (1,), {}, "id1", dict(options)) is None
    assert post.sent == []


def test_while_a_task_runs_its_calls_name_their_parent(post: Post) -> None:
    class Running:
        class request:  # noqa: N801  # Celery's word
            called_directly = False

    _task_stack.push(Running())
    try:
        assert post.app.amqp.fast_path.send(post.tasks["add"], (1,), {}, "id1", {}) is None
    finally:
        _task_stack.pop()


def test_who_listens_hears_of_the_call(post: Post) -> None:
    heard: list[str] = []

    def listen(sender: str, **_: Any) -> None:
        heard.append(sender)

    signals.before_task_publish.connect(listen)
    try:
        post.tasks["add"].delay(1)
    finally:
        signals.before_task_publish.disconnect(listen)
    assert heard == ["t.add"] and len(post.sent) == 1


def test_expiry_and_time_travel_as_durations(post: Post) -> None:
    eta = datetime.now(UTC) + timedelta(seconds=30)
    post.tasks["add"].apply_async((1,), eta=eta, expires=60)
    (sent,) = post.sent
    assert 29_000 < sent.delay_ms <= 30_000 and 59_000 < sent.ttl_ms <= 60_000


def test_a_time_without_a_zone_is_the_apps(post: Post) -> None:
    post.app.conf.timezone = "Asia/Tokyo"
    tokyo = datetime.now(UTC).astimezone(post.app.timezone) + timedelta(seconds=30)
    post.tasks["add"].apply_async((1,), eta=tokyo.replace(tzinfo=None))
    (sent,) = post.sent
    assert 28_000 < sent.delay_ms <= 30_000


@pytest.mark.parametrize("fast", [True, False])
def test_a_refusal_is_raised(post: Post, fast: bool) -> None:
    if not fast:
        by_celerys_way(post)
    post.client.answers |= {"publish_one": 0, "publish": [[0, b"refused", b"queue is full"]]}
    with pytest.raises(MessageRefused, match="queue is full"):
        post.tasks["add"].delay(1)


@pytest.mark.parametrize("fast", [True, False])
def test_a_full_broker_is_asked_again_as_the_policy_says(post: Post, fast: bool) -> None:
    if not fast:
        by_celerys_way(post)
    policy = {"max_retries": 2, "interval_start": 0, "interval_step": 0, "interval_max": 0}
    post.app.conf.task_publish_retry_policy = policy
    answers: list[object] = [BrokerFull("full"), BrokerFull("full"), 1]
    post.client.answers["publish_one"] = lambda *_: answers.pop(0)
    if fast:  # from its failure on it is Celery's way
        answers.insert(0, BrokerFull("full"))
    post.tasks["add"].delay(1)
    assert answers == []


def test_without_retries_a_connection_that_breaks_is_raised(post: Post) -> None:
    by_celerys_way(post)
    post.client.answers["publish_one"] = redis.ConnectionError("gone")
    with pytest.raises(OperationalError, match="gone"):
        post.tasks["add"].apply_async((1,), retry=False)
    assert len(post.sent) == 1, "sent once"


def test_with_retries_it_is_kombu_that_waits_for_a_connection(post: Post) -> None:
    by_celerys_way(post)
    published = kombus(post)
    post.client.answers["publish_one"] = redis.ConnectionError("gone")
    post.tasks["add"].apply_async((1,), task_id="id1", queue="q", retry=True)
    (waiting,) = published
    assert (waiting["routing_key"], waiting["headers"]["id"], waiting["retry"]) == (
        "q",
        "id1",
        True,
    )


def test_what_is_compressed_keeps_its_encoding(post: Post) -> None:
    published = kombus(post)
    with post.app.amqp.producer_pool.acquire() as producer:
        headers = {"id": "1", "task": "t"}
        producer.publish([[], {}, {}], "q", exchange="", headers=headers, compression="zlib")
    assert [it["compression"] for it in published] == ["zlib"] and post.sent == []


def test_in_celerys_numbers_0_is_the_most_urgent_and_kombu_must_not_take_it_for_none(
    post: Post,
) -> None:
    post.tasks["add"].apply_async((1,), priority=0, headers={"mine": 1})
    (sent,) = post.sent
    assert (sent.priority, sent.headers["mine"]) == ("h", 1)
