"""Measures many queues of a broker in pipelined reads; one queue's trouble is not the others'."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis

from celeriac.broker import stats as statistics
from celeriac.broker.keys import DEFAULT_PREFIX, QueueKeys
from celeriac.broker.message import QueueStats
from celeriac.broker.scripts import script

#: Queues of one read: it must not hold up the server's other clients, nor fill its buffers.
_AT_ONCE = 200


def measure(
    client: redis.Redis, names: Sequence[str], *, prefix: str = DEFAULT_PREFIX
) -> list[QueueStats | redis.RedisError]:
    """Measure queues; an error stands where one cannot be read. Raises RedisError if none can."""
    read = script("stats")
    found: list[QueueStats | redis.RedisError] = []
    for start in range(0, len(names), _AT_ONCE):
        part = names[start : start + _AT_ONCE]
        pipeline = client.pipeline(transaction=False)
        # With the script on board, so that a server that has just restarted knows it.
        pipeline.execute_command("SCRIPT", "LOAD", read.text)
        for name in part:
            keys = QueueKeys.of(name, prefix=prefix).all
            pipeline.execute_command("EVALSHA", read.sha, len(keys), *keys)
        answers: list[Any] = pipeline.execute(raise_on_error=False)
        for name, raw in zip(part, answers[1:], strict=True):
            if isinstance(raw, redis.RedisError):
                found.append(raw)
            else:
                found.append(statistics.parse(name, raw))
    return found
