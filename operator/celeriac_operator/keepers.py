"""The keepers of queues: one for each resource, with what it remembers, as long as its broker stays the same.

A keeper knows its queue's scaling decisions, schedules and outages. It is made anew when the resource is,
or when the broker's Secret says something else.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from celeriac.control.broker import BrokerNotConfigured, QueueAccess
from celeriac.control.clock import Clock
from celeriac.control.keeper import Keeper
from celeriac.spec.queue import MessageQueue
from celeriac.spec.status import MessageQueueStatus
from celeriac_operator.backend import KubernetesBackend
from celeriac_operator.broker_link import BrokerLink
from celeriac_operator.brokers import BrokerAddress, Brokers, NoBroker
from celeriac_operator.seen import Key, QueueSeen


@dataclass(frozen=True, slots=True)
class Kept:
    """A keeper, whose it is, and its way to the queue."""

    uid: str
    token: str
    """Changes when the broker does."""
    keeper: Keeper
    access: QueueAccess


class Keepers:
    """Keepers by resource. Every method may be called from any thread, for one key from one at a time."""

    def __init__(self, backend: KubernetesBackend, brokers: Brokers, clock: Clock) -> None:
        self._backend = backend
        self._brokers = brokers
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[Key, Kept] = {}

    def find(self, seen: QueueSeen) -> Kept | None:
        """The keeper that this very resource has already."""
        with self._lock:
            kept = self._kept.get(seen.queue)
        return kept if kept is not None and kept.uid == seen.uid else None

    def keep(
        self,
        seen: QueueSeen,
        queue: MessageQueue,
        *,
        address: BrokerAddress | None,
        why: BrokerNotConfigured | None,
        stored: MessageQueueStatus | None,
    ) -> Kept:
        """The keeper of a resource, with its newest declaration; ``why`` says why there is no broker.

        A new one begins with the status of the one before it, or else with the ``stored`` one.
        """
        before, token = self.find(seen), address.digest if address else str(why)
        link = self._brokers.link(seen, address) if address is not None else None
        if before is not None and before.token == token:
            before.keeper.declare(queue)
            return before
        broker: BrokerLink | NoBroker = link or NoBroker(why or BrokerNotConfigured("no broker"))
        keeper = Keeper(
            queue,
            backend=self._backend,
            broker=broker,
            clock=self._clock,
            outside_autoscaler=True,
        )
        keeper.status = before.keeper.status if before else stored
        access = broker.queue(queue.queue_name, lease_seconds=queue.spec.worker.lease_seconds)
        kept = Kept(seen.uid, token, keeper, access)
        with self._lock:
            self._kept[seen.queue] = kept
        return kept

    def drop(self, key: Key) -> None:
        """Keep a queue no more, and measure it no more."""
        with self._lock:
            self._kept.pop(key, None)
        self._brokers.forget(key)
