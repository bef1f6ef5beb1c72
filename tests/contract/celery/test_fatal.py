"""Tasks that would end a lesser worker."""

from __future__ import annotations

import pytest
from contract_app import app
from contract_worker import Watched

from celeriac.broker.server_process import free_port
from celeriac.chaos.processes import eventually
from celeriac.spec.pools import POOLS


@pytest.mark.parametrize(
    "error", ["SystemExit", "KeyboardInterrupt", "MemoryError", "CancelledError", "Alien"]
)
def test_whatever_a_task_raises_is_a_failed_attempt(worker: Watched, error: str) -> None:
    before = worker.queue.stats()
    result = worker.send("fatal", error)
    letter = worker.dead(result)
    assert (letter.reason, letter.attempt, letter.error) == ("attempts_exhausted", 3, error)
    assert app.backend.get_state(result.id) == "FAILURE"
    with pytest.raises(Exception, match="on purpose"):
        result.get(timeout=5)
    assert worker.texts(result) == ["ran"] * 3 + ["task_failure"]
    # Every slot of the pool still works.
    naps = [worker.send("nap", 0.01) for _ in range(8)]
    assert [nap.get(timeout=10) for nap in naps] == ["rested"] * 8
    assert worker.settled().redelivered == before.redelivered


@pytest.mark.parametrize("worker", ["prefork"], indirect=True)
def test_a_task_that_exits_its_process_is_stopped_by_the_delivery_limit(worker: Watched) -> None:
    before = worker.queue.stats()
    result = worker.send("exit_hard")
    neighbours = [worker.send("add", n, 0) for n in range(20)]
    letter = worker.dead(result)
    assert (letter.reason, letter.attempt, letter.delivery) == ("delivery_limit", 0, 3)
    assert [line["reason"] for line in letter.history] == ["worker_lost"] * 3
    assert [other.get(timeout=10) for other in neighbours] == list(range(20))
    eventually(lambda: app.backend.get_state(result.id) == "FAILURE")
    with pytest.raises(Exception, match="exit code 7"):
        result.get(timeout=5)
    assert worker.texts(result) == ["ran"] * 3 + ["task_failure"]
    assert worker.settled().redelivered == before.redelivered + 3


@pytest.mark.parametrize("worker", ["prefork"], indirect=True)
@pytest.mark.parametrize("task", ["kill_worker", "kill_worker_early"])
def test_a_killed_child_costs_a_delivery_and_no_attempt(worker: Watched, task: str) -> None:
    """All tasks are acknowledged late, whatever their ``acks_late`` says: nothing is lost."""
    result = worker.send(task)
    assert result.get(timeout=10) == "survived"
    runs = [(run["redelivered"], run["retries"]) for run in worker.notes(result)]
    assert runs == [(False, 0), (True, 0)]
    worker.settled()


@pytest.mark.parametrize("pool", POOLS)
def test_a_result_backend_that_is_away_fails_attempts_and_ends_nothing(
    fresh: Watched, pool: str
) -> None:
    fresh.start(pool, CONTRACT_BACKEND=f"redis://127.0.0.1:{free_port()}/0")
    results = [fresh.send("add", n, 1) for n in range(8)]
    letters = [fresh.dead(result) for result in results]
    assert {letter.reason for letter in letters} == {"attempts_exhausted"}
    ignored = [fresh.send("ignored") for _ in range(8)]
    for result in ignored:
        fresh.noted(result, "ran")
    stats = fresh.settled()
    assert (stats.done, stats.redelivered) == (8, 0)
    assert not fresh.ended
