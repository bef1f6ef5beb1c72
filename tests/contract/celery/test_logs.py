"""What a worker writes down about messages: no payloads, beyond the results that Celery itself logs."""

from __future__ import annotations

import pytest
from contract_worker import Watched

SECRET = "hunter2-\N{SNOWMAN}"


@pytest.mark.parametrize("how", ["fail", "retry", "reject", "exit", "time"])
@pytest.mark.parametrize("worker", ["prefork"], indirect=True)
def test_arguments_are_not_logged_nor_kept_in_the_history(worker: Watched, how: str) -> None:
    options = {"time_limit": 0.2} if how == "time" else {}
    result = worker.send("keep_secret", SECRET, kwargs={"how": how}, **options)
    letter = worker.dead(result)
    worker.noted(result, "task_failure")
    assert result.id in worker.log
    assert "hunter2" not in worker.log
    assert "hunter2" not in repr(letter.history)


@pytest.mark.parametrize(
    "body", [b'[["hunter2"],{},', b'["hunter2", {"a": "hunter2"}]', b'[["hunter2"], "hunter2", 1]']
)
@pytest.mark.parametrize("worker", ["solo", "asyncio"], indirect=True)
def test_bodies_that_cannot_be_read_are_not_logged(
    worker: Watched, queue_name: str, body: bytes
) -> None:
    worker.put(queue_name, "add", body)
    letter = worker.dead(queue_name)
    assert queue_name in worker.log
    assert "hunter2" not in worker.log
    assert "hunter2" not in repr(letter.history)
