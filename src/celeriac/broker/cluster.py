"""A Redis Cluster behind the client that one server has.

    execute_command -> the key's slot -> its primary's client -> answer
                          ^                |
                          +-- MOVED, ASK, TRYAGAIN: refused, so asked again --+

All keys of a queue lie in one slot, so each command of ours goes to one node, and what redis-py's
RedisCluster does for commands of many nodes is not needed here. Nothing that may have been executed is ever
repeated: a broken connection is the caller's to judge, as with one server.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import redis
from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    ClusterDownError,
    ConnectionError,
    MovedError,
    TimeoutError,
    TryAgainError,
)

from celeriac.broker.cluster_pipeline import ClusterPipeline
from celeriac.broker.hash_slots import Address, guarded, key_of, slot_of
from celeriac.broker.topology import ClusterUnavailable, NotReached, Topology, pause_after


class NodeConnection(redis.Connection):
    """A connection to one node; that it could not be made is told apart from that it broke."""

    def connect(self) -> None:
        """Connect. Raises NotReached, or redis-py's AuthenticationError."""
        try:
            super().connect()  # type: ignore[no-untyped-call]
        except (AuthenticationError, AuthorizationError):
            raise
        except (ConnectionError, TimeoutError) as error:
            raise NotReached(str(error)) from error


class NodeSSLConnection(NodeConnection, redis.SSLConnection):
    """The same over TLS."""


class SlotConnection(redis.Connection):
    """A connection to whichever node serves a slot when it is made, for kombu.

    When that node serves it no longer, the connection is closed, and breaks as by a failure.
    """

    def __init__(self, *, topology: Topology, slot: int, **options: Any) -> None:
        self._topology = topology
        self._slot = slot
        super().__init__(**options)  # type: ignore[no-untyped-call]

    def connect(self) -> None:
        """Connect to the slot's primary, unless connected. Raises redis-py's errors."""
        if self._sock is not None:
            return
        self.host, self.port = first = self._topology.primary(self._slot)
        try:
            super().connect()  # type: ignore[no-untyped-call]
        except (ConnectionError, TimeoutError):
            self._topology.doubt(first)
            self.host, self.port = second = self._topology.primary(self._slot)
            if second == first:
                raise
            super().connect()  # type: ignore[no-untyped-call]

    def read_response(self, *args: Any, **options: Any) -> Any:
        """Read an answer. Raises redis-py's ConnectionError when the slot is elsewhere."""
        try:
            return super().read_response(*args, **options)
        except (AskError, TryAgainError, ClusterDownError) as error:
            self._topology.doubt((self.host, self.port))
            self.disconnect()  # type: ignore[no-untyped-call]
            raise ClusterUnavailable(f"slot {self._slot} is not served here: {error}") from error


class SlotSSLConnection(SlotConnection, redis.SSLConnection):
    """The same over TLS."""


class ClusterClient(redis.Redis):
    """Sends each command to the node that serves its key. Threads may share it; it survives a fork.

    `node` makes the client of one node. Commands without a key go to `entry`, which is one of the nodes.
    Transactions and subscriptions belong to one node, and are not to be had here.
    """

    #: How long a command waits for a slot that is on its way to another node. Seconds.
    patience_s = 5.0

    def __init__(
        self,
        topology: Topology,
        *,
        entry: redis.ConnectionPool,
        node: Callable[[Address], redis.Redis],
    ) -> None:
        super().__init__(connection_pool=entry)
        self.auto_close_connection_pool = True
        self.topology = topology
        self._make = node
        self._nodes: dict[Address, redis.Redis] = {}

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Run a command on the node of its key. Raises redis-py's errors.

        While a slot moves between nodes, waits up to `patience_s`; then raises ClusterUnavailable.
        """
        key = key_of(args)
        if key is None:
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        return _Route(self, slot_of(key), guarded(args), options).run()

    def primaries(self) -> dict[Address, redis.Redis]:
        """A client of each node that serves slots."""
        return {address: self.node(address) for address in self.topology.primaries()}

    def node(self, address: Address) -> redis.Redis:
        """The client of one node."""
        node = self._nodes.get(address)
        if node is None:
            for gone in self._nodes.keys() - self.topology.nodes:
                # A node that left for good would keep its sockets open for ever.
                left = self._nodes.pop(gone, None)
                if left is not None:
                    left.connection_pool.disconnect(inuse_connections=False)
            node = self._nodes.setdefault(address, self._make(address))
        return node

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> ClusterPipeline:
        """Start a pipeline, which is one of each node. Raises NotImplementedError for a transaction."""
        if transaction:
            raise NotImplementedError("a transaction belongs to one node")
        return ClusterPipeline(self)

    def close(self) -> None:
        """Close all connections; the client can be used again."""
        super().close()
        for node in list(self._nodes.values()):
            node.close()


class _Route:
    """One command on its way to the node that executes it."""

    def __init__(
        self, client: ClusterClient, slot: int, args: tuple[Any, ...], options: dict[str, Any]
    ) -> None:
        self._client = client
        self._slot = slot
        self._args = args
        self._options = options
        self._asked: Address | None = None
        """Where the slot is going: a node that wants to be told that we know."""
        self._refusals = 0
        self._until = 0.0

    def run(self) -> Any:
        topology = self._client.topology
        address = topology.primary(self._slot)
        while True:
            try:
                return self._execute(self._asked or address)
            except MovedError as error:
                self._asked, address = None, self._address(error, address)
                topology.moved(self._slot, address)
                self._refused(error)
            except AskError as error:
                self._asked = self._address(error, address)
                self._refused(error)
            except TryAgainError as error:
                self._asked = None
                self._refused(error)
            except ClusterDownError as error:
                topology.doubt(address)
                raise ClusterUnavailable(str(error)) from error
            except NotReached as error:
                topology.doubt(self._asked or address)
                another = topology.primary(self._slot)
                if self._asked is None and another == address:
                    raise
                self._asked, address = None, another
                self._refused(error)
            except (ConnectionError, TimeoutError):
                topology.doubt(self._asked or address)
                raise

    def _execute(self, address: Address) -> Any:
        node = self._client.node(address)
        if self._asked is None:
            return node.execute_command(*self._args, **self._options)
        pipeline = node.pipeline(transaction=False)
        pipeline.execute_command("ASKING")
        pipeline.execute_command(*self._args, **self._options)
        return pipeline.execute()[1]

    def _address(self, error: AskError, asked: Address) -> Address:
        host, port = error.node_addr
        return host or asked[0], port

    def _refused(self, error: Exception) -> None:
        """Wait before the next try, but for the first few, which usually find the way."""
        self._refusals += 1
        now = time.monotonic()
        if self._refusals == 1:
            self._until = now + self._client.patience_s
        elif now > self._until:
            raise ClusterUnavailable(
                f"slot {self._slot} is still on its way to another node after "
                f"{self._client.patience_s:.0f} s: {error}"
            ) from error
        if self._refusals > 3:
            pause_after(self._refusals)


def servers(client: redis.Redis) -> dict[str, redis.Redis]:
    """A client of each server that holds queues, by its address: all primaries of a cluster."""
    if not isinstance(client, ClusterClient):
        return {"": client}
    return {f"{host}:{port}": node for (host, port), node in client.primaries().items()}
