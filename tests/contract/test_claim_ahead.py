"""Messages that a worker asked for while it had some left: none may get lost on the way."""

from __future__ import annotations

import time

import pytest
import redis

from celeriac.broker.message import DONE, Message, NewMessage, Settlement
from celeriac.broker.queue import Queue, QueueNotDeclared
from celeriac.chaos.processes import eventually
from celeriac.spec.policies import QueuePolicy
from celeriac.worker.consumer import Consumer
from celeriac.worker.housekeeper import STUCK_S, TICK_S, Housekeeper
from celeriac.worker.prefetch import Prefetch

COUNT = 600


@pytest.fixture
def queue(redis_client: redis.Redis, queue_name: str) -> Queue:
    queue = Queue(redis_client, queue_name)
    queue.declare(QueuePolicy())
    return queue


@pytest.fixture
def consumer(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> Consumer:
    """A consumer that has run a few short messages, holds some, and has asked for more."""
    consumer = Consumer(queue, "w", slots=1)
    consumer.prefetch.observe(1e-6)
    monkeypatch.setattr(consumer.prefetch, "observe", lambda run_s: None)  # however busy we are
    queue.publish([NewMessage(id=str(number), task="t", body=b"") for number in range(COUNT)])
    assert consumer.claim()
    run(consumer, 201)
    consumer.claim_ahead()
    assert consumer.asking
    return consumer


def run(consumer: Consumer, most: int = COUNT) -> list[str]:
    """Run what waits; return the ids of it."""
    ran: list[str] = []
    while len(ran) < most and not consumer.inflight.waiting.empty():
        message = consumer.inflight.waiting.get_nowait()
        assert isinstance(message, Message)
        if consumer.begin(message):
            ran.append(message.id)
            consumer.finish(Settlement(message, DONE, 1))
    consumer.settler.settle()
    return ran


def run_all(consumer: Consumer) -> list[str]:
    ran = run(consumer)
    while consumer.claim():
        ran += run(consumer)
    return ran


def leased(queue: Queue, count: int) -> None:
    """Wait until the server has handed out so many: it answers whether one listens or not."""
    eventually(lambda: queue.stats().leased >= count, within_s=5)


def test_what_was_asked_for_ahead_follows_what_waits(queue: Queue, consumer: Consumer) -> None:
    held = consumer.inflight.waiting.qsize()
    leased(queue, held + 1)
    assert consumer.inflight.waiting.qsize() == held
    assert consumer.claim()
    assert not consumer.asking
    assert run_all(consumer) == [str(number) for number in range(201, COUNT)]
    stats = queue.stats()
    assert (stats.done, stats.redelivered, stats.imbalance) == (COUNT, 0, 0)


def test_a_worker_that_closes_hands_back_what_it_had_asked_for(
    queue: Queue, consumer: Consumer
) -> None:
    assert consumer.give_back()
    stats = queue.stats()
    assert (stats.leased, stats.ready, stats.redelivered) == (0, COUNT - 201, 0)


def test_a_long_task_keeps_nobody_from_what_was_asked_for_before_it(
    queue: Queue, consumer: Consumer
) -> None:
    leased(queue, consumer.inflight.waiting.qsize() + 1)
    while not consumer.inflight.waiting.empty():
        message = consumer.inflight.waiting.get_nowait()
        assert message is not None and consumer.begin(message)  # all run now, for a long time
    housekeeper = Housekeeper(consumer)
    consumer.inflight.last_take = time.monotonic() - STUCK_S
    housekeeper.start()
    eventually(
        lambda: not consumer.asking and not consumer.inflight.returning and queue.stats().ready,
        within_s=5,
    )
    housekeeper.stop()
    assert queue.stats().redelivered == 0


def test_nothing_that_waits_goes_back_while_its_worker_talks_to_a_broker_far_away(
    queue: Queue, consumer: Consumer
) -> None:
    assert not consumer.inflight.running and not consumer.inflight.waiting.empty()
    ready = queue.stats().ready
    housekeeper = Housekeeper(consumer)
    consumer.inflight.last_take = time.monotonic() - STUCK_S
    housekeeper.start()
    begun = housekeeper.beat
    eventually(lambda: housekeeper.beat > begun + 3 * TICK_S, within_s=5)
    housekeeper.stop()
    assert consumer.asking and queue.stats().ready == ready


def test_what_was_asked_for_is_renewed_with_the_rest(queue: Queue, consumer: Consumer) -> None:
    held = consumer.inflight.waiting.qsize()
    queue.lease_ms = 300
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:  # no claim: the worker has enough to run
        assert consumer.renew()
        assert not queue.watch()
        time.sleep(0.05)
    assert consumer.inflight.waiting.qsize() > held
    queue.lease_ms = 15_000
    assert queue.stats().redelivered == 0


def test_a_far_away_broker_is_asked_to_settle_once_a_trip(queue: Queue) -> None:
    queue.publish([NewMessage(id=str(number), task="t", body=b"") for number in range(3)])
    for trip_s, due in ((0.001, True), (0.5, False)):
        consumer = Consumer(queue, "w", slots=1)
        assert consumer.claim()
        message = consumer.inflight.waiting.get_nowait()
        assert message is not None and consumer.begin(message)
        consumer.prefetch = Prefetch(1)
        consumer.prefetch.observe_trip(trip_s)
        assert not consumer.note_end(Settlement(message, DONE, 1))
        now = time.monotonic()
        assert consumer.settle_is_due(now + 0.1) is due
        assert consumer.settle_is_due(now + 0.6)
        assert consumer.settler.settle()


def test_an_answer_that_is_lost_is_taken_back(queue: Queue, consumer: Consumer) -> None:
    leased(queue, consumer.inflight.waiting.qsize() + 1)
    me = queue.client.client_id()
    for client in queue.client.client_list():
        if int(client["id"]) != me:
            queue.client.client_kill_filter(_id=client["id"])
    ran = run_all(consumer)
    ran += run_all(consumer)
    assert sorted(map(int, ran)) == list(range(201, COUNT))
    stats = queue.stats()
    assert (stats.done, stats.redelivered, stats.imbalance) == (COUNT, 0, 0)


def test_leases_count_from_when_they_were_given_not_from_when_one_hears_of_them(
    queue: Queue, consumer: Consumer
) -> None:
    run(consumer)
    queue.lease_ms = 50
    time.sleep(0.1)  # frozen, with the answer on its way
    assert consumer.claim()
    assert consumer.stale
    queue.lease_ms = 15_000


def test_an_answer_tells_of_a_server_that_has_forgotten(queue: Queue) -> None:
    queue.publish([NewMessage(id="m", task="t", body=b"")])
    queue.client.script_flush()
    answer = queue.ask_claim("w", count=1)
    assert [message.id for message in answer().messages] == ["m"]
    queue.client.delete(queue.keys.record)
    answer = queue.ask_claim("w", count=1)
    with pytest.raises(QueueNotDeclared):
        answer()
