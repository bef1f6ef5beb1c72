"""The probes tell what the threads tell: a part that is silent for too long makes the process dead."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry, Gauge

from celeriac_operator.health import Heartbeats, Server

if TYPE_CHECKING:
    from tests.unit.operator.conftest import Time


def test_a_part_is_silent_once_its_time_is_over_and_not_before(clock: Time) -> None:
    beats = Heartbeats(monotonic=clock)
    beats.expect("worker 0", within_s=60)
    beats.expect("kopf", within_s=30)
    clock.now += 30
    assert beats.silent() == []
    clock.now += 1
    assert beats.silent() == ["kopf: silent for 31 s"]
    beats.beat("kopf")
    assert beats.silent() == []


def test_the_newest_beat_may_stand_elsewhere(clock: Time) -> None:
    beats, seen = Heartbeats(monotonic=clock), [100.0]
    beats.expect("lease", within_s=10, last=lambda: seen[0])
    clock.now = 111.0
    assert beats.silent() == ["lease: silent for 11 s"]
    seen[0] = 105.0
    assert beats.silent() == []


class Probed:
    """A running server, and what its probes are told."""

    def __init__(self) -> None:
        self.silent: list[str] = []
        self.unready = ""
        registry = CollectorRegistry()
        Gauge("mq_leader", "A metric.", registry=registry).set(1)
        self.server = Server(
            ("127.0.0.1", 0),
            alive=lambda: self.silent,
            ready=lambda: self.unready,
            registry=registry,
        )
        self.server.start()

    def get(self, path: str) -> tuple[int, str]:
        url = f"http://127.0.0.1:{self.server.server_port}{path}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()


@pytest.fixture
def probed() -> Iterator[Probed]:
    running = Probed()
    yield running
    running.server.shutdown()
    running.server.server_close()


def test_who_hangs_is_dead_and_who_only_waits_is_unready(probed: Probed) -> None:
    assert probed.get("/livez") == probed.get("/readyz") == (200, "ok\n")
    probed.unready = "the API server does not answer"
    assert probed.get("/readyz") == (503, "the API server does not answer\n")
    assert probed.get("/livez") == (200, "ok\n")
    probed.silent = ["kopf: silent for 61 s", "worker 3: silent for 130 s"]
    assert probed.get("/livez") == (503, "kopf: silent for 61 s\nworker 3: silent for 130 s\n")


def test_metrics_are_there_and_a_wrong_path_is_told(probed: Probed) -> None:
    code, text = probed.get("/metrics?name[]=x")
    assert code == 200 and "mq_leader 1.0" in text
    assert probed.get("/") == (404, "try /livez, /readyz or /metrics\n")


def test_a_slow_probe_holds_up_no_other(probed: Probed) -> None:
    entered, release = threading.Event(), threading.Event()

    class Slow(list[str]):
        def __bool__(self) -> bool:
            entered.set()
            return not release.wait(10)

    probed.silent = Slow()
    thread = threading.Thread(target=lambda: probed.get("/livez"))
    thread.start()
    try:
        assert entered.wait(10)
        assert probed.get("/readyz") == (200, "ok\n")
    finally:
        release.set()
        thread.join()
