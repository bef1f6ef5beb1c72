"""Celery's remote control: revoke, inspect, shutdown."""

from __future__ import annotations

from typing import Any

import pytest
from celery import group
from contract_app import app
from contract_tasks import add, nap
from contract_worker import FUNCTIONS, Watched

from celeriac.chaos.processes import eventually

#: A child is killed, a coroutine cancelled.
interrupting = pytest.mark.parametrize("worker", ["prefork", "asyncio"], indirect=True)


def _name(worker: Watched) -> str:
    return f"{worker.pool}-{worker.name}"


def _inspect(worker: Watched, what: str, *args: Any) -> Any:
    ask = getattr(app.control.inspect(destination=[_name(worker)], limit=1), what)
    answer = eventually(lambda: ask(*args), what=lambda: f"answer to {what}; {worker.log[-2000:]}")
    return answer[_name(worker)]


def test_ping(worker: Watched) -> None:
    assert _inspect(worker, "ping") == {"ok": "pong"}


def test_inspect(worker: Watched) -> None:
    result = worker.send("nap", 1.0)
    worker.noted(result, "started")
    active = _inspect(worker, "active")
    assert [(task["id"], task["name"]) for task in active] == [(result.id, "nap")]
    assert _inspect(worker, "query_task", result.id)[result.id][0] == "active"
    stats = _inspect(worker, "stats")
    assert stats["pid"] == worker.pid
    assert stats["pool"]["implementation"] == worker.pool
    if worker.pool == "prefork":
        assert len(stats["pool"]["processes"]) == 2
    before = stats["total"][worker.name]
    assert result.get(timeout=10) == "rested"
    eventually(lambda: _inspect(worker, "stats")["total"][worker.name] == before + 1)
    assert "add" in _inspect(worker, "registered")
    assert _inspect(worker, "active_queues") == [{"name": worker.name}]
    assert _inspect(worker, "reserved") == _inspect(worker, "scheduled") == []
    assert _inspect(worker, "conf")["task_default_queue"] == worker.name


@pytest.mark.parametrize("worker", ["prefork", "asyncio", FUNCTIONS], indirect=True)
def test_what_a_message_queue_declares_cannot_be_changed_behind_its_back(worker: Watched) -> None:
    answers = app.control.pool_grow(2, destination=[_name(worker)], reply=True, limit=1)
    assert "MessageQueue" in answers[0][_name(worker)]["error"]


@pytest.mark.parametrize("options", [{}, {"countdown": 30}])
def test_a_revoked_message_does_not_run(worker: Watched, options: dict[str, Any]) -> None:
    _inspect(worker, "ping")  # a worker works before it listens
    before = worker.queue.stats()
    worker.queue.pause()
    try:
        result = worker.send("add", 1, 1, **options)
        app.control.revoke(result.id, destination=[_name(worker)], reply=True, limit=1, timeout=10)
    finally:
        worker.queue.resume()
    after = worker.settled()
    assert after.discarded == before.discarded + 1
    assert set(worker.texts(result)) <= {"task_revoked"}
    assert app.backend.get_state(result.id) == "REVOKED"
    assert result.id in _inspect(worker, "revoked")


def test_a_running_message_is_not_stopped_without_terminate(worker: Watched) -> None:
    result = worker.send("nap", 0.5)
    worker.noted(result, "started")
    app.control.revoke(result.id, destination=[_name(worker)], reply=True, limit=1, timeout=10)
    assert result.get(timeout=10) == "rested"


@interrupting
def test_terminate_stops_a_running_message_for_good(worker: Watched) -> None:
    before = worker.queue.stats()
    result = worker.send("nap", 30)
    worker.noted(result, "started")
    answer = app.control.revoke(
        result.id, terminate=True, destination=[_name(worker)], reply=True, limit=1
    )
    assert result.id in answer[0][_name(worker)]["ok"]
    worker.noted(result, "task_revoked")
    after = worker.settled()
    assert app.backend.get_state(result.id) == "REVOKED"
    assert after.discarded == before.discarded + 1
    assert after.redelivered == before.redelivered
    assert worker.texts(result) == ["started", "task_revoked"]


@interrupting
def test_a_group_hears_of_a_terminated_member(worker: Watched) -> None:
    result = group(add.s(1, 1), nap.s(30)).apply_async(queue=worker.name)
    worker.noted(result.results[1], "started")
    app.control.revoke(result.results[1].id, terminate=True, destination=[_name(worker)])
    with pytest.raises(Exception, match="terminated"):
        result.get(timeout=10)
    worker.settled()


@pytest.mark.parametrize("pool", ["prefork"])
def test_shutdown_drains(fresh: Watched, pool: str) -> None:
    fresh.start(pool)
    assert _inspect(fresh, "ping")
    result = fresh.send("nap", 0.5)
    fresh.noted(result, "started")
    app.control.shutdown(destination=[_name(fresh)])
    assert fresh.wait() == 0
    assert result.get(timeout=1) == "rested"
