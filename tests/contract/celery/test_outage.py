"""A worker with its broker gone and back; probes, metrics, and the conservation law at the end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from contract_app import app
from contract_worker import SLOTS, Watched

from celeriac import Client, Job
from celeriac.broker.connection import connect
from celeriac.broker.embedded import EmbeddedServer
from celeriac.broker.server_process import free_port
from celeriac.chaos.processes import eventually
from celeriac.spec.pools import POOLS


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path / "broker") as server:
        yield server


@pytest.fixture
def away(
    server: EmbeddedServer, producer: None, valkey: object, tmp_path: Path
) -> Iterator[Watched]:
    """A queue on a broker of its own, with results and notes elsewhere."""
    notes = valkey.client(db=2)  # type: ignore[attr-defined]
    watched = Watched(connect(server.url), notes, server.url, "away", tmp_path)
    yield watched
    watched.end()


def _stats(watched: Watched) -> object:
    try:
        return watched.queue.stats()
    except redis.RedisError:
        return None


@pytest.mark.parametrize("pool", ["threads", "prefork", "asyncio"])
def test_a_worker_survives_its_broker(
    away: Watched, server: EmbeddedServer, queue_name: str, pool: str
) -> None:
    port = free_port()
    away.start(pool, "--http-port", port)
    eventually(lambda: away.http(port, "/readyz") == (200, "ok\n"), what=lambda: away.log)
    client = Client(server.url)
    client.send_many("away", [Job("leave_mark", (queue_name, n)) for n in range(300)])
    long = client.send("away", "nap", args=(2.0,), ignore_result=False, priority="high").id
    away.noted(long, "started")
    server.kill()
    eventually(lambda: away.http(port, "/readyz")[0] == 503, within_s=5, what=lambda: away.log)
    assert away.http(port, "/livez") == (200, "ok\n")
    assert not away.ended
    server.start()
    eventually(lambda: away.http(port, "/readyz")[0] == 200, within_s=5, what=lambda: away.log)
    client.send_many("away", [Job("leave_mark", (queue_name, n)) for n in range(300, 400)])
    eventually(lambda: _stats(away) is not None)
    stats = away.settled()
    assert {record["number"] for record in away.notes(queue_name)} == set(range(400))
    assert (stats.done, stats.dead, stats.imbalance) == (401, 0, 0)
    assert app.backend.get_state(long) == "SUCCESS"
    client.close()
    away.queue.client.close()


def test_a_worker_may_start_before_its_broker(away: Watched, server: EmbeddedServer) -> None:
    server.kill()
    port = free_port()
    away.start("solo", "--http-port", port)
    eventually(lambda: away.http(port, "/livez")[0] == 200, what=lambda: away.log)
    assert away.http(port, "/readyz")[0] == 503
    server.start()
    eventually(lambda: away.http(port, "/readyz")[0] == 200, within_s=5, what=lambda: away.log)
    with Client(server.url) as client:
        client.send("away", "leave_mark", args=("early", 1), id="early")
    away.settled()
    away.queue.client.close()


@pytest.mark.parametrize("pool", POOLS)
def test_probes_and_metrics(fresh: Watched, pool: str) -> None:
    port = free_port()
    fresh.start(pool, "--http-port", port).wait_ready()
    eventually(lambda: fresh.http(port, "/readyz") == (200, "ok\n"))
    nap = fresh.send("nap", 0.6)
    fresh.noted(nap, "started")
    status, metrics = fresh.http(port, "/metrics")
    assert status == 200
    assert f'mq_worker_slots{{queue="{fresh.name}"}} {SLOTS[pool]}.0' in metrics
    assert f'mq_worker_slots_busy{{queue="{fresh.name}"}} 1.0' in metrics
    assert f'mq_worker_ready{{queue="{fresh.name}"}} 1.0' in metrics
    assert fresh.http(port, "/nothing")[0] == 404
    fresh.signal(15)
    eventually(lambda: fresh.http(port, "/readyz") == (503, "draining\n"))
    assert fresh.http(port, "/livez")[0] == 200
    assert fresh.wait() == 0


def test_ten_thousand_of_all_kinds(fresh: Watched, queue_name: str) -> None:
    """Successes, retries, failures for good, delayed, expired and cancelled ones: none lost."""
    client = Client(fresh.broker_url)
    fresh.queue.pause()
    plain = [Job("mixture", (n, queue_name)) for n in range(9_000)]
    delayed = [Job("mixture", (n, queue_name), delay=0.05 * (n % 20)) for n in range(9_000, 9_600)]
    expired = [Job("mixture", (n, queue_name), expires=0.001) for n in range(9_600, 9_800)]
    cancelled = [
        Job("mixture", (n, queue_name), id=f"{queue_name}-{n}") for n in range(9_800, 10_000)
    ]
    receipt = client.send_many(fresh.name, [*plain, *delayed, *expired, *cancelled])
    assert receipt.accepted == 10_000
    for job in cancelled:
        assert job.id is not None
        client.cancel(fresh.name, job.id)
    time.sleep(0.01)
    fresh.queue.resume()
    fresh.start("threads", "--log-level", "error")
    _holds_all_the_while(fresh)
    stats = fresh.settled(within=60)
    hopeless, flaky = 9_600 // 100, 9_600 // 10 - 9_600 // 100
    assert (stats.accepted, stats.dead, stats.discarded) == (10_000, hopeless, 400)
    assert stats.discarded_by == {"expired": 200, "cancelled": 200}
    assert stats.done == 9_600 - hopeless
    assert stats.retried == flaky + 2 * hopeless
    assert stats.redelivered == 0
    client.close()


def _holds_all_the_while(watched: Watched) -> None:
    deadline = time.monotonic() + 60
    while (seen := watched.queue.stats()).unfinished:
        assert seen.imbalance == 0
        assert time.monotonic() < deadline, watched.log[-2000:]
        time.sleep(0.05)
