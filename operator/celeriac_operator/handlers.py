"""Every kopf handler: events go into the World, and the keys of queues into the work queue; nothing else.

Handlers of events alone leave no trace on any object: no finalizer, no annotation, no Event of kopf's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any, cast

import kopf

from celeriac_operator import kinds
from celeriac_operator.api import Kind
from celeriac_operator.connection import login
from celeriac_operator.resources import Object, names
from celeriac_operator.seen import Key
from celeriac_operator.world import World

logger = logging.getLogger(__name__)

#: What is watched in any case; all but MessageQueues by the label of their queue. NetworkPolicies also where
#: none are wanted: some may be left of a time when they were.
WATCHED = (
    kinds.QUEUES,
    kinds.DEPLOYMENTS,
    kinds.PODS,
    kinds.CONFIG_MAPS,
    kinds.BUDGETS,
    kinds.POLICIES,
)

#: Far shorter than kopf's own, so that a restarted API server is noticed within seconds.
_RETRIES = (0.2, 0.5, 1, 1, 2, 2)
_BEAT_S = 1.0


def settings(watched: Iterable[Kind]) -> kopf.OperatorSettings:
    """kopf, quiet: it watches and writes nothing."""
    found = kopf.OperatorSettings()
    found.posting.enabled = False
    found.scanning.disabled = True  # needs rights on namespaces and CRDs, and tells us nothing
    found.persistence.finalizer = f"{names.GROUP}/unused"
    found.networking.error_backoffs = _RETRIES
    found.networking.request_timeout = 30.0
    found.networking.connect_timeout = 3.0
    found.watching.chunk_size = 500
    found.queueing.exit_timeout = 0.5
    for kind in watched:
        if kind != kinds.QUEUES:
            found.watching.label_selectors[kind.group, kind.version, kind.plural] = (
                names.QUEUE_LABEL
            )
    return found


def registry(
    world: World,
    watched: Iterable[Kind],
    *,
    affected: Callable[[Key], None],
    lists: Lists,
    beat: Callable[[], None],
) -> kopf.OperatorRegistry:
    """Register the handlers.

    ``affected`` is called with every queue that something happened to, and ``beat`` every second.
    """
    made = kopf.OperatorRegistry()

    @kopf.on.login(registry=made)
    def connect(**_: Any) -> kopf.ConnectionInfo:
        return login()

    _register_heart(made, beat)
    for kind in watched:
        _register(made, kind, world, affected=affected, lists=lists)
    return made


def _register_heart(made: kopf.OperatorRegistry, beat: Callable[[], None]) -> None:
    """Beat as long as kopf's loop turns."""
    hearts: list[asyncio.Task[None]] = []

    async def heart() -> None:
        while True:
            beat()
            await asyncio.sleep(_BEAT_S)

    @kopf.on.startup(registry=made)
    async def begin(**_: Any) -> None:
        hearts.append(asyncio.create_task(heart()))

    @kopf.on.cleanup(registry=made)
    async def end(**_: Any) -> None:
        for it in hearts:
            it.cancel()


def _register(
    made: kopf.OperatorRegistry,
    kind: Kind,
    world: World,
    *,
    affected: Callable[[Key], None],
    lists: Lists,
) -> None:
    @kopf.on.event(kind.group, kind.version, kind.plural, registry=made, id=f"see-{kind.plural}")
    async def see(event: Any, **_: Any) -> None:
        raw = cast("Object", event["object"])
        tell(world, kind, event["type"], raw, affected=affected, lists=lists)


class Lists:
    """Notices that kopf lists a kind once more: its watch was broken, and deletions had no event.

    kopf's first list of each kind is expected. After that an object that is listed means another list.
    """

    def __init__(self, again: Callable[[], None]) -> None:
        self._again = again
        self._first: dict[Kind, set[str]] = {}
        self._over: set[Kind] = set()

    def note(self, kind: Kind, type_: str | None, uid: str) -> None:
        """Note an event; its type is None for an object of a list."""
        first = self._first.setdefault(kind, set())
        if type_ is not None:
            self._over.add(kind)
        elif kind in self._over or uid in first:
            self._over.add(kind)
            self._again()
        else:
            first.add(uid)


def tell(
    world: World,
    kind: Kind,
    type_: str | None,
    raw: Object,
    *,
    affected: Callable[[Key], None],
    lists: Lists,
) -> None:
    """Take in one event; its type is None for an object of a list."""
    known = kind == kinds.QUEUES and world.queue(
        (raw["metadata"]["namespace"], raw["metadata"]["name"])
    )
    key = world.drop(kind, raw) if type_ == "DELETED" else world.put(kind, raw)
    lists.note(kind, type_, raw["metadata"]["uid"])
    if key is None:
        return
    affected(key)
    if kind == kinds.QUEUES:
        # Who had to give way to it may be the next in line now.
        names_ = {str((raw.get("spec") or {}).get("queue") or key[1])}
        if known:
            names_.add(known.queue_name)
        for name in names_:
            for other in world.namesakes(name):
                affected(other.queue)
