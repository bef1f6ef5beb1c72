"""All queues of a broker: their names, and their figures in pipelined reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import redis

from celeriac.broker import stats as statistics
from celeriac.broker.keys import DEFAULT_PREFIX, QueueKeys, index_key
from celeriac.broker.message import QueueStats
from celeriac.broker.scripts import script
from celeriac.broker.wire import parts

#: Queues of one read: it must not hold up the server's other clients, nor fill its buffers.
_AT_ONCE = 200


def queue_names(client: redis.Redis, *, prefix: str = DEFAULT_PREFIX) -> list[str]:
    """Name every queue that was ever declared or published to under a prefix."""
    members: Any = client.smembers(index_key(prefix))
    return sorted(name.decode() for name in members)


def stats_of(
    client: redis.Redis, names: Sequence[str], *, prefix: str = DEFAULT_PREFIX
) -> list[QueueStats]:
    """Measure many queues once. Raises RedisError when one cannot be read."""
    found: list[QueueStats] = []
    for stats in BulkStats(client, prefix=prefix).measure(names):
        if isinstance(stats, redis.RedisError):
            raise stats
        found.append(stats)
    return found


class BulkStats:
    """Measures queues of one broker again and again; one's trouble is not the others'.

    An answer that says nothing new is not parsed again. To be used by one thread at a time.
    """

    def __init__(self, client: redis.Redis, *, prefix: str = DEFAULT_PREFIX) -> None:
        self._client = client
        self._prefix = prefix
        self._known: dict[str, tuple[list[Any], QueueStats]] = {}

    def measure(self, names: Sequence[str]) -> list[QueueStats | redis.RedisError]:
        """Measure queues; an error stands where one cannot be read. Raises RedisError if none can."""
        found: list[QueueStats | redis.RedisError] = []
        known: dict[str, tuple[list[Any], QueueStats]] = {}
        for part in parts(names, _AT_ONCE):
            for name, raw in zip(part, self._read(part), strict=True):
                if isinstance(raw, redis.RedisError):
                    found.append(raw)
                else:
                    stats = self._parse(name, raw)
                    known[name] = (raw[1:], stats)
                    found.append(stats)
        self._known = known
        return found

    def _read(self, names: Sequence[str]) -> list[Any]:
        read = script("stats")
        pipeline = self._client.pipeline(transaction=False)
        # With the script on board, so that a server that has just restarted knows it.
        pipeline.execute_command("SCRIPT", "LOAD", read.text)
        for name in names:
            keys = QueueKeys.of(name, prefix=self._prefix).all
            pipeline.execute_command("EVALSHA", read.sha, len(keys), *keys)
        answers: list[Any] = pipeline.execute(raise_on_error=False)
        return answers[1:]

    def _parse(self, name: str, raw: list[Any]) -> QueueStats:
        before = self._known.get(name)
        if before is not None and before[0] == raw[1:] and not before[1].ready:
            return replace(before[1], now_ms=int(raw[0]))  # all but the time
        return statistics.parse(name, raw)
