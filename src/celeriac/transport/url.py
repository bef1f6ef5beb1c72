"""What becomes of a broker URL inside a kombu connection: understood whole, and shown without secrets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from celeriac.broker.connection import from_environment
from celeriac.broker.url import BrokerURL, BrokerURLError, parse

#: Celery's `broker_transport_options` that mean a connection to Redis.
KEPT_TRANSPORT_OPTIONS = (
    "socket_timeout",
    "socket_connect_timeout",
    "health_check_interval",
    "max_connections",
    "client_name",
)


_ANY = "celeriac://"


class Host(str):
    """A host name for kombu to show, which carries the URL it came from, secrets and all.

    kombu copies connections field by field, and Celery sends these fields to whoever inspects a worker.
    """

    __slots__ = ("broker",)
    broker: BrokerURL

    @classmethod
    def of(cls, broker: BrokerURL) -> Host:
        if broker.kind == "server":
            text = broker.hosts[0][0]
        else:
            text = ",".join(f"{host}:{port}" for host, port in broker.hosts)
        self = cls(text)
        self.broker = broker
        return self


def _nearest() -> str:
    """What an app whose broker URL names no host talks to: as the command line finds it, else this host."""
    try:
        return from_environment()
    except BrokerURLError:
        return _ANY


def adopt(connection: Any) -> BrokerURL:
    """Understand a kombu connection's URL, and leave only harmless fields in it. Raises BrokerURLError."""
    if key_prefix := connection.transport_options.get("global_keyprefix"):
        # It keeps one stage's messages from another's: passed over, production would run staging's.
        raise BrokerURLError(
            f"broker_transport_options['global_keyprefix'] = {key_prefix!r} would have no effect: write "
            f"?prefix={key_prefix.rstrip(':')} into the broker's URL, here and for the workers"
        )
    host = connection.hostname
    if isinstance(host, Host):
        broker = host.broker
    elif "://" in (host or ""):
        # kombu splits at ";" into alternates; to us these are the Sentinels or nodes of one broker. And it
        # takes the word before a "+" off the scheme.
        whole = f"{connection.uri_prefix}+{host}" if connection.uri_prefix else host
        broker = parse(_nearest() if whole == _ANY else ";".join(connection.alt) or whole)
    else:
        port, db = connection.port or 6379, (connection.virtual_host or "").strip("/")
        broker = parse(f"celeriac://{host or 'localhost'}:{port}/{db}")
    options = dict(broker.options)
    options.update(
        (name, connection.transport_options[name])
        for name in KEPT_TRANSPORT_OPTIONS
        if connection.transport_options.get(name) is not None
    )
    if isinstance(connection.ssl, dict):
        options.update(connection.ssl)
    broker = replace(
        broker,
        username=connection.userid or broker.username,
        password=connection.password or broker.password,
        tls=broker.tls or bool(connection.ssl),
        options=options,
    )
    connection.hostname = Host.of(broker)
    connection.port = broker.hosts[0][1]
    connection.userid, connection.password = broker.username, broker.password
    connection.virtual_host = str(broker.db)
    connection.uri_prefix, connection.alt, connection.cycle = None, [], None
    return broker
