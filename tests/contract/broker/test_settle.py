"""What becomes of a message after an attempt, and that only its holder decides it."""

from __future__ import annotations

import json

import pytest

from celeriac.broker.message import (
    DONE,
    DeadLetter,
    Discard,
    Failure,
    Outcome,
    RetryAt,
    Settlement,
)
from celeriac.broker.queue import Queue
from tests.contract.broker.handy import claim, drain, ids, new, one, pause_ms, policy, settle, some
from tests.contract.broker.look import look

OUTCOMES: list[Outcome] = [
    DONE,
    RetryAt(delay_ms=0),
    RetryAt(delay_ms=60_000, body=b"other"),
    DeadLetter(reason="attempts_exhausted"),
    Discard("revoked"),
]
NAMES = ["done", "retry now", "retry later", "dead letter", "discard"]


@pytest.mark.parametrize("outcome", OUTCOMES, ids=NAMES)
def test_a_worker_that_wakes_after_its_lease_was_lost_changes_nothing(
    queue: Queue, outcome: Outcome
) -> None:
    frozen = one(queue)
    pause_ms(3)
    assert queue.reclaim(lease_ms=1) == 1
    (running,) = claim(queue, consumer="other")
    before, stats = look(queue), queue.stats()
    assert settle(queue, [frozen], outcome, 5000) == [False]
    after = queue.stats()
    assert look(queue) == before
    assert (after.done, after.run, after.imbalance) == (stats.done, stats.run, 0)
    assert queue.renew("w", [frozen.lease]) == {frozen.lease}
    assert queue.release("w", [frozen.lease]) == 0
    assert settle(queue, [running]) == [True]


@pytest.mark.parametrize("first", OUTCOMES, ids=NAMES)
@pytest.mark.parametrize("second", OUTCOMES, ids=NAMES)
def test_the_first_outcome_counts_and_the_second_is_refused(
    queue: Queue, first: Outcome, second: Outcome
) -> None:
    message = one(queue)
    assert settle(queue, [message], first) == [True]
    before = look(queue)
    assert settle(queue, [message], second) == [False]
    assert look(queue) == before
    assert (sum(queue.stats().run.counts), queue.stats().imbalance) == (1, 0)


def test_a_batch_says_for_each_message_whether_its_lease_was_held(queue: Queue) -> None:
    queue.publish([*some(3), *some(3, "h", priority="high")])
    got = {message.id: message for message in claim(queue)}
    queue.release("w", [got["m1"].lease, got["h2"].lease])
    wanted = ["h0", "m0", "m1", "m1", "h2", "m2", "m0", "h1"]
    outcomes: list[Outcome] = [
        DONE,
        DONE,
        DONE,
        RetryAt(delay_ms=1),
        DONE,
        Discard("x"),
        DONE,
        DONE,
    ]
    answers = queue.settle(
        [Settlement(got[name], outcome, 1) for name, outcome in zip(wanted, outcomes, strict=True)]
    )
    assert answers == [True, True, False, False, False, True, False, True]
    stats = queue.stats()
    assert (stats.done, stats.discarded, stats.ready, stats.imbalance) == (3, 1, 2, 0)


def test_thousands_are_settled_in_one_call(queue: Queue) -> None:
    queue.publish(some(2500))
    messages = claim(queue, 2500)
    outcomes = [DONE if n % 2 else Discard("odd") for n in range(2500)]
    pairs = zip(messages, outcomes, strict=True)
    assert all(queue.settle([Settlement(message, outcome, 1) for message, outcome in pairs]))
    assert (queue.stats().done, queue.stats().discarded) == (1250, 1250)
    assert queue.settle([]) == []


