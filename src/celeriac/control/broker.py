"""What the control loop needs of the broker, and the Redis that gives it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import redis

from celeriac.broker.keys import DEFAULT_PREFIX
from celeriac.broker.message import NewMessage, QueueStats, Receipt
from celeriac.broker.queue import Queue
from celeriac.broker.refusal import BrokerError, errors_of_ours
from celeriac.broker.signing import SigningKeys
from celeriac.spec.conditions import utc
from celeriac.spec.policies import QueuePolicy

#: Pages of one round: enough for any backlog within a few rounds, and no round takes long.
_PAGES = 10
#: Short enough for claims to wait no longer than a few milliseconds for one portion.
_PROMOTED_AT_ONCE = 200
_PROMOTED_A_ROUND = 10_000


class BrokerNotConfigured(BrokerError):
    """Where the broker is, is not known; the text says what must be given, and where."""


class QueueAccess(Protocol):
    """One queue on the broker. Every call may raise BrokerError."""

    def declare(self, policy: QueuePolicy) -> int:
        """Write the record; return its version."""
        ...

    def stats(self) -> QueueStats:
        """Measure the queue."""
        ...

    def promote(self) -> None:
        """Make due messages ready."""
        ...

    def reclaim(self, *, look_only: bool = False) -> None:
        """Make messages ready again whose lease has run out, but for those of a broker that stood still.

        That shows when this is called several times in each lease, if only to look.
        """
        ...

    def take_back(self, workers: Collection[str]) -> int:
        """Take back at once what dead workers and their children held; return how many."""
        ...

    def trim_dead(self, *, now_ms: int, retention_ms: int) -> int:
        """Delete dead letters that are too old."""
        ...

    def publish(self, messages: Sequence[NewMessage]) -> list[Receipt]:
        """Accept messages."""
        ...

    def purge(self) -> int:
        """Delete everything that waits or is dead."""
        ...

    def remembered_schedules(self) -> dict[str, datetime]:
        """The time up to which each schedule was dealt with."""
        ...

    def remember_schedules(
        self, times: Mapping[str, datetime], *, forget: Collection[str] = ()
    ) -> None:
        """Remember these, and forget those."""
        ...


class Broker(Protocol):
    """Gives access to queues."""

    def queue(self, name: str, *, lease_seconds: int) -> QueueAccess:
        """Access one queue; its workers hold messages for ``lease_seconds``."""
        ...


class RedisBroker:
    """The real broker. The client must return bytes, and give up after a few seconds of silence.

    With ``signing``, what schedules send is signed.
    """

    def __init__(
        self,
        client: redis.Redis,
        *,
        prefix: str = DEFAULT_PREFIX,
        signing: SigningKeys | None = None,
    ) -> None:
        self._client = client
        self._prefix = prefix
        self._signing = signing

    def queue(self, name: str, *, lease_seconds: int) -> QueueAccess:
        return RedisQueue(
            Queue(
                self._client,
                name,
                prefix=self._prefix,
                lease_ms=lease_seconds * 1000,
                signing=self._signing,
            )
        )


class RedisQueue:
    """One queue, in the steps that the loop takes."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._schedules = f"{queue.keys.base}schedules"

    def declare(self, policy: QueuePolicy) -> int:
        return self._queue.declare(policy)

    def stats(self) -> QueueStats:
        return self._queue.stats()

    def promote(self) -> None:
        for _ in range(0, _PROMOTED_A_ROUND, _PROMOTED_AT_ONCE):
            if self._queue.promote(_PROMOTED_AT_ONCE) < _PROMOTED_AT_ONCE:
                return

    def reclaim(self, *, look_only: bool = False) -> None:
        for _ in range(_PAGES):
            if not self._queue.watch(reclaim=not look_only):
                return

    def take_back(self, workers: Collection[str]) -> int:
        # A fresh look: a worker may have claimed for the first time just before it died.
        consumers = [seen.name for seen in self._queue.stats().workers]
        mine = [name for name in consumers if name.partition("/")[0] in workers]
        return sum(self._queue.abandon(name) for name in mine)

    def trim_dead(self, *, now_ms: int, retention_ms: int) -> int:
        return self._queue.trim_dead(now_ms=now_ms, retention_ms=retention_ms)

    def publish(self, messages: Sequence[NewMessage]) -> list[Receipt]:
        return self._queue.publish(messages)

    def purge(self) -> int:
        gone = self._queue.purge()
        while letters := self._queue.dead(count=500):
            gone += self._queue.purge_dead([letter.entry for letter in letters])
        return gone

    def remembered_schedules(self) -> dict[str, datetime]:
        with errors_of_ours():
            raw: Any = self._queue.client.hgetall(self._schedules)
        return {name.decode(): _moment(value.decode()) for name, value in raw.items()}

    def remember_schedules(
        self, times: Mapping[str, datetime], *, forget: Collection[str] = ()
    ) -> None:
        spelled: dict[Any, Any] = {name: utc(moment) for name, moment in times.items()}
        with errors_of_ours():
            if spelled:
                self._queue.client.hset(self._schedules, mapping=spelled)
            if forget:
                self._queue.client.hdel(self._schedules, *forget)


def _moment(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
