"""What Prefork's parent does for its children, which are none here: they note what is sent to them."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest
from billiard.exceptions import Terminated, TimeLimitExceeded, WorkerLostError
from celery import Celery

from celeriac.broker.message import DeadLetter, Discard, RetryAt
from celeriac.worker.pools.prefork import Prefork
from celeriac.worker.pools.prefork.child import Child, Kill
from celeriac.worker.pools.prefork.orphans import Orphan
from celeriac.worker.pools.prefork.pool import SILENT_S, YOUNG_S
from celeriac.worker.pools.prefork.scoreboard import Running, Scoreboard
from tests.unit.worker.scripted import (
    ScriptedContext,
    ScriptedQueue,
    message,
)


class Named(Child):
    """A child that is no process: it notes what is sent to it."""

    __slots__ = ("sent",)

    def __init__(self, name: str) -> None:
        super().__init__(0, name, Scoreboard())
        self.sent: list[int] = []

    def kill(self, number: int = signal.SIGKILL) -> None:
        self.sent.append(number)


@pytest.fixture
def app() -> Celery:
    return Celery("forked", set_as_current=False)


def parent_of(app: Celery, queue: ScriptedQueue, *more: ScriptedQueue, **options: Any) -> Prefork:
    return Prefork(ScriptedContext(app, queue, *more, pool="prefork", **options))


@pytest.fixture
def queue() -> ScriptedQueue:
    return ScriptedQueue()


@pytest.fixture
def pool(app: Celery, queue: ScriptedQueue) -> Prefork:
    return parent_of(app, queue)


def running(pool: Prefork, number: int = 1, *, hard_s: float = 0, **changes: Any) -> Named:
    """A child that runs a message, by its scoreboard."""
    child = Named(f"w/{number}")
    child.scoreboard.write(message(number, **changes), hard_s, 0)
    pool._children[1000 + number] = child
    return child


def later(seconds: float) -> float:
    return time.monotonic() + seconds


def buried(pool: Prefork) -> Orphan:
    orphan = pool._orphans._waiting.pop()
    assert not pool._orphans._waiting
    return orphan


# --- limits ---------------------------------------------------------------------------------------------


def test_a_child_over_its_hard_limit_is_killed_and_what_it_ran_runs_again(pool: Prefork) -> None:
    child = running(pool, hard_s=5)
    pool._enforce_limits(later(4.9))
    assert not child.sent
    pool._enforce_limits(later(5.1))
    assert child.sent == [signal.SIGKILL]
    killed = child.killed
    assert killed is not None
    assert killed.lease == "n1-0"
    assert isinstance(killed.error, TimeLimitExceeded)
    assert isinstance(killed.outcome, RetryAt)
    failure = killed.outcome.failure
    assert failure is not None
    assert (failure.reason, failure.error, failure.worker) == (
        "hard_time_limit",
        "TimeLimitExceeded",
        "w",
    )
    assert 0 < failure.started_ms <= failure.ended_ms
    pool._enforce_limits(later(9))
    assert len(child.sent) == 1, "once is enough"


@pytest.mark.parametrize(("attempt", "own", "again"), [(3, 0, True), (4, 0, False), (0, 1, False)])
def test_passing_the_hard_limit_is_a_failed_attempt(
    pool: Prefork, attempt: int, own: int, again: bool
) -> None:
    """The queue's policy allows five, unless the message says otherwise."""
    kill = pool._timed_out(Running(time.monotonic(), 1.0, own, message(attempt=attempt)))
    assert isinstance(kill.outcome, RetryAt) is again
    assert isinstance(kill.outcome, DeadLetter) is not again


def test_without_a_limit_and_without_a_message_nobody_is_killed(pool: Prefork) -> None:
    child, idle = running(pool), Named("w/2")
    pool._children[2000] = idle
    pool._enforce_limits(later(1e6))
    assert child.sent == idle.sent == []


