"""The housekeeper, tick by tick, on a clock that the test moves."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import redis

from celeriac.spec.policies import QueuePolicy, RetryPolicy
from celeriac.worker.consumer import Consumer
from celeriac.worker.housekeeper import (
    POLICY_S,
    STUCK_S,
    TICK_S,
    Housekeeper,
)
from tests.unit.worker.scripted import (
    LEASE_S,
    ManualMachine,
    ScriptedQueue,
    claim_of,
    consumer_of,
    done,
    taken,
)

AWAY = redis.ConnectionError("away")
PERIOD_S = LEASE_S / 3


class Scene:
    """A consumer that holds messages, and its housekeeper."""

    def __init__(self, *numbers: int, runs: int = 0, parent: int = 0, **answers: Any) -> None:
        self.machine = ManualMachine()
        self.queue = ScriptedQueue(**{"claim": [claim_of(*numbers)], **answers})
        self.consumer = consumer_of(self.queue, slots=len(numbers) or 1, machine=self.machine)
        if numbers:
            assert self.consumer.claim()
        for _ in range(runs):
            assert self.consumer.begin(taken(self.consumer))
        self.queue.asked.clear()
        self.overrun: list[float] = []
        self.ticks: list[float] = []
        self.housekeeper = Housekeeper(
            self.consumer,
            parent=parent,
            on_tick=lambda: self.ticks.append(self.machine.now),
            on_overrun=lambda: self.overrun.append(self.machine.passed_s),
        )

    def keep(self, seconds: float) -> None:
        """Let the housekeeper work for some time."""
        self.machine.after(seconds, self.housekeeper.stop)
        self.housekeeper.run()
        self.housekeeper._stopped.clear()

    def times(self, name: str) -> int:
        return len(self.queue.told(name))


def test_it_is_a_thread_which_ends_when_it_is_stopped() -> None:
    scene = Scene()
    scene.housekeeper.start()
    (thread,) = scene.machine.threads
    assert thread.started and thread.run == scene.housekeeper.run
    scene.housekeeper.stop()
    assert thread.joined
    scene.housekeeper.run()
    assert not scene.ticks


def test_leases_are_renewed_three_times_in_a_lease() -> None:
    scene = Scene(1, runs=1)
    scene.keep(2 * LEASE_S + 1)
    assert scene.queue.told("renew") == [("w", ["n1-0"])] * 6


def test_it_looks_often_enough() -> None:
    assert TICK_S < STUCK_S < 1
    assert POLICY_S < 5


def test_leases_are_not_renewed_at_every_tick() -> None:
    scene = Scene(1, runs=1)
    scene.keep(0.9 * PERIOD_S)
    assert scene.times("renew") == 0
    scene.keep(0.2 * PERIOD_S)
    assert scene.times("renew") == 1


def test_others_leases_are_looked_at_as_often_whatever_is_held() -> None:
    scene = Scene()
    scene.keep(LEASE_S + 0.5)
    assert scene.times("watch") == 3
    assert scene.times("renew") == 0


def test_leases_are_renewed_between_any_two_requests_that_take_long() -> None:
    scene = Scene(1, runs=1)

    def slow() -> Any:
        scene.machine.now += 1.1 * PERIOD_S
        return AWAY

    scene.queue.answers["settle"] = slow
    scene.queue.answers["record"] = slow
    scene.consumer.settler.add(done(taken_from(scene.consumer)), 0, 0)
    scene.keep(2 * LEASE_S)
    names = [it for it, _ in scene.queue.asked]
    assert "settle" in names and "record" in names
    slow_at = [at for at, it in enumerate(names) if it in ("settle", "record")]
    for one, other in pairwise(slow_at):
        assert "renew" in names[one:other]


def taken_from(consumer: Consumer) -> Any:
    ((it, _),) = consumer.inflight.running.values()
    return it


def test_what_ended_is_settled_when_its_pool_has_no_time_for_it() -> None:
    scene = Scene(1, 2, runs=2)
    running = [it for it, _ in scene.consumer.inflight.running.values()]
    scene.consumer.note_end(done(running[0]))
    scene.keep(3 * TICK_S)
    assert scene.queue.told("settle") == [[done(running[0])]]


def test_what_ended_just_now_is_left_to_its_pool() -> None:
    scene = Scene(1, 2, runs=2)
    running = [it for it, _ in scene.consumer.inflight.running.values()]
    scene.consumer.prefetch.trip_s = 0.5
    scene.consumer.note_end(done(running[0]))
    scene.keep(0.4)
    assert scene.times("settle") == 0


def test_what_waits_behind_a_long_task_goes_back() -> None:
    scene = Scene(1, 2, runs=1)
    scene.keep(0.9 * STUCK_S)
    assert scene.times("release") == 0
    scene.keep(0.3 * STUCK_S)
    assert scene.queue.told("release") == [(["n2-0"], False)]
    scene.keep(1.0)
    assert scene.times("release") == 1


def test_what_waits_while_nothing_runs_stays() -> None:
    scene = Scene(1, 2)
    scene.keep(4 * STUCK_S)
    assert scene.times("release") == 0


def test_with_nothing_waiting_nothing_goes_back() -> None:
    scene = Scene(1, runs=1)
    scene.keep(4 * STUCK_S)
    assert scene.times("release") == 0


def test_what_was_asked_for_ahead_goes_back_too() -> None:
    scene = Scene(1, runs=1, answer=[claim_of(7)])
    scene.consumer.prefetch.slots = 2
    scene.consumer.claim_ahead()
    scene.keep(2 * STUCK_S)
    assert scene.queue.told("release") == [(["n7-0"], False)]


def test_what_waits_when_the_worker_closes_goes_back_at_once() -> None:
    scene = Scene(1, 2)
    scene.consumer.closing.set()
    scene.keep(2 * TICK_S)
    assert scene.queue.told("release") == [(["n1-0", "n2-0"], False)]


def test_what_could_not_be_given_back_is_tried_again() -> None:
    scene = Scene(1, 2, runs=1, release=[AWAY, AWAY])
    scene.keep(2.0)
    assert scene.times("release") == 3
    assert not scene.consumer.inflight.returning


OTHER = QueuePolicy(retry=RetryPolicy(max_attempts=7))


def test_a_busy_worker_hears_of_a_new_policy() -> None:
    scene = Scene(1, runs=1, record=(3, OTHER))
    scene.keep(0.9 * POLICY_S)
    assert scene.times("record") == 0
    scene.keep(0.2 * POLICY_S)
    assert scene.consumer.policy() == OTHER
    scene.keep(2 * POLICY_S)
    assert scene.times("record") in (2, 3), "once a second, not at every tick"


def test_an_idle_worker_hears_of_it_from_its_claims() -> None:
    scene = Scene()
    scene.keep(3 * POLICY_S)
    assert scene.times("record") == 0


def test_its_beat_and_its_ticks_show_that_threads_run() -> None:
    scene = Scene()
    scene.keep(1.0)
    assert 19 <= len(scene.ticks) <= 21
    assert scene.housekeeper.beat == scene.ticks[-1]


def test_at_the_end_of_the_grace_time_everything_goes_back_and_the_process_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scene = Scene(1, 2, runs=1)
    scene.housekeeper.close_by(scene.machine.now + 1.0)
    scene.housekeeper.run()
    (at,) = scene.overrun
    assert 1.0 <= at <= 1.0 + 2 * TICK_S
    assert scene.queue.asked[-2:] == [("release", (["n1-0"], False)), ("abandon", ("w", []))]
    assert "the grace time is over: 1 messages go back" in caplog.text


def test_without_a_deadline_it_goes_on() -> None:
    scene = Scene(1, runs=1)
    scene.keep(3 * LEASE_S)
    assert not scene.overrun


@pytest.mark.parametrize("order", [(1.0, 60.0), (60.0, 1.0)])
def test_the_earliest_deadline_counts(order: tuple[float, float]) -> None:
    scene = Scene()
    for seconds in order:
        scene.housekeeper.close_by(scene.machine.now + seconds)
    scene.housekeeper.run()
    assert scene.overrun[0] < 2


@pytest.fixture
def leaving(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[int]]:
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    return lambda: codes


def test_when_nobody_says_otherwise_the_process_leaves_without_an_error(
    leaving: Callable[[], list[int]],
) -> None:
    scene = Scene()
    housekeeper = Housekeeper(scene.consumer)
    housekeeper.close_by(scene.machine.now)
    housekeeper.run()
    assert leaving() == [0]


@pytest.mark.parametrize(
    ("parent", "drains"), [(os.getppid(), False), (1_000_000, True), (0, False)]
)
def test_it_drains_when_whoever_started_it_is_gone(parent: int, drains: bool) -> None:
    scene = Scene(parent=parent)
    scene.keep(1.2 * PERIOD_S)
    assert scene.consumer.closing.is_set() is drains
