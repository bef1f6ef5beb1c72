"""The recipients of the demo and of the tests: a mail server and a web server on this machine.

Both are real servers that keep what they get, and both can be told to misbehave. The journal also
goes into a file when it is given one, so that a demo that was interrupted knows what had arrived.
"""

from __future__ import annotations

import asyncio
import email
import email.policy
import json
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

from aiosmtpd.smtp import SMTP, Envelope, Session

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Arrival:
    """One delivery attempt as a recipient saw it. `id` is the effect's key on that channel."""

    place: str
    id: str
    status: int
    body: bytes = field(default=b"", compare=False)
    headers: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def accepted(self) -> bool:
        """Whether the recipient took it."""
        return 200 <= self.status < 300


class Journal:
    """What arrived, in order; kept in `path` without bodies when there is one."""

    def __init__(self, path: Path | None = None) -> None:
        self._lock = threading.Lock()
        self._path = path
        self._arrivals: list[Arrival] = []
        if path is not None and path.exists():
            for line in path.read_text().splitlines():
                self._arrivals.append(Arrival(**json.loads(line)))

    def add(self, arrival: Arrival) -> None:
        """Note an arrival."""
        with self._lock:
            self._arrivals.append(arrival)
            if self._path is not None:
                kept = {key: getattr(arrival, key) for key in ("place", "id", "status")}
                with self._path.open("a") as file:
                    file.write(json.dumps(kept) + "\n")

    def arrivals(self, place: str | None = None) -> list[Arrival]:
        """All arrivals, or those at one place."""
        with self._lock:
            return [one for one in self._arrivals if place in (None, one.place)]

    def accepted(self) -> list[Arrival]:
        """What recipients took."""
        return [one for one in self.arrivals() if one.accepted]

    def taken_twice(self) -> list[Arrival]:
        """What a recipient took more than once under the same id."""
        counted = Counter(self.accepted())
        return [one for one, times in counted.items() if times > 1]


@dataclass(slots=True)
class Manners:
    """How a sink behaves; may be changed while it runs. Places are URL paths or mailboxes."""

    refuse_first: dict[str, int] = field(default_factory=dict)
    failing: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    seconds: float = 0.0
    """How long a web recipient thinks before it answers."""

    def judge(self, place: str, seen: int) -> int:
        """The HTTP status for a call to `place`, which saw `seen` calls before."""
        if place in self.gone:
            return 410
        if place in self.failing or seen < self.refuse_first.get(place, 0):
            return 503
        return 201


class HttpSink:
    """Takes webhooks and pushes on any path, on a loopback port."""

    def __init__(
        self, *, port: int = 0, manners: Manners | None = None, journal: Journal | None = None
    ) -> None:
        self.manners = manners or Manners()
        self.journal = journal or Journal()
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status = sink._take(self.path, dict(self.headers), body)
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Stay silent: the journal is the log."""

        self._server = ThreadingHTTPServer((LOOPBACK, port), Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_address[1])

    def url(self, path: str) -> str:
        """The address of a path on it."""
        return f"http://{LOOPBACK}:{self.port}{path}"

    def start(self) -> HttpSink:
        """Begin to serve."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """End, with the port free again."""
        self._server.shutdown()
        self._server.server_close()

    def _take(self, path: str, headers: dict[str, str], body: bytes) -> int:
        lower = {name.lower(): value for name, value in headers.items()}
        id = lower.get("webhook-id") or lower.get("topic", "")
        time.sleep(self.manners.seconds)
        status = self.manners.judge(path, len(self.journal.arrivals(path)))
        self.journal.add(Arrival(path, id, status, body, lower))
        return status


class SmtpSink:
    """Takes mail for any mailbox, on a loopback port."""

    def __init__(
        self, *, port: int = 0, manners: Manners | None = None, journal: Journal | None = None
    ) -> None:
        self.manners = manners or Manners()
        self.journal = journal or Journal()
        self._port = port
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def port(self) -> int:
        """The port it listens on."""
        assert self._server is not None, "not started"
        return int(self._server.sockets[0].getsockname()[1])

    def start(self) -> SmtpSink:
        """Begin to serve; raises OSError when the port is taken."""
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        return self

    def stop(self) -> None:
        """End, with the port free again."""
        if self._loop.is_closed():
            return
        if self._server is not None:
            self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        self._loop.run_forever()
        if left := asyncio.all_tasks(self._loop):  # clients that are still connected
            for task in left:
                task.cancel()
            self._loop.run_until_complete(asyncio.wait(left))
        self._loop.close()

    async def _listen(self) -> asyncio.Server:
        return await self._loop.create_server(
            lambda: SMTP(self, enable_SMTPUTF8=True, loop=self._loop), LOOPBACK, self._port
        )

    async def handle_DATA(  # noqa: N802  # the name that aiosmtpd calls
        self, _server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        """Called by aiosmtpd for each mail."""
        raw = cast(bytes, envelope.content)
        mail = email.message_from_bytes(raw, policy=email.policy.default)
        mailbox = envelope.rcpt_tos[0]
        status = self.manners.judge(mailbox, len(self.journal.arrivals(mailbox)))
        self.journal.add(Arrival(mailbox, str(mail["Message-ID"]), status, raw, dict(mail.items())))
        return {410: "550 5.1.1 no such mailbox", 503: "451 4.3.0 try later"}.get(status, "250 OK")
