"""Servers that delete keys when they are full: no place for queues.

An `allkeys-*` policy deletes whole streams, silently. A `volatile-*` one deletes what has a time to live: no
message, but dedup keys and progress. Without a memory limit neither ever happens.
"""

from __future__ import annotations

from typing import Any

import redis
from redis.exceptions import NoPermissionError

HOW_TO_STOP_IT = "On the server: CONFIG SET maxmemory-policy noeviction."


class EvictingServer(redis.RedisError):
    """When the server is full it would delete messages: nothing starts on it."""


def refuse_eviction(client: redis.Redis) -> None:
    """Raise EvictingServer for a server that deletes messages when it is full.

    A server that does not let this user ask passes: `celeriac doctor` names the permission.
    """
    try:
        info: Any = client.info("memory")
    except NoPermissionError:
        return
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if info.get("maxmemory", 0) and policy.startswith("allkeys"):
        raise EvictingServer(
            f"the broker deletes messages when it is full: its maxmemory-policy is {policy}, and "
            "must be noeviction"
        )
