"""The messaging application in real workers, with real recipients: a killed worker harms nobody."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
import redis

from celeriac import Client
from celeriac.broker.queue import Queue
from celeriac.chaos.processes import eventually
from celeriac.spec.load import load_queues
from celeriac_messaging import payloads
from celeriac_messaging.demo.sinks import HttpSink, Manners
from celeriac_messaging.payloads import SendMessage, load
from celeriac_messaging.service import MessageQueueService

QUEUE = "message-delivery"
SECRET = "s3cr3t-секрет-秘密"
Start = Callable[[str], "subprocess.Popen[bytes]"]


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
    }

    def start(name: str) -> subprocess.Popen[bytes]:
        arguments = {
            "--app": "celeriac_messaging.app:app",
            "--queue": QUEUE,
            "--pool": "threads",
            "--concurrency": "10",
            "--name": name,
            "--lease": "2",
            "--broker": f"{valkey.url}?prefix={queue_name}",
        }
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
