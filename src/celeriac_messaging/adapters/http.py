"""One guarded HTTP POST: the only way in which this application calls addresses from payloads.

Whoever may enqueue may name an address, so an address is checked *after* it was resolved, and the
connection goes to exactly the address that was checked: a name that answers differently the second
time gains nothing. Redirects are not followed, proxies not asked, and one deadline covers it all.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from celeriac_messaging.errors import (
    ForbiddenAddress,
    RecipientBusy,
    RecipientGone,
    RecipientRefused,
)
from celeriac_messaging.settings import Network

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
BUSY = frozenset({408, 425, 429})
GONE = frozenset({404, 410})
ANSWER_BYTES = 16_384
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def is_public(address: Address) -> bool:
    """Whether the address is on the public internet; IPv4 inside IPv6 is looked through."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if address.teredo or (inner is not None and not is_public(inner)):
            return False
        if inner is not None:
            return True
    return address.is_global and not address.is_multicast


@dataclass(frozen=True, slots=True)
class _Place:
    host: str
    port: int
    path: str
    tls: bool
    addresses: tuple[Address, ...]


class GuardedPost:
    """POSTs to public addresses over TLS, and to the `allow`ed networks with or without."""

    def __init__(self, *, timeout_seconds: float, allow: Sequence[Network] = ()) -> None:
        self._timeout = timeout_seconds
        self._allow = tuple(allow)
        self._tls = ssl.create_default_context()

    def __call__(self, url: str, *, body: bytes, headers: Mapping[str, str]) -> int:
        """POST and return the status, which is 2xx.

        Raises ForbiddenAddress, RecipientBusy (worth another try), RecipientRefused and
        RecipientGone.
        """
        place = self._locate(url)
        try:
            status = self._exchange(place, body, headers)
        except (OSError, http.client.HTTPException) as error:
            raise RecipientBusy(
                f"{place.host}: no answer, {self._timeout:g} s allowed ({type(error).__name__})"
            ) from None
        return _judge(place.host, status)

    def _locate(self, url: str) -> _Place:
        parts = urlsplit(url)
        host = parts.hostname or ""
        tls = parts.scheme == "https"
        port = parts.port or (443 if tls else 80)
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise RecipientBusy(f"{host[:100]}: this name does not resolve") from None
        addresses = [ipaddress.ip_address(str(one[4][0]).partition("%")[0]) for one in found]
        for address in addresses:
            self._check(host, address, tls=tls)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return _Place(host, port, path, tls, tuple(dict.fromkeys(addresses)))

    def _check(self, host: str, address: Address, *, tls: bool) -> None:
        if any(address in network for network in self._allow):
            return
        if not is_public(address):
            raise ForbiddenAddress(
                f"{host[:100]}: leads into a private network;"
                " MESSAGING_ALLOW_NETWORKS lists those that may be called"
            )
        if not tls:
            raise ForbiddenAddress(f"{host[:100]}: must be https outside MESSAGING_ALLOW_NETWORKS")

    def _exchange(self, place: _Place, body: bytes, headers: Mapping[str, str]) -> int:
        ends = time.monotonic() + self._timeout
        sock = self._connect(place)
        if place.tls:
            sock = self._tls.wrap_socket(
                sock, server_hostname=place.host, do_handshake_on_connect=False
            )
        with contextlib.closing(sock), _deadline(sock, ends - time.monotonic()):
            if isinstance(sock, ssl.SSLSocket):
                sock.do_handshake()
            connection = http.client.HTTPConnection(place.host, place.port)
            connection.sock = sock  # already connected, to an address that was checked
            headers = {**headers, "Host": _host(place), "Connection": "close"}
            connection.request("POST", place.path, body, headers)
            answer = connection.getresponse()
            answer.read(ANSWER_BYTES)
            return answer.status

    def _connect(self, place: _Place) -> socket.socket:
        """To the first address that takes the connection; all of them share the time."""
        share = self._timeout / len(place.addresses)
        for address in place.addresses[:-1]:
            with contextlib.suppress(OSError):
                return socket.create_connection((str(address), place.port), timeout=share)
        return socket.create_connection((str(place.addresses[-1]), place.port), timeout=share)


def _host(place: _Place) -> str:
    host = f"[{place.host}]" if ":" in place.host else place.host
    return host if place.port == (443 if place.tls else 80) else f"{host}:{place.port}"


@contextlib.contextmanager
def _deadline(sock: socket.socket, seconds: float) -> Iterator[None]:
    """End the exchange after that time, also when the server sends a byte now and then."""

    def end() -> None:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(max(seconds, 0.0), end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _judge(host: str, status: int) -> int:
    if 200 <= status < 300:
        return status
    if status in BUSY or status >= 500:
        raise RecipientBusy(f"{host} answered {status}")
    if status in GONE:
        raise RecipientGone(f"{host} answered {status}: there is nobody there any more")
    if 300 <= status < 400:
        raise RecipientRefused(f"{host} answered {status}: redirects are not followed")
    raise RecipientRefused(f"{host} answered {status}")
