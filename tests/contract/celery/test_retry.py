"""``task.retry()``: the queue settles the old message and delays the new one in one step."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from contract_app import app
from contract_worker import FUNCTIONS, Watched

from celeriac.chaos.processes import eventually


def test_retry_with_a_countdown_and_other_arguments(worker: Watched) -> None:
    before = worker.queue.stats()
    result = worker.send("climb", 1, kwargs={"top": 3, "countdown": 0.15})
    assert result.get(timeout=10) == 3
    runs = worker.notes(result)
    assert [(run["step"], run["retries"]) for run in runs] == [(1, 0), (2, 1), (3, 2)]
    assert all(later["at"] - run["at"] >= 0.15 for run, later in itertools.pairwise(runs))
    after = worker.settled()
    assert after.accepted - before.accepted == 1, "a retry is the same message, not another one"
    assert after.retried - before.retried == 2
    assert after.done - before.done == 1


def test_a_waiting_retry_is_one_delayed_message(worker: Watched) -> None:
    before = worker.queue.stats()
    result = worker.send("climb", 1, kwargs={"top": 2, "countdown": 1})
    eventually(lambda: worker.queue.stats().delayed == 1)
    stats = worker.queue.stats()
    assert (stats.ready, stats.leased) == (0, 0)
    assert stats.accepted - before.accepted == 1
    assert worker.queue.cancel(result.id) == "cancelled", "it kept its id"
    worker.settled()


def test_max_retries_ends_in_the_dead_letters(worker: Watched) -> None:
    result = worker.send("give_up")
    letter = worker.dead(result)
    assert (letter.reason, letter.attempt, letter.error) == ("attempts_exhausted", 3, "Flaky")
    assert [line["reason"] for line in letter.history] == [
        "failed",
        "retry_requested",
        "retry_requested",
    ]
    assert [run["retries"] for run in worker.notes(result) if run["note"] == "ran"] == [0, 1, 2]
    with pytest.raises(Exception, match="inner"):
        result.get(timeout=10)


def test_max_retries_comes_before_a_larger_limit_of_the_queue(
    worker: Watched, policy: Callable[..., int]
) -> None:
    policy(retry={"maxAttempts": 50})
    result = worker.send("give_up_plainly")
    letter = worker.dead(result)
    assert (letter.reason, letter.attempt) == ("attempts_exhausted", 2)
    assert letter.error == "MaxRetriesExceededError"


def test_user_retries_may_go_beyond_the_limit_of_the_queue(worker: Watched) -> None:
    """The queue's limit (3 here) is for failures that nobody handles."""
    assert worker.send("climb", 1, kwargs={"top": 6}).get(timeout=10) == 6


@pytest.mark.parametrize(("succeed_on", "state"), [(2, "SUCCESS"), (9, "FAILURE")])
def test_autoretry_for(worker: Watched, succeed_on: int, state: str) -> None:
    result = worker.send("auto", succeed_on)
    result.get(timeout=10, propagate=False)
    assert result.state == state
    worker.settled()
    runs = [run["retries"] for run in worker.notes(result) if run["note"] == "ran"]
    assert runs == [0, 1, 2]


def test_the_backend_says_retry_in_between(worker: Watched) -> None:
    result = worker.send("climb", 1, kwargs={"top": 2, "countdown": 0.3})
    eventually(lambda: app.backend.get_state(result.id) == "RETRY")
    assert result.get(timeout=10) == 2


def test_retry_without_throw_runs_again(worker: Watched) -> None:
    result = worker.send("retry_softly")
    worker.noted(result, "ran", times=2)
    worker.settled()
    assert [run["retries"] for run in worker.notes(result)] == [0, 1]
    assert app.backend.get_result(result.id) == "run 0", (
        "a success is never overwritten, as in Celery"
    )


@pytest.mark.parametrize("worker", ["threads", "asyncio", FUNCTIONS], indirect=True)
def test_retry_on_another_queue_keeps_the_count(
    worker: Watched, new_queue: Callable[..., Watched]
) -> None:
    other = new_queue().start("solo")
    try:
        result = worker.send("retry_elsewhere", other.name)
        assert result.get(timeout=10) == 2
        assert [run["retries"] for run in worker.notes(result)] == [0, 1, 2]
        assert worker.settled().imbalance == other.settled().imbalance == 0
    finally:
        other.end()


@pytest.mark.parametrize("worker", ["threads", "asyncio", FUNCTIONS], indirect=True)
def test_a_redriven_message_has_all_its_retries_again(worker: Watched) -> None:
    result = worker.send("give_up")
    worker.queue.redrive([worker.dead(result).entry])
    worker.noted(result, "ran", times=6)
    assert worker.dead(result).attempt == 3
    runs = [run["retries"] for run in worker.notes(result) if run["note"] == "ran"]
    assert runs == [0, 1, 2, 0, 1, 2]
