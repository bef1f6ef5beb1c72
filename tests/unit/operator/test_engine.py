"""The threads of a leading operator: what is looked at when, and what ends it all."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from celeriac_operator import kinds
from celeriac_operator.api import ApiError
from celeriac_operator.engine import Engine, NotInstalled
from celeriac_operator.fence import Fence, Fenced
from celeriac_operator.health import Heartbeats
from celeriac_operator.metrics import Metrics
from celeriac_operator.reconcile import Look
from celeriac_operator.settings import Settings
from tests.unit.operator.conftest import Raw
from tests.unit.operator.dictionary import Dictionary

KEY = ("shop", "mail")


class QuietEngine(Engine):
    """Without kopf, which would go over the network: whoever changes something tells."""

    def _run_kopf(self) -> None:
        self._stop.wait()


@pytest.fixture
def server() -> Dictionary:
    fence = Fence()
    fence.open_until(float("inf"))
    return Dictionary(fence)


@pytest.fixture
def engine(server: Dictionary) -> Iterator[QuietEngine]:
    config = Settings(namespace="platform", identity="me", workers=2)
    metrics = Metrics(server, version="1")
    made = QuietEngine(config, server, server._fence, Heartbeats(), metrics)
    yield made
    made.stop()


def errors(engine: Engine) -> float:
    return engine._metrics.registry.get_sample_value("mq_reconcile_errors_total") or 0.0


def soon(what: Callable[[], Any], *, within_s: float = 5.0) -> Any:
    end = time.monotonic() + within_s
    while not (found := what()) and time.monotonic() < end:
        time.sleep(0.01)
    return found


class Scripted:
    """Looks as the test says, and notes at what."""

    def __init__(self, *looks: Look | Exception) -> None:
        self.left = list(looks)
        self.looked: list[tuple[str, str]] = []

    def look(self, key: tuple[str, str]) -> Look:
        self.looked.append(key)
        found = self.left.pop(0)
        if isinstance(found, Exception):
            raise found
        return found


def script(engine: Engine, *looks: Look | Exception) -> Scripted:
    scripted = Scripted(*looks)
    engine.reconciler = scripted  # type: ignore[assignment]
    return scripted


def later(engine: Engine) -> list[float]:
    """In how many seconds keys come again."""
    now = time.monotonic()
    return [at - now for at in engine.work._due.values()]


def test_a_queue_is_looked_at_again_when_its_look_says_so(engine: Engine) -> None:
    script(engine, Look(7.0))
    engine._look(KEY)
    assert later(engine) == [pytest.approx(7.0, abs=0.5)]
    assert errors(engine) == 0


def test_a_queue_without_anything_to_do_rests(engine: Engine) -> None:
    script(engine, Look())
    engine._look(KEY)
    assert later(engine) == []


@pytest.mark.parametrize(
    "trouble",
    [ApiError(500, "", "no"), ValueError("a slip of ours"), Look(300.0, "Run failed")],
)
def test_what_failed_is_tried_again_soon_and_counted(
    engine: Engine, trouble: Look | Exception
) -> None:
    scripted = script(engine, trouble, trouble, Look(), trouble)
    engine._look(KEY)
    assert later(engine) == [pytest.approx(0.5, abs=0.2)]
    engine.work._due.clear()
    engine._look(KEY)
    assert later(engine) == [pytest.approx(1.0, abs=0.2)], "twice as long"
    engine._look(KEY)
    engine.work._due.clear()
    engine._look(KEY)
    assert later(engine) == [pytest.approx(0.5, abs=0.2)], "a success forgets the failures"
    assert scripted.looked == [KEY] * 4
    assert errors(engine) == 3


def test_who_does_not_lead_any_more_tries_nothing_again(engine: Engine) -> None:
    script(engine, Fenced("lost"))
    engine._look(KEY)
    assert later(engine) == []
    assert errors(engine) == 0


def nowhere() -> str:
    """The URL of a broker that refuses connections at once."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"celeriac://127.0.0.1:{free.getsockname()[1]}/0"


