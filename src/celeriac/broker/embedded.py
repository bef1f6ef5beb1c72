"""A private Valkey for one folder, so that nothing has to be installed or running first.

`EmbeddedServer(folder).start()` runs a server on the loopback interface with a password of its own,
keeps everything in the folder (append-only file, so a second start carries on), and answers before
it returns.

One folder is served by one server. The server itself holds the lock: it inherits an open, flock-ed
file, so the lock lives exactly as long as the server process does. No pid is ever trusted, hence
nothing is stale after `kill -9`, a reboot or a reused pid. Whoever finds the lock taken attaches to
the server that holds it.
"""

from __future__ import annotations

import atexit
import logging
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from celeriac.broker import server_process
from celeriac.broker.server_folder import ServerFolder
from celeriac.spec.errors import CeleriacError

if TYPE_CHECKING:
    import redis

log = logging.getLogger(__name__)

Appendfsync = Literal["everysec", "always", "no"]
State = Literal["ready", "loading", "silent"]

START_SECONDS = 15.0
LOAD_SECONDS = 600.0
STOP_SECONDS = 10.0
POLL_SECONDS = 0.01
PORT_TRIES = 20


class ServerFailed(CeleriacError, RuntimeError):
    """The embedded server did not start; the text ends with what it logged."""


class EmbeddedServer:
    """One Valkey (or Redis) server for `data_dir`, started here or found running.

    `port=0` takes the port of the folder's last run when it is free, else any free one.
    `appendfsync` "everysec" can lose the last second on a power cut, "always" nothing. `binary`
    overrides the search for a server program. Without `attach`, a folder that another process serves
    is not shared: `start` waits a little for that server to end, then fails.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str],
        *,
        port: int = 0,
        appendfsync: Appendfsync = "everysec",
        binary: str | os.PathLike[str] | None = None,
        attach: bool = True,
    ) -> None:
        self.data_dir = Path(data_dir).absolute()
        self._folder = ServerFolder(self.data_dir)
        self._wanted_port = port
        self._appendfsync = appendfsync
        self._attaches = attach
        self._binary = Path(binary) if binary is not None else None
        self._process: subprocess.Popen[bytes] | None = None
        self._starter = 0
        self._pid = 0
        self._port = 0
        self._password = ""

    @property
    def url(self) -> str:
        """The broker URL, with the password in it; the same after `kill()` and `start()`."""
        return f"celeriac://:{self._password}@127.0.0.1:{self.port}/0"

    @property
    def port(self) -> int:
        """The port on 127.0.0.1. Raise RuntimeError before the first start."""
        if not self._port:
            raise RuntimeError("the embedded server has not been started")
        return self._port

    @property
    def pid(self) -> int:
        """Process id of the server, 0 when it does not run."""
        return self._pid

    @property
    def owned(self) -> bool:
        """True when this object started the server: only then does `stop()` end it."""
        return self._process is not None

    @property
    def alive(self) -> bool:
        """True while the process that was started here runs; it may not answer yet."""
        return self._process is not None and self._process.poll() is None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> Self:
        """Starts the server, or attaches to the folder's live one; returns when it answers.

        Raises `NoServerFound` when there is no server program, `ServerFailed` when it does not
        come up.
        """
        if self._process is not None:
            if self._process.poll() is None:
                return self
            self._ended(self._process)  # somebody else killed it
        self._folder.create()
        self._password = self._folder.password()
        started = time.monotonic()
        deadline = started + START_SECONDS
        while True:
            lock = self._folder.take_lock()
            if lock is not None:
                try:
                    self._start_process(lock)
                finally:
                    os.close(lock)  # the server holds its own copy
                return self
            state = self._attach() if self._attaches else "silent"
            if state == "ready":
                return self
            if state == "loading":
                deadline = max(deadline, started + LOAD_SECONDS)
            if time.monotonic() > deadline:
                raise ServerFailed(
                    f"{self.data_dir} is held by another server"
                    + (f" that does not answer; see {self._folder.log}" if self._attaches else "")
                )
            time.sleep(POLL_SECONDS * 5)

    def stop(self) -> None:
        """Ends a server that was started here, with everything on disk; safe to call twice."""
        process = self._process
        if process is None or os.getpid() != self._starter:
            return
        if process.poll() is None:
            process.terminate()
        self._ended(process)

    def kill(self) -> None:
        """SIGKILL, as a crash would: for fault tests. `start()` brings it back on the same port."""
        if self._process is None:
            raise RuntimeError("only a server that was started here can be killed")
        self._process.kill()
        self._ended(self._process)

    def _ended(self, process: subprocess.Popen[bytes]) -> None:
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            log.warning("the embedded server did not stop within %.0f s: killing it", STOP_SECONDS)
            process.kill()
            process.wait()
        self._process = None
        self._pid = 0
        atexit.unregister(self.stop)

    def _attach(self) -> State:
        self._port = self._folder.port()
        state = self._state() if self._port else "silent"
        if state == "ready":
            with self._client() as client:
                # Asked, not read: the file may be older than the server.
                self._pid = int(client.info("server")["process_id"])
        return state

    def _start_process(self, lock: int) -> None:
        binary = server_process.find_server(self._binary)
        for port in self._ports():
            self._port = port
            self._folder.write_config(
                server_process.config(port, self._password, self._appendfsync)
            )
            mark = self._folder.mark_log()
            self._process = server_process.spawn(binary, self.data_dir, lock)
            self._starter, self._pid = os.getpid(), self._process.pid
            atexit.register(self.stop)
            self._folder.remember(port=port, pid=self._pid)
            if self._wait_until_ready():
                return
            said = self._folder.log_since(mark)
            self._ended(self._process)
            if "Address already in use" not in said:
                raise ServerFailed(f"{binary} ended while starting; it logged:\n{said.strip()}")
            time.sleep(POLL_SECONDS)
        raise ServerFailed(
            f"port {self._port} on 127.0.0.1 is in use; end what holds it, or leave the port out"
        )

    def _ports(self) -> Iterator[int]:
        """The ports to try, best first."""
        if self._wanted_port:
            yield self._wanted_port
        elif self._port:
            for _ in range(PORT_TRIES):
                yield self._port  # clients of this very object know this port
        else:
            last = self._folder.port()
            if last and server_process.is_free(last):
                yield last
            for _ in range(PORT_TRIES):
                yield server_process.free_port()

    def _wait_until_ready(self) -> bool:
        """True once it answers, False when it ended. Waits longer while it loads its file."""
        started = told = time.monotonic()
        limit = START_SECONDS
        process = self._process
        while process is not None and process.poll() is None:
            state = self._state()
            if state == "ready":
                return True
            now = time.monotonic()
            if state == "loading":
                limit = LOAD_SECONDS
                if now - told >= 2:
                    told = now
                    log.warning("the embedded server is loading its file (%.0f s)", now - started)
            if now - started > limit:
                process.kill()
                self._ended(process)
                raise ServerFailed(
                    f"the embedded server did not answer within {limit:.0f} s; "
                    f"see {self._folder.log}"
                )
            time.sleep(POLL_SECONDS)
        return False

    def _client(self) -> redis.Redis:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        return redis.Redis(
            port=self._port,
            password=self._password,
            socket_connect_timeout=0.5,
            socket_timeout=0.5,
            retry=Retry(NoBackoff(), 0),
        )

    def _state(self) -> State:
        import redis

        with self._client() as client:
            try:
                client.ping()
            except redis.exceptions.BusyLoadingError:
                return "loading"
            except redis.exceptions.RedisError:
                return "silent"  # nobody there yet, or a stranger who does not know our password
            return "ready"
