"""Celery apps whose broker is one that answers what the test says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from celery import Celery

from celeriac.client import envelope
from celeriac.client.publisher import Publisher
from celeriac.transport import amqp
from tests.scripted import ScriptedRedis


@dataclass(frozen=True, slots=True)
class Sent:
    """A message as it left."""

    priority: str
    id: str
    task: str
    headers: dict[str, Any]
    properties: dict[str, Any]
    body: Any
    delay_ms: int = 0
    ttl_ms: int = 0
    dedup_key: str = ""


@dataclass(slots=True)
class Post:
    """The app, and what it has sent."""

    app: Celery
    client: ScriptedRedis
    tasks: dict[str, Any] = field(default_factory=dict)

    @property
    def sent(self) -> list[Sent]:
        found = []
        for name, arguments in self.client.asked:
            if name == "publish_one":
                found.append(_sent(*arguments))
            elif name == "publish":
                found.append(_sent(*arguments[2:7], *arguments[7:10]))
        return found


def _sent(
    letter: str,
    id: str,
    task: str,
    head: bytes,
    body: bytes,
    delay: int = 0,
    ttl: int = 0,
    key: str = "",
) -> Sent:
    headers, properties, *_ = envelope.decode(head, id, task)
    return Sent(letter, id, task, headers, properties, json.loads(body), delay, ttl, key)


@pytest.fixture
def post(monkeypatch: pytest.MonkeyPatch) -> Iterator[Post]:
    client = ScriptedRedis(hexists=1, sadd=1, publish_one=1, publish=[])
    monkeypatch.setattr(amqp, "publisher_for", lambda url: Publisher(client))
    app = Celery("test", broker="celeriac://nowhere", set_as_current=False)

    @app.task(name="t.add", shared=False)
    def add(x: Any, y: Any = 0) -> None: ...

    @app.task(name="t.limited", shared=False, time_limit=30, soft_time_limit=20)
    def limited(x: Any) -> None: ...

    @app.task(name="t.expiring", shared=False, expires=60)
    def expiring(x: Any) -> None: ...

    app.finalize()
    names = ("add", "limited", "expiring")
    yield Post(app, client, {name: app.tasks[f"t.{name}"] for name in names})
    app.close()
