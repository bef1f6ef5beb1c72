"""Heartbeats of the operator's threads, and the HTTP endpoints that tell of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST


class Heartbeats:
    """When each part of the operator was last seen at work."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._now = monotonic
        self._lock = threading.Lock()
        self._parts: dict[str, tuple[Callable[[], float], float]] = {}
        self._beats: dict[str, float] = {}

    def expect(
        self, part: str, *, within_s: float, last: Callable[[], float] | None = None
    ) -> None:
        """Expect a beat of ``part`` every ``within_s`` seconds; ``last`` tells of the newest one."""
        with self._lock:
            self._beats[part] = self._now()
            self._parts[part] = (last or (lambda: self._beats[part]), within_s)

    def beat(self, part: str) -> None:
        """Note that ``part`` is at work."""
        self._beats[part] = self._now()

    def silent(self) -> list[str]:
        """The parts that have not been heard of for too long."""
        with self._lock:
            parts = list(self._parts.items())
        now = self._now()
        return [
            f"{part}: silent for {now - last():.0f} s"
            for part, (last, within_s) in parts
            if now - last() > within_s
        ]


class Server(ThreadingHTTPServer):
    """Answers from the moment it is made."""

    daemon_threads = True

    def __init__(
        self,
        address: tuple[str, int],
        *,
        alive: Callable[[], list[str]],
        ready: Callable[[], str],
        registry: CollectorRegistry,
    ) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                match self.path.partition("?")[0]:
                    case "/livez":
                        reasons = alive()
                        self._answer(503 if reasons else 200, "\n".join(reasons) or "ok")
                    case "/readyz":
                        reason = ready()
                        self._answer(503 if reason else 200, reason or "ok")
                    case "/metrics":
                        self._send(200, CONTENT_TYPE_LATEST, generate_latest(registry))
                    case _:
                        self._answer(404, "try /livez, /readyz or /metrics")

            def _answer(self, code: int, text: str) -> None:
                self._send(code, "text/plain; charset=utf-8", f"{text}\n".encode())

            def _send(self, code: int, kind: str, body: bytes) -> None:
                self.send_response(code)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass  # probes come every few seconds

        super().__init__(address, Handler)

    def start(self) -> None:
        """Answer, in a thread."""
        threading.Thread(target=self.serve_forever, name="http", daemon=True).start()
