"""Progress: cheap in an inner loop, harmless outside a worker."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from celeriac.broker.queue import Queue
from celeriac.client import progress
from celeriac.client.progress import QueueProgress, report_progress


class Pipeline:
    """Counts what would be written."""

    def __init__(self, written: list[dict[str, Any]], error: Exception | None) -> None:
        self.written = written
        self.error = error

    def hset(self, key: str, mapping: dict[str, Any]) -> None:
        self.written.append(mapping)

    def expire(self, key: str, seconds: int) -> None:
        pass

    def execute(self) -> None:
        if self.error is not None:
            raise self.error


class Broker:
    error: Exception | None = None

    def __init__(self) -> None:
        self.written: list[dict[str, Any]] = []

    def pipeline(self, *, transaction: bool) -> Pipeline:
        return Pipeline(self.written, self.error)


def sink(broker: Broker, times: list[float]) -> QueueProgress:
    queue = Queue(broker, "q")  # type: ignore[arg-type]
    return QueueProgress(queue, "id1", interval_s=1, clock=iter(times).__next__)


def test_outside_a_worker_nothing_happens() -> None:
    report_progress(1, 2)


def test_inside_it_reaches_the_running_messages_sink() -> None:
    broker = Broker()
    token = progress.current.set(sink(broker, [5.0]))
    try:
        report_progress(1, 2, "half")
    finally:
        progress.current.reset(token)

    assert broker.written == [{"done": 1, "total": 2, "note": "half", "updatedMs": 5000}]


def test_the_first_the_last_and_one_each_interval_are_written() -> None:
    broker = Broker()
    reporter = sink(broker, [0.0, 0.4, 0.9, 1.0, 1.1, 1.2])

    for done in (1, 2, 3, 4, 5, 6):
        reporter.report(done, 6, "")

    assert [fields["done"] for fields in broker.written] == [1, 4, 6]


def test_a_broker_that_is_away_does_not_fail_the_task(caplog: pytest.LogCaptureFixture) -> None:
    broker = Broker()
    broker.error = redis.ConnectionError("gone")

    sink(broker, [0.0]).report(1, 2, "")

    assert "was not written: gone" in caplog.text
