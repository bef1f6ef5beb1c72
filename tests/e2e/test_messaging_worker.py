"""The messaging application in real workers, with real recipients: a killed worker harms nobody."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
import redis

from celeriac import Client
from celeriac.broker.queue import Queue
from celeriac.chaos.processes import eventually
from celeriac.spec.load import load_queues
from celeriac.spec.policies import QueuePolicy
from celeriac_messaging import payloads
from celeriac_messaging.demo.sinks import HttpSink, Manners
from celeriac_messaging.payloads import SendMessage, load
from celeriac_messaging.service import MessageQueueService

QUEUE = "message-delivery"
SECRET = "s3cr3t-секрет-秘密"
OUTCOMES = """
from celery.exceptions import Reject

from celeriac_messaging.app import app


@app.task(name="test.stranger")
def stranger(payload):
    raise ValueError(payload["body"])


@app.task(name="test.reject")
def reject(payload):
    raise Reject(ValueError(payload["body"]), requeue=False)


@app.task(name="test.discard")
def discard(payload):
    raise LookupError(payload["body"])


@app.task(name="test.hang")
def hang(payload):
    import time
    time.sleep(60)
"""


class Start(Protocol):
    """Starts a worker by name, with options of its own."""

    def __call__(self, name: str, **options: str) -> subprocess.Popen[bytes]: ...


class Server(Protocol):
    """What the session's server tells of itself."""

    @property
    def url(self) -> str: ...


@pytest.fixture
def web() -> Iterator[HttpSink]:
    sink = HttpSink(manners=Manners(seconds=0.2)).start()
    yield sink
    sink.stop()


@pytest.fixture
def queue(redis_client: redis.Redis, queue_name: str) -> Queue:
    specs = load_queues(Path(payloads.__file__).parents[1] / "queues.yaml")
    (spec,) = [one.spec for one in specs if one.queue_name == QUEUE]
    queue = Queue(redis_client, QUEUE, prefix=queue_name)
    queue.declare(spec.policy)
    return queue


@pytest.fixture
def service(redis_client: redis.Redis, queue: Queue, queue_name: str) -> MessageQueueService:
    return MessageQueueService(Client(redis_client, prefix=queue_name))


@pytest.fixture
def start(valkey: Server, queue_name: str, tmp_path: Path) -> Iterator[Start]:
    """Starts workers by name; whatever still runs at the end is killed."""
    running: list[subprocess.Popen[bytes]] = []
    environment = {
        **os.environ,
        "MESSAGING_DATA_DIR": str(tmp_path / "data"),
        "MESSAGING_ALLOW_NETWORKS": "127.0.0.0/8",
        "MESSAGING_WEBHOOK_SECRETS": f"whsec_{base64.b64encode(b'k' * 32).decode()}",
        "MESSAGING_DEMO": "1",
        "PYTHONPATH": str(tmp_path),
    }

    def start(name: str, **options: str) -> subprocess.Popen[bytes]:
        arguments = {
            "--app": "celeriac_messaging.app:app",
            "--queue": QUEUE,
            "--pool": "threads",
            "--concurrency": "10",
            "--name": name,
            "--lease": "2",
            "--broker": f"{valkey.url}?prefix={queue_name}",
        } | {f"--{option}": value for option, value in options.items()}
        with (tmp_path / f"{name}.log").open("wb") as log:
            command = [sys.executable, "-m", "celeriac.cli", "worker"]
            for option, value in arguments.items():
                command += [option, value]
            worker = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        running.append(worker)
        return worker

    yield start
    for worker in running:
        if worker.poll() is None:
            worker.kill()
        worker.wait(10)


def message(web: HttpSink, number: int, **changes: Any) -> SendMessage:
    fields = {
        "tenant": "riverside",
        "message_id": f"m-{number}",
        "sender": "Riverside",
        "recipient": {"channel": "webhook", "url": web.url("/in")},
        "body": f"{SECRET} {number}",
    }
    return load(SendMessage, fields | changes)


def test_a_worker_killed_in_mid_delivery_harms_nobody(
    web: HttpSink, service: MessageQueueService, queue: Queue, start: Start, tmp_path: Path
) -> None:
    """Every message arrives; what arrives twice carries the same id and the same content."""
    assert service.send_messages(message(web, number) for number in range(80)).accepted == 80
    first = start("first")
    eventually(lambda: len(web.journal.accepted()) >= 20, within_s=30)
    first.kill()
    second = start("second")
    eventually(lambda: queue.stats().done == 80, within_s=30)
    stats = queue.stats()
    assert (stats.dead, stats.retried, stats.imbalance) == (0, 0, 0)
    assert stats.redelivered >= 1
    by_id: dict[str, set[bytes]] = {}
    for arrival in web.journal.accepted():
        by_id.setdefault(arrival.id, set()).add(arrival.body)
    assert len(by_id) == 80
    assert {len(bodies) for bodies in by_id.values()} == {1}
    second.terminate()
    assert second.wait(20) == 0
    logged = (tmp_path / "first.log").read_text() + (tmp_path / "second.log").read_text()
    assert "s3cr3t" not in logged
    assert "секрет" not in logged
    lines = [json.loads(line) for line in logged.splitlines()]
    done = [line for line in lines if line["event"] == "done"]
    assert {line["queue"] for line in done} == {QUEUE}
    assert {line["task"] for line in done} == {"messaging.send_message"}
    assert {line["attempt"] for line in done} == {1}
    assert {1, 2} <= {line["delivery"] for line in done}


