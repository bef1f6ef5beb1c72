"""What a program has to catch when its broker is killed, frozen, busy or a replica: one root, everywhere."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from kombu.exceptions import OperationalError

from celeriac import (
    BrokerError,
    BrokerUnreachable,
    BulkInterrupted,
    CeleriacError,
    Client,
    Job,
    report_progress,
)
from celeriac.broker.connection import connect
from celeriac.broker.embedded import EmbeddedServer
from celeriac.broker.queue import Queue
from celeriac.client import progress

CALLS: dict[str, Callable[[Client], object]] = {
    "send": lambda client: client.send("q", "t.x"),
    "send later": lambda client: client.send("q", "t.x", delay=5),
    "cancel": lambda client: client.cancel("q", "an-id"),
    "progress": lambda client: client.progress("q", "an-id"),
    "stats": lambda client: client.stats("q"),
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path) as server:
        yield server


def _must_fail(client: Client, of_redis: type[redis.RedisError]) -> None:
    for name, call in CALLS.items():
        with pytest.raises(CeleriacError) as caught:
            call(client)
        assert isinstance(caught.value, BrokerUnreachable), name
        assert isinstance(caught.value, of_redis), name
        assert isinstance(caught.value, redis.ConnectionError), name
    with pytest.raises(BulkInterrupted) as bulk:
        client.send_many("q", [Job("t.x"), Job("t.y")])
    assert isinstance(bulk.value, CeleriacError)
    assert isinstance(bulk.value.__cause__, BrokerUnreachable)
    assert isinstance(bulk.value.__cause__, of_redis)


@pytest.mark.parametrize("used_before", [True, False], ids=["connected", "new"])
def test_a_killed_broker_is_one_error_in_every_call(
    server: EmbeddedServer, used_before: bool
) -> None:
    with Client(server.url) as client:
        if used_before:
            for call in CALLS.values():
                call(client)
        server.kill()
        _must_fail(client, redis.ConnectionError)
        server.start()
        assert client.send("q", "t.x").status == "accepted"


def test_a_frozen_broker_is_the_same_error_and_a_timeout(server: EmbeddedServer) -> None:
    with Client(server.url + "?socket_timeout=0.2") as client:
        client.send("q", "t.x")
        os.kill(server.pid, signal.SIGSTOP)
        try:
            _must_fail(client, redis.TimeoutError)
        finally:
            os.kill(server.pid, signal.SIGCONT)


def test_no_connection_left_is_the_same_error(server: EmbeddedServer) -> None:
    with (
        Client(server.url + "?max_connections=1") as client,
        pytest.raises(CeleriacError) as caught,
    ):
        client.send("q", "t.x")  # a thread that publishes holds one, and the queue must be listed

    assert isinstance(caught.value, BrokerUnreachable)
    assert isinstance(caught.value, redis.exceptions.MaxConnectionsError)


def test_a_wrong_password_is_the_same_error(server: EmbeddedServer) -> None:
    with Client(f"celeriac://:wrong@127.0.0.1:{server.port}") as client:
        _must_fail(client, redis.AuthenticationError)


def test_what_the_broker_answers_has_the_same_root(server: EmbeddedServer) -> None:
    admin = connect(server.url)
    with Client(server.url) as client:
        client.send("q", "t.x")
        admin.execute_command("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(BrokerError) as caught:
            client.send("q", "t.x")
        admin.execute_command("REPLICAOF", "NO", "ONE")
        assert isinstance(caught.value, redis.exceptions.ReadOnlyError)
        assert not isinstance(caught.value, BrokerUnreachable)
        assert client.stats("q").accepted == 1
    admin.close()


@pytest.mark.parametrize("retry", [True, False])
@pytest.mark.parametrize("options", [{}, {"link": []}], ids=["plain", "celery's way"])
def test_a_celery_app_gets_the_error_that_celery_apps_get(
    server: EmbeddedServer, retry: bool, options: dict[str, Any]
) -> None:
    app = Celery("test", broker=server.url, set_as_current=False)
    app.conf.broker_transport_options = {"socket_connect_timeout": 1}

    @app.task(name="t.x")
    def task() -> None: ...

    task.apply_async(queue="q", **options)
    server.kill()

    with pytest.raises(OperationalError) as caught:
        task.apply_async(
            queue="q", retry=retry, retry_policy={"max_retries": 1, "interval_start": 0}, **options
        )

    assert isinstance(caught.value.__cause__, redis.ConnectionError)
    app.close()


def test_progress_never_costs_the_task_anything(
    server: EmbeddedServer, caplog: pytest.LogCaptureFixture
) -> None:
    queue = Queue(connect(server.url), "q")
    token = progress.current.set(progress.QueueProgress(queue, "an-id"))
    try:
        report_progress(1, 2)
        server.kill()
        report_progress(2, 2)
    finally:
        progress.current.reset(token)

    assert "progress of" in caplog.text
    server.start()
    found = progress.read_progress(queue, "an-id")
    assert found is None or found.done == 1
    queue.client.close()
