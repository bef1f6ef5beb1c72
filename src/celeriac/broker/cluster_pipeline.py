"""A pipeline over a Redis Cluster: one round trip to each node, and a second try for what was refused."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Protocol

import redis
from redis.client import Pipeline
from redis.exceptions import AskError, ClusterDownError, MovedError, RedisError, TryAgainError

from celeriac.broker.hash_slots import Address, guarded, is_script, key_of, slot_of
from celeriac.broker.topology import ClusterUnavailable, NotReached, Topology, pause_after


class Cluster(Protocol):
    """What a pipeline needs of the client that it belongs to."""

    topology: Topology
    patience_s: float
    connection_pool: redis.ConnectionPool
    response_callbacks: Any

    def node(self, address: Address) -> redis.Redis:
        """The client of one node."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Run a command on the node of its key."""


class ClusterPipeline(Pipeline):
    """Commands that are sent together, each to the node of its key; one without a key goes to all of these.

    Commands run in order on each node, over one connection, and in no order between nodes.
    """

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster.connection_pool, cluster.response_callbacks, False, None)
        self._cluster = cluster

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send everything, and give the answers in order.

        Without `raise_on_error` errors stand among them, also where a node cannot be reached. Raises
        RedisError: the first one with `raise_on_error`, otherwise when no node can be reached.
        """
        sending = _Sending(self._cluster, list(self.command_stack))
        self.reset()
        answers = sending.run()
        errors = [answer for answer in answers if isinstance(answer, RedisError)]
        if errors and (raise_on_error or not sending.reached):
            raise errors[0]
        return answers


class _Sending:
    """What is sent together, and its answers."""

    def __init__(self, cluster: Cluster, commands: list[Any]) -> None:
        self._cluster = cluster
        self._commands: list[tuple[tuple[Any, ...], dict[str, Any]]] = commands
        self._keys = [key_of(args) for args, _ in commands]
        self._answers: list[Any] = [None] * len(commands)
        self._down: dict[Address, NotReached] = {}
        self.reached = False

    def run(self) -> list[Any]:
        """Send in rounds: what was refused goes where it belongs by then, with all that goes everywhere."""
        waiting = [at for at, key in enumerate(self._keys) if key is not None]
        until = time.monotonic() + self._cluster.patience_s
        rounds = 0
        while waiting and (not rounds or time.monotonic() < until):
            if rounds > 2:
                pause_after(rounds)
            rounds += 1
            waiting = self._round(waiting)
        self._note(waiting, [ClusterUnavailable(str(self._answers[at])) for at in waiting])
        return self._answers

    def _round(self, waiting: Iterable[int]) -> list[int]:
        """Send commands; return those that are to be sent again."""
        again: list[int] = []
        for address, group in self._groups(waiting).items():
            if address in self._down:
                self._note(group, [self._down[address]] * len(group))
                continue
            try:
                again += self._send(address, group)
            except NotReached as error:
                self._down[address] = error
                self._cluster.topology.doubt(address)
                self._note(group, [error] * len(group))  # what to say if there is no time for more
                again += group
            except (redis.ConnectionError, redis.TimeoutError) as error:
                self._cluster.topology.doubt(address)
                self._note(group, [error] * len(group))
        return again

    def _groups(self, waiting: Iterable[int]) -> dict[Address, list[int]]:
        groups: dict[Address, list[int]] = defaultdict(list)
        for at in waiting:
            try:
                groups[self._cluster.topology.primary(self._slot(at))].append(at)
            except RedisError as error:
                self._note([at], [error])
        return groups

    def _send(self, address: Address, group: list[int]) -> list[int]:
        """Send to one node; return what it refused."""
        everywhere = [at for at, key in enumerate(self._keys) if key is None]
        order = sorted(everywhere + group)
        pipeline = self._cluster.node(address).pipeline(transaction=False)
        for at in order:
            args, options = self._commands[at]
            pipeline.execute_command(*guarded(args), **options)
        self._note(order, pipeline.execute(raise_on_error=False))
        self.reached = True
        return [at for at in group if self._is_refused(at, address)]

    def _is_refused(self, at: int, address: Address) -> bool:
        answer = self._answers[at]
        if isinstance(answer, MovedError):
            host, port = answer.node_addr
            self._cluster.topology.moved(self._slot(at), (host or address[0], port))
            return True
        if isinstance(answer, AskError) and not is_script(self._commands[at][0]):
            self._note([at], [self._asked(at)])
            return False
        # A script that is sent on while its slot moves would only be refused there.
        return isinstance(answer, AskError | TryAgainError)

    def _asked(self, at: int) -> Any:
        args, options = self._commands[at]
        try:
            return self._cluster.execute_command(*args, **options)
        except RedisError as error:
            return error

    def _slot(self, at: int) -> int:
        key = self._keys[at]
        assert key is not None
        return slot_of(key)

    def _note(self, group: Iterable[int], answers: Iterable[Any]) -> None:
        for at, answer in zip(group, answers, strict=True):
            down = isinstance(answer, ClusterDownError)
            self._answers[at] = ClusterUnavailable(str(answer)) if down else answer
