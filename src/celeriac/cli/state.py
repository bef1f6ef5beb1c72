"""The ``.celeriac`` folder, in which a running ``celeriac up`` tells other commands about itself.

``broker.json`` (readable by its owner only: the URL holds a password) says where the broker is;
``status.json`` is what the control loop last saw and decided. Both carry the process id of ``up``
and are believed only while the lock says that it lives.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path
from typing import Any

from celeriac.broker.nearby import BROKER, FOLDER, LOCK

#: Where `up` serves metrics, unless something else does; broker.json holds the port it took.
METRICS_PORT = 9464
STALE_SECONDS = 10.0


class StateFolder:
    """The state of the `up` that runs in ``folder``, or ran there last."""

    def __init__(self, folder: Path | None = None) -> None:
        self.path = folder if folder is not None else Path.cwd() / FOLDER

    def create(self) -> None:
        """Make the folder, for its owner only and ignored by git."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        ignore = self.path / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")

    def lock(self) -> int | None:
        """Take the folder for this process; None while another `up` has it."""
        descriptor = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def write(self, name: str, value: dict[str, Any]) -> None:
        """Replace a file in one step."""
        from celeriac.broker.server_folder import write_private

        write_private(self.path / name, json.dumps(value, ensure_ascii=False, indent=1) + "\n")

    def remove(self, *names: str) -> None:
        """Delete files."""
        for name in names:
            (self.path / name).unlink(missing_ok=True)

    def broker(self) -> dict[str, Any]:
        """Read ``broker.json``: url, pid, metricsPort; empty when there is none."""
        return self._read(BROKER)

    def status(self) -> dict[str, Any]:
        """Read ``status.json``; empty when nobody keeps it fresh."""
        status = self._read("status.json")
        written = status.get("writtenMs", 0)
        if not isinstance(written, int) or time.time() - written / 1000 > STALE_SECONDS:
            return {}
        return status

    def _read(self, name: str) -> dict[str, Any]:
        try:
            value = json.loads((self.path / name).read_text())
        except (OSError, ValueError):
            return {}
        return value if isinstance(value, dict) else {}
