"""The loops of Solo and Threads, on a queue that answers what the test says."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, cast

import pytest
import redis

from celeriac.broker.message import Claim, Message, Settlement
from celeriac.worker.consumer import Consumer
from celeriac.worker.pools.base import LAST_SETTLE_S, close, keep_claiming
from celeriac.worker.pools.solo import run_solo
from celeriac.worker.pools.threads import run_threads
from tests.unit.worker.scripted import (
    NOTHING,
    ManualMachine,
    ScriptedQueue,
    claim_of,
    consumer_of,
    done,
    message,
)

AWAY = redis.ConnectionError("away")


class Runner:
    """Runs messages: it notes which, and does what the test says."""

    def __init__(self, act: Callable[[Message], object] = lambda it: None) -> None:
        self.ran: list[str] = []
        self._act = act

    def run(self, it: Message) -> Settlement:
        self.ran.append(it.id)
        self._act(it)
        return done(it)


def ending(consumer: Callable[[], Consumer], last: Claim = NOTHING) -> Callable[[], Claim]:
    """An answer that comes with the order to close."""

    def answer() -> Claim:
        consumer().closing.set()
        return last

    return answer


class Scene:
    """A consumer on a queue that hands out some claims, and then says that it is to close."""

    def __init__(self, *claims: Claim, slots: int = 1, **answers: Any) -> None:
        self.machine = ManualMachine()
        script = [*claims, ending(lambda: self.consumer)]
        self.queue = ScriptedQueue(**{"claim": script, **answers})
        self.consumer = consumer_of(self.queue, slots=slots, machine=self.machine)

    def solo(self, runner: Runner, **options: Any) -> None:
        run_solo(self.consumer, cast("Any", runner), **options)

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.queue.asked]

    @property
    def settled(self) -> list[str]:
        return [it.message.id for batch in self.queue.told("settle") for it in batch]


def test_solo_runs_one_after_the_other_settles_and_leaves() -> None:
    scene, runner = Scene(claim_of(1, 2), claim_of(3)), Runner()
    scene.solo(runner)
    assert runner.ran == scene.settled == ["id-1", "id-2", "id-3"]
    assert scene.names[-1] == "abandon"
    assert scene.queue.told("abandon") == [("w", None), ("w", [])]
    assert scene.consumer.held == 0


def test_solo_does_not_start_what_it_may_not() -> None:
    scene, runner = Scene(claim_of(1, 2)), Runner()
    scene.consumer.inflight._lost.add("n1-0")
    scene.solo(runner)
    assert runner.ran == scene.settled == ["id-2"]


def test_solo_stops_when_it_is_told_and_gives_back_the_rest() -> None:
    scene = Scene(claim_of(1, 2, 3))
    runner = Runner(lambda it: scene.consumer.closing.set())
    scene.solo(runner)
    assert runner.ran == scene.settled == ["id-1"]
    assert scene.queue.told("release") == [(["n2-0", "n3-0"], False)]


def test_solo_ends_after_as_many_as_it_is_to_run() -> None:
    scene, runner = Scene(claim_of(1, 2, 3)), Runner()
    scene.solo(runner, enough=lambda: scene.consumer.settler.count >= 2)
    assert runner.ran == scene.settled == ["id-1", "id-2"]
    assert scene.queue.told("release") == [(["n3-0"], False)]
    assert not scene.consumer.closing.is_set()


def test_solo_settles_before_it_claims() -> None:
    scene, runner = Scene(claim_of(1)), Runner()
    scene.consumer.settler.add(done(message(9)), 1000, 0)
    scene.solo(runner)
    assert scene.names[:3] == ["settle", "abandon", "claim"]


def test_solo_waits_for_who_settles_or_hands_back_when_it_is_full() -> None:
    scene, runner = Scene(), Runner()
    scene.consumer.inflight.returning["n9-0"] = None
    scene.machine.after(3, lambda: scene.consumer.inflight.returned(["n9-0"]))
    scene.solo(runner)
    assert scene.machine.passed_s >= 3, "it has waited, and not asked without end"
    assert scene.queue.told("claim") == [(1, 0)]


def test_solo_asks_for_more_when_half_of_a_large_claim_is_left() -> None:
    scene = Scene(claim_of(*range(1, 41)), answer=[claim_of(99)])
    scene.consumer.prefetch.observe(1e-6)
    left: list[int] = []

    def ask() -> None:
        left.append(scene.consumer.inflight.waiting.qsize())

    scene.queue.answers["ask_claim"] = ask
    runner = Runner()
    scene.solo(runner)
    assert left == [20]
    assert runner.ran[-1] == "id-99"
    assert len(runner.ran) == 41


def test_solo_asks_nothing_ahead_for_a_few() -> None:
    scene, runner = Scene(claim_of(*range(1, 15))), Runner()
    scene.consumer.prefetch.observe(1e-6)
    scene.solo(runner)
    assert "ask_claim" not in scene.names


def test_closing_goes_on_until_all_is_given_back_and_settled_and_it_has_left() -> None:
    scene = Scene(release=[AWAY], settle=[AWAY], abandon=[AWAY])
    scene.consumer.closing.set()
    scene.consumer.inflight.arrive([message(1)], 1000)
    scene.consumer.settler.add(done(message(2)), 1000, 0)
    close(scene.consumer)
    assert scene.names == ["release", "release", "settle", "settle", "abandon", "abandon"]
    assert scene.consumer.held == 0
    assert scene.machine.passed_s == pytest.approx(0.3)


def test_closing_ends_without_a_broker() -> None:
    scene = Scene(abandon=AWAY)
    scene.consumer.closing.set()
    close(scene.consumer)
    assert LAST_SETTLE_S <= scene.machine.passed_s < LAST_SETTLE_S + 1


# --- threads --------------------------------------------------------------------------------------------


def test_keep_claiming_tells_of_arrivals_until_the_consumer_closes() -> None:
    scene, arrived = Scene(claim_of(1), claim_of(2), slots=3), []
    keep_claiming(scene.consumer, lambda: arrived.append(scene.consumer.held))
    assert arrived == [1, 2]


def test_keep_claiming_waits_for_room() -> None:
    scene = Scene(claim_of(1))
    settled = scene.consumer.settler.settled_some
    scene.machine.after(2, lambda: scene.consumer.inflight.begin(message(1), 0, ours=True))
    scene.machine.after(2, lambda: scene.consumer.inflight.end("n1-0"))
    scene.machine.after(2, settled.set)
    keep_claiming(scene.consumer)
    assert scene.machine.passed_s >= 2
    assert scene.queue.told("claim") == [(1, 0), (1, 0)]
    assert not settled.wait(0), "or it would never wait again"


def test_keep_claiming_does_not_wait_when_nothing_is_held() -> None:
    scene = Scene(slots=1, claim_when_woken=[NOTHING, NOTHING])
    scene.queue.answers["claim"] = [NOTHING]
    scene.queue.answers["claim_when_woken"] = [NOTHING, NOTHING, ending(lambda: scene.consumer)]
    keep_claiming(scene.consumer)
    assert scene.machine.passed_s == 0


@pytest.mark.timeout(20)
def test_threads_run_side_by_side_and_all_end() -> None:
    """On this machine: three messages are in their tasks at the same time, or none of them ends."""
    meet = threading.Barrier(3)
    queue = ScriptedQueue(claim=[claim_of(1, 2, 3)])
    consumer = Consumer(queue, "w", slots=3)
    ran: list[str] = []

    def act(it: Message) -> None:
        meet.wait(10)
        ran.append(it.id)
        if len(ran) == 3:
            consumer.closing.set()

    run_threads(consumer, cast("Any", Runner(act)), concurrency=3)
    assert sorted(ran) == ["id-1", "id-2", "id-3"]
    settled = [it.message.id for batch in queue.told("settle") for it in batch]
    assert sorted(settled) == sorted(ran)
    assert not [it for it in threading.enumerate() if it.name.startswith("celeriac-slot")]
    assert queue.asked[-1] == ("abandon", ("w", []))


@pytest.mark.timeout(20)
def test_threads_do_not_start_what_they_may_not() -> None:
    queue = ScriptedQueue(claim=[claim_of(1, 2)])
    consumer = Consumer(queue, "w", slots=2)
    consumer.inflight._lost.add("n1-0")
    runner = Runner(lambda it: consumer.closing.set())
    run_threads(consumer, cast("Any", runner), concurrency=1)
    assert runner.ran == ["id-2"]


@pytest.mark.timeout(20)
def test_threads_do_not_start_what_waits_when_they_are_told_to_end() -> None:
    queue = ScriptedQueue(claim=[claim_of(1, 2)])
    consumer = Consumer(queue, "w", slots=2)
    closed = threading.Event()

    def act(it: Message) -> None:
        consumer.closing.set()
        assert closed.wait(10)

    def released() -> int:
        closed.set()
        return 1

    queue.answers["release"] = released
    runner = Runner(act)
    run_threads(consumer, cast("Any", runner), concurrency=1)
    assert runner.ran == ["id-1"]
    assert queue.told("release") == [(["n2-0"], False)]
