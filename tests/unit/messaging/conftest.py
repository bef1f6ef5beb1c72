"""The real parts on this machine: sinks that record, databases in a folder of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest

from celeriac_messaging.adapters.http import GuardedPost
from celeriac_messaging.adapters.search import FtsSearch
from celeriac_messaging.adapters.smtp import SmtpMailer, SmtpServer
from celeriac_messaging.adapters.store import SqlStore
from celeriac_messaging.adapters.vault import KeyVault
from celeriac_messaging.adapters.webhook import SignedWebhooks
from celeriac_messaging.adapters.webpush import Vapid, WebPush
from celeriac_messaging.demo.sinks import HttpSink, SmtpSink
from celeriac_messaging.wiring import Tools

NOW_MS = 1_780_000_000_000
LOOPBACK = (ip_network("127.0.0.0/8"),)
SECRET = b"0123456789abcdef0123456789abcdef"


@pytest.fixture
def web() -> Iterator[HttpSink]:
    sink = HttpSink().start()
    yield sink
    sink.stop()


@pytest.fixture
def mail() -> Iterator[SmtpSink]:
    sink = SmtpSink().start()
    yield sink
    sink.stop()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    store = SqlStore(tmp_path / "messaging.db", now_ms=lambda: NOW_MS)
    yield store
    store.close()


@pytest.fixture
def search(tmp_path: Path) -> Iterator[FtsSearch]:
    search = FtsSearch(tmp_path / "search.db")
    yield search
    search.close()


@pytest.fixture
def mailer(mail: SmtpSink) -> SmtpMailer:
    server = SmtpServer("127.0.0.1", mail.port, security="none")
    return SmtpMailer(server, mail_from="post@riverside.example", timeout_seconds=5)


@pytest.fixture
def tools(store: SqlStore, search: FtsSearch, mailer: SmtpMailer) -> Tools:
    post = GuardedPost(timeout_seconds=5, allow=LOOPBACK)
    return Tools(
        store=store,
        mailer=mailer,
        webhooks=SignedWebhooks(post, secrets=[SECRET], now_ms=lambda: NOW_MS),
        push=WebPush(
            post,
            vapid=Vapid.from_raw(b"\x07" * 32, "mailto:ops@riverside.example"),
            now_ms=lambda: NOW_MS,
        ),
        search=search,
        vault=KeyVault({"2026-05": b"k" * 32, "2026-01": b"o" * 32}),
        queues=lambda: pytest.fail("this test enqueues nothing"),
        now_ms=lambda: NOW_MS,
    )
