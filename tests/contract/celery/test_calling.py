"""Calling tasks: arguments, time, priority, results, what ``self.request`` says."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from celery.exceptions import TaskRevokedError
from contract_app import app
from contract_worker import FUNCTIONS, Watched


def test_a_result_comes_back(worker: Watched) -> None:
    assert worker.send("add", 2, 3).get(timeout=10) == 5


def test_countdown_waits_in_the_queue(worker: Watched) -> None:
    sent = time.time()
    result = worker.send("add", 1, 1, countdown=0.4)
    assert worker.queue.stats().delayed == 1
    assert result.get(timeout=10) == 2
    assert worker.notes(result)[0]["at"] - sent >= 0.4


def test_eta_waits_until_then(worker: Watched) -> None:
    eta = datetime.now(UTC) + timedelta(seconds=0.4)
    result = worker.send("add", 1, 1, eta=eta)
    assert result.get(timeout=10) == 2
    assert worker.notes(result)[0]["at"] >= eta.timestamp() - 0.01


def test_an_expired_message_does_not_run(worker: Watched) -> None:
    before = worker.queue.stats()
    worker.queue.pause()
    try:
        result = worker.send("add", 1, 1, expires=0.05)
        alive = worker.send("add", 1, 1, expires=30)
        time.sleep(0.1)
    finally:
        worker.queue.resume()
    assert alive.get(timeout=10) == 2
    stats = worker.settled()
    assert stats.discarded_by["expired"] - before.discarded_by.get("expired", 0) == 1
    assert set(worker.texts(result)) <= {"task_revoked"}


@pytest.mark.parametrize("how", ["expired", "cancelled"])
def test_what_is_dropped_before_it_starts_is_revoked_in_the_result_backend(
    worker: Watched, how: str
) -> None:
    worker.queue.pause()
    try:
        result = worker.send("add", 1, 1, expires=0.05 if how == "expired" else None)
        if how == "cancelled":
            worker.queue.cancel(result.id)
        time.sleep(0.1)
    finally:
        worker.queue.resume()
    with pytest.raises(TaskRevokedError, match=how):
        result.get(timeout=10)
    told = worker.noted(result, "task_revoked")
    assert (told["terminated"], told["expired"]) == (False, how == "expired")
    assert worker.texts(result) == ["task_revoked"]


@pytest.mark.parametrize("worker", ["solo"], indirect=True)
def test_priority_zero_comes_first(worker: Watched, queue_name: str) -> None:
    worker.queue.pause()
    try:
        for priority in (9, 5, 0, 9, 5, 0):
            worker.send("label", str(priority), queue_name, priority=priority)
    finally:
        worker.queue.resume()
    worker.settled()
    assert worker.texts(queue_name) == ["0", "0", "5", "5", "9", "9"]


def test_ignore_result_as_the_task_says(worker: Watched) -> None:
    result = worker.send("ignored")
    worker.noted(result, "ran")
    worker.settled()
    assert app.backend.get_state(result.id) == "PENDING"


@pytest.mark.parametrize(("task", "ignored"), [("add", True), ("ignored", False)])
def test_ignore_result_as_the_message_says(worker: Watched, task: str, ignored: bool) -> None:
    args = (1, 0) if task == "add" else ()
    result = worker.send(task, *args, ignore_result=ignored)
    worker.noted(result, "ran")
    worker.settled()
    state = app.backend.get_state(result.id)
    assert state == ("PENDING" if ignored else "SUCCESS")


def test_the_request_describes_the_message(worker: Watched) -> None:
    result = worker.send(
        "show_request", headers={"tenant": "t-1"}, priority=0, expires=60, time_limit=30
    )
    request = result.get(timeout=10)
    assert request["id"] == request["root_id"] == request["correlation_id"] == result.id
    assert request["parent_id"] is None
    assert request["retries"] == 0
    assert request["headers"] == {"tenant": "t-1"}
    assert request["hostname"] == f"{worker.pool}-{worker.name}"
    assert request["args"] == []
    assert not request["is_eager"] and not request["called_directly"]
    assert request["timelimit"] == [30, None]
    assert datetime.fromisoformat(request["expires"]) > datetime.now(UTC)  # a string, as in Celery
    info = request["delivery_info"]
    assert (info["routing_key"], info["priority"], info["redelivered"]) == (worker.name, 0, False)


def test_without_headers_the_request_has_none(worker: Watched) -> None:
    request = worker.send("show_request").get(timeout=10)
    assert request["headers"] is None
    assert request["expires"] is None


@pytest.mark.parametrize("worker", ["threads", "asyncio", FUNCTIONS], indirect=True)
@pytest.mark.parametrize("options", [{"compression": "gzip"}, {"serializer": "yaml"}])
def test_other_encodings(worker: Watched, options: dict[str, str]) -> None:
    result = worker.send("add", 2, 2, **options)
    if "serializer" in options:  # not in the app's accept_content
        assert worker.dead(result).reason == "content_disallowed"
    else:
        assert result.get(timeout=10) == 4


def test_a_paused_queue_hands_out_nothing(worker: Watched, policy: Callable[..., int]) -> None:
    policy(paused=True)
    result = worker.send("add", 1, 1)
    time.sleep(0.3)
    assert worker.texts(result) == []
    assert worker.queue.stats().ready == 1
    policy(paused=False)
    assert result.get(timeout=10) == 2
