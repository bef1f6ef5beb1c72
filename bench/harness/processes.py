"""Worker processes: started with a log, watched, and ended with all their children."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
POLL_S = 0.005


class Failed(RuntimeError):
    """A measurement that did not come to its end."""


@contextmanager
def running(
    command: Sequence[str], *, environment: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command until the block ends; a failure in it shows the end of what the command said."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield process
    except Failed as error:
        raise Failed(f"{error}\n{log.read_text(errors='replace')[-3000:]}") from error
    finally:
        _end(process)


def output_of(command: Sequence[str], *, environment: Mapping[str, str]) -> str:
    """Run a command to its end and return what it printed. Raises Failed with what it complained of."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Failed(f"{' '.join(command[-7:])} failed:\n{done.stderr[-3000:]}")
    return done.stdout


def wait_for(condition: Callable[[], bool], *, what: str, within_s: float = 30.0) -> None:
    """Look again and again until it is so. Raises Failed when it takes too long."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not within {within_s:.0f} s")
        time.sleep(POLL_S)


def tree(pid: int) -> list[int]:
    """A process and all its descendants."""
    shown = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
    )
    children: dict[int, list[int]] = {}
    for line in shown.stdout.splitlines():
        child, parent = map(int, line.split())
        children.setdefault(parent, []).append(child)
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a worker and its children. Nothing is measured of it: stock prefork may take 30 s."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(3)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
