"""The operator's link to a broker: what it measures, whom it tells, and what it survives."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from celeriac.broker.embedded import EmbeddedServer
from celeriac.broker.eviction import EvictingServer
from celeriac.broker.message import NewMessage
from celeriac.broker.queue import Queue
from celeriac.broker.url import parse
from celeriac.chaos.processes import eventually
from celeriac.spec.policies import QueuePolicy
from celeriac_operator.broker_link import BrokerLink
from celeriac_operator.fence import Fence, Fenced
from celeriac_operator.seen import Key
from tests.conftest import RunningServer
from tests.contract.test_connection import Authority, Start, authority, start, tls_server

__all__ = ["authority", "start"]

KEY: Key = ("shop", "mail")


class Links:
    """Makes links, and notes whom they tell."""

    def __init__(self) -> None:
        self.told: list[Key] = []
        self.refusals = 0
        self.fence = Fence()
        self.fence.open_until(float("inf"))
        self.made: list[BrokerLink] = []

    def refused(self) -> None:
        self.refusals += 1

    def to(self, url: str, *, ca: str = "") -> BrokerLink:
        link = BrokerLink(
            parse(url), ca=ca, fence=self.fence, changed=self.told.append, refused=self.refused
        )
        self.made.append(link)
        return link


@pytest.fixture
def links() -> Iterator[Links]:
    made = Links()
    yield made
    for link in made.made:
        link.close()


def test_only_what_changed_is_told(
    links: Links, valkey: RunningServer, redis_client: redis.Redis, queue_name: str
) -> None:
    link = links.to(valkey.url)
    link.include(KEY, queue_name)
    queue = link.queue(queue_name, lease_seconds=15)
    queue.declare(QueuePolicy())
    eventually(lambda: link.all_stats() and links.told)
    time.sleep(1.2)
    links.told.clear()
    time.sleep(2.2)
    assert not links.told, "nothing has changed"

    Queue(redis_client, queue_name).publish([NewMessage(id="1", task="t", body=b"[]")])
    eventually(lambda: links.told == [KEY])
    assert queue.stats().ready == 1
    assert link.all_stats()[KEY].ready == 1


def test_nothing_is_written_through_a_closed_fence(
    links: Links, valkey: RunningServer, queue_name: str
) -> None:
    queue = links.to(valkey.url).queue(queue_name, lease_seconds=15)
    links.fence.close()
    writes: list[Callable[[], object]] = [
        lambda: queue.declare(QueuePolicy()),
        queue.promote,
        queue.reclaim,
        queue.purge,
        lambda: queue.take_back(["worker"]),
        lambda: queue.trim_dead(now_ms=0, retention_ms=0),
        lambda: queue.publish([]),
        lambda: queue.remember_schedules({}),
    ]
    for write in writes:
        with pytest.raises(Fenced):
            write()
    assert not queue.stats().declared


def test_a_broker_that_deletes_messages_is_refused_until_it_does_not(
    links: Links, tmp_path: Path, queue_name: str
) -> None:
    with (
        EmbeddedServer(tmp_path) as server,
        redis.Redis.from_url(server.url.replace("celeriac:", "redis:")) as admin,
    ):
        admin.config_set("maxmemory-policy", "allkeys-random")
        admin.config_set("maxmemory", "100mb")
        link = links.to(server.url)
        link.include(KEY, queue_name)
        eventually(lambda: not link.up)
        with pytest.raises(EvictingServer, match="allkeys-random, and must be noeviction"):
            link.queue(queue_name, lease_seconds=15).stats()
        admin.config_set("maxmemory-policy", "noeviction")
        eventually(lambda: link.up)
        assert link.all_stats()


def test_a_broker_that_is_away_is_told_once_and_once_more_when_it_is_back(
    links: Links, tmp_path: Path, queue_name: str
) -> None:
    server = EmbeddedServer(tmp_path)
    server.start()
    try:
        link = links.to(server.url)
        link.include(KEY, queue_name)
        eventually(lambda: link.up and link.all_stats())
        links.told.clear()
        server.stop()
        eventually(lambda: not link.up)
        with pytest.raises(redis.ConnectionError):
            link.queue(queue_name, lease_seconds=15).stats()
        assert link.all_stats() == {}
        assert links.told == [KEY]
        server.start()
        eventually(lambda: link.up)
        assert links.told == [KEY, KEY]
    finally:
        server.stop()


def test_a_refused_password_is_told(links: Links, valkey: RunningServer, queue_name: str) -> None:
    link = links.to(f"celeriac://:wrong@127.0.0.1:{valkey.port}/0")
    link.include(KEY, queue_name)
    eventually(lambda: links.refusals)
    assert not link.up


def test_the_ca_of_the_secret_takes_the_place_of_a_file(
    links: Links, start: Start, authority: Authority, queue_name: str
) -> None:
    """The URL's own file is one of the workers' pods; the operator has none."""
    port = tls_server(start, authority, "--tls-auth-clients", "no")
    url = f"celeriacs://127.0.0.1:{port}/0?ssl_ca_certs=/etc/celeriac/broker/ca.crt"
    link = links.to(url, ca=authority.file.read_text())
    link.include(KEY, queue_name)
    eventually(link.all_stats)
    assert link.up
