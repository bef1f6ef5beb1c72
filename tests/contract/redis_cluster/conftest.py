"""A cluster for each module and server program, and workers on it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from celery import Celery

from celeriac.broker.connection import connect
from tests.programs import program
from tests.redis_cluster import PROGRAMS, Node, RedisCluster, slot_of_queue

APP = """
import os, time
from celery import Celery
app = Celery("yard", backend=os.environ.get("BACKEND"))

@app.task(name="yard.add")
def add(x, y=0):
    return x + y

@app.task(name="yard.nap", ignore_result=True)
def nap(seconds):
    time.sleep(seconds)

@app.task(name="yard.fail", ignore_result=True)
def fail():
    raise ValueError("no")
"""


@pytest.fixture(scope="module", params=PROGRAMS)
def cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RedisCluster]:
    """Three primaries, each with a replica."""
    folder = tmp_path_factory.mktemp("cluster")
    with RedisCluster(folder, binary=program(request.param)) as running:
        yield running


@pytest.fixture
def client(cluster: RedisCluster) -> Iterator[redis.Redis]:
    with connect(cluster.url) as client:
        yield client


@pytest.fixture
def names(cluster: RedisCluster, queue_name: str) -> list[str]:
    """Three queue names of one's own, each on another node."""
    return [names[0] for names in cluster.names_on_each(1, prefix=f"{queue_name}-")]


@pytest.fixture
def slot(queue_name: str) -> int:
    """The slot of the test's queue."""
    return slot_of_queue(queue_name)


@pytest.fixture
def elsewhere(cluster: RedisCluster, slot: int) -> Node:
    """A primary that does not serve the slot."""
    owner = cluster.owner(slot)
    return next(node for node in cluster.primaries() if node is not owner)


@pytest.fixture(scope="module")
def backend(valkey: Any) -> str:
    """A result backend, which is an ordinary server."""
    return f"redis://:{valkey.password}@127.0.0.1:{valkey.port}/1"


@pytest.fixture
def app(cluster: RedisCluster, backend: str) -> Iterator[Celery]:
    """A producer."""
    app = Celery("yard", broker=cluster.url, backend=backend, set_as_current=False)
    yield app
    app.close()


Run = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture(scope="module")
def run(
    cluster: RedisCluster, backend: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Run]:
    """Start `celeriac` commands; end what still runs."""
    folder = tmp_path_factory.mktemp("yard")
    (folder / "yard.py").write_text(APP)
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: object) -> subprocess.Popen[bytes]:
        with (folder / f"log{len(started)}").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "celeriac.cli", *map(str, arguments)],
                cwd=folder,
                env={**os.environ, "CELERIAC_BROKER_URL": cluster.url, "BACKEND": backend},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        started.append(process)
        return process

    yield start
    for process in started:
        process.terminate()
    for process in started:
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
