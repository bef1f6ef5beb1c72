"""A cluster for each module and server program: three primaries, each with a replica."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from celeriac.broker.connection import connect
from tests.redis_cluster import PROGRAMS, RedisCluster, program


@pytest.fixture(scope="module", params=PROGRAMS)
def cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RedisCluster]:
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
