"""What the demo shows: a live table on a terminal, plain lines everywhere else."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from celeriac_messaging.metrics import QueueMetrics

Show = Callable[[Mapping[str, QueueMetrics]], None]
PLAIN_EVERY_SECONDS = 2.0
RUNNING = ("done", "dead", "ready", "leased", "delayed", "retried")
ENDED = ("accepted", "done", "dead", "unfinished", "retried", "redelivered")


WIDE = 120
"""Columns where there is no terminal to ask."""


class View:
    """The demo's output."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        if not self.console.is_terminal:
            self.console.width = max(WIDE, self.console.width)
        self._began = time.monotonic()

    def step(self, text: str) -> None:
        """Begin of a part of the demo."""
        self.console.print(Text(f"{self._elapsed()}  {text}", style="bold"))

    def line(self, text: str) -> None:
        """One line under a step."""
        self.console.print(f"        {text}", markup=False)

    def trouble(self, text: str) -> None:
        """Lines that must be seen."""
        for line in text.splitlines():
            self.console.print(Text(f"        {line}", style="red"))

    @contextlib.contextmanager
    def progress(self, total: int) -> Iterator[Show]:
        """Live progress towards `total` finished jobs."""
        if not self.console.is_terminal:
            yield self._plain(total)
            return
        with Live(console=self.console, refresh_per_second=8, transient=True) as live:
            yield lambda metrics: live.update(_live(metrics, total))

    def queues(self, metrics: Mapping[str, QueueMetrics]) -> None:
        """The table of the queues, as they are in the end."""
        self.console.print(_table(metrics, ENDED))

    def dead_letters(self, letters: Mapping[str, list[dict[str, Any]]]) -> None:
        """What ended among the dead letters, and why; the same twice is told once."""
        for queue, found in letters.items():
            told = Counter((str(one["task"]), str(one["reason"]), _why(one)) for one in found)
            for (task, reason, why), times in told.items():
                many = f"  ×{times}" if times > 1 else ""
                self.line(f"{queue}  {task}  {reason}{many}")
                self.line(f"    {why}")

    def _elapsed(self) -> str:
        return f"{time.monotonic() - self._began:5.1f}s"

    def _plain(self, total: int) -> Show:
        last = [0.0]

        def show(metrics: Mapping[str, QueueMetrics]) -> None:
            if time.monotonic() - last[0] < PLAIN_EVERY_SECONDS:
                return
            last[0] = time.monotonic()
            self.console.print(f"{self._elapsed()}  {_summary(metrics, total)}")

        return show


def _sum(metrics: Mapping[str, QueueMetrics], name: str) -> int:
    return sum(getattr(one, name) for one in metrics.values())


def finished(metrics: Mapping[str, QueueMetrics]) -> int:
    """How many jobs have come to an end."""
    return sum(_sum(metrics, name) for name in ("done", "discarded", "purged", "dead"))


def _summary(metrics: Mapping[str, QueueMetrics], total: int) -> str:
    return (
        f"{finished(metrics)} of {total} finished, {_sum(metrics, 'leased')} running,"
        f" {_sum(metrics, 'ready')} ready, {_sum(metrics, 'delayed')} delayed,"
        f" {_sum(metrics, 'retried')} retries, {_sum(metrics, 'dead')} dead"
    )


def _live(metrics: Mapping[str, QueueMetrics], total: int) -> RenderableType:
    bar = ProgressBar(total=total, completed=finished(metrics), width=60)
    return Group(_table(metrics, RUNNING), Text(_summary(metrics, total)), bar)


def _why(letter: Mapping[str, Any]) -> str:
    told = ": ".join(filter(None, (letter.get("error"), letter.get("message"))))
    return told or f"its worker died {letter['deliveries']} times"


def _table(metrics: Mapping[str, QueueMetrics], columns: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("QUEUE", no_wrap=True)
    for name in columns:
        table.add_column(name.upper(), justify="right", no_wrap=True)
    for queue, now in metrics.items():
        table.add_row(queue, *(str(getattr(now, name)) for name in columns))
    return table
