"""One worker process: apart from the terminal, tied to this process, stopped by degrees."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from celeriac.backend.command import PARENT_PID, Command
from celeriac.backend.output import Output

_TETHER = str(Path(__file__).with_name("tether.py"))


class WorkerProcess:
    """A worker and the processes it started.

    It has a session of its own, so that Ctrl-C in the terminal does not reach it: whoever started
    it decides when it drains.
    """

    def __init__(self, name: str, command: Command, *, python: str, output: Output) -> None:
        self.name = name
        parent = os.getpid()
        # -I -S: the tether needs nothing but the standard library, and starts in half the time.
        argv: Sequence[str] = (
            *(sys.executable, "-I", "-S", _TETHER, str(parent), python),
            *(*command.arguments, f"--name={name}"),
        )
        stream = output.open(name)
        try:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env={**os.environ, **dict(command.environment), PARENT_PID: str(parent)},
                start_new_session=True,
            )
        finally:
            if not isinstance(stream, int):
                stream.close()
        output.started(name, self._process)

    @property
    def pid(self) -> int:
        """The process id; also the id of its process group."""
        return self._process.pid

    def ended(self) -> int | None:
        """The exit code once it is gone, negative for a signal; None while it lives.

        Whatever it started is killed before: then no process of the worker can touch a message.
        """
        if self._process.returncode is None:
            if not _is_dead(self.pid):
                return None
            # Not reaped yet, so its id cannot have become somebody else's.
            self._signal_group(signal.SIGKILL)
        return self._process.wait()

    def terminate(self) -> None:
        """Ask it to stop: to drain at first, to stop at once when asked again."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it and all it started. Does not wait, so a signal handler may call it."""
        self._signal_group(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def _signal_group(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            # macOS answers EPERM for a group of which only zombies are left.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)


def _is_dead(pid: int) -> bool:
    """Whether a child has ended, without reaping it."""
    if sys.platform != "darwin" or sys.version_info >= (3, 13):
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return state.stdout.strip().startswith("Z")


def describe_end(code: int, last_lines: Sequence[str]) -> str:
    """Say how a process ended, in one line for people."""
    if code < 0:
        try:
            how = f"killed by {signal.Signals(-code).name}"
        except ValueError:
            how = f"killed by signal {-code}"
    else:
        how = f"exit code {code}"
    if code <= 0 or not last_lines:
        return how
    # The command line says what is wrong first, and then what to do; a traceback ends with it.
    errors = [line for line in last_lines if line.startswith("Error: ")]
    said = errors[-1].removeprefix("Error: ") if errors else last_lines[-1].strip()
    return f"{how}: {said[:300]}"
