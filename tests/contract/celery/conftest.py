"""Workers for the contract tests: one for each pool and the whole session, and fresh ones on demand.

The Asyncio pool has two, since it runs coroutines and functions in different ways.
"""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from contract_app import app
from contract_worker import FAST, WORKERS, Watched, fast

RESULTS, NOTES = 1, 2
#: What a shared worker runs in place of the contract app.
APPS = {"asyncio": "contract_coroutines:app"}


@pytest.fixture(scope="session")
def producer(valkey: Any) -> Iterator[None]:
    """Make this process a producer of the app: its broker and its result backend."""
    backend = f"redis://:{valkey.password}@127.0.0.1:{valkey.port}"
    os.environ["CONTRACT_BACKEND"] = f"{backend}/{RESULTS}"
    os.environ["CONTRACT_NOTES"] = f"{backend}/{NOTES}"
    app.conf.broker_url = valkey.url
    app.conf.result_backend = os.environ["CONTRACT_BACKEND"]
    app.loader.import_default_modules()
    yield
    # Results that live longer than the server must not look for it.
    app.backend.remove_pending_result = lambda result: result


@pytest.fixture(scope="session")
def new_queue(
    producer: None, valkey: Any, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Watched]:
    """Make queues, whose workers are not started yet."""
    folder = tmp_path_factory.mktemp("workers")

    def make() -> Watched:
        name = f"c-{uuid.uuid4().hex[:10]}"
        return Watched(valkey.client(), valkey.client(db=NOTES), valkey.url, name, folder)

    return make


@pytest.fixture(scope="session")
def _shared(new_queue: Callable[..., Watched]) -> Iterator[Callable[[str], Watched]]:
    workers: dict[str, Watched] = {}

    def get(kind: str) -> Watched:
        if kind not in workers:
            pool, app_name = kind.partition("-")[0], APPS.get(kind, "contract_app:app")
            workers[kind] = new_queue().start(pool, "-A", app_name).wait_ready()
        return workers[kind]

    yield get
    for watched in workers.values():
        watched.end()


@pytest.fixture(params=WORKERS)
def worker(request: pytest.FixtureRequest, _shared: Callable[[str], Watched]) -> Watched:
    """The session's worker of each pool; no test may leave messages or another policy behind."""
    watched = _shared(request.param)
    assert not watched.ended, watched.log
    return watched


@pytest.fixture
def policy(worker: Watched) -> Iterator[Callable[..., int]]:
    """Change the queue's policy for one test: its sections, in the words of the YAML."""
    yield lambda **sections: worker.queue.declare(fast(**sections))
    worker.queue.declare(FAST)


@pytest.fixture
def fresh(new_queue: Callable[..., Watched]) -> Iterator[Watched]:
    """A queue whose worker the test starts itself."""
    watched = new_queue()
    yield watched
    watched.end()