def test_what_is_stored_at_the_start_is_looked_after(engine: Engine, server: Dictionary) -> None:
    meta = {"name": "celeriac-broker", "namespace": "platform"}
    server.put(kinds.SECRETS, {"metadata": meta, "stringData": {"url": nowhere()}})
    server.put(kinds.QUEUES, Raw().queue())
    engine.start()
    assert soon(lambda: server.find(kinds.DEPLOYMENTS, "mail"))
    stored = soon(lambda: (server.find(kinds.QUEUES, "mail") or {}).get("status"))
    reasons = {it["type"]: it["reason"] for it in stored["conditions"]}
    assert reasons["BrokerReachable"] == "BrokerUnreachable"
    assert engine.loaded.is_set()
    assert not engine.failed.is_set()


def test_a_key_that_is_added_is_worked_on(engine: Engine) -> None:
    scripted = script(engine, Look(), Look())
    engine.start()
    assert engine.loaded.wait(5)
    engine.work.add(KEY)
    assert soon(lambda: scripted.looked == [KEY])
    engine.work.add(KEY)
    assert soon(lambda: scripted.looked == [KEY] * 2), "it was given back"


def test_after_a_broken_watch_everything_is_listed_once_more(
    engine: Engine, server: Dictionary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("celeriac_operator.engine._RELIST_S", 0.01)
    scripted = script(engine, *[Look()] * 5)
    engine.start()
    assert engine.loaded.wait(5)
    server.put(kinds.QUEUES, Raw().queue())
    engine._list_again.set()
    assert soon(lambda: scripted.looked == [KEY])


def test_a_thread_that_ends_ends_the_operator(engine: Engine, server: Dictionary) -> None:
    engine._start("short", lambda: None)
    assert engine.failed.wait(5)


def test_a_stop_is_no_failure(engine: Engine) -> None:
    engine.start()
    assert engine.loaded.wait(5)
    engine.stop()
    assert not engine.failed.is_set()
    assert engine.work.take(0) is None


def test_a_cluster_without_the_resource_is_told(engine: Engine, server: Dictionary) -> None:
    server.missing.add(kinds.QUEUES.plural)
    with pytest.raises(NotInstalled, match="celeriac-crds"):
        engine._load()


def test_keda_is_watched_where_it_is(engine: Engine, server: Dictionary) -> None:
    engine._load()
    assert kinds.SCALED_OBJECTS not in engine._watched
    server.keda = True
    engine._load()
    assert kinds.SCALED_OBJECTS in engine._watched
    server.fail("GET apis/keda.sh", status=503)
    assert engine._exists(kinds.SCALED_OBJECTS), "as before, while it cannot be asked"


def test_keda_that_comes_starts_the_operator_anew(
    engine: Engine, server: Dictionary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("celeriac_operator.engine._RELIST_S", 0.01)
    engine.start()
    assert engine.loaded.wait(5)
    server.keda = True
    engine._list_again.set()
    assert engine.failed.wait(5)


def test_children_are_listed_by_their_label_and_by_pages(
    engine: Engine, server: Dictionary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("celeriac_operator.api._PAGE", 2)
    raw = Raw()
    for number in range(5):
        server.put(kinds.PODS, raw.pod(f"mail-{number}"))
    server.put(kinds.PODS, {"metadata": {"name": "theirs", "namespace": "shop"}})
    assert engine._list(kinds.PODS) == {KEY}
    assert {it.name for it in engine.world.pods(KEY)} == {f"mail-{n}" for n in range(5)}


def test_only_namespaces_that_are_watched_are_listed(server: Dictionary) -> None:
    config = Settings(namespace="platform", identity="me", watch_namespaces=("shop",))
    engine = QuietEngine(config, server, server._fence, Heartbeats(), Metrics(server, version="1"))
    server.put(kinds.QUEUES, Raw().queue())
    other = Raw().queue(meta={"namespace": "other", "uid": "u2"})
    server.put(kinds.QUEUES, other)
    assert engine._list(kinds.QUEUES) == {KEY}
    engine.stop()
