"""A redis-py client for publishing, where one round trip is most of the cost.

redis-py surrounds every command with a pool's checkout, retry closures and telemetry: a third of the time
of a publish on a near server. The script calls, which are all that publishing does, go round that here.
"""

from __future__ import annotations

import os
import threading
from typing import Any

import redis
from hiredis import pack_command
from redis.exceptions import ConnectionError, ResponseError

from celeriac.broker.connection import BrokerURL, cluster_client, connection_pool


class _Held:
    """A connection that one thread keeps, and gives back when the thread ends."""

    __slots__ = ("busy", "connection", "pid", "pool")

    def __init__(self, pool: redis.ConnectionPool) -> None:
        self.pool = pool
        self.pid = os.getpid()
        self.busy = False
        self.connection: Any = None  # also when the server cannot be reached
        self.connection = pool.get_connection()

    def __del__(self) -> None:
        if self.connection is not None and self.pid == os.getpid():
            self.pool.release(self.connection)

    def make_ready(self) -> None:
        """Connect, unless connected to a server that is still there."""
        connection = self.connection
        if connection._sock is not None:
            try:
                stale = connection.can_read()  # before we asked: the server's goodbye
            except ConnectionError:
                stale = True
            if not stale:
                return
            connection.disconnect()
        # Not left to the next command, which would not ask the Sentinels anew.
        connection.connect()


class PinnedClient(redis.Redis):
    """redis-py's client with a shorter way for EVALSHA. Threads may share it; it survives a fork.

    Each thread that publishes holds a connection for as long as it lives.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._local = threading.local()

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Run a command; errors are redis-py's own."""
        if args[0] != "EVALSHA":
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        held: _Held | None = getattr(self._local, "held", None)
        if held is None or held.pid != os.getpid():
            held = self._local.held = _Held(self.connection_pool)
        elif held.busy:
            # A signal handler or finalizer publishes while this very thread waits for a reply.
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        return self._exchange(held, args)

    def _exchange(self, held: _Held, args: tuple[Any, ...]) -> Any:
        connection = held.connection
        held.busy = True
        try:
            held.make_ready()
            connection.send_packed_command([pack_command(args)])
            return connection.read_response()
        except ResponseError:
            raise  # a whole reply was read
        except BaseException:
            # Whatever interrupted us, a late reply must not be taken for the next command's.
            connection.disconnect()
            raise
        finally:
            held.busy = False


def pinned_client(url: BrokerURL, **overrides: Any) -> redis.Redis:
    """Make a client of the broker for publishing; of a cluster, each node's takes the shorter way."""
    # Every thread holds one, and redis-py's default would be too few for a server with many threads.
    overrides.setdefault("max_connections", url.options.get("max_connections", 100_000))
    if url.kind == "cluster":
        return cluster_client(url, node=PinnedClient.from_pool, **overrides)
    return PinnedClient.from_pool(connection_pool(url, **overrides))
