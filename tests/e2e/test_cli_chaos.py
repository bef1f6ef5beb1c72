"""``celeriac chaos`` on a server that others use: its verdict, its exit codes, and what it leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from celeriac import Client
from celeriac.broker.connection import connect
from celeriac.broker.queue import Queue

Start = Callable[..., subprocess.Popen[str]]


class Server:
    """A prefix of a server, in which somebody else has a queue."""

    def __init__(self, valkey: Any, prefix: str) -> None:
        self.url = f"{valkey.url}?prefix={prefix}"
        self.prefix = prefix
        self.redis: Any = connect(self.url)
        self.other = Queue(self.redis, "other", prefix=prefix)
        Client(self.redis, prefix=prefix).send("other", "a.task")
        self.before = self.keys()

    def keys(self) -> dict[bytes, bytes]:
        """Every key of the prefix with its value as the server would dump it."""
        names = self.redis.keys(f"{self.prefix}:*")
        return {name: self.redis.dump(name) for name in names}

    def trial(self) -> str:
        """Wait for the trial's queue, and return the stream of its messages."""
        pattern = f"{self.prefix}:{{chaos-*}}:normal"
        deadline = time.monotonic() + 30
        while not (found := self.redis.keys(pattern)):
            assert time.monotonic() < deadline, "no queue was made"
            time.sleep(0.02)
        return str(found[0].decode())


@pytest.fixture
def server(valkey: Any, tmp_path: Path) -> Server:
    return Server(valkey, tmp_path.name)


@pytest.fixture
def start(server: Server, tmp_path: Path) -> Start:
    def start(*words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "celeriac.cli", "chaos", *words],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "CELERIAC_BROKER_URL": server.url, "TMPDIR": str(tmp_path)},
        )

    return start


@pytest.mark.parametrize(
    ("options", "faults"),
    [
        ([], ["kill", "freeze", "term", "child"]),
        (["--pool", "asyncio"], ["kill", "freeze", "term"]),
    ],
    ids=["prefork", "asyncio"],
)
def test_every_job_is_accounted_for_and_nothing_is_left(
    options: list[str], faults: list[str], server: Server, start: Start, tmp_path: Path
):
    rounds = str(len(faults))
    process = start(*options, "--rounds", rounds, "--jobs", "500", "--seed", "7", "-o", "json")
    out, errors = process.communicate(timeout=150)
    assert process.returncode == 0, errors
    found = json.loads(out)
    assert found["faults"] == dict.fromkeys(faults, 1)
    assert found["jobs"] >= 500 and found["lost"] == found["stuck"] == 0
    if "child" in faults:  # the only fault that waits for a job; coroutines are soon done
        assert found["runAgain"], "no fault struck a job"
    assert found["conservationLaw"] and found["violations"] == [] and found["seed"] == 7
    assert "seed 7" in errors
    assert server.keys() == server.before, "another queue was touched, or keys were left"
    assert list(tmp_path.iterdir()) == [], "logs of a good run are kept"


def test_jobs_that_vanish_are_told_with_exit_code_1(server: Server, start: Start, tmp_path: Path):
    process = start(
        "--pool", "solo", "--workers", "1", "--fault", "kill", "--rounds", "1", "--jobs", "2000"
    )
    stream = server.trial()
    deadline = time.monotonic() + 30
    while server.redis.xlen(stream) < 1000:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    (victim, _), *_ = server.redis.xrevrange(stream, count=1)
    assert server.redis.xdel(stream, victim) == 1
    out, errors = process.communicate(timeout=150)
    assert process.returncode == 1
    assert "VIOLATION: 1 lost: j" in errors
    assert "VIOLATION: 1 messages are in no state at all" in errors
    assert "conservation law" in out and "broken" in out
    (kept,) = tmp_path.iterdir()
    assert str(kept) in errors and list(kept.glob("*.log")), "the evidence is gone"
    assert server.keys() == server.before


def test_ended_half_way_it_leaves_no_worker_and_no_key(server: Server, start: Start):
    process = start("--pool", "solo", "--rounds", "100")
    queue = server.trial().split(":")[1].strip("{}")
    time.sleep(1.5)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 1
    assert server.keys() == server.before
    listing = subprocess.run(
        ["ps", "-A", "-o", "args="], capture_output=True, text=True, check=True
    )
    assert not [line for line in listing.stdout.splitlines() if queue in line]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--pool", "threads", "--fault", "child"], 2, "needs --pool prefork"),
        (["--jobs", "5"], 2, "5 is not in the range"),
        (["--fault", "earthquake"], 2, "earthquake"),
        (["--broker", "http://here"], 2, "a broker URL starts with"),
        (["--broker", "redis://127.0.0.1:1"], 3, "does not answer"),
    ],
)
def test_what_it_refuses(start: Start, words: list[str], code: int, says: str):
    process = start(*words)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, says in errors) == (code, True), errors
