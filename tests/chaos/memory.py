"""A limit of memory for workers: the kernel's own (a cgroup) where a test may make one, else our guard.

Either ends, by SIGKILL, the process that holds most; with a guard it may take a moment longer.
"""

from __future__ import annotations

import os
import threading
import uuid
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from signal import SIGKILL
from typing import Self

from celeriac.chaos.processes import Command, WorkerSet, eventually

_CGROUPS = Path("/sys/fs/cgroup/memory")  # version 1; version 2 has one tree, which systemd rules
_LOOK_EVERY_S = 0.01


def after(words: str, command: Command) -> Command:
    """Start what a command starts once a line of shell has been run in its process."""
    line = f'{words} && exec "$@"'
    return replace(
        command, arguments=lambda name: ["sh", "-c", line, "sh", *command.arguments(name)]
    )


class Limit:
    """So many bytes for all the processes of all workers that are started under it."""

    def __init__(self, limit_bytes: int) -> None:
        self._bytes = limit_bytes
        self._group = _CGROUPS / f"celeriac-{uuid.uuid4().hex[:8]}"
        self._worker_sets: list[WorkerSet] = []
        self._killed = 0
        self._over = threading.Event()
        self.kind = "guard"

    def __enter__(self) -> Self:
        with suppress(OSError):
            self._group.mkdir()
            (self._group / "memory.limit_in_bytes").write_text(str(self._bytes))
            self.kind = "cgroup"
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for worker_set in self._worker_sets:
            worker_set.end()  # a group with processes in it cannot be removed
        if self.kind == "cgroup":
            eventually(self._removed, within_s=10, what="its processes are gone")

    def _removed(self) -> bool:
        with suppress(OSError):  # killed processes take a moment to leave it
            self._group.rmdir()
        return not self._group.exists()

    def wrap(self, command: Command) -> Command:
        """Start what the command starts under the limit."""
        if self.kind == "guard":
            return command
        return after(f"echo $$ > {self._group}/cgroup.procs", command)

    def watch(self, worker_set: WorkerSet) -> None:
        """Keep the limit for a set of workers, where the kernel does not."""
        self._worker_sets.append(worker_set)
        if self.kind == "guard":
            threading.Thread(target=self._guard, args=(worker_set,), daemon=True).start()

    @property
    def kills(self) -> int:
        """How many processes were ended because memory ran out."""
        if self.kind == "guard":
            return self._killed
        told = (self._group / "memory.oom_control").read_text().split()
        return int(told[told.index("oom_kill") + 1])

    def _guard(self, worker_set: WorkerSet) -> None:
        while not self._over.wait(_LOOK_EVERY_S):
            pids = [
                pid for worker in worker_set.serving for pid in (worker.pid, *worker.children())
            ]
            sizes = {pid: _resident_bytes(pid) for pid in pids}
            if sum(sizes.values()) > self._bytes:
                with suppress(ProcessLookupError):
                    os.kill(max(sizes, key=lambda pid: sizes[pid]), SIGKILL)
                    self._killed += 1


def _resident_bytes(pid: int) -> int:
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    return 0
