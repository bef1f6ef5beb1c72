"""An app with settings of its own, as programs from elsewhere have them: each is asked for by a variable."""

from __future__ import annotations

import json
import os
import time
from typing import Any

import redis
from celery import Celery, Task, signals
from celery.app import trace
from kombu import Exchange, Queue

app = Celery("conf", backend=os.environ["CONTRACT_BACKEND"])
app.conf.update(json.loads(os.environ.get("CONF_SETTINGS", "{}")))
_notes = redis.Redis.from_url(os.environ["CONTRACT_NOTES"])


def _note(task: Task, text: str, **more: Any) -> None:
    _notes.rpush(
        f"notes:{task.request.id}",
        json.dumps({"note": text, "at": time.time(), **more}, default=repr),
    )


if "CONF_EXCHANGE" in os.environ:
    _exchange = Exchange(os.environ["CONF_EXCHANGE"], type="topic")
    app.conf.task_queues = [Queue(os.environ["CONTRACT_QUEUE"], _exchange, routing_key="mail.#")]

_options: dict[str, Any] = json.loads(os.environ.get("CONF_TASK", "{}"))


@app.task(name="conf.look", bind=True, **_options)
def look(self: Task) -> None:
    request = self.request
    _note(
        self,
        "looked",
        eta=request.eta,
        app_id=request.properties.get("app_id"),
        timelimit=request.timelimit,
        stamps=request.stamps,
    )


_kept: list[bytes] = []


@app.task(name="conf.grow", bind=True)
def grow(self: Task, mib: int) -> None:
    _kept.append(os.urandom(1) * mib * 2**20)
    _note(self, "grown", pid=os.getpid())


@signals.celeryd_init.connect
def _patch(**_: Any) -> None:
    """As Sentry's integration does when it is initialised in this signal."""
    build = trace.build_tracer

    def build_tracer(name: str, task: Task, *args: Any, **kwargs: Any) -> Any:
        run = task.run

        def watched(*run_args: Any, **run_kwargs: Any) -> Any:
            _note(task, "watched")
            return run(*run_args, **run_kwargs)

        task.run = watched
        return build(name, task, *args, **kwargs)

    trace.build_tracer = build_tracer
