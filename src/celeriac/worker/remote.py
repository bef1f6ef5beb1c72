"""Celery's remote control (``inspect ping``, ``revoke`` ...), answered in a thread of its own.

The mailbox is kombu's and the commands are Celery's, except those that speak of Celery's own consumer and
pool: these are answered from ours, and what a MessageQueue declares cannot be changed behind its back.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from celery import Celery
from celery.utils.collections import AttributeDict
from celery.utils.functional import maybe_list
from celery.worker import state as worker_state
from celery.worker.control import Panel

logger = logging.getLogger(__name__)

_RECONNECT_S = 1.0
_POLL_S = 0.25
_FIXED = (
    "pool_grow",
    "pool_shrink",
    "pool_restart",
    "autoscale",
    "add_consumer",
    "cancel_consumer",
    "rate_limit",
    "time_limit",
    "enable_events",
    "disable_events",
)
_DECLARED = {"error": "change the MessageQueue instead: it declares the queue's workers"}
_NOT_HERE = ("revoke_by_stamped_headers", "election", "heartbeat")
_UNSUPPORTED = {"error": "Celeriac's workers do not have this command"}


class Controlled(Protocol):
    """What remote control needs of a worker."""

    def active(self) -> list[dict[str, Any]]:
        """Describe the running tasks."""

    def reserved(self) -> list[dict[str, Any]]:
        """Describe the messages claimed but not started."""

    def stats(self) -> dict[str, Any]:
        """Describe the worker."""

    def revoke(self, message_id: str, *, terminate: bool) -> bool:
        """Keep a message from running; with ``terminate``, stop it: whether it was stopped."""

    def shut_down(self) -> None:
        """Start the drain."""


class RemoteControl(threading.Thread):
    """Listens for broadcast commands until stopped, and holds ``quiet`` while it does more than wait."""

    def __init__(
        self,
        app: Celery,
        *,
        hostname: str,
        queue: str,
        worker: Controlled,
        quiet: AbstractContextManager[Any],
    ) -> None:
        super().__init__(name="celeriac-remote", daemon=True)
        self._app = app
        self._quiet = quiet
        self._stopped = threading.Event()
        self._node = app.control.mailbox.Node(
            hostname,
            handlers=_handlers(worker, queue),
            state=AttributeDict(app=app, hostname=hostname, consumer=None, tset=set),
        )

    def run(self) -> None:
        while not self._stopped.is_set():
            try:
                with self._quiet:
                    connection = self._app.connection_for_read()
                    self._node.channel = connection.channel()
                    consumer = self._node.listen(callback=self._answer)
                self._listen(connection, consumer)
            except Exception as error:
                # The worker's business is its queue; remote control comes back when the broker does.
                logger.debug("remote control is away: %r", error)
                self._stopped.wait(_RECONNECT_S)

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        self.join(timeout=3)

    def _listen(self, connection: Any, consumer: Any) -> None:
        with connection:
            try:
                while not self._stopped.is_set():
                    try:
                        connection.drain_events(timeout=_POLL_S)
                    except TimeoutError:
                        continue
            finally:
                consumer.cancel()

    def _answer(self, body: Any, message: Any) -> None:
        self._app.clock.forward()
        try:
            with self._quiet:
                self._node.handle_message(body, message)
        except KeyError as error:
            logger.error("no such control command: %s", error)
        except Exception:
            logger.exception("a control command failed")


def _handlers(worker: Controlled, queue: str) -> dict[str, Callable[..., Any]]:
    def revoke(state: Any, task_id: Any, terminate: bool = False, **_: Any) -> dict[str, str]:
        ids = maybe_list(task_id) or []
        running = {task["id"] for task in worker.active()}
        worker_state.revoked.update(ids)
        stopped = [name for name in ids if worker.revoke(name, terminate=terminate)]
        # Celery's own command marks those that wait as revoked in the result backend.
        Panel.data["revoke"](state, [name for name in ids if name not in running])
        if terminate:
            return {"ok": f"terminate: {', '.join(stopped) or 'tasks unknown'}"}
        return {"ok": f"tasks {', '.join(ids)} flagged as revoked"}

    def terminate(state: Any, signal: Any = None, task_id: Any = None, **_: Any) -> dict[str, str]:
        return revoke(state, task_id, terminate=True)

    def query_task(state: Any, ids: Any, **_: Any) -> dict[str, Any]:
        wanted = set(maybe_list(ids) or [])
        return {task["id"]: ("active", task) for task in worker.active() if task["id"] in wanted}

    def shutdown(state: Any, **_: Any) -> None:
        worker.shut_down()

    own: dict[str, Callable[..., Any]] = {
        "revoke": revoke,
        "terminate": terminate,
        "query_task": query_task,
        "shutdown": shutdown,
        "active": lambda state, **_: worker.active(),
        "reserved": lambda state, **_: worker.reserved(),
        "scheduled": lambda state, **_: [],
        "active_queues": lambda state, **_: [{"name": queue}],
        "stats": lambda state, **_: {"pid": os.getpid(), **worker.stats()},
    }
    for name in ("dump_active", "dump_reserved", "dump_schedule"):
        own[name] = own[{"dump_schedule": "scheduled"}.get(name, name.removeprefix("dump_"))]
    refused = {
        **{name: _refusal(name, _DECLARED) for name in _FIXED},
        **{name: _refusal(name, _UNSUPPORTED) for name in _NOT_HERE},
    }
    return {**Panel.data, **own, **refused}


def _refusal(command: str, answer: dict[str, str]) -> Callable[..., dict[str, str]]:
    def refuse(state: Any, *args: Any, **_: Any) -> dict[str, str]:
        # Whoever sent it asks for no answer, by default.
        logger.warning("control command %r is not done: %s", command, answer["error"])
        return answer

    return refuse
