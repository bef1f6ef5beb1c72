"""`celeriac up` as a newcomer runs it: start, use, stop, crash, start again; nothing is left behind."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from celeriac.chaos.processes import eventually
from celeriac.client.client import Client

APP = """
import os, time
from celery import Celery

app = Celery("shop")

@app.task(name="app.greet")
def greet(name):
    return f"hello {name}"

@app.task(name="app.fail")
def fail():
    raise ValueError("always")

@app.task(name="app.long")
def long(seconds):
    time.sleep(seconds)
"""

QUEUES = """
apiVersion: celeriac.dev/v1alpha1
kind: MessageQueue
metadata: {name: shop}
spec:
  worker: {app: "app:app", pool: Threads, concurrency: 4, drainSeconds: 30}
  retry: {maxAttempts: 2, backoff: {initialSeconds: 0, maxSeconds: 0}}
  autoscaling: {minReplicas: 1, maxReplicas: 2}
---
apiVersion: celeriac.dev/v1alpha1
kind: MessageQueue
metadata: {name: idle}
spec:
  worker: {app: "app:app", pool: Solo}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "queues.yaml").write_text(QUEUES)
    return tmp_path


class Up:
    """A running `celeriac up` with its log, and commands in its folder."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self.process = process
        self.folder = folder

    @property
    def log(self) -> str:
        return (self.folder / "up.log").read_text()

    def state(self, name: str = "broker.json") -> dict[str, Any]:
        try:
            value: dict[str, Any] = json.loads((self.folder / ".celeriac" / name).read_text())
        except FileNotFoundError:
            return {}
        return value

    def is_ready(self) -> bool:
        mine = self.state().get("pid") == self.process.pid  # a killed one leaves its files
        return mine and "idle" in self.state("status.json").get("queues", {})

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return command(self.folder, *words)

    def queue(self, name: str = "shop") -> dict[str, Any]:
        listed: list[dict[str, Any]] = json.loads(self.run("get", name, "-o", "json").stdout)
        return listed[0]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


def command(folder: Path, *words: str, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "celeriac.cli", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=folder,
        env={**environment(), **extra},
        stdin=subprocess.DEVNULL,
    )


def environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key != "CELERIAC_BROKER_URL"}


@contextmanager
def running(folder: Path, *words: str, **extra: str) -> Iterator[Up]:
    """`celeriac up`, ready to be used; on the way out it must be gone with all it started."""
    with (folder / "up.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "celeriac.cli", "up", "--metrics-port", "0", *words],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**environment(), **extra},
        )
    up = Up(process, folder)
    try:
        eventually(lambda: process.poll() is not None or up.is_ready())
        assert process.poll() is None, up.log
        yield up
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(40)
    eventually(lambda: not of_folder(folder))


def of_folder(folder: Path) -> list[str]:
    """The processes that work in a folder or below it, where the system tells."""
    found = []
    for entry in Path("/proc").iterdir() if Path("/proc/self").exists() else ():
        if entry.name.isdigit():
            try:
                where = (entry / "cwd").readlink()
                if where.is_relative_to(folder):
                    found.append((entry / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue
    return found


def test_from_the_first_message_to_the_dead_letters(folder: Path) -> None:
    with running(folder) as up:
        assert stat.S_IMODE((folder / ".celeriac" / "broker.json").stat().st_mode) == 0o600
        assert up.state()["pid"] == up.process.pid
        assert up.run("send", "shop", "app.greet", "--args", '["Ada"]').returncode == 0
        assert up.run("send", "shop", "app.fail").returncode == 0
        eventually(lambda: (up.queue()["done"], up.queue()["dead"]) == (1, 1))
        eventually(lambda: up.queue()["replicas"] == 1)  # looked for once a second
        queue = up.queue()
        assert (queue["replicas"], queue["desiredReplicas"], queue["retried"]) == (1, 1, 1)
        assert {condition["type"] for condition in queue["conditions"]} >= {"Ready", "Stalled"}
        (letter,) = json.loads(up.run("dlq", "ls", "shop", "-o", "json").stdout)
        assert (letter["error"], letter["attempts"]) == ("ValueError", 2)
        assert up.run("dlq", "redrive", "shop", letter["id"]).stdout == "1 redriven\n"
        eventually(lambda: up.queue()["dead"] == 1)
        explained = up.run("explain", "shop").stdout
        assert "1 worker desired: autoscaling.minReplicas" in explained
        assert json.loads(up.run("explain", "shop", "-o", "json").stdout)["source"] == "up"
        assert up.run("doctor").returncode == 0
        text = scrape(up)
        assert 'mq_jobs_finished_total{outcome="done",queue="shop"} 1.0' in text
        assert 'mq_autoscaler_replicas{kind="desired",queue="shop"} 1.0' in text
        assert 'mq_ledger_imbalance{queue="shop"} 0.0' in text
        assert up.stop() == 0
        assert (up.state(), up.state("status.json")) == ({}, {})
    assert "celeriac send shop TASK" in up.log
    assert re.search(r"^shop-\w+ \| .* succeeded", up.log, re.MULTILINE)
    assert "\x1b" not in up.log
    assert "Traceback (most recent call last):" not in re.sub(r"(?m)^shop-.*$", "", up.log)


def scrape(up: Up) -> str:
    url = f"http://127.0.0.1:{up.state()['metricsPort']}/metrics"
    with urllib.request.urlopen(url, timeout=5) as answer:
        text: str = answer.read().decode()
    return text


PRODUCER = """
import celeriac
from celery import Celery
celeriac.Client().send("shop", "app.greet", args=["Ada"])
app = Celery(broker="celeriac://")
app.send_task("app.greet", ["Grace"], queue="shop")
"""


def test_a_program_in_the_folder_finds_its_broker(folder: Path) -> None:
    with running(folder) as up:
        subprocess.run(
            [sys.executable, "-c", PRODUCER], cwd=folder, env=environment(), check=True, timeout=60
        )
        eventually(lambda: up.queue()["done"] == 2)


def test_the_next_start_carries_on_with_what_was_left(folder: Path) -> None:
    with running(folder) as up:
        up.run("pause", "shop")
        for _ in range(3):
            up.run("send", "shop", "app.greet", "--args", '["Ada"]')
        url = up.state()["url"]
    assert "Stopped. 3 messages left for the next start." in up.log
    with running(folder) as up:
        assert up.state()["url"] == url
        assert up.queue()["ready"] == 3
        up.run("resume", "shop")
        eventually(lambda: up.queue()["done"] == 3)


def test_killed_hard_it_takes_everything_along_and_the_next_one_carries_on(folder: Path) -> None:
    with running(folder) as up:
        eventually(lambda: up.queue()["conditions"][0]["reason"] == "Running")
        up.run("send", "shop", "app.greet", "--args", '["Ada"]')
        eventually(lambda: up.queue()["done"] == 1)
        time.sleep(1.2)  # appendfsync everysec
        up.process.kill()
        up.process.wait()
        eventually(lambda: not of_folder(folder))
        gone = up.run("get")
        assert gone.returncode == 3
        assert "start it again" in gone.stderr
    with running(folder) as up:
        assert up.queue()["done"] == 1


def test_the_first_ctrl_c_drains_and_the_second_stops_at_once(folder: Path) -> None:
    with running(folder) as up:
        up.run("send", "shop", "app.long", "--args", "[60]")
        eventually(lambda: up.queue()["leased"] == 1)
        up.process.send_signal(signal.SIGINT)
        eventually(lambda: "Draining" in up.log)
        time.sleep(1)
        assert up.process.poll() is None
        assert up.stop(signal.SIGINT) == 0
    assert "Stopping at once" in up.log
    assert "1 message left" in up.log
    with running(folder) as up:
        assert up.queue()["redelivered"] == 0
        up.process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        up.process.send_signal(signal.SIGINT)


def test_a_drain_lets_running_messages_finish(folder: Path) -> None:
    with running(folder) as up:
        up.run("send", "shop", "app.long", "--args", "[2]")
        eventually(lambda: up.queue()["leased"] == 1)
        assert up.stop() == 0
    assert "Stopped.\n" in up.log
    assert "succeeded" in up.log


def test_a_broker_that_crashes_comes_back(folder: Path) -> None:
    with running(folder, "--appendfsync", "always") as up:
        pid = json.loads((folder / ".celeriac" / "data" / "server.json").read_text())["pid"]
        up.run("send", "shop", "app.greet", "--args", '["Ada"]')
        eventually(lambda: up.queue()["done"] == 1)
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: up.run("get").returncode == 0)
        up.run("send", "shop", "app.greet", "--args", '["Ada"]')
        eventually(lambda: up.queue()["done"] == 2)
    assert "started again with its data" in up.log


def test_one_folder_one_up(folder: Path) -> None:
    with running(folder) as up:
        second = up.run("up")
        assert second.returncode == 1
        assert f"runs in this folder already (pid {up.process.pid})" in second.stderr
        assert up.queue()["name"] == "shop"


def test_with_a_broker_of_ones_own_none_is_started(folder: Path, valkey: Any) -> None:
    url = f"{valkey.url}?prefix={folder.name}"
    with running(folder, "--broker", url) as up:
        Client(url).send("shop", "app.greet", args=["Ada"])
        eventually(lambda: up.queue()["done"] == 1)
        assert not (folder / ".celeriac" / "data").exists()
    assert valkey.client().ping()


def test_a_broker_in_the_environment_is_not_used_and_that_is_said(folder: Path) -> None:
    with running(folder, CELERIAC_BROKER_URL="celeriac://127.0.0.1:1/0") as up:
        assert "CELERIAC_BROKER_URL is set" in up.log
        assert up.queue()["accepted"] == 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["-f", "missing.yaml"], 2, "missing.yaml:0: cannot be read"),
        (["-f", "app.py"], 2, "app.py:"),
        (["-f", "broken.yaml"], 2, "broken.yaml:6: spec.worker.pool"),
        (["--broker", "amqp://x"], 2, "celeriac://"),
        (["--broker", "celeriac://:hush@127.0.0.1:1/0"], 3, "does not answer"),
        (["--metrics-port", "70000"], 2, "65535"),
    ],
)
def test_what_cannot_be_started_is_explained(
    folder: Path, words: list[str], code: int, said: str
) -> None:
    (folder / "broken.yaml").write_text(QUEUES.replace("Threads", "Fibers"))
    result = command(folder, "up", *words)
    assert result.returncode == code
    assert said in result.stderr
    assert "hush" not in result.stderr
    assert "Traceback" not in result.stderr
    assert not of_folder(folder)


def test_without_a_file_it_asks_for_one(tmp_path: Path) -> None:
    result = command(tmp_path, "up")
    assert result.returncode == 2
    assert "celeriac up -f FILE" in result.stderr


def test_a_metrics_port_in_use(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = command(folder, "up", "--metrics-port", str(port))
    assert result.returncode == 2
    assert f"port {port} on 127.0.0.1 is in use" in result.stderr


def test_explain_calculates_where_no_up_runs(folder: Path, valkey: Any) -> None:
    url = f"{valkey.url}?prefix={folder.name}"
    client = Client(url)
    for _ in range(9):
        client.send("shop", "app.greet", args=["Ada"])
    alone = command(folder, "explain", "shop", "--broker", url)
    assert alone.returncode == 2
    assert "-f queues.yaml" in alone.stderr
    text = command(folder, "explain", "shop", "--broker", url, "-f", "queues.yaml").stdout
    assert "9 ready + 0 leased + 0 due = 9 messages" in text
    assert "autoscaling.maxReplicas limits them" in text
    assert "Calculated just now" in text
    client.close()


def test_on_a_terminal_it_shows_a_table_and_ctrl_c_ends_it(folder: Path) -> None:
    parent, child = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "celeriac.cli", "up", "--metrics-port", "0"],
        cwd=folder,
        stdin=child,
        stdout=child,
        stderr=child,
        start_new_session=True,
        env={**environment(), "TERM": "xterm-256color", "COLUMNS": "100"},
    ) as process:
        os.close(child)
        shown = read_until(parent, b"Running")
        os.killpg(process.pid, signal.SIGINT)
        shown += read_until(parent, b"Stopped.")
        assert process.wait(20) == 0
    os.close(parent)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert "WORKERS" in text
    assert "Draining the workers" in text
    assert "succeeded" not in text
    assert list((folder / ".celeriac" / "logs").glob("shop-*.log"))
    eventually(lambda: not of_folder(folder))


def read_until(descriptor: int, wanted: bytes) -> bytes:
    written = b""
    while wanted not in written:
        written += os.read(descriptor, 65536)
    return written
