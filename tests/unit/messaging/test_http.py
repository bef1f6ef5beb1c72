"""The guarded POST: where it may go, what answers mean, and that it always ends."""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
from standardwebhooks.webhooks import Webhook

from celeriac_messaging.adapters.http import GuardedPost, is_public
from celeriac_messaging.adapters.webhook import SignedWebhooks, webhook_id
from celeriac_messaging.demo.sinks import HttpSink
from celeriac_messaging.errors import (
    ConfigurationError,
    ForbiddenAddress,
    RecipientBusy,
    RecipientGone,
    RecipientRefused,
)

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
SECRETS = [b"new-secret-of-32-bytes-new-secre", b"old-secret-of-32-bytes-old-secre"]


def post(url: str, *, timeout: float = 5) -> int:
    return GuardedPost(timeout_seconds=timeout, allow=LOOPBACK)(url, body=b"{}", headers={})


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fd00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    ],
)
def test_private_addresses_in_every_dress(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address", ["93.184.215.14", "2606:2800:21f:cb07::1", "64:ff9b::5db8:d70e", "::ffff:8.8.8.8"]
)
def test_public_addresses(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/",
        "http://localhost:1/",
        "http://[::1]:1/",
        "http://0x7f000001:1/",
        "http://2130706433:1/",
        "http://127.1:1/",
        "https://[::ffff:127.0.0.1]:1/",
    ],
)
def test_the_guard_looks_at_the_resolved_address(url: str) -> None:
    guarded = GuardedPost(timeout_seconds=1)
    with pytest.raises(ForbiddenAddress, match="MESSAGING_ALLOW_NETWORKS"):
        guarded(url, body=b"", headers={})


def test_a_public_address_must_be_called_over_tls() -> None:
    with pytest.raises(ForbiddenAddress, match="must be https"):
        GuardedPost(timeout_seconds=1)("http://93.184.215.14/", body=b"", headers={})


def test_the_name_is_resolved_once(monkeypatch: pytest.MonkeyPatch, web: HttpSink) -> None:
    """A name that answers differently the second time does not get the call."""
    answers = iter([[("127.0.0.1", web.port)]])
    real = socket.getaddrinfo

    def resolve(host: str, port: int, *args: object, **more: object) -> object:
        if host == "rebinding.example":
            return [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in next(answers)
            ]
        return real(host, port, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert post(f"http://rebinding.example:{web.port}/in") == 201
    assert web.journal.arrivals()[0].headers["host"] == f"rebinding.example:{web.port}"


def test_a_name_with_several_addresses(monkeypatch: pytest.MonkeyPatch, web: HttpSink) -> None:
    """The second is tried when the first refuses; one bad address spoils them all."""
    found = ["::1", "127.0.0.1"]
    real = socket.getaddrinfo

    def resolve(host: str, port: int, *args: object, **more: object) -> object:
        if host == "many.example":
            return [(0, 0, 6, "", (address, port)) for address in found]
        return real(host, port, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert post(f"http://many.example:{web.port}/in") == 201
    found.append("10.0.0.1")
    with pytest.raises(ForbiddenAddress):
        post(f"http://many.example:{web.port}/in")


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (200, None),
        (204, None),
        (302, RecipientRefused),
        (400, RecipientRefused),
        (401, RecipientRefused),
        (404, RecipientGone),
        (408, RecipientBusy),
        (410, RecipientGone),
        (413, RecipientRefused),
        (429, RecipientBusy),
        (500, RecipientBusy),
        (503, RecipientBusy),
    ],
)
def test_what_answers_mean(
    status: int, error: type[Exception] | None, web: HttpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(web.manners), "judge", lambda *_: status)
    if error is None:
        assert post(web.url("/in")) == status
        return
    with pytest.raises(error) as raised:
        post(web.url("/in"))
    assert type(raised.value) is error


@contextmanager
def server(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that does as it likes with one connection."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        with suppress(OSError):
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                serve(connection)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    listener.close()
    thread.join(5)


def drip(connection: socket.socket) -> None:
    for letter in b"HTTP/1.1 200 OK" + b" " * 100:
        connection.sendall(bytes([letter]))
        time.sleep(0.05)


@pytest.mark.parametrize(
    "serve",
    [
        drip,
        lambda connection: time.sleep(1),
        lambda connection: connection.sendall(b"SSH-2.0-OpenSSH\r\n"),
        lambda connection: connection.close(),
    ],
    ids=["drips", "silent", "not http", "hangs up"],
)
def test_a_strange_server_cannot_hold_us(serve: Callable[[socket.socket], None]) -> None:
    with server(serve) as url:
        began = time.monotonic()
        with pytest.raises(RecipientBusy):
            post(url, timeout=0.5)
        assert time.monotonic() - began < 1.5


def test_nobody_listens_and_nobody_by_that_name() -> None:
    with pytest.raises(RecipientBusy, match="no answer"):
        post("http://127.0.0.1:1/")
    with pytest.raises(RecipientBusy, match="does not resolve"):
        post("http://nobody.invalid/")


def test_a_certificate_that_is_not_trusted_is_refused(web: HttpSink) -> None:
    with pytest.raises(RecipientBusy):  # the sink does not even speak TLS
        post(web.url("/in").replace("http:", "https:"))
    assert web.journal.arrivals() == []


@pytest.mark.parametrize("secret", SECRETS)
def test_receivers_with_either_secret_can_verify(secret: bytes, web: HttpSink) -> None:
    """Checked with the reference library, as a receiver would."""
    now_ms = time.time_ns() // 1_000_000
    webhooks = SignedWebhooks(
        GuardedPost(timeout_seconds=5, allow=LOOPBACK), secrets=SECRETS, now_ms=lambda: now_ms
    )
    document = '{"body":"Köszönöm 🌿"}'.encode()
    webhooks.post(effect="e-1", url=web.url("/in"), document=document)
    (arrived,) = web.journal.arrivals()
    verified = Webhook(secret).verify(arrived.body, dict(arrived.headers))
    assert verified == {"body": "Köszönöm 🌿"}
    assert arrived.id == webhook_id("e-1")
    with pytest.raises(Exception, match="No matching signature"):
        Webhook(b"another-secret-of-32-bytes------").verify(arrived.body, dict(arrived.headers))


def test_without_a_secret_the_setting_is_named(web: HttpSink) -> None:
    webhooks = SignedWebhooks(GuardedPost(timeout_seconds=5), secrets=[], now_ms=lambda: 0)
    with pytest.raises(ConfigurationError, match="MESSAGING_WEBHOOK_SECRETS"):
        webhooks.post(effect="e", url=web.url("/in"), document=b"{}")
