"""The worker's HTTP endpoints for probes and scrapes.

``/livez`` says that the process makes progress; a broker outage does not change it, since a restart
would not help. ``/readyz`` says that it can take messages now. ``/metrics`` is about this process only:
a queue's counts come from the broker, exactly, and are exported once by whoever looks after the queue.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST


@dataclass(frozen=True, slots=True)
class Health:
    """How a worker is, at one moment."""

    live: bool
    ready: bool
    reason: str
    slots: int
    busy: int


class Server(ThreadingHTTPServer):
    """Listens from the beginning, and answers once started."""

    def start(self) -> None:
        """Answer, in a thread."""
        threading.Thread(target=self.serve_forever, name="celeriac-http", daemon=True).start()


def server(
    health: Callable[[], Health],
    *,
    queue: str,
    host: str,
    port: int,
    quiet: AbstractContextManager[Any],
) -> Server:
    """Make the server; port 0 takes a free one. Raises OSError when the port is taken.

    ``quiet`` is held while it answers.
    """
    registry = CollectorRegistry()
    slots = Gauge(
        "mq_worker_slots", "Tasks this worker can run at once.", ["queue"], registry=registry
    )
    busy = Gauge("mq_worker_slots_busy", "Tasks it runs now.", ["queue"], registry=registry)
    ready = Gauge("mq_worker_ready", "1 when it can take messages.", ["queue"], registry=registry)
    slots.labels(queue).set_function(lambda: health().slots)
    busy.labels(queue).set_function(lambda: health().busy)
    ready.labels(queue).set_function(lambda: float(health().ready))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with quiet:
                self._get()

        def _get(self) -> None:
            now = health()
            if self.path == "/livez":
                self._answer(200 if now.live else 503, b"ok\n" if now.live else now.reason.encode())
            elif self.path == "/readyz":
                self._answer(
                    200 if now.ready else 503, b"ok\n" if now.ready else now.reason.encode()
                )
            elif self.path == "/metrics":
                self._answer(200, generate_latest(registry), CONTENT_TYPE_LATEST)
            else:
                self._answer(404, b"try /livez, /readyz or /metrics\n")

        def _answer(self, code: int, body: bytes, kind: str = "text/plain") -> None:
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass  # probes come every few seconds

    return Server((host, port), Handler)
