"""What really ran: a file beside the broker that tasks append to, one line at each start and finish.

The broker's counters say what the broker believes. This file says what happened: each line is one write
with O_APPEND, which neither a kill nor another process can tear, and no broker has a part in it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

#: The variable of a worker's environment that names the file.
SIDE_FILE = "CHAOS_SIDE_FILE"

_tokens = count(1)
_open: dict[tuple[int, str], int] = {}


@contextmanager
def noted(path: str, job: str, delivery: int) -> Iterator[None]:
    """Note a run: its start now, its finish when the block ends without an error."""
    run = f"{job} {os.getpid()} {os.getpgrp()} {next(_tokens)} {delivery}"
    _append(path, f"S {run}")
    yield
    _append(path, f"F {run}")


def _append(path: str, line: str) -> None:
    # A descriptor of each process's own: a child's must not depend on what its parent had open.
    key = (os.getpid(), path)
    if key not in _open:
        _open[key] = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(_open[key], f"{line} {time.monotonic():.6f}\n".encode())


@dataclass(slots=True)
class Run:
    """One run of a job. Times are monotonic seconds, which all processes of a machine share."""

    job: str
    pid: int
    group: int
    """The process group: one for each worker, its children included."""
    delivery: int
    """What the worker was told; 0 when it does not know (stock Celery)."""
    started: float
    finished: float | None = None


@dataclass(slots=True)
class History:
    """The runs noted in a file so far; :meth:`read` takes in what was added since."""

    path: Path
    runs: list[Run] = field(default_factory=list)
    _at: int = 0
    _open: dict[tuple[str, str], Run] = field(default_factory=dict)

    def read(self) -> History:
        """Take in new lines."""
        if self.path.exists():
            with self.path.open("rb") as file:
                file.seek(self._at)
                text = file.read()
            whole = text.rpartition(b"\n")[0]
            if whole:
                self._at += len(whole) + 1
                self._take(whole.decode().split("\n"))
        return self

    def _take(self, lines: Iterable[str]) -> None:
        for line in lines:
            what, job, pid, group, token, delivery, at = line.split(" ")
            if what == "S":
                run = Run(job, int(pid), int(group), int(delivery), float(at))
                self._open[pid, token] = run
                self.runs.append(run)
            else:
                self._open.pop((pid, token)).finished = float(at)

    @property
    def finished(self) -> set[str]:
        """Jobs that some run has finished."""
        return {run.job for run in self.runs if run.finished is not None}

    def of(self, job: str) -> list[Run]:
        """The runs of one job."""
        return [run for run in self.runs if run.job == job]

    def busy(self, group: int, *, pid: int = 0, within_s: float = 0.05) -> bool:
        """Whether a worker, or one process of it, was at work a moment ago."""
        since = time.monotonic() - within_s
        for run in reversed(self.runs):
            if run.group == group and pid in (0, run.pid):
                return run.finished is None or run.finished >= since
        return False
