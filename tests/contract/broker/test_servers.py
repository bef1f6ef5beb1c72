"""The same queue on every server that Celeriac is meant for, each with a life and a short machine run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from celeriac.broker.connection import connect
from celeriac.broker.embedded import EmbeddedServer
from celeriac.broker.queue import Queue
from celeriac.spec.policies import QueuePolicy
from tests.contract.broker.dying import DyingClient
from tests.contract.broker.handy import drain, some
from tests.contract.broker.life import live
from tests.contract.broker.machine import small_scripts
from tests.contract.broker.test_state_machine import PROFILE, BrokerMachine
from tests.programs import program

SERVERS = ["embedded", "redis-server"] + (
    ["valkey-server"] if shutil.which("valkey-server") else []
)


@pytest.fixture(scope="module", params=SERVERS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EmbeddedServer]:
    folder = tmp_path_factory.mktemp("server")
    with EmbeddedServer(folder, binary=program(request.param)) as running:
        yield running


@pytest.fixture
def client(server: EmbeddedServer) -> Iterator[redis.Redis]:
    with connect(server.url) as client:
        yield client


def test_a_queue_leads_its_whole_life(client: redis.Redis, queue_name: str) -> None:
    queue = Queue(client, queue_name)
    live(queue)
    client.script_flush()
    live(Queue(client, f"{queue_name}-again"))


def test_everything_is_there_after_the_server_was_killed(
    server: EmbeddedServer, client: redis.Redis, queue_name: str
) -> None:
    queue = Queue(client, queue_name)
    queue.declare(QueuePolicy())
    queue.publish(some(1000))
    queue.claim("w", count=10)
    queue.publish(some(5, "d", delay_ms=10**7))
    before = queue.stats()
    server.kill()
    server.start()
    after = queue.stats()
    for name in ("accepted", "ready_by", "leased", "delayed", "version", "wait", "imbalance"):
        assert (name, getattr(after, name)) == (name, getattr(before, name))
    assert queue.abandon("w") == 10
    assert len(drain(queue)) == 1000


@pytest.mark.slow
def test_the_state_machine_runs_here_too(
    server: EmbeddedServer, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_scripts(monkeypatch)
    options = client.get_connection_kwargs()
    with DyingClient(port=options["port"], password=options["password"]) as dying:
        run: Any = run_state_machine_as_test
        run(lambda: BrokerMachine(client, dying), settings=settings(PROFILE, max_examples=15))
