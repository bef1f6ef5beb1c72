"""What dead children left goes back to the queue, and what they died of is told."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
import redis
from billiard.exceptions import Terminated, WorkerLostError

from celeriac.broker.message import DeadLetter, Discard, Message, Settlement
from celeriac.worker.pools.prefork.orphans import Orphan, Orphans
from celeriac.worker.pools.prefork.scoreboard import Running
from tests.unit.worker.scripted import (
    ScriptedQueue,
    consumer_of,
    message,
)

AWAY = redis.ConnectionError("away")


@pytest.fixture
def queue() -> ScriptedQueue:
    return ScriptedQueue()


Told = list[tuple[Message, Any, Exception]]


def orphans_of(queue: ScriptedQueue, told: Told) -> Orphans:
    return Orphans(
        consumer_of(queue), on_ended=lambda *it: told.append(it), quiet=threading.RLock()
    )


def run_of(it: Message) -> Running:
    return Running(time.monotonic(), 0.0, 0, it)


LOST = WorkerLostError("gone")


def test_what_killed_its_process_is_charged_and_the_rest_goes_back_free(
    queue: ScriptedQueue,
) -> None:
    told: Told = []
    orphans = orphans_of(queue, told)
    orphans.append(Orphan("w/1", run_of(message()), None, LOST))
    orphans.take_back()
    orphans.wait(1)
    assert queue.asked == [("charge", ("w/1", "n1-0")), ("abandon", ("w/1", []))]
    assert told == [], "it runs again"
    orphans.take_back()
    assert len(queue.asked) == 2


@pytest.mark.parametrize("fate", ["dead", "lost"])
def test_the_broker_says_whether_it_died_of_that(queue: ScriptedQueue, fate: str) -> None:
    """One that was lost before is somebody else's to tell."""
    told: Told = []
    queue.answers["charge"] = [fate]
    orphans = orphans_of(queue, told)
    poison = message()
    orphans.append(Orphan("w/1", run_of(poison), None, LOST))
    orphans.take_back()
    orphans.wait(1)
    assert told == ([(poison, DeadLetter(reason="delivery_limit"), LOST)] if fate == "dead" else [])


def test_a_charge_is_tried_again_until_the_broker_answers(queue: ScriptedQueue) -> None:
    told: Told = []
    queue.answers["charge"] = [AWAY, "dead"]
    orphans = orphans_of(queue, told)
    orphans.append(Orphan("w/1", run_of(message()), None, LOST))
    orphans.take_back()
    assert queue.told("abandon") == []
    orphans.take_back()
    orphans.wait(1)
    assert queue.told("charge") == [("w/1", "n1-0")] * 2
    assert len(told) == 1


@pytest.mark.parametrize("ours", [True, False])
def test_a_message_that_is_killed_is_settled_in_its_childs_place(
    queue: ScriptedQueue, ours: bool
) -> None:
    told: Told = []
    queue.answers["settle"] = [[ours]]
    orphans = orphans_of(queue, told)
    it, error = message(), Terminated("revoked")
    settlement = Settlement(it, Discard("revoked"), 5)
    orphans.append(Orphan("w/1", run_of(it), settlement, error))
    orphans.take_back()
    orphans.wait(1)
    assert queue.asked == [("settle", [settlement]), ("abandon", ("w/1", []))]
    assert told == ([(it, Discard("revoked"), error)] if ours else [])


def test_an_idle_orphan_is_forgotten_by_the_queue(queue: ScriptedQueue) -> None:
    orphans = orphans_of(queue, [])
    orphans.append(Orphan("w/1", None, None, None))
    orphans.take_back()
    assert queue.asked == [("abandon", ("w/1", []))]


def test_orphans_wait_for_the_broker_in_order(queue: ScriptedQueue) -> None:
    queue.answers["abandon"] = [AWAY]
    orphans = orphans_of(queue, [])
    for name in ("w/1", "w/2"):
        orphans.append(Orphan(name, None, None, None))
    orphans.take_back()
    assert queue.told("abandon") == [("w/1", [])]
    orphans.take_back()
    assert queue.told("abandon")[1:] == [("w/1", []), ("w/2", [])]


def test_the_end_waits_for_another_thread_to_take_all_back(queue: ScriptedQueue) -> None:
    orphans = orphans_of(queue, [])
    orphans.append(Orphan("w/1", None, None, None))
    started = time.monotonic()
    threading.Timer(0.1, orphans.take_back).start()
    orphans.wait(5)
    assert 0.1 <= time.monotonic() - started < 3
    assert queue.told("abandon")
    orphans.append(Orphan("w/2", None, None, None))
    started = time.monotonic()
    orphans.wait(0.1)
    assert 0.1 <= time.monotonic() - started < 3
