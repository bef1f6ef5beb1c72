"""Time limits on Prefork: the message's own come before the task's, those before the queue's."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from celery import chord
from contract_app import app
from contract_tasks import add, note_error, total
from contract_worker import Watched

from celeriac.chaos.processes import eventually


@pytest.fixture(scope="module")
def limited(new_queue: Callable[..., Watched]) -> Iterator[Watched]:
    """A prefork worker with limits of its queue: soft 0.4 s, hard 0.8 s."""
    watched = new_queue().start("prefork", "--soft-timeout", 0.4, "--timeout", 0.8).wait_ready()
    yield watched
    watched.end()


#: A child is interrupted or killed, a coroutine too.
interrupting = pytest.mark.parametrize("worker", ["prefork", "asyncio"], indirect=True)


@interrupting
def test_the_soft_limit_of_the_task(worker: Watched) -> None:
    result = worker.send("limited_softly", headers={"max_attempts": 1})
    letter = worker.dead(result)
    assert (letter.reason, letter.error) == ("attempts_exhausted", "SoftTimeLimitExceeded")
    assert app.backend.get_state(result.id) == "FAILURE"


@interrupting
def test_the_hard_limit_of_the_task(worker: Watched) -> None:
    result = worker.send("limited_hard", headers={"max_attempts": 1})
    letter = worker.dead(result)
    assert (letter.reason, letter.attempt, letter.error) == (
        "attempts_exhausted",
        1,
        "TimeLimitExceeded",
    )
    assert letter.history[0]["reason"] == "hard_time_limit"
    eventually(lambda: app.backend.get_state(result.id) == "FAILURE")
    worker.noted(result, "task_failure")


@interrupting
def test_the_soft_limit_of_the_message(worker: Watched) -> None:
    result = worker.send("spin", 5, soft_time_limit=0.2)
    assert result.get(timeout=10) == "cleaned up"
    assert worker.texts(result) == ["started", "interrupted"]


@interrupting
def test_the_hard_limit_is_an_attempt_and_goes_through_policy(worker: Watched) -> None:
    result = worker.send("stubborn", 30, time_limit=0.3, headers={"max_attempts": 2})
    eventually(lambda: app.backend.get_state(result.id) == "RETRY")
    letter = worker.dead(result)
    assert (letter.reason, letter.attempt, letter.delivery) == ("attempts_exhausted", 2, 2)
    assert worker.texts(result).count("started") == 2
    eventually(lambda: app.backend.get_state(result.id) == "FAILURE")


@interrupting
def test_a_chord_and_its_callbacks_hear_of_a_hard_limit(worker: Watched, queue_name: str) -> None:
    late = worker.signature("stubborn", 30).set(time_limit=0.3, headers={"max_attempts": 1})
    header = [add.s(1, 1).set(queue=worker.name), late]
    body = total.s().set(queue=worker.name)
    body.on_error(note_error.s(key=queue_name).set(queue=worker.name))
    result = chord(header)(body)
    with pytest.raises(Exception, match="TimeLimitExceeded"):
        result.get(timeout=10)
    worker.noted(queue_name, "errback")
    worker.settled()


def test_the_limits_of_the_queue(limited: Watched) -> None:
    softly = limited.send("spin", 5)
    assert softly.get(timeout=10) == "cleaned up"
    hard = limited.send("stubborn_anyway", headers={"max_attempts": 1})
    assert limited.dead(hard).history[0]["reason"] == "hard_time_limit"
    notes = limited.notes(hard)
    assert notes[0]["note"] == "started"
    # The message's own limits come first.
    assert limited.send("spin", 1, soft_time_limit=5, time_limit=10).get(timeout=10) == "whole"


def test_neighbours_are_unharmed(limited: Watched) -> None:
    before = limited.queue.stats()
    late = limited.send(
        "stubborn", 30, time_limit=0.3, soft_time_limit=9, headers={"max_attempts": 1}
    )
    others = [limited.send("add", n, n) for n in range(50)]
    assert [other.get(timeout=10) for other in others] == [2 * n for n in range(50)]
    assert limited.dead(late).attempt == 1
    assert limited.settled().redelivered == before.redelivered


def test_the_limits_of_the_apps_configuration(fresh: Watched) -> None:
    fresh.start("prefork", CONTRACT_SOFT_LIMIT="0.3")
    assert fresh.send("spin", 5).get(timeout=10) == "cleaned up"


@pytest.mark.parametrize("pool", ["solo", "threads"])
def test_a_pool_that_cannot_keep_a_limit_says_so(fresh: Watched, pool: str) -> None:
    fresh.start(pool, "--timeout", 5).wait_ready()
    assert f"the {pool} pool cannot interrupt a task" in fresh.log
    assert "the queue and task limited_hard, limited_softly" in fresh.log
