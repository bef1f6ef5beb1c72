"""Asking the broker: what an answer tells, and how its absence is sat out."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import redis

from celeriac.broker.queue import QueueNotDeclared
from celeriac.worker.closing import Closing
from celeriac.worker.link import Link
from tests.unit.worker.scripted import ManualMachine, ScriptedQueue

AWAY = redis.ConnectionError("away")


def raising(error: Exception) -> Callable[[], int]:
    def call() -> int:
        raise error

    return call


@pytest.fixture
def machine() -> ManualMachine:
    return ManualMachine()


def link_of(machine: ManualMachine, declare: Callable[[], object] = lambda: None) -> Link:
    return Link(ScriptedQueue(), closing=Closing(machine), machine=machine, declare=declare)


def test_it_knows_since_when_the_broker_answers(machine: ManualMachine) -> None:
    link = link_of(machine)
    assert link.connected_since is None
    machine.now = 1001
    assert link.ask(lambda: 7) == 7
    machine.now = 1002
    assert link.ask(lambda: 0) == 0
    assert link.connected_since == 1001


def test_without_an_answer_it_is_not_connected_until_the_next_one(machine: ManualMachine) -> None:
    link = link_of(machine)
    link.ask(lambda: 7)
    assert link.ask(raising(AWAY)) is None
    assert link.connected_since is None
    link.ask(lambda: 7)
    assert link.connected_since == machine.now > 1000


def test_it_waits_longer_each_time_up_to_a_second_and_starts_afresh_after_an_answer(
    machine: ManualMachine,
) -> None:
    link = link_of(machine)

    def wait_s() -> float:
        before = machine.now
        assert link.ask(raising(redis.TimeoutError("silent"))) is None
        return round(machine.now - before, 6)

    assert [wait_s() for _ in range(6)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    link.ask(lambda: 7)
    assert wait_s() == 0.1


def test_an_outage_is_told_once_and_so_is_its_end(
    machine: ManualMachine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    link = link_of(machine)
    link.ask(lambda: 7)
    assert not caplog.messages
    for _ in range(3):
        link.ask(raising(AWAY))
    link.ask(lambda: 7)
    link.ask(lambda: 7)
    told, over = caplog.messages
    assert "ConnectionError: away" in told
    assert over == "queue q: the broker answers again"


def test_nobody_waits_for_a_broker_while_the_worker_closes(machine: ManualMachine) -> None:
    link = link_of(machine)
    link._closing.set()
    link.ask(raising(AWAY))
    assert machine.passed_s == 0


def test_a_queue_without_a_record_is_declared_and_asked_again_later(machine: ManualMachine) -> None:
    declared: list[int] = []
    link = link_of(machine, lambda: declared.append(1))
    assert link.ask(raising(QueueNotDeclared("q"))) is None
    assert (declared, link.connected_since) == ([1], None)
    link.ask(raising(AWAY))
    assert declared == [1]


def test_declaring_may_fail_too(machine: ManualMachine) -> None:
    link = link_of(machine, raising(AWAY))
    assert link.ask(raising(QueueNotDeclared("q"))) is None
    assert link.ask(lambda: 7) == 7


def test_a_bug_is_no_outage(machine: ManualMachine) -> None:
    with pytest.raises(ZeroDivisionError):
        link_of(machine).ask(lambda: 1 // 0)
