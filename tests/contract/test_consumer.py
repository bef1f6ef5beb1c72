"""What a consumer believes of its leases, when time passes where it cannot see it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
import redis

from celeriac.broker.message import DONE, Claim, Lease, Message, NewMessage, Settlement
from celeriac.broker.queue import Queue
from celeriac.spec.policies import QueuePolicy
from celeriac.worker.consumer import Consumer
from celeriac.worker.housekeeper import Housekeeper
from celeriac.worker.machine import Machine


class Sleepy(Machine):
    """A machine whose clock is moved: it slept."""

    def __init__(self) -> None:
        self.slept_s = 0.0
        self.monotonic = lambda: time.monotonic() + self.slept_s


class Told(Queue):
    """A queue with something to do after a claim and before a settlement; its renewals can fail."""

    after_claim: Callable[[], object] = staticmethod(lambda: None)
    before_settle: Callable[[], object] = staticmethod(lambda: None)
    cut = False

    def claim(self, consumer: str, *, count: int, held: int = 0) -> Claim:
        claim = super().claim(consumer, count=count, held=held)
        self.after_claim()
        return claim

    def settle(self, settlements: list[Settlement]) -> list[bool]:  # type: ignore[override]
        self.before_settle()
        return super().settle(settlements)

    def renew(self, consumer: str, leases: list[Lease]) -> set[Lease]:  # type: ignore[override]
        if self.cut:
            raise redis.ConnectionError("cut off")
        return super().renew(consumer, leases)


@pytest.fixture
def queue(redis_client: redis.Redis, queue_name: str) -> Told:
    queue = Told(redis_client, queue_name, lease_ms=5000)
    queue.declare(QueuePolicy())
    queue.publish([NewMessage(id="m", task="t", body=b"[[], {}, {}]")])
    return queue


def taken(consumer: Consumer) -> Message:
    """Claim a message and take it, as a pool does."""
    assert consumer.claim()
    message = consumer.inflight.waiting.get_nowait()
    assert message is not None
    return message


def test_who_sleeps_over_an_answer_asks_before_starting(queue: Told) -> None:
    machine = Sleepy()
    consumer = Consumer(queue, "w", slots=1, machine=machine)

    def sleep() -> None:
        time.sleep(0.01)
        machine.slept_s = 6
        assert queue.reclaim(lease_ms=1) == 1  # by somebody else, meanwhile

    queue.after_claim = sleep
    assert not consumer.begin(taken(consumer))
    assert consumer.inflight.running == {}
    assert consumer.held == 0


def test_what_cannot_be_renewed_does_not_start_and_goes_back(queue: Told) -> None:
    machine = Sleepy()
    consumer = Consumer(queue, "w", slots=1, machine=machine)
    message = taken(consumer)
    machine.slept_s = 6
    queue.cut = True
    assert not consumer.begin(message)
    assert list(consumer.inflight.returning) == [message.lease]
    assert consumer.give_back()
    stats = queue.stats()
    assert (stats.ready, stats.leased, stats.redelivered, consumer.held) == (1, 0, 0, 0)


def test_what_is_taken_and_not_begun_is_held_and_renewed(queue: Told) -> None:
    consumer = Consumer(queue, "w", slots=1)
    message = taken(consumer)
    assert consumer.held == 1
    time.sleep(0.6)
    assert consumer.renew()
    assert queue.reclaim(lease_ms=500) == 0
    assert consumer.begin(message)


def test_what_is_being_settled_is_renewed(queue: Told) -> None:
    consumer = Consumer(queue, "w", slots=1)
    message = taken(consumer)
    assert consumer.begin(message)
    consumer.note_end(Settlement(message, DONE, 1))
    renewed: list[bool] = []

    def hang() -> None:
        time.sleep(0.6)
        renewed.append(consumer.renew())
        assert queue.reclaim(lease_ms=500) == 0

    queue.before_settle = hang
    assert consumer.settler.settle()
    assert renewed == [True]
    assert queue.stats().done == 1


def test_a_drain_that_is_to_end_at_once_is_not_put_off(queue: Told) -> None:
    """A second SIGTERM may be handled in the midst of the first, which sets the longer time then."""
    over = threading.Event()
    housekeeper = Housekeeper(Consumer(queue, "w", slots=1), on_overrun=over.set)
    now = time.monotonic()
    housekeeper.close_by(now)
    housekeeper.close_by(now + 60)
    housekeeper.start()
    assert over.wait(10)
    housekeeper.stop()
