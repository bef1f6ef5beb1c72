"""What `up` shows while it runs: a live table on a terminal, log lines everywhere else.

Log records of the platform go through the display too, so that they stand above the table and do not
tear it.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from celeriac.cli import output, queue_table

if TYPE_CHECKING:
    from rich.live import Live

Records = Sequence[dict[str, Any]]

SUMMARY_SECONDS = 10.0


class Display(Protocol):
    """Shows lines, and how the queues are."""

    def line(self, text: str) -> None:
        """Show a line; from any thread."""

    def queues(self, records: Records) -> None:
        """Show how the queues are now."""

    def close(self) -> None:
        """Show the last state and leave the terminal alone; `line` goes on to work."""


class LineDisplay:
    """Lines only: what happens, and now and then how each queue is, if that has changed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shown: dict[str, str] = {}
        self._at = time.monotonic()

    def line(self, text: str) -> None:
        # Nobody reads any more: the workers go on all the same.
        with self._lock, suppress(BrokenPipeError):
            sys.stdout.write(f"{text}\n")
            sys.stdout.flush()

    def queues(self, records: Records) -> None:
        if time.monotonic() - self._at < SUMMARY_SECONDS:
            return
        self._at = time.monotonic()
        for record in records:
            text = summary(record)
            if self._shown.get(record["name"]) != text:
                self._shown[record["name"]] = text
                self.line(f"{time.strftime('%H:%M:%S')} {text}")

    def close(self) -> None:
        pass


def summary(record: dict[str, Any]) -> str:
    """One line about a queue."""
    counts = ", ".join(
        f"{record[key]} {key}" for key in ("ready", "leased", "delayed", "done", "dead")
    )
    desired = record["desiredReplicas"]
    wanted = "" if desired in (None, record["replicas"]) else f" ({desired} wanted)"
    return f"{record['name']}: {counts}; {queue_table.count(record['replicas'], 'worker')}{wanted}"


class TableDisplay:
    """A table that is redrawn in place, below what is logged."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console()
        self._live: Live | None = None
        self._make = Live
        self._lock = threading.Lock()

    def line(self, text: str) -> None:
        from rich.text import Text

        with self._lock:
            self._console.print(Text(text), soft_wrap=True)

    def queues(self, records: Records) -> None:
        table = output.rich_table(
            queue_table.NARROW, [queue_table.queue_row(record) for record in records]
        )
        with self._lock:
            if self._live is None:
                self._live = self._make(console=self._console, auto_refresh=False)
                self._live.start()
            self._live.update(table, refresh=True)

    def close(self) -> None:
        with self._lock:
            if self._live is not None:
                self._live.stop()
                self._live = None


def choose(*, logs: bool) -> Display:
    """The display that fits standard output."""
    return TableDisplay() if output.on_terminal() and not logs else LineDisplay()


class LogLines(logging.Handler):
    """Hands log records to a display."""

    def __init__(self, display: Display) -> None:
        super().__init__()
        self._display = display
        self.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
            if record.levelno >= logging.WARNING:
                text = text.replace(" ", f" {record.levelname.lower()}: ", 1)
            self._display.line(text)
        except Exception:  # noqa: BLE001 (a handler that raises takes its caller down)
            self.handleError(record)

    def install(self) -> None:
        """Take the platform's records from INFO on, and everybody's warnings."""
        root = logging.getLogger()
        root.addHandler(self)
        root.setLevel(logging.WARNING)
        logging.getLogger("celeriac").setLevel(logging.INFO)

    def remove(self) -> None:
        """Take no more records."""
        logging.getLogger().removeHandler(self)
        sys.stdout.flush()