def test_what_a_child_says_is_taken_away_is_ended_without_an_outcome(pool: Prefork) -> None:
    child = running(pool)
    child.scoreboard.stop_taken(message(2))
    pool._enforce_limits(later(0))
    assert not child.sent, "it has gone on to another message"
    child.scoreboard.stop_taken(message(1))
    pool._enforce_limits(later(0))
    assert (child.sent, child.killed) == ([signal.SIGKILL], Kill("n1-0"))


def test_a_message_is_terminated_by_its_id(pool: Prefork) -> None:
    one, two = running(pool, 1), running(pool, 2)
    assert not pool.terminate("id-3")
    assert pool.terminate("id-2")
    assert (one.sent, one.killed, two.sent) == ([], None, [signal.SIGKILL])
    assert two.killed is not None
    assert (two.killed.lease, two.killed.outcome) == ("n2-0", Discard("revoked"))
    assert isinstance(two.killed.error, Terminated)


def test_all_are_killed_when_it_is_to_stop_at_once(pool: Prefork) -> None:
    children = [running(pool, 1), running(pool, 2)]
    pool.stop_at_once()
    assert [it.sent for it in children] == [[signal.SIGKILL]] * 2


def test_what_is_known_of_it(pool: Prefork) -> None:
    running(pool, 1)
    done = Named("w/2")
    done.scoreboard.clear()
    pool._children[2000] = done
    assert [it.id for it in pool.running()] == ["id-1"]
    assert pool.finished == 1
    assert pool.stats() == {"processes": [1001, 2000]}
    del pool._children[2000]
    pool._bury(done, 0)
    assert pool.finished == 1, "a dead child's count stays"


# --- death ----------------------------------------------------------------------------------------------


def test_a_child_that_died_of_its_message_leaves_it_to_be_charged(
    pool: Prefork, caplog: pytest.LogCaptureFixture
) -> None:
    child = running(pool)
    pool._bury(child, int(signal.SIGKILL))
    orphan = buried(pool)
    assert (orphan.consumer, orphan.settlement) == ("w/1", None)
    assert orphan.running is not None and orphan.running.message.id == "id-1"
    assert isinstance(orphan.error, WorkerLostError)
    assert "t[id-1] took its process with it (signal SIGKILL)" in caplog.text
    pool._bury(child, 7 << 8)
    assert "(exit code 7)" in caplog.text


def test_a_child_that_was_killed_for_its_message_leaves_an_outcome(pool: Prefork) -> None:
    child = running(pool)
    error = Terminated("revoked")
    child.killed = Kill("n1-0", Discard("revoked"), error)
    pool._bury(child, int(signal.SIGKILL))
    orphan = buried(pool)
    assert orphan.error is error
    settlement = orphan.settlement
    assert settlement is not None
    assert (settlement.message.lease, settlement.outcome) == ("n1-0", Discard("revoked"))
    assert settlement.run_ms is not None and 0 <= settlement.run_ms < 5000


@pytest.mark.parametrize("kill", [Kill("n2-0", Discard("revoked"), Terminated("x")), Kill("n1-0")])
def test_what_was_not_meant_or_is_not_ours_goes_back_free(pool: Prefork, kill: Kill) -> None:
    child = running(pool)
    child.killed = kill
    pool._bury(child, int(signal.SIGKILL))
    assert buried(pool) == Orphan("w/1", None, None, None)


def test_who_is_killed_at_the_end_is_not_to_blame(pool: Prefork) -> None:
    pool._stopping = True
    pool._bury(running(pool), int(signal.SIGKILL))
    assert buried(pool) == Orphan("w/1", None, None, None)


def test_an_idle_child_that_dies_leaves_nothing(pool: Prefork) -> None:
    pool._bury(Named("w/1"), int(signal.SIGKILL))
    assert buried(pool) == Orphan("w/1", None, None, None)


def rest_s(pool: Prefork) -> float:
    return max(0.0, pool._rest_until - time.monotonic())


