"""The real parts, put together from the settings, once per process.

A worker process may be forked from one that already used them: connections are not carried across
(SQLite and sockets break), so the parts belong to one process id and are made anew in another.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import celery

from celeriac import Client
from celeriac_messaging.adapters.base import Mailer, Push, Search, Store, Vault, Webhooks
from celeriac_messaging.adapters.http import GuardedPost
from celeriac_messaging.adapters.search import FtsSearch
from celeriac_messaging.adapters.smtp import SmtpMailer, SmtpServer
from celeriac_messaging.adapters.store import SqlStore
from celeriac_messaging.adapters.vault import KeyVault
from celeriac_messaging.adapters.webhook import SignedWebhooks
from celeriac_messaging.adapters.webpush import Vapid, WebPush
from celeriac_messaging.service import MessageQueueService
from celeriac_messaging.settings import Settings, from_environment


def wall_clock_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """All that a task may touch."""

    store: Store
    mailer: Mailer
    webhooks: Webhooks
    push: Push
    search: Search
    vault: Vault
    queues: Callable[[], MessageQueueService]
    now_ms: Callable[[], int] = wall_clock_ms

    def close(self) -> None:
        """Close the databases; the tools are of no use afterwards."""
        self.store.close()
        self.search.close()


def build(settings: Settings, *, now_ms: Callable[[], int] = wall_clock_ms) -> Tools:
    """The real parts for these settings. Opens the databases, and nothing else yet."""
    post = GuardedPost(
        timeout_seconds=settings.request_timeout_seconds, allow=settings.allow_networks
    )
    secrets = [secret.get_secret_value() for secret in settings.webhook_secrets]
    keys = {key_id: key.get_secret_value() for key_id, key in settings.keys.items()}
    return Tools(
        store=SqlStore(settings.data_dir / "messaging.db", now_ms=now_ms),
        mailer=_mailer(settings),
        webhooks=SignedWebhooks(post, secrets=secrets, now_ms=now_ms),
        push=WebPush(post, vapid=_vapid(settings), now_ms=now_ms),
        search=FtsSearch(settings.data_dir / "search.db"),
        vault=KeyVault(keys),
        queues=lambda: _queues(settings),
        now_ms=now_ms,
    )


def _mailer(settings: Settings) -> SmtpMailer:
    password = settings.smtp_password
    server = SmtpServer(
        host=settings.smtp_host,
        port=settings.smtp_port,
        security=settings.smtp_security,
        user=settings.smtp_user,
        password=password.get_secret_value() if password else None,
    )
    timeout = settings.request_timeout_seconds
    return SmtpMailer(server, mail_from=settings.mail_from, timeout_seconds=timeout)


def _vapid(settings: Settings) -> Vapid | None:
    if settings.vapid_key is None or settings.vapid_subject is None:
        return None
    return Vapid.from_raw(settings.vapid_key.get_secret_value(), settings.vapid_subject)


def _queues(settings: Settings) -> MessageQueueService:
    """The queues that this process works for: inside a worker, those of its own broker."""
    broker = os.environ.get("CELERIAC_BROKER_URL") or celery.current_app.conf.broker_url
    return MessageQueueService(Client(broker), dedup_seconds=settings.dedup_seconds)


class OfThisProcess:
    """The parts of the process that asks, made when it first does."""

    def __init__(self, make: Callable[[], Tools]) -> None:
        self._make = make
        self._made: tuple[int, Tools] | None = None
        self._renew_lock()
        # a lock that another thread held when the process forked would never be freed
        os.register_at_fork(after_in_child=self._renew_lock)

    def __call__(self) -> Tools:
        with self._lock:
            if self._made is None or self._made[0] != os.getpid():
                # not ours to close either: SQLite drops the locks of a file with any handle on it
                self._inherited = self._made
                self._made = (os.getpid(), self._make())
            return self._made[1]

    def close(self) -> None:
        """Close this process's parts; the next call makes new ones."""
        with self._lock:
            if self._made is not None and self._made[0] == os.getpid():
                self._made[1].close()
                self._made = None

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()


tools = OfThisProcess(lambda: build(from_environment()))
"""The real parts for the environment's settings. Raises ConfigurationError."""