def test_errors_go_where_the_queue_file_says(
    web: HttpSink, service: MessageQueueService, queue: Queue, start: Start
) -> None:
    """Permanent ones at once to the dead letters, transient ones through a retry."""
    web.manners.refuse_first["/flaky"] = 1
    web.manners.gone.add("/gone")
    for number, path in enumerate(("/flaky", "/gone")):
        to = {"channel": "webhook", "url": web.url(path)}
        service.send_message(message(web, number, recipient=to))
    service.send_message(
        message(web, 2, recipient={"channel": "webhook", "url": "http://10.0.0.1/"})
    )
    start("only")
    eventually(lambda: queue.stats().done == 1 and queue.stats().dead == 2, within_s=30)
    stats = queue.stats()
    assert (stats.retried, stats.imbalance) == (1, 0)
    assert {(one.error, one.reason, one.attempt) for one in queue.dead()} == {
        ("RecipientGone", "error_rule", 1),
        ("ForbiddenAddress", "error_rule", 1),
    }
    for one in queue.dead():
        assert "s3cr3t" not in json.dumps(one.history, ensure_ascii=False) + one.message


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_the_log_tells_how_every_job_ended(
    pool: str,
    web: HttpSink,
    queue: Queue,
    service: MessageQueueService,
    redis_client: redis.Redis,
    queue_name: str,
    start: Start,
    tmp_path: Path,
) -> None:
    """What a person asks of a job in trouble, and not a word of what is in it."""
    queue.declare(_IMPATIENT)
    web.manners.refuse_first["/flaky"] = 1
    web.manners.gone.add("/gone")
    sent = {
        path: service.send_message(message(web, number, recipient=webhook(web, path))).id
        for number, path in enumerate(("/in", "/flaky", "/gone"))
    }
    client = Client(redis_client, prefix=queue_name)
    names = ["test.stranger", "test.reject", "test.discard", "test.unknown"]
    if pool == "prefork":
        client.send(QUEUE, "messaging.demo.crash", id="crash")
        names.append("test.hang")
    for name in names:
        limits = (1, None) if name == "test.hang" else None
        client.send(QUEUE, name, kwargs={"payload": {"body": SECRET}}, id=name, timelimit=limits)
    for id in ("expired", "cancelled"):
        expires = 0.001 if id == "expired" else None
        client.send(QUEUE, "test.hang", kwargs={"payload": {}}, id=id, expires=expires)
    client.cancel(QUEUE, "cancelled")
    (tmp_path / "outcomes.py").write_text(OUTCOMES)
    worker = start("only", app="outcomes:app", pool=pool, concurrency="3")
    eventually(lambda: queue.stats().accepted == _ended(queue), within_s=60)
    worker.terminate()
    assert worker.wait(20) == 0

    logged = (tmp_path / "only.log").read_text()
    assert "s3cr3t" not in logged
    assert "секрет" not in logged
    lines = [json.loads(line) for line in logged.splitlines()]

    def told(job: str) -> list[str]:
        return [line["event"] for line in lines if line.get("job") == job]

    def errors(job: str) -> list[tuple[object, ...]]:
        troubles = [line for line in lines if line.get("job") == job and "error" in line]
        return [
            (it["event"], it.get("attempt"), it["error"]["class"], it.get("retry_in_seconds"))
            for it in troubles
        ]

    assert told(sent["/in"]) == ["done", "task succeeded"]
    assert told(sent["/flaky"]) == ["retried", "task retried", "done", "task succeeded"]
    assert errors(sent["/flaky"]) == [("retried", 1, "RecipientBusy", 1.0)]
    (retried,) = (line for line in lines if line.get("job") == sent["/flaky"] and "error" in line)
    assert retried["error"]["text"] == "127.0.0.1 answered 503"
    assert (retried["level"], retried["queue"], retried["delivery"]) == ("warning", QUEUE, 1)
    assert told(sent["/gone"]) == ["task failed"]
    assert errors(sent["/gone"]) == [("task failed", 1, "RecipientGone", None)]
    assert told("test.stranger") == ["retried", "task retried", "task failed"]
    assert errors("test.stranger") == [
        ("retried", 1, "ValueError", 1.0),
        ("task failed", 2, "ValueError", None),
    ]
    assert told("test.reject") == ["task rejected"]
    assert told("test.discard") == ["task failed"]
    assert errors("test.discard") == [("task failed", 1, "LookupError", None)]
    whys = {line["job"]: line["why"] for line in lines if line["event"] == "discarded"}
    assert whys == {"expired": "expired", "cancelled": "cancelled"}
    assert any(
        line["event"] == "test.unknown[test.unknown] is undeliverable: Undeliverable"
        and line["level"] == "error"
        for line in lines
    )
    if pool == "prefork":
        assert told("test.hang") == ["retried", "task retried", "task failed"]
        assert errors("test.hang") == [
            ("retried", 1, "TimeLimitExceeded", 1.0),
            (
                "task failed",
                None,
                "TimeLimitExceeded",
                None,
            ),  # told by its parent, which runs no job
        ]
        assert errors("crash") == [("task failed", None, "WorkerLostError", None)]


#: One retry, a second later; and no second chance for what takes its process with it.
_IMPATIENT = QueuePolicy.model_validate(
    {
        "retry": {
            "maxAttempts": 2,
            "backoff": {"initialSeconds": 1, "maxSeconds": 1, "jitterPercent": 0},
            "byError": [
                {"error": "celeriac_messaging.errors.PermanentError", "action": "DeadLetter"},
                {"error": "LookupError", "action": "Discard"},
            ],
        },
        "deadLetter": {"unknownTaskSeconds": 0, "maxDeliveries": 1},
    }
)


def webhook(web: HttpSink, path: str) -> dict[str, str]:
    return {"channel": "webhook", "url": web.url(path)}


def _ended(queue: Queue) -> int:
    stats = queue.stats()
    return stats.done + stats.dead + stats.discarded
