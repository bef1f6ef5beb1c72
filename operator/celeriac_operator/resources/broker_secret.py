"""The broker's URL beside the workers, and its parts for KEDA, which takes no URLs."""

from __future__ import annotations

from celeriac.broker.url import BrokerURL
from celeriac.spec.queue import MessageQueue
from celeriac_operator.resources import Object, names

URL = "url"
#: The key of the CA certificates that the broker's own certificate is checked by.
CA = "ca.crt"


def broker_secret(queue: MessageQueue, *, text: str, url: BrokerURL, ca: str = "") -> Object:
    """Build the Secret. ``text`` is the URL as it was given, ``ca`` certificates that came with it."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": names.metadata(queue, names.BROKER_SUFFIX),
        "type": "Opaque",
        "stringData": {URL: text, **parts(url, ca=ca)},
    }


def parts(url: BrokerURL, *, ca: str = "") -> dict[str, str]:
    """What is secret in a URL, part by part."""
    given = {
        "username": url.username,
        "password": url.password,
        "sentinelUsername": url.options.get("sentinel_username"),
        "sentinelPassword": url.options.get("sentinel_password"),
        CA: ca,
    }
    return {name: str(value) for name, value in given.items() if value}
