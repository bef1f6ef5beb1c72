"""What a stretch of work cost: processor time, memory, and what went over the wire.

Everything is read from outside (the kernel, the server's INFO), so that every contender is measured alike.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from bench.harness.processes import tree

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """Counts since some beginning; the difference of two is what was used in between."""

    worker_s: float
    """Processor seconds of the workers and their children, user and system."""
    server_s: float
    """Processor seconds of the server."""
    commands: int
    """Commands that the server ran, those inside scripts included."""
    reads: int
    """Times that the server read from a client: about the number of requests."""
    wire: int
    """Bytes in and out of the server."""

    def __sub__(self, earlier: Usage) -> Usage:
        return Usage(
            self.worker_s - earlier.worker_s,
            self.server_s - earlier.server_s,
            self.commands - earlier.commands,
            self.reads - earlier.reads,
            self.wire - earlier.wire,
        )


def usage(client: redis.Redis, pids: Iterable[int] = ()) -> Usage:
    """What the server and some workers have used so far."""
    info: dict[str, Any] = client.info("everything")
    return Usage(
        worker_s=sum(processor_s(pid) for pid in pids),
        server_s=info["used_cpu_user"] + info["used_cpu_sys"],
        commands=info["total_commands_processed"],
        reads=info["total_reads_processed"],
        wire=info["total_net_input_bytes"] + info["total_net_output_bytes"],
    )


def processor_s(pid: int) -> float:
    """Processor seconds of a process, its children and those that it has seen end (0: no /proc)."""
    total = 0.0
    for one in tree(pid):
        try:
            text = Path(f"/proc/{one}/stat").read_text()
        except OSError:
            continue
        # utime, stime, cutime, cstime: the fields 14 to 17, counted from 1, after a name with spaces.
        total += sum(map(int, text.rpartition(")")[2].split()[11:15])) * _TICK_S
    return total


def resident(pid: int) -> int:
    """Bytes of memory of a process and its children; shared pages count once (PSS), where known."""
    total = 0
    for one in tree(pid):
        try:
            text = Path(f"/proc/{one}/smaps_rollup").read_text()
        except OSError:
            shown = subprocess.run(
                ["ps", "-o", "rss=", "-p", str(one)], capture_output=True, text=True, check=False
            )
            total += int(shown.stdout or 0) * 1024
            continue
        total += (
            next(int(it.split()[1]) for it in text.splitlines() if it.startswith("Pss:")) * 1024
        )
    return total


def used_memory(client: redis.Redis) -> int:
    """Bytes that the server uses, but for what its clients' buffers and the log hold for a moment."""
    info: dict[str, Any] = client.info("memory")
    passing = ("mem_clients_normal", "mem_aof_buffer")
    return int(info["used_memory"]) - sum(int(info[name]) for name in passing)
