"""The queue's policy decides for tasks that say nothing, and reaches a running worker."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from contract_app import app
from contract_worker import FUNCTIONS, Watched

from celeriac.chaos.processes import eventually


def _ran(worker: Watched, result: object) -> int:
    return worker.texts(result).count("ran")


def test_an_unchanged_task_is_retried_and_then_dead(worker: Watched) -> None:
    result = worker.send("fail", "boom")
    letter = worker.dead(result)
    assert (letter.reason, letter.attempt, letter.delivery) == ("attempts_exhausted", 3, 3)
    assert (letter.error, letter.message) == ("Flaky", "boom")
    assert [line["reason"] for line in letter.history] == ["failed"] * 3
    assert len({line["digest"] for line in letter.history}) == 1
    assert app.backend.get_state(result.id) == "FAILURE"
    assert _ran(worker, result) == 3
    assert worker.texts(result).count("task_failure") == 1


def test_the_backend_says_retry_between_attempts(
    worker: Watched, policy: Callable[..., int]
) -> None:
    policy(retry={"maxAttempts": 2, "backoff": {"initialSeconds": 1, "jitterPercent": 0}})
    result = worker.send("succeed_at", 2)
    eventually(lambda: app.backend.get_state(result.id) == "RETRY")
    eventually(lambda: worker.queue.stats().delayed == 1)
    assert result.get(timeout=10) == 1
    first, second = worker.notes(result)
    assert second["at"] - first["at"] >= 1


@pytest.mark.parametrize(
    ("rule", "ends", "runs"),
    [
        ({"error": "Hopeless", "action": "DeadLetter"}, "error_rule", 1),
        ({"error": "contract_tasks.Hopeless", "action": "Discard"}, "discarded", 1),
        ({"error": "Exception", "maxAttempts": 2}, "attempts_exhausted", 2),
        ({"error": "KeyError", "action": "Discard"}, "attempts_exhausted", 3),
    ],
)
@pytest.mark.parametrize("worker", ["threads", "asyncio", FUNCTIONS], indirect=True)
def test_rules_for_errors(
    worker: Watched,
    policy: Callable[..., int],
    rule: dict[str, object],
    ends: str,
    runs: int,
) -> None:
    policy(
        retry={
            "maxAttempts": 3,
            "backoff": {"initialSeconds": 0, "maxSeconds": 0},
            "byError": [rule],
        }
    )
    before = worker.queue.stats()
    result = worker.send("fail_hopelessly")
    after = worker.settled()
    assert app.backend.get_state(result.id) == "FAILURE"
    assert _ran(worker, result) == runs
    if ends == "discarded":
        assert after.discarded == before.discarded + 1
    else:
        assert worker.dead(result).reason == ends


@pytest.mark.parametrize("most", [1, 5])
def test_a_messages_own_limit_comes_first(worker: Watched, most: int) -> None:
    result = worker.send("fail", headers={"max_attempts": most})
    assert worker.dead(result).attempt == most
    assert _ran(worker, result) == most


def test_a_change_reaches_a_worker_that_is_busy(
    worker: Watched, policy: Callable[..., int]
) -> None:
    result = worker.send("fail_slowly", 1.4)
    worker.noted(result, "ran")
    policy(retry={"maxAttempts": 1})
    assert worker.dead(result).attempt == 1
    assert _ran(worker, result) == 1


def test_a_change_reaches_an_idle_worker(worker: Watched, policy: Callable[..., int]) -> None:
    policy(retry={"maxAttempts": 1})
    assert worker.dead(worker.send("fail")).attempt == 1


def test_pause_and_resume_reach_a_running_worker(worker: Watched) -> None:
    worker.queue.pause()
    try:
        result = worker.send("add", 1, 2)
        time.sleep(0.2)
        assert worker.queue.stats().ready == 1
    finally:
        worker.queue.resume()
    resumed = time.monotonic()
    assert result.get(timeout=10) == 3
    assert time.monotonic() - resumed < 2


def test_reject_goes_to_the_dead_letters(worker: Watched) -> None:
    result = worker.send("reject", False)
    letter = worker.dead(result)
    assert (letter.reason, letter.attempt) == ("rejected", 1)
    eventually(lambda: app.backend.get_state(result.id) == "FAILURE")
    assert worker.texts(result) == ["ran", "task_failure"]


def test_reject_with_requeue_is_delivered_again(worker: Watched) -> None:
    """As in Celery: redelivered, and no retry is used up."""
    assert worker.send("reject_once").get(timeout=10) == {"retries": 0, "delivery": 2}


def test_reject_with_requeue_ends_at_the_delivery_limit(worker: Watched) -> None:
    result = worker.send("reject", True)
    letter = worker.dead(result)
    assert (letter.reason, letter.delivery) == ("delivery_limit", 3)
    runs = [record for record in worker.notes(result) if record["note"] == "ran"]
    assert [run["info"]["redelivered"] for run in runs] == [False, True, True]
    assert [run["retries"] for run in runs] == [0, 0, 0]


def test_ignore_is_done_without_a_result(worker: Watched) -> None:
    before = worker.queue.stats()
    result = worker.send("ignore")
    worker.noted(result, "ran")
    after = worker.settled()
    assert after.done == before.done + 1
    assert app.backend.get_state(result.id) == "PENDING"
