"""Signals and the hooks of task classes, in the order in which Celery calls them."""

from __future__ import annotations

import pytest
from contract_app import app
from contract_worker import Watched

from celeriac.chaos.processes import eventually
from celeriac.spec.pools import POOLS


def _last(worker: Watched, result: object, text: str, *, times: int = 1) -> list[str]:
    worker.noted(result, text, times=times)
    worker.settled()
    return worker.texts(result)


def test_success(worker: Watched) -> None:
    result = worker.send("watched.add", 1, 2)
    assert _last(worker, result, "task_postrun") == [
        "task_prerun",
        "before_start",
        "__call__",
        "on_success",
        "task_success",
        "after_return",
        "task_postrun",
    ]
    noted = {record["note"]: record for record in worker.notes(result)}
    assert noted["task_prerun"]["args"] == [1, 2]
    assert noted["task_success"]["result"] == noted["on_success"]["retval"] == 3
    assert noted["after_return"]["status"] == noted["task_postrun"]["state"] == "SUCCESS"


def test_failure_after_retries_by_policy(worker: Watched) -> None:
    """Two attempts end as retries; only the third is a failure."""
    result = worker.send("watched.fail")
    attempt = ["task_prerun", "before_start", "__call__"]
    retried = [*attempt, "on_retry", "task_retry", "task_postrun"]
    failed = [*attempt, "on_failure", "task_failure", "after_return", "task_postrun"]
    assert _last(worker, result, "task_postrun", times=3) == [*retried, *retried, *failed]
    errors = {record["error"] for record in worker.notes(result) if "error" in record}
    assert errors == {"Flaky"}


def test_retry(worker: Watched) -> None:
    result = worker.send("watched.retry")
    assert result.get(timeout=10) == "done"
    texts = _last(worker, result, "task_postrun", times=2)
    assert texts[:6] == [
        "task_prerun",
        "before_start",
        "__call__",
        "on_retry",
        "task_retry",
        "task_postrun",
    ]
    assert texts[-2:] == ["after_return", "task_postrun"]


@pytest.mark.parametrize("pool", POOLS)
def test_signals_of_a_workers_life(fresh: Watched, pool: str) -> None:
    fresh.start(pool).wait_ready()
    assert fresh.send("add", 1, 1).get(timeout=10) == 2
    fresh.signal(15)
    assert fresh.wait() == 0
    signals = fresh.notes(fresh.name)
    parent = [record["note"] for record in signals if record["pid"] == fresh.pid]
    assert parent == [
        "celeryd_init",
        "celeryd_after_setup",
        "worker_init",
        *(["worker_process_init"] if pool != "prefork" else []),
        "worker_ready",
        "worker_shutting_down",
        "worker_shutdown",
    ]
    if pool == "prefork":
        children = [record for record in signals if record["pid"] != fresh.pid]
        assert len({record["pid"] for record in children}) == 2
        texts = sorted(record["note"] for record in children)
        assert texts == ["worker_process_init"] * 2 + ["worker_process_shutdown"] * 2
    eventually(lambda: not fresh.queue.stats().workers)
    assert app.backend.get_state("none") == "PENDING"
