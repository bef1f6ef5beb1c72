"""Fixtures that every kind of test may use: a real server, a client, a queue of one's own."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import redis

from celeriac.broker.embedded import EmbeddedServer


def pytest_configure() -> None:
    """Let programs that tests start hear Ctrl-C, also when a shell runs all this in the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True)
class RunningServer:
    """A server for tests: where it is, and its process."""

    url: str
    pid: int
    port: int
    password: str

    def client(self, **options: object) -> redis.Redis:
        """A fresh client that returns bytes."""
        return redis.Redis(
            host="127.0.0.1",
            port=self.port,
            password=self.password,
            **options,  # type: ignore[arg-type]
        )


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """An embedded server for the whole session."""
    folder: Path = tmp_path_factory.mktemp("valkey")
    with EmbeddedServer(folder) as server:
        password = unquote(urlsplit(server.url).password or "")
        yield RunningServer(server.url, server.pid, server.port, password)


@pytest.fixture
def redis_client(valkey: RunningServer) -> Iterator[redis.Redis]:
    """A client of the session's server."""
    client = valkey.client()
    yield client
    client.close()


@pytest.fixture
def queue_name() -> str:
    """A queue name that no other test uses."""
    return f"q-{uuid.uuid4().hex[:12]}"
