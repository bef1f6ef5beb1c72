"""Processes of a cluster: started with a log, written down, and ended for sure.

Everything started is recorded in a file, so that another process can end it after this one was killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path


class ProcessFailed(RuntimeError):
    """A process of the cluster ended by itself, or did not become ready; the text has its last lines."""


class Processes:
    """The processes of one cluster, by name."""

    def __init__(self, folder: Path, prefix: Sequence[str]) -> None:
        self._folder = folder
        self._prefix = list(prefix)
        self._record = folder / "processes.json"
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(
        self, name: str, command: Sequence[str | Path], *, env: dict[str, str] | None = None
    ) -> int:
        """Start ``command`` inside the namespace; its output goes to NAME.log. Returns its pid."""
        with (self._folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [*self._prefix, *map(str, command)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, **(env or {})},
            )
        self._running[name] = process
        pids = {**self._pids(), name: process.pid}
        self._record.write_text(json.dumps(pids))
        return process.pid

    def wait_until(self, name: str, ready: Callable[[], bool], *, seconds: float) -> None:
        """Wait until ``ready()``. Raises ProcessFailed when ``name`` ends first, or takes too long."""
        deadline = time.monotonic() + seconds
        while not ready():
            process = self._running.get(name)
            if process is not None and process.poll() is not None:
                raise ProcessFailed(f"{name} ended with {process.returncode}:\n{self._tail(name)}")
            if time.monotonic() > deadline:
                raise ProcessFailed(
                    f"{name} is not ready after {seconds:.0f} s:\n{self._tail(name)}"
                )
            time.sleep(0.1)

    def stop(self, name: str, *, seconds: float = 10, kill: bool = False) -> None:
        """End a process: SIGTERM, then SIGKILL; at once with ``kill``."""
        pid = self._pids().get(name)
        if pid is None:
            return
        process = self._running.pop(name, None)
        _end(pid, seconds=0 if kill else seconds, reap=process)
        self._record.write_text(json.dumps({n: p for n, p in self._pids().items() if n != name}))

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a process."""
        os.kill(self._pids()[name], number)

    def pid(self, name: str) -> int:
        """The pid of a running process."""
        return self._pids()[name]

    def _pids(self) -> dict[str, int]:
        if not self._record.exists():
            return {}
        pids: dict[str, int] = json.loads(self._record.read_text())
        return pids

    def _tail(self, name: str) -> str:
        text = (self._folder / f"{name}.log").read_text(errors="replace")
        return "\n".join(text.splitlines()[-15:])


def all_that_mention(folder: Path) -> list[int]:
    """The pids of all other processes whose command line names the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):  # it ended meanwhile
            if str(folder).encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


def end_all_that_mention(folder: Path) -> None:
    """Kill every process whose command line names the folder (containerd's shims, their children)."""
    for pid in all_that_mention(folder):
        _end(pid, seconds=0)


def _end(pid: int, *, seconds: float, reap: subprocess.Popen[bytes] | None = None) -> None:
    deadline = time.monotonic() + seconds
    try:
        os.kill(pid, signal.SIGTERM if seconds else signal.SIGKILL)
        while _alive(pid, reap) and time.monotonic() < deadline:
            time.sleep(0.05)
        if _alive(pid, reap):
            os.kill(pid, signal.SIGKILL)
            for _ in range(100):
                if not _alive(pid, reap):
                    break
                time.sleep(0.05)
    except ProcessLookupError:
        pass


def _alive(pid: int, reap: subprocess.Popen[bytes] | None) -> bool:
    if reap is not None:
        return reap.poll() is None
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
