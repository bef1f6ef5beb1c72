"""One broker: measures all its queues in one pipelined read a second, and tells which have changed."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime

import redis

from celeriac.broker import signing
from celeriac.broker.bulk_stats import BulkStats
from celeriac.broker.connection import BrokerURL, connect
from celeriac.broker.eviction import refuse_eviction
from celeriac.broker.message import NewMessage, QueueStats, Receipt
from celeriac.control.broker import QueueAccess, RedisBroker
from celeriac.spec.policies import QueuePolicy
from celeriac_operator.fence import Fence
from celeriac_operator.seen import Key

logger = logging.getLogger(__name__)

INTERVAL_S = 1.0
#: Statistics older than this are read anew rather than believed.
STALE_S = 3.0


class BrokerLink:
    """The link to one broker. Every method may be called from any thread."""

    def __init__(
        self,
        url: BrokerURL,
        *,
        ca: str = "",
        fence: Fence,
        changed: Callable[[Key], None],
        refused: Callable[[], None],
    ) -> None:
        self.url = url
        self.fence = fence
        self._changed = changed
        self._refused = refused
        options: dict[str, object] = {"socket_timeout": 5.0, "socket_connect_timeout": 3.0}
        if ca:
            # In place of a file, which is one of the workers' pods.
            options |= {"ssl_ca_data": ca, "ssl_ca_certs": None}
        self._client = connect(url, **options)
        self._broker = RedisBroker(
            self._client, prefix=url.prefix, signing=signing.from_environment()
        )
        self._many = BulkStats(self._client, prefix=url.prefix)
        self._lock = threading.Lock()
        self._names: dict[Key, str] = {}
        self._found: dict[str, tuple[float, QueueStats | redis.RedisError]] = {}
        self._error: redis.RedisError | None = None
        self._error_at = 0.0
        self._fit = False
        """Whether the broker, which answers, was found to keep what it is given."""
        self._stop = threading.Event()
        threading.Thread(target=self._run, name=f"broker {url.redacted()}", daemon=True).start()

    # --- for the control loop -------------------------------------------------------------------

    def queue(self, name: str, *, lease_seconds: int) -> LinkedQueue:
        """Access one queue."""
        return LinkedQueue(self, name, self._broker.queue(name, lease_seconds=lease_seconds))

    def stats(self, name: str) -> QueueStats | None:
        """What was measured a moment ago; None when it must be read. Raises RedisError."""
        with self._lock:
            now = time.monotonic()
            if self._error is not None and now - self._error_at < STALE_S:
                raise self._error
            at, found = self._found.get(name, (float("-inf"), None))
        if found is None or now - at > STALE_S:
            return None
        if isinstance(found, redis.RedisError):
            raise found
        return found

    def forget(self, name: str) -> None:
        """Read this queue anew when it is asked for next: it was just changed."""
        with self._lock:
            self._found.pop(name, None)

    # --- which queues ---------------------------------------------------------------------------

    def include(self, key: Key, name: str) -> None:
        """Measure this queue from now on."""
        with self._lock:
            self._names[key] = name

    def exclude(self, key: Key) -> None:
        """Measure it no more."""
        with self._lock:
            self._names.pop(key, None)

    @property
    def empty(self) -> bool:
        """Whether there is no queue to measure."""
        with self._lock:
            return not self._names

    @property
    def up(self) -> bool:
        """Whether the broker answered last."""
        with self._lock:
            return self._error is None

    def all_stats(self) -> Mapping[Key, QueueStats]:
        """What was measured last; nothing while the broker does not answer."""
        with self._lock:
            if self._error is not None:
                return {}
            pairs = ((key, self._found.get(name)) for key, name in self._names.items())
            return {key: it[1] for key, it in pairs if it and isinstance(it[1], QueueStats)}

    def close(self) -> None:
        """End the thread and the connections."""
        self._stop.set()

    # --- the thread -----------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.is_set():
            started = time.monotonic()
            try:
                self._measure()
            except Exception:
                logger.exception("measuring the queues of %s failed", self.url.redacted())
            self._stop.wait(max(0.05, INTERVAL_S - (time.monotonic() - started)))
        self._client.close()

    def _measure(self) -> None:
        with self._lock:
            names = dict(self._names)
        at = time.monotonic()
        order = sorted(set(names.values()))
        try:
            if not self._fit:
                refuse_eviction(self._client)
                self._fit = True
            answers = self._many.measure(order)
        except redis.RedisError as error:
            self._fit = False
            self._failed(error, names)
            return
        with self._lock:
            before = {name: found for name, (_, found) in self._found.items()}
            answered_again, self._error = self._error is not None, None
            self._found = {name: (at, it) for name, it in zip(order, answers, strict=True)}
        for key, name in names.items():
            if answered_again or _differ(before.get(name), self._found[name][1]):
                self._changed(key)

    def _failed(self, error: redis.RedisError, names: Collection[Key]) -> None:
        if isinstance(error, redis.AuthenticationError | redis.exceptions.NoPermissionError):
            self._refused()
        with self._lock:
            news = self._error is None or type(self._error) is not type(error)
            self._error, self._error_at = error, time.monotonic()
        if news:
            logger.warning("the broker %s cannot be read: %s", self.url.redacted(), error)
            for key in names:
                self._changed(key)


def _differ(before: object, now: QueueStats | redis.RedisError) -> bool:
    """Whether anything changed but the time."""
    if isinstance(before, QueueStats) and isinstance(now, QueueStats):
        if before.workers is now.workers:
            return False  # nothing new was parsed
        return _essence(before) != _essence(now)
    return before is None or type(before) is not type(now)


def _essence(it: QueueStats) -> tuple[object, ...]:
    workers = [(worker.name, worker.leased) for worker in it.workers]
    return (
        *(it.accepted, it.done, it.discarded, it.purged, it.retried, it.redelivered, it.dead),
        *(it.ready_by, it.leased, it.delayed, it.due, it.declared, it.paused, it.version, workers),
    )


class LinkedQueue:
    """One queue: read from what was measured, written through the fence."""

    def __init__(self, link: BrokerLink, name: str, access: QueueAccess) -> None:
        self._link = link
        self._name = name
        self._access = access

    def stats(self) -> QueueStats:
        return self._link.stats(self._name) or self._access.stats()

    def declare(self, policy: QueuePolicy) -> int:
        self._link.fence.check()
        version = self._access.declare(policy)
        self._link.forget(self._name)
        return version

    def promote(self) -> None:
        self._link.fence.check()
        self._access.promote()

    def reclaim(self, *, look_only: bool = False) -> None:
        self._link.fence.check()
        self._access.reclaim(look_only=look_only)

    def take_back(self, workers: Collection[str]) -> int:
        self._link.fence.check()
        return self._access.take_back(workers)

    def trim_dead(self, *, now_ms: int, retention_ms: int) -> int:
        self._link.fence.check()
        return self._access.trim_dead(now_ms=now_ms, retention_ms=retention_ms)

    def publish(self, messages: Sequence[NewMessage]) -> list[Receipt]:
        self._link.fence.check()
        return self._access.publish(messages)

    def purge(self) -> int:
        self._link.fence.check()
        return self._access.purge()

    def remembered_schedules(self) -> dict[str, datetime]:
        return self._access.remembered_schedules()

    def remember_schedules(
        self, times: Mapping[str, datetime], *, forget: Collection[str] = ()
    ) -> None:
        self._link.fence.check()
        self._access.remember_schedules(times, forget=forget)
