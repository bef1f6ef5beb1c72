"""A real API server with our CRD; with controllers and a fake kubelet where Deployments must do something."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from celeriac.broker.connection import connect
from celeriac.broker.embedded import EmbeddedServer
from celeriac.broker.message import NewMessage, Priority, QueueStats
from celeriac.broker.queue import Queue
from tests.api.fake_kubelet import FakeKubelet
from tests.api.kube import NAMESPACES, Kube
from tests.api.operator_process import OperatorProcess, prepare, until
from tests.cluster import programs
from tests.cluster.cluster import Cluster, control_plane

CRD = Path(__file__).parents[2] / "charts/celeriac-crds/templates/messagequeues.yaml"


@pytest.fixture(scope="package")
def api() -> Iterator[Cluster]:
    """A control plane with the MessageQueue resource."""
    programs.require(programs.CONTROL_PLANE_NEEDS, what="API server")
    with control_plane() as running:
        running.kubectl("create", "-f", str(CRD))
        running.wait_until_defined("messagequeues.celeriac.dev")
        yield running


@pytest.fixture(scope="package")
def kubelet(api: Cluster) -> Iterator[FakeKubelet]:
    """Controllers that make pods, and a kubelet that pretends to run them."""
    api.start_controllers()
    fake = FakeKubelet(api)
    fake.start()
    yield fake
    fake.stop()


@dataclass
class Broker:
    """A Valkey inside the cluster's network."""

    cluster: Cluster
    server: EmbeddedServer

    @property
    def url(self) -> str:
        """Where it is."""
        return self.server.url

    @contextmanager
    def client(self) -> Iterator[redis.Redis]:
        """A client, for the length of a `with` block."""
        with self.cluster.namespace.entered():
            client = connect(self.url)
            try:
                yield client
            finally:
                client.close()

    def publish(self, queue: str, count: int = 1, *, priority: Priority = "normal") -> None:
        """Publish messages."""
        messages = [
            NewMessage(
                id=uuid.uuid4().hex, task="shop.pay", body=b"[[], {}, {}]", priority=priority
            )
            for _ in range(count)
        ]
        with self.client() as client:
            Queue(client, queue).publish(messages)

    def stats(self, queue: str) -> QueueStats:
        """Measure a queue."""
        with self.client() as client:
            return Queue(client, queue).stats()

    def start(self) -> None:
        """Start it, with the data that it had."""
        with self.cluster.namespace.entered():
            self.server.start()

    def stop(self) -> None:
        """End it."""
        self.server.stop()


@pytest.fixture(scope="package")
def broker(api: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One broker for all tests that do not stop it."""
    running = Broker(api, EmbeddedServer(tmp_path_factory.mktemp("broker")))
    running.start()
    yield running
    running.stop()


@pytest.fixture
def own_broker(api: Cluster, tmp_path: Path) -> Iterator[Broker]:
    """A broker that the test may stop."""
    running = Broker(api, EmbeddedServer(tmp_path / "broker"))
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="package")
def account(api: Cluster) -> Path:
    """A kubeconfig with the operator's own rights."""
    return prepare(api)


@pytest.fixture
def kube(api: Cluster) -> Iterator[Kube]:
    """A namespace of the test's own."""
    name = f"t-{uuid.uuid4().hex[:8]}"
    kube = Kube(api, name)
    kube.request("POST", NAMESPACES.path(None), {"metadata": {"name": name}})
    yield kube
    kube.request("DELETE", NAMESPACES.path(None, name))


StartOperator = Callable[..., OperatorProcess]
_PORTS = itertools.count(18100)


@pytest.fixture
def start_operator(api: Cluster, account: Path, kube: Kube) -> Iterator[StartOperator]:
    """Starts operators that look after the test's namespace only, and ends them."""
    started: list[OperatorProcess] = []

    def start(**settings: str) -> OperatorProcess:
        name = settings.pop("identity", f"operator-{len(started)}-{kube.namespace}")
        given = {"watch_namespaces": kube.namespace, "lease_name": kube.namespace, **settings}
        operator = OperatorProcess(api, account, name=name, port=next(_PORTS), **given)
        operator.start()
        started.append(operator)
        return operator

    yield start
    for operator in started:
        operator.stop()


@pytest.fixture
def operator(start_operator: StartOperator, kube: Kube, broker: Broker) -> OperatorProcess:
    """An operator that leads; its namespace has the broker's Secret."""
    kube.secret("celeriac-broker", url=broker.url)
    running = start_operator()
    until(running.leads)
    return running
