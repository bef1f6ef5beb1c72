"""Each task with real parts: what it does, and that doing it twice has one effect."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from celeriac_messaging.adapters.base import Delivery
from celeriac_messaging.adapters.search import FtsSearch
from celeriac_messaging.adapters.store import SqlStore
from celeriac_messaging.demo.browser import Browser
from celeriac_messaging.demo.sinks import HttpSink, SmtpSink
from celeriac_messaging.errors import (
    Conflict,
    KeyNotFound,
    NotThereYet,
    RecipientBusy,
    RecipientGone,
    RecipientRefused,
)
from celeriac_messaging.payloads import (
    Cleanup,
    DeliveryConfirmation,
    Encryption,
    Indexing,
    Notification,
    SendMessage,
    load,
)
from celeriac_messaging.tasks.cleanup import cleanup
from celeriac_messaging.tasks.confirm_delivery import confirm_delivery
from celeriac_messaging.tasks.encrypt import encrypt
from celeriac_messaging.tasks.index import index
from celeriac_messaging.tasks.notify import notify
from celeriac_messaging.tasks.send_message import send_message
from celeriac_messaging.wiring import Tools

DAY_MS = 86_400_000


def message(recipient: dict[str, str], **changes: Any) -> SendMessage:
    fields = {
        "tenant": "riverside",
        "message_id": "m-1",
        "sender": "Praxis Dr. Brückner",
        "recipient": recipient,
        "subject": "Ihr Termin 🗓",
        "body": "Ihr Termin ist bestätigt.\nおだいじに。",
    }
    return load(SendMessage, fields | changes)


def hook(web: HttpSink, path: str = "/in") -> dict[str, str]:
    return {"channel": "webhook", "url": web.url(path)}


def mailbox(name: str = "jonas@example.org") -> dict[str, str]:
    return {"channel": "email", "email": name}


def test_a_webhook_is_called_once(tools: Tools, web: HttpSink) -> None:
    job = message(hook(web))
    assert send_message(job, tools) == "sent by webhook"
    assert send_message(job, tools) == "delivered before"
    (arrived,) = web.journal.arrivals()
    data = json.loads(arrived.body)["data"]
    assert data["body"] == job.body
    assert data["message_id"] == "m-1"
    known = tools.store.delivery("riverside", "m-1", job.recipient.key)
    assert known is not None
    assert known.state == "sent"


def test_a_mail_is_sent_once(tools: Tools, mail: SmtpSink) -> None:
    job = message(mailbox())
    assert send_message(job, tools) == "sent by email"
    assert send_message(job, tools) == "delivered before"
    (arrived,) = mail.journal.arrivals()
    assert arrived.place == "jonas@example.org"
    assert arrived.id == f"<{job.job_id}@riverside.example>"
    assert arrived.headers["Subject"] == "Ihr Termin 🗓"
    assert arrived.headers["From"] == '"Praxis Dr. Brückner" <post@riverside.example>'


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("用户@例子.example", "用户@xn--fsqu00a.example"),
        ("karl@bücher.example", "karl@xn--bcher-kva.example"),
    ],
)
def test_mail_to_addresses_of_every_script(
    written: str, sent: str, tools: Tools, mail: SmtpSink
) -> None:
    send_message(message(mailbox(written)), tools)
    assert [arrived.place for arrived in mail.journal.arrivals()] == [sent]


@dataclasses.dataclass
class DiesOnce:
    """The real store, in a worker that dies once, after the call and before the record."""

    store: SqlStore
    died: bool = False

    def record(self, *args: Any, **kwargs: Any) -> bool:
        if not self.died:
            self.died = True
            raise SystemExit("killed")
        return self.store.record(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


@pytest.mark.parametrize("channel", ["webhook", "email", "push"])
def test_a_death_before_the_record_repeats_the_same_key(
    channel: str, tools: Tools, store: SqlStore, web: HttpSink, mail: SmtpSink
) -> None:
    """The receiver can tell: the second call carries the same id, and the same content."""
    dying = dataclasses.replace(tools, store=DiesOnce(store))
    job: Any = message(hook(web) if channel == "webhook" else mailbox())
    work: Any = send_message
    if channel == "push":
        target = Browser.new().target(web.url("/push/x"))
        job, work = notification(target), notify
    with pytest.raises(SystemExit):
        work(job, dying)
    work(job, dying)
    work(job, dying)
    first, second = mail.journal.arrivals() if channel == "email" else web.journal.arrivals()
    assert first.id == second.id != ""
    if channel == "webhook":
        assert first.body == second.body


def test_a_server_that_refuses_twice(tools: Tools, web: HttpSink) -> None:
    web.manners.refuse_first["/flaky"] = 2
    job = message(hook(web, "/flaky"))
    for _ in range(2):
        with pytest.raises(RecipientBusy, match=r"127\.0\.0\.1 answered 503"):
            send_message(job, tools)
    assert send_message(job, tools) == "sent by webhook"
    assert [one.status for one in web.journal.arrivals()] == [503, 503, 201]
    assert len({one.id for one in web.journal.arrivals()}) == 1


def test_mailboxes_that_fail_and_that_are_gone(tools: Tools, mail: SmtpSink) -> None:
    mail.manners.failing.add("full@example.org")
    mail.manners.gone.add("left@example.org")
    with pytest.raises(RecipientBusy, match="mail server answered 451"):
        send_message(message(mailbox("full@example.org")), tools)
    with pytest.raises(RecipientRefused, match="mail server answered 550"):
        send_message(message(mailbox("left@example.org")), tools)
    mail.manners.failing.clear()
    assert send_message(message(mailbox("full@example.org")), tools) == "sent by email"


def test_a_mail_server_that_is_down(tools: Tools, mail: SmtpSink) -> None:
    mail.stop()
    with pytest.raises(RecipientBusy, match="mail server does not answer"):
        send_message(message(mailbox()), tools)


def notification(target: dict[str, Any], **changes: Any) -> Notification:
    fields = {
        "tenant": "riverside",
        "notification_id": "n-1",
        "target": target,
        "title": "आपकी दवा तैयार है",
        "body": "काउंटर 3 पर आएँ।",
        "link": "https://riverside.example/n/1",
    }
    return load(Notification, fields | changes)


def test_a_push_is_sent_once(tools: Tools, web: HttpSink) -> None:
    browser = Browser.new()
    job = notification(browser.target(web.url("/push/x")), urgency="critical")
    assert [notify(job, tools), notify(job, tools)] == ["sent by push", "notified before"]
    (arrived,) = web.journal.arrivals()
    shown = json.loads(browser.read(arrived.body))
    assert shown == {
        "id": "n-1",
        "title": job.title,
        "body": job.body,
        "link": "https://riverside.example/n/1",
    }
    assert arrived.headers["urgency"] == "high"


def test_a_notification_by_mail_is_sent_once(tools: Tools, mail: SmtpSink) -> None:
    job = notification({"channel": "email", "email": "priya@example.org"})
    assert [notify(job, tools), notify(job, tools)] == ["sent by email", "notified before"]
    (arrived,) = mail.journal.arrivals()
    assert arrived.headers["Subject"] == job.title


def test_a_push_to_a_browser_that_unsubscribed(tools: Tools, web: HttpSink) -> None:
    web.manners.gone.add("/push/x")
    with pytest.raises(RecipientGone):
        notify(notification(Browser.new().target(web.url("/push/x"))), tools)


def test_confirmations_are_merged(tools: Tools) -> None:
    fields = {"tenant": "t", "message_id": "m", "recipient": mailbox()}
    at = "2026-05-04T12:00:00+03:00"
    read, sent = (
        load(DeliveryConfirmation, {**fields, "state": state, "at": at})
        for state in ("read", "delivered")
    )
    assert [confirm_delivery(job, tools) for job in (read, read, sent)] == [
        "read",
        "known before",
        "known before",
    ]
    known = tools.store.delivery("t", "m", read.recipient.key)
    assert known == Delivery("t", "m", read.recipient.key, "read", 1_777_885_200_000)


def seal(text: str = "Laborwerte im Anhang") -> Encryption:
    return Encryption(tenant="t", message_id="m", operation="seal", text=text)


def rewrap(key_id: str) -> Encryption:
    return Encryption(tenant="t", message_id="m", operation="rewrap", key_id=key_id)


def test_a_text_is_sealed_once(tools: Tools) -> None:
    assert [encrypt(seal(), tools), encrypt(seal(), tools)] == ["sealed", "sealed before"]
    kept = tools.store.sealed("t", "m")
    assert kept is not None
    assert tools.vault.open("t", "m", kept) == "Laborwerte im Anhang"
    with pytest.raises(Conflict):
        encrypt(seal("another text"), tools)


def test_a_seal_moves_under_another_key_once(tools: Tools) -> None:
    with pytest.raises(NotThereYet):
        encrypt(rewrap("2026-01"), tools)
    encrypt(seal(), tools)
    assert [encrypt(rewrap("2026-01"), tools) for _ in range(2)] == [
        "moved to another key",
        "under this key before",
    ]
    kept = tools.store.sealed("t", "m")
    assert kept is not None
    assert tools.vault.key_of(kept) == "2026-01"
    assert tools.vault.open("t", "m", kept) == "Laborwerte im Anhang"
    with pytest.raises(KeyNotFound):
        encrypt(rewrap("2031-01"), tools)


def test_a_text_is_indexed_once(tools: Tools) -> None:
    put = Indexing(tenant="t", message_id="m", text="包裹已经送到", revision=1)
    assert [index(put, tools), index(put, tools)] == ["put", "put"]
    assert [hit.message_id for hit in tools.search.find("t", "包裹")] == ["m"]
    remove = Indexing(tenant="t", message_id="m", operation="remove", revision=2)
    assert [index(remove, tools), index(put, tools)] == ["remove", "overtaken"]
    assert tools.search.find("t", "包裹") == []


def test_a_cleanup_removes_what_is_old(tools: Tools, search: FtsSearch) -> None:
    encrypt(seal(), tools)
    index(Indexing(tenant="t", message_id="m", text="old words"), tools)
    tools.store.record("e", kind="notify", delivery=Delivery("t", "m", "r", "sent", 0))
    later = dataclasses.replace(tools, now_ms=lambda: tools.now_ms() + 10 * DAY_MS)
    what = ["effects", "deliveries", "messages"]
    young = load(Cleanup, {"tenant": "t", "what": ["effects", "messages"], "older_than_days": 20})
    assert cleanup(young, later) == "removed 0"
    old = {"tenant": "t", "what": what, "older_than_days": 5}
    assert cleanup(load(Cleanup, old | {"dry_run": True}), later) == "would remove 3"
    assert search.find("t", "words") != []
    assert [cleanup(load(Cleanup, old), later) for _ in range(2)] == ["removed 3", "removed 0"]
    assert search.find("t", "words") == []
    assert tools.store.sealed("t", "m") is None
