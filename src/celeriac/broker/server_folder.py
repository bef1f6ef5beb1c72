"""What the embedded server keeps in its folder besides its data: lock, password, port, log.

Every file is readable by its owner only, from the moment it exists.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import threading
from pathlib import Path

LOG_BYTES = 1_000_000


class ServerFolder:
    """The files of one embedded server."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = path / "server.log"

    def create(self) -> None:
        """Make the folder, for its owner only."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def take_lock(self) -> int | None:
        """An open, locked file to pass on to the server, or None while a server has it."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        lock = os.open(self.path / "server.lock", flags, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        return lock

    def password(self) -> str:
        """The folder's password, made at the first call."""
        path = self.path / "password"
        for _ in range(2):
            if path.exists():
                password = path.read_text().strip()
                if password:
                    return password
                path.unlink()  # cut off by a crash of the machine; no server runs with it
            # Written aside and linked: of two callers that race, both read the winner's.
            fresh = path.with_name(f"password.{os.getpid()}.{threading.get_ident()}")
            write_private(fresh, secrets.token_hex(24))
            try:
                os.link(fresh, path)
            except FileExistsError:
                pass
            finally:
                fresh.unlink()
        return path.read_text().strip()

    def port(self) -> int:
        """The port of the last start, 0 when there was none; by now a stranger may listen there."""
        try:
            return int(json.loads((self.path / "server.json").read_text())["port"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0

    def remember(self, *, port: int, pid: int) -> None:
        """Note where the server is, for those who attach."""
        write_private(self.path / "server.json", json.dumps({"port": port, "pid": pid}))

    def write_config(self, text: str) -> None:
        """Write what the server reads at its start."""
        write_private(self.path / "server.conf", text)

    def mark_log(self) -> int:
        """The log's length before a start; a long log is set aside."""
        if not self.log.exists():
            return 0
        if self.log.stat().st_size > LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
            return 0
        return self.log.stat().st_size

    def log_since(self, mark: int) -> str:
        """Read what was logged after the mark, at most its last 4000 bytes."""
        with self.log.open("rb") as file:
            file.seek(mark)
            return file.read()[-4000:].decode(errors="replace")


def write_private(path: Path, text: str) -> None:
    """Replaces a file in one step; at no moment may anybody but its owner read it."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    aside.unlink(missing_ok=True)
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    aside.replace(path)
