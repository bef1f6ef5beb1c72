"""Celery's remote control: what each command asks of a worker, over a broker in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from celery.worker import state as worker_state

from celeriac.worker.remote import RemoteControl, _handlers


class Told:
    """A worker that is told things: one message runs, which it can stop."""

    def __init__(self) -> None:
        self.revoked: list[tuple[str, bool]] = []
        self.shut = threading.Event()

    def active(self) -> list[dict[str, Any]]:
        return [{"id": "runs", "name": "t", "hostname": "w"}]

    def reserved(self) -> list[dict[str, Any]]:
        return []

    def stats(self) -> dict[str, Any]:
        return {"total": {"q": 7}}

    def revoke(self, message_id: str, *, terminate: bool) -> bool:
        self.revoked.append((message_id, terminate))
        return terminate and message_id == "runs"

    def shut_down(self) -> None:
        self.shut.set()


@pytest.fixture(autouse=True)
def forgetful() -> Iterator[None]:
    yield
    worker_state.revoked.clear()


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Celery:
    monkeypatch.setattr("celery._state._on_app_finalizers", set())
    return Celery("remote", broker="memory://", backend="cache+memory://", set_as_current=False)


class State:
    """What Celery's own commands look at."""

    def __init__(self, app: Celery) -> None:
        self.app = app
        self.hostname = "w"
        self.tset = set
        self.consumer = None


def test_revoking_reaches_worker_and_backend(app: Celery) -> None:
    worker = Told()
    answer = _handlers(worker, "q")["revoke"](State(app), ["runs", "waits"])
    assert answer == {"ok": "tasks runs, waits flagged as revoked"}
    assert worker.revoked == [("runs", False), ("waits", False)]
    assert {"runs", "waits"} <= set(worker_state.revoked)
    assert app.AsyncResult("waits").state == "REVOKED"
    assert app.AsyncResult("runs").state == "PENDING", "its attempt will tell"


@pytest.mark.parametrize("command", ["revoke", "terminate"])
def test_terminating_says_what_was_stopped(app: Celery, command: str) -> None:
    worker = Told()
    given = {"terminate": True} if command == "revoke" else {}
    handler = _handlers(worker, "q")[command]
    assert handler(State(app), task_id="runs", **given) == {"ok": "terminate: runs"}
    assert worker.revoked == [("runs", True)]
    assert handler(State(app), task_id="other", **given) == {"ok": "terminate: tasks unknown"}


def test_what_is_asked_of_the_worker_is_answered_by_it(app: Celery) -> None:
    worker = Told()
    handlers = _handlers(worker, "q")
    active = worker.active()
    for name in ("active", "dump_active"):
        assert handlers[name](State(app)) == active
    for name in ("reserved", "dump_reserved", "scheduled", "dump_schedule"):
        assert handlers[name](State(app)) == []
    assert handlers["query_task"](State(app), ["runs", "x"]) == {"runs": ("active", active[0])}
    assert handlers["active_queues"](State(app)) == [{"name": "q"}]
    assert handlers["stats"](State(app))["total"] == {"q": 7}
    handlers["shutdown"](State(app))
    assert worker.shut.is_set()


def test_what_the_resource_declares_cannot_be_changed_behind_its_back(app: Celery) -> None:
    handlers = _handlers(Told(), "q")
    for name in ("pool_grow", "rate_limit", "time_limit", "add_consumer", "autoscale"):
        assert "change the MessageQueue" in handlers[name](State(app), 1)["error"]
    for name in ("election", "heartbeat"):
        assert "do not have this command" in handlers[name](State(app))["error"]


@pytest.mark.timeout(30)
def test_it_listens_until_it_is_stopped(app: Celery) -> None:
    worker, quiet = Told(), threading.RLock()
    remote = RemoteControl(app, hostname="w", queue="q", worker=worker, quiet=quiet)
    remote.start()
    try:
        for _ in range(50):
            if app.control.ping(timeout=0.2, limit=1):
                break
        assert app.control.inspect(limit=1, timeout=5).active() == {"w": worker.active()}
        app.control.broadcast("no_such_command")
        app.control.shutdown()
        assert worker.shut.wait(5)
    finally:
        remote.stop()
    assert not remote.is_alive()
    assert quiet.acquire(blocking=False), "nothing is held any more"


@pytest.mark.timeout(30)
def test_it_comes_back_when_the_broker_does(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("celeriac.worker.remote._RECONNECT_S", 0.01)
    connection_for_read, tries = app.connection_for_read, [OSError("away"), OSError("away")]

    def connect() -> Any:
        if tries:
            raise tries.pop()
        return connection_for_read()

    monkeypatch.setattr(app, "connection_for_read", connect)
    worker = Told()
    remote = RemoteControl(app, hostname="w", queue="q", worker=worker, quiet=threading.RLock())
    remote.start()
    try:
        for _ in range(50):
            if app.control.ping(timeout=0.2, limit=1):
                break
        app.control.shutdown()
        assert worker.shut.wait(5)
    finally:
        remote.stop()
    assert not tries
