"""One suite for every backend: what the control loop may rely on, wherever workers run.

The local backend runs real workers of a real app on a real broker. A backend joins by a harness; that of
Kubernetes does so beside the API server's tests.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
import redis

from celeriac.backend.base import Backend, Fleet
from celeriac.backend.fake import FakeBackend
from celeriac.backend.local import LocalBackend
from celeriac.backend.output import LogFiles
from celeriac.broker.message import NewMessage
from celeriac.broker.queue import Queue
from celeriac.control.observe import heard
from celeriac.spec.queue import MessageQueue

APP = """
import time
from pathlib import Path
from celery import Celery
app = Celery("yard")

@app.task
def nap(seconds):
    Path(__file__).with_name("napping").touch()
    time.sleep(seconds)
"""
LONG_S = 60.0


class Harness(Protocol):
    """A backend, and the means to do to it what the world does."""

    backend: Backend
    step_s: float
    """How long the world is left alone between two rounds."""

    def declare(self, queue: MessageQueue) -> MessageQueue:
        """Make a declaration known to the world; return it as the world sees it."""
        ...

    def heard(self, queue: MessageQueue) -> dict[str, int]:
        """The workers that the broker has heard of."""
        ...

    def workers(self, queue: MessageQueue) -> set[str]:
        """The workers that exist."""
        ...

    def kill(self, queue: MessageQueue, worker: str) -> None:
        """Kill a worker as the kernel would."""
        ...

    def close(self) -> None:
        """Leave nothing behind."""
        ...


class FakeHarness:
    step_s = 0.0

    def __init__(self) -> None:
        self.fake = FakeBackend()
        self.backend: Backend = self.fake

    def declare(self, queue: MessageQueue) -> MessageQueue:
        return queue

    def heard(self, queue: MessageQueue) -> dict[str, int]:
        return {}

    def workers(self, queue: MessageQueue) -> set[str]:
        return set(self.fake.workers(queue))

    def kill(self, queue: MessageQueue, worker: str) -> None:
        self.fake.kill(queue, worker)

    def close(self) -> None:
        pass


class LocalHarness:
    step_s = 0.1

    def __init__(self, folder: Path, url: str, client: redis.Redis) -> None:
        (folder / "yard.py").write_text(APP)
        self.logs = LogFiles(folder / "logs")
        self.local = LocalBackend(broker_url=url, output=self.logs)
        self.backend: Backend = self.local
        self.client = client

    def declare(self, queue: MessageQueue) -> MessageQueue:
        self.queue(queue).declare(queue.spec.policy)
        return queue

    def queue(self, queue: MessageQueue) -> Queue:
        return Queue(self.client, queue.queue_name)

    def heard(self, queue: MessageQueue) -> dict[str, int]:
        return heard(self.queue(queue).stats())

    def workers(self, queue: MessageQueue) -> set[str]:
        return set(self.local.pids(queue))

    def kill(self, queue: MessageQueue, worker: str) -> None:
        os.kill(self.local.pids(queue)[worker], signal.SIGKILL)

    def close(self) -> None:
        self.local.close()


@pytest.fixture(params=["fake", "local"])
def harness(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Harness]:
    made: Harness
    if request.param == "fake":
        made = FakeHarness()
    else:
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, sys.path)]))
        server = request.getfixturevalue("valkey")
        made = LocalHarness(tmp_path, server.url, request.getfixturevalue("redis_client"))
    yield made
    made.close()


class Yard:
    """A queue on a backend."""

    def __init__(self, harness: Harness, name: str) -> None:
        self.harness = harness
        self.name = name
        self.queue = self.declare()

    def declare(self, **spec: Any) -> MessageQueue:
        worker = {"app": "yard:app", "pool": "Solo", "drainSeconds": 20} | spec.pop("worker", {})
        declared = MessageQueue.model_validate(
            {
                "apiVersion": "celeriac.dev/v1alpha1",
                "kind": "MessageQueue",
                "metadata": {"name": self.name},
                "spec": {"worker": worker, **spec},
            }
        )
        self.queue = self.harness.declare(declared)
        return self.queue

    def look(self) -> Fleet:
        return self.harness.backend.observe(self.queue, heard=self.harness.heard(self.queue))

    def until(
        self,
        done: Callable[[Fleet], bool],
        *,
        replicas: int | None = None,
        each: Callable[[Fleet], None] = lambda fleet: None,
    ) -> Fleet:
        """Do rounds until something is so; with no number of replicas, remove the queue."""
        deadline = time.monotonic() + LONG_S
        while True:
            fleet = self.look()
            each(fleet)
            if done(fleet):
                return fleet
            assert time.monotonic() < deadline, fleet
            if replicas is None:
                self.harness.backend.remove(self.queue)
            else:
                self.harness.backend.ensure(self.queue, replicas=replicas)
            time.sleep(self.harness.step_s)

    @property
    def workers(self) -> set[str]:
        return self.harness.workers(self.queue)


@pytest.fixture
def yard(harness: Harness, queue_name: str) -> Yard:
    return Yard(harness, queue_name)


def test_an_unknown_queue_has_no_workers(yard: Yard) -> None:
    assert yard.look() == Fleet()
    yard.harness.backend.remove(yard.queue)
    yard.harness.backend.hurry(yard.queue)
    yard.harness.backend.acknowledge(yard.queue, ["nobody"])


def test_workers_come_up_to_the_number_and_go_down_to_it(yard: Yard) -> None:
    fleet = yard.until(lambda fleet: fleet.ready == 2, replicas=2)
    assert (fleet.wanted, fleet.starting, fleet.outdated, fleet.failures) == (2, 0, 0, 0)
    before = yard.workers
    assert len(before) == 2

    yard.until(lambda fleet: fleet.running == 1 and not fleet.draining, replicas=1)
    assert yard.workers < before

    yard.until(lambda fleet: not fleet.running and not fleet.draining, replicas=0)
    assert yard.workers == set()


def test_what_is_wanted_already_changes_nothing(yard: Yard) -> None:
    yard.until(lambda fleet: fleet.ready == 1, replicas=1)
    before = yard.workers
    for _ in range(5):
        yard.harness.backend.ensure(yard.queue, replicas=1)
        yard.look()

    assert yard.workers == before


def test_a_killed_worker_is_told_as_lost_until_acknowledged_and_replaced(yard: Yard) -> None:
    yard.until(lambda fleet: fleet.ready == 1, replicas=1)
    (name,) = yard.workers
    yard.harness.kill(yard.queue, name)

    fleet = yard.until(lambda fleet: bool(fleet.lost) and fleet.ready == 1, replicas=1)
    assert fleet.lost == (name,)
    assert "SIGKILL" in fleet.last_failure
    assert name not in yard.workers

    yard.harness.backend.acknowledge(yard.queue, [name])
    assert yard.look().lost == ()


def test_a_changed_worker_replaces_all_one_for_one(yard: Yard) -> None:
    yard.until(lambda fleet: fleet.ready == 2, replicas=2)
    before = yard.workers
    yard.declare(worker={"env": [{"name": "GREETING", "value": "hello"}]})
    seen: list[tuple[int, int]] = []

    yard.until(
        lambda fleet: fleet.ready == 2 and not yard.workers & before,
        replicas=2,
        each=lambda fleet: seen.append((fleet.ready, fleet.running)),
    )

    assert min(ready for ready, _ in seen) == 2
    assert max(running for _, running in seen) == 3


def test_a_policy_change_replaces_nobody(yard: Yard) -> None:
    yard.until(lambda fleet: fleet.ready == 1, replicas=1)
    before = yard.workers
    yard.declare(retry={"maxAttempts": 9}, paused=True, autoscaling={"maxReplicas": 3})
    for _ in range(3):
        yard.harness.backend.ensure(yard.queue, replicas=1)

    assert yard.look().outdated == 0
    assert yard.workers == before


def test_a_removed_queue_drains_and_is_forgotten(yard: Yard) -> None:
    yard.until(lambda fleet: fleet.ready == 2, replicas=2)
    fleet = yard.until(lambda fleet: not fleet.running and not fleet.draining)
    yard.harness.backend.acknowledge(yard.queue, fleet.lost)
    yard.harness.backend.remove(yard.queue)

    assert yard.look() == Fleet()
    assert yard.workers == set()


def test_one_queue_s_workers_are_not_another_s(yard: Yard, harness: Harness) -> None:
    other = Yard(harness, f"{yard.name}-other")
    yard.until(lambda fleet: fleet.ready == 1, replicas=1)
    other.until(lambda fleet: fleet.ready == 1, replicas=1)
    mine = yard.workers
    assert not mine & other.workers

    other.until(lambda fleet: not fleet.running and not fleet.draining, replicas=0)

    assert yard.workers == mine


@pytest.mark.parametrize("harness", ["local"], indirect=True)
def test_a_busy_worker_finishes_what_it_runs_when_it_is_not_needed_any_more(
    yard: Yard, harness: Harness, tmp_path: Path
) -> None:
    """Scaling down never ends a running job."""
    assert isinstance(harness, LocalHarness)
    queue = harness.queue(yard.queue)
    yard.until(lambda fleet: fleet.ready == 1, replicas=1)
    body = b'[[1.5],{},{"callbacks":null,"errbacks":null,"chain":null,"chord":null}]'
    queue.publish([NewMessage(id="1", task="yard.nap", body=body)])
    # A lease is not enough: a worker that has not heard of it yet hands it back.
    yard.until(lambda _: (tmp_path / "napping").exists(), replicas=1)

    yard.until(lambda fleet: not fleet.running and not fleet.draining, replicas=0)

    stats = queue.stats()
    assert (stats.done, stats.unfinished, stats.redelivered, stats.imbalance) == (1, 0, 0, 0)
