"""The redis-py client that a broker URL stands for: one server, Sentinel or a cluster, plain or over TLS."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelManagedConnection, SentinelManagedSSLConnection

from celeriac.broker.cluster import (
    ClusterClient,
    NodeConnection,
    NodeSSLConnection,
    SlotConnection,
    SlotSSLConnection,
)
from celeriac.broker.hash_slots import Address, slot_of
from celeriac.broker.keys import kombu_prefix
from celeriac.broker.nearby import url_of_up
from celeriac.broker.topology import Topology
from celeriac.broker.url import (
    SOCKET_TIMEOUT_S,
    BrokerURL,
    BrokerURLError,
    celery_broker_url,
    parse,
)

__all__ = [
    "ENVIRONMENT_VARIABLE",
    "BrokerURL",
    "BrokerURLError",
    "celery_broker_url",
    "cluster_client",
    "connect",
    "connection_class",
    "connection_options",
    "connection_pool",
    "from_environment",
    "parse",
]

ENVIRONMENT_VARIABLE = "CELERIAC_BROKER_URL"
#: A file of CA certificates for a URL that names none; in a pod, the broker's Secret brings it.
CA_VARIABLE = "CELERIAC_BROKER_CA"


def from_environment() -> str:
    """Read the URL from CELERIAC_BROKER_URL, else find the `celeriac up` of this folder.

    Raises BrokerURLError when there is neither.
    """
    url = os.environ.get(ENVIRONMENT_VARIABLE) or url_of_up()
    if not url:
        raise BrokerURLError(
            f"no broker: set {ENVIRONMENT_VARIABLE}, for example celeriac://localhost:6379/0, "
            "or run `celeriac up` in this folder"
        )
    return url


def connect(url: str | BrokerURL | None = None, **overrides: Any) -> redis.Redis:
    """Make a client of the broker (URL: CELERIAC_BROKER_URL by default); it connects when first used.

    `overrides` are keyword arguments of redis-py's connections. Raises BrokerURLError.
    """
    if not isinstance(url, BrokerURL):
        url = parse(url or from_environment())
    if url.kind == "cluster":
        return cluster_client(url, node=redis.Redis.from_pool, **overrides)
    return redis.Redis.from_pool(connection_pool(url, **overrides))


def cluster_client(
    url: BrokerURL, *, node: Callable[[redis.ConnectionPool], redis.Redis], **overrides: Any
) -> ClusterClient:
    """Make a client of a cluster, whose nodes get clients made by `node`."""
    options = {**connection_options(url), **overrides}
    kind = _node_class(url)

    def node_at(address: Address) -> redis.Redis:
        pool = redis.ConnectionPool(
            host=address[0], port=address[1], connection_class=kind, **options
        )
        return node(pool)

    entry = connection_pool(url, **overrides)
    return ClusterClient(entry.connection_kwargs["topology"], entry=entry, node=node_at)


def connection_class(url: BrokerURL) -> type[redis.Connection]:
    """Tell which of redis-py's connection classes reaches the server."""
    if url.kind == "cluster":
        return SlotSSLConnection if url.tls else SlotConnection
    if url.kind == "sentinel":
        return SentinelManagedSSLConnection if url.tls else SentinelManagedConnection
    return redis.SSLConnection if url.tls else redis.Connection


def connection_pool(url: BrokerURL, **overrides: Any) -> redis.ConnectionPool:
    """Make the pool behind `connect`, for callers with a client class of their own.

    For a cluster it leads to the one node that serves kombu's keys.
    """
    options = connection_options(url)
    options["connection_class"] = connection_class(url)
    options.update(overrides)
    if url.kind == "server":
        host, port = url.hosts[0]
        return redis.ConnectionPool(host=host, port=port, **options)
    if url.kind == "cluster":
        slot = slot_of(kombu_prefix(url.prefix, cluster=True))
        return redis.ConnectionPool(topology=_topology(url, overrides), slot=slot, **options)
    options["ssl"] = url.tls
    secure = {name: value for name, value in options.items() if name.startswith("ssl")}
    sentinels = Sentinel(
        url.hosts,
        sentinel_kwargs={
            "username": url.options.get("sentinel_username"),
            "password": url.options.get("sentinel_password"),
            "socket_timeout": options["socket_connect_timeout"],
            "socket_connect_timeout": options["socket_connect_timeout"],
            "socket_keepalive": True,
            "retry": Retry(NoBackoff(), 0),
            **secure,
        },
        **options,
    )
    assert url.master_name is not None
    pool: redis.ConnectionPool = sentinels.master_for(url.master_name).connection_pool
    return pool


def _node_class(url: BrokerURL) -> type[NodeConnection]:
    return NodeSSLConnection if url.tls else NodeConnection


def _topology(url: BrokerURL, overrides: dict[str, Any]) -> Topology:
    kind = _node_class(url)
    options = {**connection_options(url), **overrides}
    # It is asked and forgotten.
    for name in ("max_connections", "connection_class"):
        options.pop(name, None)

    def open_to(address: Address) -> redis.Connection:
        return kind(host=address[0], port=address[1], **options)

    return Topology(url.hosts, open_to)


def connection_options(url: BrokerURL) -> dict[str, Any]:
    """Give redis-py's keyword arguments for one connection to the server itself.

    redis-py retries nothing: a repeated publish or settle is decided above, where its meaning is known.
    """
    options: dict[str, Any] = {
        "username": url.username,
        "password": url.password,
        "db": url.db,
        "client_name": "celeriac",
        "socket_connect_timeout": 5.0,
        "socket_timeout": SOCKET_TIMEOUT_S,
        "socket_keepalive": True,
        "health_check_interval": 25.0,
        "retry": Retry(NoBackoff(), 0),
    }
    options.update(
        (name, value) for name, value in url.options.items() if not name.startswith("sentinel_")
    )
    ca = os.environ.get(CA_VARIABLE, "")
    if url.tls and ca and not url.options.keys() & {"ssl_ca_certs", "ssl_ca_path"}:
        options["ssl_ca_certs"] = ca
    return options
