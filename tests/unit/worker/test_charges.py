"""What dead children left, on a queue that answers what the test says: settled, charged, told once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest

from celeriac.broker.message import DeadLetter, Outcome, RetryAt, Settlement
from celeriac.worker.pools.prefork.orphans import Orphan, Orphans
from tests.unit.worker.scripted import ScriptedQueue, message

IT = message(1)
CHARGED: tuple[str, Any] = ("charge", ("w/0", IT.lease))
FREED: tuple[str, Any] = ("abandon", ("w/0", []))


class Steward:
    """A consumer whose broker answers after so many failures."""

    def __init__(self, queue: ScriptedQueue, *, failures: int = 0) -> None:
        self.queue = queue
        self.link = self
        self._failures = failures

    def ask(self, call: Callable[[], Any]) -> Any:
        if self._failures:
            self._failures -= 1
            return None
        return call()


class Running:
    """What the child ran."""

    def __init__(self) -> None:
        self.message = IT


def _left(
    queue: ScriptedQueue, *, outcome: Outcome | None = None, idle: bool = False, failures: int = 0
) -> tuple[Orphans, list[tuple[str, Outcome, str]]]:
    told: list[tuple[str, Outcome, str]] = []
    steward: Any = Steward(queue, failures=failures)
    orphans = Orphans(
        steward,
        on_ended=lambda whose, it, error: told.append((whose.id, it, str(error))),
        quiet=nullcontext(),
    )
    running: Any = None if idle else Running()
    settlement = None if outcome is None else Settlement(running.message, outcome)
    orphans.append(Orphan("w/0", running, settlement, RuntimeError("killed")))
    orphans.take_back()
    orphans.wait(5)
    return orphans, told


def test_what_it_ran_is_charged_and_the_rest_goes_back_free() -> None:
    queue = ScriptedQueue()
    _, told = _left(queue)

    assert queue.asked == [CHARGED, FREED]
    assert told == []


@pytest.mark.parametrize(
    ("fate", "told"),
    [("dead", [(IT.id, DeadLetter(reason="delivery_limit"), "killed")]), ("lost", [])],
)
def test_the_broker_says_whether_it_died_of_that(fate: str, told: list[Any]) -> None:
    assert _left(ScriptedQueue(charge=fate))[1] == told


@pytest.mark.parametrize("ours", [True, False])
def test_what_its_parent_ended_is_settled_in_its_place(ours: bool) -> None:
    queue, outcome = ScriptedQueue(settle=[[ours]]), RetryAt(delay_ms=5)
    _, told = _left(queue, outcome=outcome)

    assert queue.asked == [("settle", [Settlement(IT, outcome)]), FREED]
    assert told == ([(IT.id, outcome, "killed")] if ours else [])


def test_an_idle_child_costs_nobody_anything() -> None:
    queue = ScriptedQueue()
    _, told = _left(queue, idle=True)

    assert (queue.asked, told) == ([FREED], [])


def test_it_is_tried_again_until_the_broker_answers() -> None:
    queue = ScriptedQueue(charge="dead")
    orphans, told = _left(queue, failures=1)
    assert (queue.asked, told) == ([], [])

    orphans.take_back()
    orphans.take_back()
    orphans.wait(5)

    assert queue.asked == [CHARGED, FREED]
    assert len(told) == 1
