"""Which broker a queue lies on, and one connection for all queues of a broker.

spec.broker.secretRef, in the queue's namespace
else the platform's Secret in the queue's namespace
else the platform's Secret beside the operator, copied into the queue's namespace for its workers
"""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from celeriac.broker.message import QueueStats
from celeriac.broker.url import BrokerURL, BrokerURLError, parse
from celeriac.control.broker import BrokerNotConfigured, QueueAccess
from celeriac_operator.broker_link import BrokerLink
from celeriac_operator.fence import Fence
from celeriac_operator.resources.broker_secret import CA
from celeriac_operator.secrets import Secrets
from celeriac_operator.seen import Key, QueueSeen
from celeriac_operator.settings import Settings


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """A queue's broker: its URL, and the Secret and key where it was found."""

    secret: Key
    key: str
    text: str
    url: BrokerURL
    ca: str = ""
    """CA certificates that the Secret has too, for a broker with TLS."""

    @property
    def digest(self) -> str:
        """Tells one value of the Secret from another, and nothing of what it is."""
        return _fingerprint(self.text + self.ca)

    @property
    def identity(self) -> tuple[object, ...]:
        """The same for two URLs of one broker, whoever logs in."""
        return (self.url.hosts, self.url.master_name, self.url.db, self.url.prefix)


@functools.lru_cache(maxsize=4096)
def _fingerprint(text: str) -> str:
    # Slow on purpose: it stands in an annotation, and must not help anybody to guess a password.
    return hashlib.pbkdf2_hmac("sha256", text.encode(), b"celeriac-broker", 100_000).hex()[:12]


class Brokers:
    """Finds brokers and keeps one link to each. Every method may be called from any thread."""

    def __init__(
        self,
        settings: Settings,
        secrets: Secrets,
        *,
        fence: Fence,
        changed: Callable[[Key], None],
        open_link: Callable[..., BrokerLink] = BrokerLink,
    ) -> None:
        self._settings = settings
        self._secrets = secrets
        self._fence = fence
        self._changed = changed
        self._open_link = open_link
        self._lock = threading.Lock()
        self._links: dict[str, BrokerLink] = {}
        self._of: dict[Key, BrokerLink] = {}

    def address(self, seen: QueueSeen) -> BrokerAddress:
        """Where a queue's broker is. Raises BrokerNotConfigured, or ApiError."""
        given = (seen.spec.get("broker") or {}).get("secretRef")
        if given:
            return self._address((seen.namespace, given["name"]), given.get("key", "url"))
        own = (seen.namespace, self._settings.broker_secret)
        beside = (self._settings.namespace, self._settings.broker_secret)
        key = self._settings.broker_secret_key
        if own == beside or self._secrets.read(own) is not None:
            return self._address(own, key)
        if self._secrets.read(beside) is None:
            self._secrets.distrust(own)
            self._secrets.distrust(beside)
            raise BrokerNotConfigured(
                f"no broker: make the Secret {own[1]} with the key {key} in {own[0]} (or in {beside[0]}, "
                "for all namespaces), or name another one in spec.broker.secretRef"
            )
        return self._address(beside, key)

    def _address(self, secret: Key, key: str) -> BrokerAddress:
        namespace, name = secret
        data = self._secrets.read(secret)
        if data is None:
            self._secrets.distrust(secret)
            raise BrokerNotConfigured(
                f"the Secret {name} does not exist in {namespace}: make it, with the key {key}"
            )
        if not data.get(key):
            self._secrets.distrust(secret)
            raise BrokerNotConfigured(
                f"the Secret {name} in {namespace} has no key {key}: put the broker's URL there"
            )
        try:
            url = parse(data[key])
        except BrokerURLError as error:
            self._secrets.distrust(secret)
            raise BrokerNotConfigured(
                f"the key {key} of the Secret {name} in {namespace} is no broker URL: {error}"
            ) from error
        return BrokerAddress(secret, key, data[key], url, data.get(CA, "") if url.tls else "")

    def link(self, seen: QueueSeen, address: BrokerAddress) -> BrokerLink:
        """The link to a broker, with this queue among those that it measures."""
        with self._lock:
            link = self._links.get(address.digest)
            if link is None:
                link = self._open_link(
                    address.url,
                    ca=address.ca,
                    fence=self._fence,
                    changed=self._changed,
                    refused=lambda: self._secrets.distrust(address.secret),
                )
                self._links[address.digest] = link
            before = self._of.get(seen.queue)
            self._of[seen.queue] = link
            link.include(seen.queue, seen.queue_name)
        if before is not None and before is not link:
            self._leave(seen.queue, before)
        return link

    def forget(self, key: Key) -> None:
        """Measure this queue no more."""
        with self._lock:
            link = self._of.pop(key, None)
        if link is not None:
            self._leave(key, link)

    def _leave(self, key: Key, link: BrokerLink) -> None:
        with self._lock:
            link.exclude(key)
            if link.empty:
                self._links = {name: it for name, it in self._links.items() if it is not link}
                link.close()

    def links(self) -> Collection[BrokerLink]:
        """All links."""
        with self._lock:
            return tuple(self._links.values())

    def stats(self) -> Mapping[Key, QueueStats]:
        """What was measured last, of every queue whose broker answers."""
        return {key: stats for link in self.links() for key, stats in link.all_stats().items()}

    def close(self) -> None:
        """End all links."""
        for link in self.links():
            link.close()


class NoBroker:
    """Stands in for a broker that nobody knows."""

    def __init__(self, why: BrokerNotConfigured) -> None:
        self._why = why

    def queue(self, name: str, *, lease_seconds: int) -> QueueAccess:
        return _NoQueue(self._why)  # type: ignore[return-value]  # all of it raises


class _NoQueue:
    def __init__(self, why: BrokerNotConfigured) -> None:
        self._why = why

    def __getattr__(self, name: str) -> object:
        raise self._why
