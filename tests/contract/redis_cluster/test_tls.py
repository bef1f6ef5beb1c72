"""A cluster over TLS: every node is found at its TLS port, for commands, kombu and the look around."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from celery import Celery

from celeriac import Client
from celeriac.broker.bulk_stats import queue_names
from celeriac.broker.cluster import servers
from celeriac.broker.connection import connect
from celeriac.broker.queue import Queue
from celeriac.broker.server_process import free_port
from tests.contract.broker.handy import drain
from tests.contract.test_connection import Authority, authority
from tests.programs import program
from tests.redis_cluster import RedisCluster

__all__ = ["authority"]


@pytest.fixture
def secured(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of two nodes, which announce their TLS ports to whoever comes over TLS."""
    crt, key = authority.issue("node")
    folder = tmp_path_factory.mktemp("secured")
    cluster = RedisCluster(folder, binary=program("redis-server"), primaries=2, replicas=0)
    ports = [free_port() for _ in cluster.nodes]
    for node, port in zip(cluster.nodes, ports, strict=True):
        node.options = (
            *("--tls-port", str(port), "--tls-auth-clients", "no", "--tls-cluster", "yes"),
            *("--tls-cert-file", str(crt), "--tls-key-file", str(key)),
            *("--tls-ca-cert-file", str(authority.file)),
        )
    with cluster:
        user = cluster.url.rpartition("@")[0]
        yield f"{user}@127.0.0.1:{ports[0]}/0?ssl_ca_certs={authority.file}"


def test_every_node_is_reached_over_tls(secured: str, queue_name: str) -> None:
    names = [f"{queue_name}-{number}" for number in range(8)]
    with Client(secured) as producer, connect(secured) as client:
        for name in names:
            producer.send(name, "t", id=name)
            assert drain(Queue(client, name)) == [name]
        assert set(names) <= set(queue_names(client))
        ports = {node.get_connection_kwargs()["port"] for node in servers(client).values()}
        assert len(ports) == 2
    app = Celery("test", broker=secured, set_as_current=False)
    assert app.control.ping(timeout=0.2) == []
    app.send_task("t.x", queue=names[0])
    app.close()


def test_another_authority_is_refused(
    secured: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = Authority(tmp_path_factory.mktemp("other"), "other")
    url = f"{secured.partition('?')[0]}?ssl_ca_certs={other.file}"
    with connect(url) as client, pytest.raises(redis.ConnectionError, match="certificate"):
        queue_names(client)
