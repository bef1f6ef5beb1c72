"""The broker's URL beside the workers, and its parts for KEDA, which takes no URLs."""

from __future__ import annotations

from celeriac.broker.url import BrokerURL
from celeriac.spec.queue import MessageQueue
from celeriac_operator.resources import Object, names

SUFFIX = "-broker"


def broker_secret(queue: MessageQueue, *, text: str, url: BrokerURL) -> Object:
    """Build the Secret. ``text`` is the URL as it was given."""
    host, port = url.hosts[0]
    parts = {
        "url": text,
        "host": host,
        "port": str(port),
        "username": url.username or "",
        "password": url.password or "",
        "sentinelPassword": str(url.options.get("sentinel_password") or ""),
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": names.metadata(queue, SUFFIX),
        "type": "Opaque",
        "stringData": {name: value for name, value in parts.items() if value},
    }
