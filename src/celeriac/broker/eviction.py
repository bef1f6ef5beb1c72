"""Servers that delete keys when they are full: no place for queues.

An `allkeys-*` policy deletes whole streams, silently. A `volatile-*` one deletes what has a time to live: no
message, but dedup keys and progress. Without a memory limit neither ever happens.
"""

from __future__ import annotations

from typing import Any

import redis
from redis.exceptions import NoPermissionError

from celeriac.broker.cluster import servers
from celeriac.broker.refusal import BrokerError

HOW_TO_STOP_IT = "On the server: CONFIG SET maxmemory-policy noeviction."


class EvictingServer(BrokerError):
    """When the server is full it would delete messages: nothing starts on it."""


def refuse_eviction(client: redis.Redis) -> None:
    """Raise EvictingServer for a server, or a node of a cluster, that deletes messages when it is full.

    A server that does not let this user ask passes: `celeriac doctor` names the permission.
    """
    for address, server in servers(client).items():
        try:
            _refuse(server.info("memory"), f" {address}" if address else "")
        except NoPermissionError:
            continue


def _refuse(info: Any, name: str) -> None:
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if info.get("maxmemory", 0) and policy.startswith("allkeys"):
        raise EvictingServer(
            f"the broker{name} deletes messages when it is full: its maxmemory-policy is {policy}, and "
            "must be noeviction"
        )
