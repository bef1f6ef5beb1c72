"""The server that everybody is measured on: private, on loopback, with `appendfsync everysec`."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import redis

from celeriac.broker.embedded import EmbeddedServer

#: Marks and logs belong in memory: a busy disk must not be measured. The server's files stay on disk.
MEMORY = Path("/dev/shm")  # noqa: S108 (what is in it gets a name of its own)


@dataclass(frozen=True, slots=True)
class Place:
    """A running server, a client of it, and a folder for marks and logs."""

    client: redis.Redis
    #: Password, address and port, as they stand in a URL.
    host: str
    pid: int
    folder: Path

    @property
    def version(self) -> str:
        """Which server this is."""
        info: dict[str, Any] = self.client.info("server")
        name = "Valkey" if "valkey_version" in info else "Redis"
        return f"{name} {info.get('valkey_version', info['redis_version'])}"


def add_server_option(parser: argparse.ArgumentParser) -> None:
    """Let the user choose the server's program."""
    parser.add_argument(
        "--server", metavar="PROGRAM", help="redis-server or valkey-server (default: the embedded)"
    )


@contextmanager
def place(program: str | None) -> Iterator[Place]:
    """Start a server in a folder of its own, and end it, whatever ends the benchmark."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    memory = str(MEMORY) if MEMORY.is_dir() else None
    with (
        TemporaryDirectory(prefix="bench-") as disk,
        TemporaryDirectory(prefix="bench-", dir=memory) as folder,
        EmbeddedServer(Path(disk) / "server", binary=program) as server,
    ):
        address = urlsplit(server.url)
        client = redis.Redis(port=address.port or 0, password=address.password)
        yield Place(client, address.netloc, server.pid, Path(folder))
        client.close()


def empty(client: redis.Redis) -> None:
    """Delete everything, and wait until it is gone: newer servers free memory later unless told."""
    client.execute_command("FLUSHALL", "SYNC")