def test_a_retry_waits_and_carries_what_happened(queue: Queue) -> None:
    message = one(queue, priority="high", head=b"old")
    failure = Failure(reason="error", error="SMTPError", message="451 später", worker="w")
    settle(queue, [message], RetryAt(delay_ms=300, failure=failure, head=b"new"))
    assert (claim(queue), queue.stats().delayed) == ([], 1)
    pause_ms(305)
    (again,) = claim(queue)
    assert (again.id, again.priority, again.head, again.body) == ("m", "high", b"new", message.body)
    assert (again.attempt, again.delivery, again.lost) == (1, 2, 0)
    assert again.enqueued_ms == message.enqueued_ms < again.ready_ms
    (line,) = [json.loads(line) for line in again.history.splitlines()]
    assert line == {
        "reason": "error",
        "error": "SMTPError",
        "message": "451 später",
        "worker": "w",
        "attempt": 1,
        "delivery": 1,
        "startedMs": 0,
        "endedMs": 0,
    }


def test_an_attempt_counts_only_when_user_code_ran(queue: Queue) -> None:
    settle(queue, [one(queue)], RetryAt(delay_ms=0), run_ms=None)
    (again,) = claim(queue)
    assert (again.attempt, again.delivery) == (0, 2)
    assert sum(queue.stats().run.counts) == 0


def test_a_message_that_expired_meanwhile_is_not_run_again(queue: Queue) -> None:
    message = one(queue, ttl_ms=300)
    settle(queue, [message], RetryAt(delay_ms=0))
    pause_ms(305)
    assert claim(queue) == []
    assert queue.stats().discarded_by == {"expired": 1}


def test_history_is_newest_first_and_bounded_in_whole_lines(queue: Queue) -> None:
    message = one(queue)
    for number in range(60):
        failure = Failure(reason="error", error=f"E{number}", message="…" * 480)
        settle(queue, [message], RetryAt(delay_ms=0, failure=failure))
        (message,) = claim(queue)
    lines = [json.loads(line) for line in message.history.splitlines()]
    assert len(message.history) <= 16384
    assert len(lines) >= 5
    assert [line["error"] for line in lines] == [f"E{59 - n}" for n in range(len(lines))]
    assert message.attempt == 60


def test_one_monstrous_failure_does_not_break_the_history(queue: Queue) -> None:
    message = one(queue)
    settle(queue, [message], RetryAt(delay_ms=0, failure=Failure(reason="r", error="E" * 20_000)))
    (message,) = claim(queue)
    settle(queue, [message], DeadLetter(reason="x", failure=Failure(reason="small")))
    (letter,) = queue.dead()
    assert letter.history[0]["reason"] == "small"


def test_run_times_fall_into_the_bucket_of_their_upper_bound(queue: Queue) -> None:
    queue.publish(some(4))
    for message, run_ms in zip(claim(queue), (0, 5, 6, 10**9), strict=True):
        settle(queue, [message], DONE, run_ms)
    run = queue.stats().run
    assert (run.counts[0], run.counts[1], run.counts[-1]) == (2, 1, 1)
    assert len(run.counts) == len(run.bounds_ms) + 1
    assert run.sum_ms == 10**9 + 11


def test_waiting_time_is_measured_from_ready_to_claimed(queue: Queue) -> None:
    queue.publish([new(), new("later", delay_ms=30)])
    pause_ms(120)
    assert ids(claim(queue)) == ["m", "later"]
    wait = queue.stats().wait
    assert sum(wait.counts) == 2
    assert 120 <= wait.sum_ms < 5000
    assert sum(wait.counts[: wait.bounds_ms.index(50) + 1]) == 1  # ready only when it was promoted


def test_done_leaves_nothing_behind(queue: Queue) -> None:
    queue.declare(policy(priority={"mode": "Weighted"}))
    queue.publish([*some(20), *some(20, "d", delay_ms=1), *some(5, "h", priority="high")])
    pause_ms(3)
    drain(queue)
    seen = look(queue)
    assert not any([*seen.ready.values(), *seen.leased.values(), seen.delayed, seen.bodies])
