"""What a client knows of a Redis Cluster: learnt from any node, doubted when a node fails, mended by MOVED.

No lock: a map is replaced whole, so threads that learn at the same time do no harm, and a fork none either.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import redis
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ConnectionError,
    NoPermissionError,
    ResponseError,
    TimeoutError,
)

from celeriac.broker.hash_slots import Address, SlotMap
from celeriac.broker.refusal import BrokerUnreachable


class ClusterUnavailable(BrokerUnreachable):
    """No node serves the slot now, or it is on its way between two nodes; nothing was executed."""


class NotReached(BrokerUnreachable):
    """There is no connection to the node; nothing was executed."""


def pause_after(tries: int) -> None:
    """Wait a little before another try of what a moving slot has refused so many times."""
    time.sleep(min(0.1, 0.001 * 2**tries))


class Topology:
    """The cluster as it was last seen. Threads may share it.

    `open` makes a connection to an address, which is connected when first used.
    """

    def __init__(
        self, seeds: tuple[Address, ...], open: Callable[[Address], redis.Connection]
    ) -> None:
        self._seeds = seeds
        self._open = open
        self._map: SlotMap | None = None
        self._nodes: frozenset[Address] = frozenset()
        self._doubted: set[Address] = set()
        self._turn = 0

    def primary(self, slot: int) -> Address:
        """The primary that serves a slot. Raises ClusterUnavailable, or why no node can be asked."""
        address = self._known().primaries[slot]
        if address is None:
            self._map = None  # it may be served in a moment
            raise ClusterUnavailable(f"no node of the cluster serves slot {slot}")
        return address

    def primaries(self) -> list[Address]:
        """All nodes that serve slots, asked for anew. Raises why no node can be asked."""
        self._map = None
        return sorted({address for address in self._known().primaries if address is not None})

    @property
    def nodes(self) -> frozenset[Address]:
        """The nodes of the cluster when it was last asked for, replicas included."""
        return self._nodes

    def moved(self, slot: int, address: Address) -> None:
        """Take a node's word for it that another one serves a slot."""
        self._known().primaries[slot] = address
        self._nodes |= {address}

    def doubt(self, address: Address) -> None:
        """Look again before the next command: this node failed, perhaps another has its slots now."""
        self._doubted.add(address)
        self._map = None

    def _known(self) -> SlotMap:
        known = self._map
        if known is None:
            known = self._map = self._learn()
        return known

    def _learn(self) -> SlotMap:
        failure: Exception = ClusterUnavailable("the nodes serve no slots")
        for address in self._order():
            try:
                learnt = self._ask(address)
            except (AuthenticationError, AuthorizationError, NoPermissionError):
                raise
            except (ConnectionError, TimeoutError) as error:
                failure = error
                continue
            except ResponseError as error:
                text = f"{address[0]}:{address[1]} is no node of a cluster: {error}"
                raise ClusterUnavailable(text) from error
            if learnt.nodes:
                self._nodes = learnt.nodes
                self._doubted.clear()
                return learnt
        raise failure

    def _order(self) -> list[Address]:
        """Whom to ask: everyone in turn, so that one with a wrong view is not asked for ever."""
        everyone = sorted(self._nodes | set(self._seeds))
        self._turn += 1
        at = self._turn % len(everyone)
        return sorted(everyone[at:] + everyone[:at], key=self._doubted.__contains__)

    def _ask(self, address: Address) -> SlotMap:
        connection = self._open(address)
        try:
            connection.send_command("CLUSTER", "SLOTS")
            answer: Any = connection.read_response()
        finally:
            connection.disconnect()
        return SlotMap.parse(answer, asked=address[0])
