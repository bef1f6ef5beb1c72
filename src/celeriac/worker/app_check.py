"""What an app brings along that this worker does not do as Celery's does: told at start, or refused.

What becomes of each name of Celery's stands in the tables of `celery_names.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from celery import Celery
from celery.app.defaults import NAMESPACES, flatten
from celery.app.task import Task

from celeriac.spec.errors import CeleriacError
from celeriac.transport.url import KEPT_TRANSPORT_OPTIONS
from celeriac.worker.celery_names import ATTRIBUTES, LEASES, fate_of

#: Of kombu's Redis transport: when it takes a message away from a worker.
_OF_ACKNOWLEDGING = frozenset({"visibility_timeout", "ack_emulation", "unacked_restore_limit"})
#: What tells whether a module of the standard library was replaced by one for greenlets.
_PATCHERS = {"gevent.monkey": "is_module_patched", "eventlet.patcher": "is_monkey_patched"}


class NotRunnable(CeleriacError, ValueError):
    """The app has what this worker would run wrongly: better not to start."""


def without_effect(app: Celery) -> Iterator[str]:
    """Say of each setting and task attribute that somebody has set and that does nothing here, what to do."""
    for name, option in flatten(NAMESPACES):
        fate = fate_of(name)
        if fate is not None and fate.verdict == "no effect":
            value = app.conf.get(name)
            if value != option.default and value is not None:
                yield f"{name} = {value!r} has no effect: {fate.text}"
    for name in sorted({*(app.conf.broker_transport_options or ())} - {*KEPT_TRANSPORT_OPTIONS}):
        why = LEASES if name in _OF_ACKNOWLEDGING else "the broker's URL says how to talk to it"
        yield f"broker_transport_options[{name!r}] has no effect: {why}"
    plain = _plain_task(app)
    for name, fate in ATTRIBUTES.items():
        if fate.verdict == "no effect":
            usual = (None, getattr(plain, name, None))
            own = _own_tasks(app)
            if tasks := sorted(it.name for it in own if getattr(it, name, None) not in usual):
                yield f"{name} of {_few(tasks)} has no effect: {fate.text}"


def must_be_runnable(app: Celery) -> None:
    """Raise NotRunnable for tasks that need Celery's own consumer, and for an app patched for greenlets."""
    for patcher, patched in _PATCHERS.items():
        module = sys.modules.get(patcher)
        if module is not None and getattr(module, patched)("socket"):
            raise NotRunnable(
                f"{patcher.partition('.')[0]} has patched sockets and threads, and no pool here can run "
                "with that: leave it out for workers; for hundreds of tasks at once there is --pool asyncio"
            )
    for task in _own_tasks(app):
        for name in ("Strategy", "Request"):
            if getattr(task, name, None) != getattr(Task, name):
                raise NotRunnable(f"{task.name} has a {name} of its own: {ATTRIBUTES[name].text}")


def _own_tasks(app: Celery) -> list[Any]:
    return [task for name, task in app.tasks.items() if not name.startswith("celery.")]


def _plain_task(app: Celery) -> Any:
    """A task that says nothing for itself, in an app with the same settings."""
    conf = {setting: app.conf.get(setting) for _, setting in Task.from_config}
    plain = Celery(set_as_current=False)
    plain.conf.update(conf)
    return plain.task(name="plain", shared=False)(_nothing)


def _nothing() -> None:
    pass


def _few(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
