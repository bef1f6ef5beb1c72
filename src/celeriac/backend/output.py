"""What workers print: a bounded file for each, or lines handed to a function.

A worker writes its file by itself, so nothing is lost and nobody blocks when this process dies.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import IO, Protocol

Sink = Callable[[str, str], None]
"""Takes the name of a worker and one line of its output."""

_TAIL_BYTES = 4096
_LINE_CHARS = 8192


class Output(Protocol):
    """Takes what workers print."""

    def open(self, worker: str) -> IO[bytes] | int:
        """Return what becomes the worker's standard output and error."""
        ...

    def started(self, worker: str, process: subprocess.Popen[bytes]) -> None:
        """The worker runs now."""
        ...

    def trim(self, worker: str) -> None:
        """Keep what was printed within its bounds."""
        ...

    def last_lines(self, worker: str, count: int = 5) -> list[str]:
        """The last lines that were printed, without empty ones."""
        ...


class LogFiles:
    """One file for each worker in a folder; the oldest files go when there are too many.

    A file that grows above ``max_bytes`` is cut to its newer half.
    """

    def __init__(self, folder: Path, *, max_bytes: int = 10_000_000, max_files: int = 100) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self.max_files = max_files

    def open(self, worker: str) -> IO[bytes]:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._drop_oldest()
        return self.path(worker).open("ab")

    def path(self, worker: str) -> Path:
        """The file of a worker."""
        return self.folder / f"{worker}.log"

    def started(self, worker: str, process: subprocess.Popen[bytes]) -> None:
        pass

    def trim(self, worker: str) -> None:
        path = self.path(worker)
        try:
            size = path.stat().st_size
            if size <= self.max_bytes:
                return
            with path.open("r+b") as file:
                file.seek(size - self.max_bytes // 2)
                file.readline()
                newer = file.read(self.max_bytes)
                # The worker appends: after this its next line comes behind what is written here.
                file.seek(0)
                file.truncate(0)
                file.write(newer)
        except FileNotFoundError:
            return

    def last_lines(self, worker: str, count: int = 5) -> list[str]:
        try:
            with self.path(worker).open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
                text = file.read(_TAIL_BYTES).decode("utf-8", "replace")
        except FileNotFoundError:
            return []
        return [line for line in text.splitlines() if line.strip()][-count:]

    def _drop_oldest(self) -> None:
        files = sorted(self.folder.glob("*.log"), key=_changed)
        for path in files[: max(0, len(files) - self.max_files + 1)]:
            path.unlink(missing_ok=True)


class Lines:
    """Hands every line to a function, from one thread for each worker."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._tails: dict[str, deque[str]] = {}
        self._threads: dict[str, threading.Thread] = {}

    def open(self, worker: str) -> int:
        return subprocess.PIPE

    def started(self, worker: str, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        self._forget_ended()
        self._tails[worker] = deque(maxlen=20)
        thread = threading.Thread(
            target=self._pump, args=(worker, process.stdout), name=f"output-{worker}", daemon=True
        )
        self._threads[worker] = thread
        thread.start()

    def trim(self, worker: str) -> None:
        pass

    def last_lines(self, worker: str, count: int = 5) -> list[str]:
        if worker in self._threads:
            self._threads[worker].join(
                timeout=0.5
            )  # a dead worker's last words may be on their way
        return list(self._tails.get(worker, ()))[-count:]

    def _pump(self, worker: str, stream: IO[bytes]) -> None:
        with stream:
            while raw := stream.readline(_LINE_CHARS):
                line = raw.decode("utf-8", "replace").rstrip("\r\n")
                if line.strip():
                    self._tails[worker].append(line)
                self._sink(worker, line)

    def _forget_ended(self) -> None:
        ended = [name for name, thread in self._threads.items() if not thread.is_alive()]
        for name in ended[: max(0, len(ended) - 20)]:
            del self._threads[name], self._tails[name]


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
