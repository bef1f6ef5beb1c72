"""Workers as processes of their own, and what can be done to them from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

READY_FILE = "CHAOS_READY_FILE"
#: Says in a worker's environment that its tasks are to be coroutines.
COROUTINES = "CHAOS_COROUTINES"
_TICK_S = 0.02


def eventually(
    probe: Callable[[], T | None], *, within_s: float = 20.0, what: Callable[[], str] | str = ""
) -> T:
    """Call ``probe`` until it answers something true, and return that.

    Raises TimeoutError after ``within_s`` seconds.
    """
    deadline = time.monotonic() + within_s
    while not (answer := probe()):
        if time.monotonic() > deadline:
            said = what() if callable(what) else what
            raise TimeoutError(f"not within {within_s} s: {said}; last answer: {answer!r}")
        time.sleep(_TICK_S)
    return answer


def _lives(pid: int) -> bool:
    """Whether a Linux process is there, and not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class Command:
    """How to start a worker: its arguments and variables may depend on its name."""

    arguments: Callable[[str], Sequence[str]]
    environment: Mapping[str, str]
    folder: Path | None = None
    """Where it runs; None: here."""


class Worker:
    """One worker and the processes it started: a process group, whose id is the worker's."""

    def __init__(self, name: str, command: Command, folder: Path) -> None:
        self.name = name
        self.log_file = folder / f"{name}.log"
        self._ready_file = folder / f"{name}.ready"
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                command.arguments(name),
                cwd=command.folder,
                env={
                    **os.environ,
                    **command.environment,
                    READY_FILE: str(self._ready_file),
                    "CELERIAC_PARENT_PID": str(os.getpid()),  # as `celeriac up` starts them
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.group = self.pid = self._process.pid

    @property
    def log(self) -> str:
        """What it has said so far."""
        return self.log_file.read_text(errors="replace")

    @property
    def ready(self) -> bool:
        """Whether it has ever announced that it serves."""
        return self._ready_file.exists()

    def wait_ready(self, within_s: float = 20) -> Worker:
        """Wait until it serves. Raises RuntimeError when it ends instead, TimeoutError when neither."""
        eventually(
            lambda: self.ready or self.code is not None,
            within_s=within_s,
            what=lambda: f"{self.name} ready: {self.log[-2000:]}",
        )
        if self.code is not None:
            raise RuntimeError(f"{self.name} ended with {self.code}: {self.log[-2000:]}")
        return self

    @property
    def code(self) -> int | None:
        """Its exit code; None while it lives."""
        return self._process.poll()

    def wait(self, within_s: float) -> int:
        """Wait for its end and return its exit code. Raises subprocess.TimeoutExpired."""
        return self._process.wait(within_s)

    def children(self) -> list[int]:
        """The processes it started that live now."""
        known = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        if known.exists():
            return [pid for pid in map(int, known.read_text().split()) if _lives(pid)]
        listing = subprocess.run(
            ["ps", "-A", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=True
        )
        rows = [line.split() for line in listing.stdout.splitlines()]
        return [
            int(pid) for pid, parent, stat in rows if parent == str(self.pid) and stat[0] != "Z"
        ]

    def terminate(self) -> None:
        """Ask it to stop, as Kubernetes and supervisors do."""
        if self.code is None:
            os.kill(self.pid, signal.SIGTERM)

    def signal_all(self, number: signal.Signals) -> None:
        """Signal all its processes at once."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.group, number)

    def kill(self, *, parent_only: bool = False) -> None:
        """SIGKILL all its processes, or just the first; return when that is gone."""
        if parent_only:
            self._process.kill()
        else:
            self.signal_all(signal.SIGKILL)
        self._process.wait()

    def end(self) -> None:
        """Leave nothing of it behind, whatever state it is in."""
        self.signal_all(signal.SIGKILL)
        self._process.wait()


class WorkerSet:
    """A number of workers that are started again when they end, each time under a new name."""

    def __init__(
        self,
        *,
        size: int,
        command: Command,
        folder: Path,
        prefix: str,
        on_death: Callable[[Worker], None] | None = None,
    ) -> None:
        self.command = command
        self.workers: list[Worker] = []
        self.ended: list[Worker] = []
        """Workers that ended, and were started anew."""
        self._size = size
        self._folder = folder
        self._prefix = prefix
        self._on_death = on_death
        self._number = 0
        self._halt = threading.Event()
        self._thread = threading.Thread(
            target=self._supervise, name=f"workers-{prefix}", daemon=True
        )
        self._lock = threading.Lock()

    def start(self, *, supervised: bool = True) -> WorkerSet:
        """Start the workers and wait until they serve."""
        for _ in range(self._size):
            self.add()
        for worker in self.workers:
            worker.wait_ready()
        if supervised:
            self._thread.start()
        return self

    def add(self) -> Worker:
        """Start one more worker."""
        with self._lock:
            self._number += 1
            worker = Worker(f"{self._prefix}-{self._number}", self.command, self._folder)
            self.workers.append(worker)
        return worker

    def remove(self, worker: Worker) -> None:
        """Look after a worker no more: it may end for good."""
        with self._lock:
            self.workers.remove(worker)
            self.ended.append(worker)

    @property
    def serving(self) -> list[Worker]:
        """Workers that live and have announced that they serve."""
        return [worker for worker in list(self.workers) if worker.ready and worker.code is None]

    def stop_supervising(self) -> None:
        """From now on who ends stays away."""
        self._halt.set()
        if self._thread.is_alive():
            self._thread.join()

    def drain(self, within_s: float = 20) -> list[int]:
        """SIGTERM them all; return their exit codes."""
        self.stop_supervising()
        for worker in self.workers:
            worker.terminate()
        return [worker.wait(within_s) for worker in self.workers]

    def end(self) -> None:
        """Leave nothing behind."""
        self.stop_supervising()
        for worker in [*self.workers, *self.ended]:
            worker.end()

    def _supervise(self) -> None:
        while not self._halt.wait(_TICK_S):
            for worker in list(self.workers):
                if worker.code is not None:
                    self.remove(worker)
                    worker.end()
                    if self._on_death is not None:
                        self._on_death(worker)
                    self.add()
