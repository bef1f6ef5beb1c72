"""The platform as its users run it: ``celeriac up`` as a process of its own, and its command line.

``up`` gets a session of its own, so that Ctrl-C reaches only the demo, which then stops everything
in order: first the workers and the broker, then the sinks they talk to.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

CELERIAC = (sys.executable, "-m", "celeriac.cli")
LAST_LINES = 6
START_SECONDS = 60.0
STOP_SECONDS = 60.0
DRAIN_SECONDS = 10
BACKOFF = {"initialSeconds": 1, "multiplier": 2, "maxSeconds": 4, "jitterPercent": 20}


class PlatformFailed(Exception):
    """``celeriac up`` did not start, or a command of it failed."""


def write_queues(path: Path) -> None:
    """The application's own six queues, with waits that suit a demo."""
    text = (files("celeriac_messaging") / "queues.yaml").read_text("utf-8")
    documents = list(yaml.safe_load_all(text))
    for document in documents:
        document["spec"]["retry"]["backoff"] = BACKOFF
        document["spec"]["worker"]["drainSeconds"] = DRAIN_SECONDS
    path.write_text(yaml.safe_dump_all(documents, sort_keys=False))


class Platform:
    """``celeriac up`` in a folder."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = {**os.environ, **environment, "PYTHONUNBUFFERED": "1"}
        self._environment.pop("CELERIAC_BROKER_URL", None)  # the demo brings its own broker
        self._process: subprocess.Popen[bytes] | None = None
        self.log = folder / "up.log"

    def start(self) -> str:
        """Start it, or take over from one that a killed demo left; returns the broker's URL."""
        self._stop_leftover()
        queues = self._folder / "queues.yaml"
        write_queues(queues)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*CELERIAC, "up", "-f", str(queues)],
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        ends = time.monotonic() + START_SECONDS
        while time.monotonic() < ends:
            if self._process.poll() is not None:
                raise PlatformFailed(f"celeriac up ended at once:\n{self.last_words()}")
            state = self._state()
            if state.get("url") and state.get("pid") == self._process.pid:
                return str(state["url"])
            time.sleep(0.05)
        raise PlatformFailed(
            f"celeriac up did not start in {START_SECONDS:g} s:\n{self.last_words()}"
        )

    def last_words(self) -> str:
        """Where the log is, and how it ends."""
        lines = self.log.read_text("utf-8", "replace").splitlines()
        return "\n".join([*lines[-LAST_LINES:], f"(from {self.log})"])

    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """Stop it and wait until it and its children are gone; a second Ctrl-C makes it hurry."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except (KeyboardInterrupt, subprocess.TimeoutExpired):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)  # the second one: at once
            process.wait(STOP_SECONDS)

    def command(self, *arguments: str) -> str:
        """Run a ``celeriac`` command in the folder and return what it prints."""
        done = subprocess.run(
            [*CELERIAC, *arguments],
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode != 0:
            raise PlatformFailed(f"celeriac {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def dead_letters(self, queue: str) -> list[dict[str, Any]]:
        """The dead letters of a queue, newest first."""
        found: list[dict[str, Any]] = json.loads(self.command("dlq", "ls", queue, "-o", "json"))
        return found

    def _state(self) -> dict[str, Any]:
        try:
            state = json.loads((self._folder / ".celeriac" / "broker.json").read_text())
        except (OSError, ValueError):
            return {}
        return state if isinstance(state, dict) else {}

    def _stop_leftover(self) -> None:
        """An ``up`` whose demo was killed still runs: it answers to the id it wrote down."""
        pid = self._state().get("pid")
        if not isinstance(pid, int) or not _is_up(pid):
            return
        os.kill(pid, signal.SIGTERM)
        ends = time.monotonic() + STOP_SECONDS
        while _is_up(pid) and time.monotonic() < ends:
            time.sleep(0.1)


def _is_up(pid: int) -> bool:
    """Whether that process is a ``celeriac up``, and not one that was given the same id later."""
    listed = subprocess.run(
        ["ps", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return "celeriac" in listed.stdout and " up " in listed.stdout