def test_children_that_die_young_are_replaced_ever_more_slowly(pool: Prefork) -> None:
    rests = []
    for _ in range(8):
        pool._bury(Named("w/1"), 256)
        rests.append(rest_s(pool))
    assert rests[:2] == [0, 0]
    assert rests[2:] == pytest.approx([0.8, 1.6, 3.2, 5, 5, 5], abs=0.3)
    pool._bury(Named("w/1"), 0)
    pool._rest_until = 0
    pool._bury(Named("w/1"), 256)
    assert rest_s(pool) == 0, "one that ended well is a new beginning"


@pytest.mark.parametrize("why", ["old", "worked", "ran"])
def test_children_that_have_begun_are_replaced_at_once(pool: Prefork, why: str) -> None:
    for _ in range(9):
        child = running(pool) if why == "ran" else Named("w/1")
        if why == "old":
            child.born -= YOUNG_S + 1
        if why == "worked":
            child.scoreboard.clear()
        pool._bury(child, 256)
    assert rest_s(pool) == 0


def test_nobody_is_born_while_it_rests(pool: Prefork, monkeypatch: pytest.MonkeyPatch) -> None:
    born = iter(range(77, 99))
    monkeypatch.setattr(pool._forker, "fork", lambda: next(born))
    pool._rest_until = later(10)
    pool._spawn_missing(time.monotonic())
    assert not pool._children
    pool._spawn_missing(later(11))
    (child,) = pool._children.values()
    assert (child.pid, child.name) == (77, "w/1")
    del pool._children[77]
    pool._spawn_missing(later(11))
    assert [it.name for it in pool._children.values()] == ["w/2"]


def test_as_many_are_born_as_are_wanted_and_signals_reach_the_parent_again(
    app: Celery, queue: ScriptedQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = parent_of(app, queue, concurrency=3)
    born = iter(range(77, 99))
    blocked: list[set[int]] = []

    def fork() -> int | None:
        blocked.append(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        return next(born) if len(blocked) != 3 else None

    monkeypatch.setattr(pool._forker, "fork", fork)
    pool._spawn_missing(later(0))
    assert len(pool._children) == 2, "not now: it is not quiet"
    pool._spawn_missing(later(0))
    assert list(pool._children) == [77, 78, 79]
    assert all({signal.SIGTERM, signal.SIGINT} <= it for it in blocked)
    assert not {signal.SIGTERM, signal.SIGINT} & signal.pthread_sigmask(signal.SIG_BLOCK, ())


# --- the attendant --------------------------------------------------------------------------------------


def test_a_child_whose_threads_run_keeps_its_leases_itself(
    pool: Prefork, queue: ScriptedQueue
) -> None:
    running(pool)
    pool._look_after()
    assert queue.told("renew") == [("w", [])]
    assert len(queue.told("watch")) == 1


def test_a_silent_childs_leases_are_renewed_by_its_parent(
    pool: Prefork, queue: ScriptedQueue
) -> None:
    child = running(pool)
    silent(child)
    queue.answers["renew"] = [set(), set(), set()]
    pool._look_after()
    assert queue.told("renew") == [("w", []), ("w/1", []), ("w/1", ["n1-0"])]
    assert child.scoreboard.taken == ""


def silent(child: Child) -> None:
    before = child.scoreboard.beaten
    assert time.monotonic() - before < SILENT_S
    time.sleep(SILENT_S * 1.1)


def test_what_a_silent_child_runs_without_a_lease_is_taken_from_it(
    pool: Prefork, queue: ScriptedQueue
) -> None:
    child = running(pool)
    silent(child)
    queue.answers["renew"] = [set(), set(), {"n1-0"}]
    pool._look_after()
    assert child.scoreboard.taken == "n1-0"
    pool._enforce_limits(later(0))
    assert child.killed == Kill("n1-0")


@pytest.mark.parametrize(("parent", "drains"), [(0, False), (os.getppid(), False), (10**6, True)])
def test_it_drains_when_whoever_started_it_is_gone(
    pool: Prefork, parent: int, drains: bool
) -> None:
    pool.context.parent = parent
    pool._look_after()
    assert pool.consumer.closing.is_set() is drains
