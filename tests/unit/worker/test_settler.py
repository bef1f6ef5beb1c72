"""What has ended and waits to be settled: when it is time, and what becomes of it without an answer."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import pytest
import redis

from celeriac.broker.message import Discard
from celeriac.worker.closing import Closing
from celeriac.worker.link import Link
from celeriac.worker.settler import SETTLE_AFTER_S, SETTLE_MESSAGES, Settler
from tests.unit.worker.scripted import ManualMachine, ScriptedQueue, done, message

AWAY = redis.ConnectionError("away")
ONE, TWO = done(message(1)), done(message(2))
NEAR_S, FAR_S = 0.0, 0.3


@pytest.fixture
def machine() -> ManualMachine:
    return ManualMachine()


@pytest.fixture
def make(machine: ManualMachine) -> Callable[[ScriptedQueue], Settler]:
    def made(queue: ScriptedQueue) -> Settler:
        link = Link(queue, closing=Closing(machine), machine=machine, declare=lambda: None)
        return Settler(link, machine)

    return made


Make = Callable[[ScriptedQueue], Settler]


def test_it_is_time_when_the_first_has_waited(make: Make) -> None:
    settler = make(ScriptedQueue())
    assert not settler.is_due(2000, NEAR_S), "there is nothing"
    assert not settler.add(ONE, 1000, NEAR_S)
    assert not settler.is_due(1000 + 0.9 * SETTLE_AFTER_S, NEAR_S)
    assert settler.is_due(1000 + 1.1 * SETTLE_AFTER_S, NEAR_S)
    assert settler.add(TWO, 1000 + 1.1 * SETTLE_AFTER_S, NEAR_S)


def test_nobody_waits_for_an_outcome_for_long_and_many_are_settled_together() -> None:
    assert 0.001 < SETTLE_AFTER_S < 0.02
    assert 50 < SETTLE_MESSAGES < 500


def test_with_a_broker_far_away_it_is_time_once_a_trip(make: Make) -> None:
    settler = make(ScriptedQueue())
    settler.add(ONE, 1000, FAR_S)
    assert not settler.is_due(1000 + 0.9 * FAR_S, FAR_S)
    assert settler.is_due(1000 + 1.1 * FAR_S, FAR_S)


def test_it_is_time_when_many_wait(make: Make) -> None:
    settler = make(ScriptedQueue())
    due = [settler.add(done(message(number)), 1000, FAR_S) for number in range(SETTLE_MESSAGES)]
    assert due == [False] * (SETTLE_MESSAGES - 1) + [True]
    assert (len(settler), settler.backlog, settler.count) == (SETTLE_MESSAGES, 0, SETTLE_MESSAGES)
    settler.add(ONE, 1000, FAR_S)
    assert settler.backlog == 1


def test_all_is_settled_in_one_request(make: Make) -> None:
    queue = ScriptedQueue()
    settler = make(queue)
    settler.add(ONE, 1000, NEAR_S)
    settler.add(TWO, 1000, NEAR_S)
    assert settler.leases() == [ONE.message.lease, TWO.message.lease]
    assert settler.settle()
    assert queue.told("settle") == [[ONE, TWO]]
    assert (len(settler), settler.leases(), settler.count) == (0, [], 2)
    assert settler.settled_some.wait(0)


def test_nothing_is_asked_when_nothing_waits(make: Make) -> None:
    queue = ScriptedQueue()
    settler = make(queue)
    assert settler.settle() and settler.settle(wait=True)
    assert not queue.asked
    assert not settler.settled_some.wait(0)


def test_the_clock_starts_again_with_what_comes_next(make: Make) -> None:
    settler = make(ScriptedQueue())
    settler.add(ONE, 1000, NEAR_S)
    settler.settle()
    assert not settler.add(TWO, 1001, NEAR_S)


def test_without_an_answer_all_stays_in_order_and_is_settled_later(make: Make) -> None:
    queue = ScriptedQueue(settle=[AWAY])
    settler = make(queue)
    settler.add(ONE, 1000, NEAR_S)
    settler.add(TWO, 1000, NEAR_S)
    assert not settler.settle()
    assert (len(settler), settler.leases()) == (2, [ONE.message.lease, TWO.message.lease])
    assert not settler.settled_some.wait(0)
    assert settler.is_due(1001, NEAR_S)
    assert settler.settle()
    assert queue.told("settle") == [[ONE, TWO], [ONE, TWO]]


def test_what_ends_while_others_are_settled_comes_after_those_that_failed(make: Make) -> None:
    queue = ScriptedQueue()
    settler = make(queue)

    def meanwhile() -> Exception:
        settler.add(TWO, 1000, NEAR_S)
        assert settler.leases() == [ONE.message.lease, TWO.message.lease], "both are still ours"
        return AWAY

    queue.answers["settle"] = [meanwhile]
    settler.add(ONE, 1000, NEAR_S)
    assert not settler.settle()
    settler.settle()
    assert queue.told("settle")[1] == [ONE, TWO]


def test_one_thread_at_a_time_settles(make: Make) -> None:
    queue = ScriptedQueue()
    settler = make(queue)

    def meanwhile() -> list[bool]:
        settler.add(TWO, 1000, NEAR_S)
        assert settler.settle(), "the one that is at it leaves ours to the housekeeper"
        return [True]

    queue.answers["settle"] = [meanwhile]
    settler.add(ONE, 1000, NEAR_S)
    assert settler.settle()
    assert queue.told("settle") == [[ONE]]
    assert len(settler) == 1
    assert settler.settle(), "whoever settles next has the lock"
    assert len(settler) == 0


def test_who_leaves_waits_for_another_thread_that_settles(make: Make) -> None:
    settler = make(ScriptedQueue())
    settler.add(ONE, 1000, NEAR_S)
    settler._settling.acquire()
    threading.Timer(0.05, settler._settling.release).start()
    assert settler.settle(wait=True)
    assert len(settler) == 0


def test_the_lock_is_given_back_whatever_happens(make: Make) -> None:
    settler = make(ScriptedQueue(settle=[ZeroDivisionError(), [True]]))
    settler.add(ONE, 1000, NEAR_S)
    with pytest.raises(ZeroDivisionError):
        settler.settle()
    settler.add(TWO, 1000, NEAR_S)
    assert settler.settle()
    assert len(settler) == 0


def test_what_is_refused_is_told(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    settler = make(ScriptedQueue(settle=[[True, False]]))
    settler.add(ONE, 1000, NEAR_S)
    settler.add(done(message(2), Discard("x")), 1000, NEAR_S)
    assert settler.settle()
    (line,) = caplog.messages
    assert (
        line == "t[id-2] finished after its lease was lost (Discard): it counts where it runs again"
    )
    assert len(settler) == 0


def test_what_is_refused_after_an_answer_that_was_lost_may_have_been_settled(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    settler = make(ScriptedQueue(settle=[AWAY, [False], [False]]))
    settler.add(ONE, 1000, NEAR_S)
    assert not settler.settle()
    settler.settle()
    assert "id-1] was settled just before the broker went away" in caplog.messages[-1]
    settler.add(ONE, 1000, NEAR_S)
    settler.settle()
    assert "id-1] finished after its lease was lost" in caplog.messages[-1], "a new lease"
