"""What the API server said last: the cache that every decision reads, and no decision waits for.

kopf's events, answers to our own writes and whole lists all come in through ``put``; whichever carries the
greater resource version stands. A list also removes what went away while a watch was broken.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

from celeriac_operator import kinds
from celeriac_operator.api import Kind
from celeriac_operator.resources import Object
from celeriac_operator.resources.deployment import CONTAINER
from celeriac_operator.seen import (
    ChildSeen,
    DeploymentSeen,
    Key,
    PodSeen,
    QueueSeen,
    Seen,
    child_seen,
    deployment_seen,
    pod_seen,
    queue_seen,
    still_hopeless,
)

#: How long a pod that is gone is remembered: longer than the broker remembers its consumers.
GONE_S = 600.0
#: So many deleted objects are remembered, so that late news does not bring them back.
_BURIED = 5000


class World:
    """Objects by kind, namespace and name. Every method may be called from any thread."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._now = monotonic
        self._lock = threading.RLock()
        self._objects: dict[str, dict[Key, Seen]] = {}
        self._pods: dict[Key, dict[str, PodSeen]] = {}
        self._by_queue_name: dict[str, set[Key]] = {}
        self._gone: dict[Key, dict[str, float]] = {}
        self._touched: dict[tuple[str, str, str], float] = {}
        self._buried: dict[str, None] = {}

    # --- looking --------------------------------------------------------------------------------

    def queue(self, key: Key) -> QueueSeen | None:
        """A MessageQueue."""
        found = self._find(kinds.QUEUES, key)
        return found if isinstance(found, QueueSeen) else None

    def queues(self) -> list[Key]:
        """All MessageQueues."""
        with self._lock:
            return list(self._objects.get(kinds.QUEUES.name, ()))

    def namesakes(self, queue_name: str) -> list[QueueSeen]:
        """All MessageQueues that name this queue, on whichever broker."""
        with self._lock:
            keys = sorted(self._by_queue_name.get(queue_name, ()))
            return [seen for key in keys if (seen := self.queue(key)) is not None]

    def deployment(self, namespace: str, name: str) -> DeploymentSeen | None:
        """A Deployment of ours."""
        found = self._find(kinds.DEPLOYMENTS, (namespace, name))
        return found if isinstance(found, DeploymentSeen) else None

    def child(self, kind: Kind, namespace: str, name: str) -> ChildSeen | None:
        """Any object that we applied."""
        found = self._find(kind, (namespace, name))
        return found if isinstance(found, ChildSeen) else None

    def pods(self, key: Key) -> list[PodSeen]:
        """The pods of a queue."""
        with self._lock:
            return list(self._pods.get(key, {}).values())

    def gone(self, key: Key) -> Collection[str]:
        """Names of pods of a queue that were here, and whose end is certain."""
        with self._lock:
            oldest = self._now() - GONE_S
            kept = {name: at for name, at in self._gone.get(key, {}).items() if at > oldest}
            if key in self._gone:
                self._gone[key] = kept
            return tuple(kept)

    def _find(self, kind: Kind, key: Key) -> Seen | None:
        with self._lock:
            return self._objects.get(kind.name, {}).get(key)

    # --- being told -----------------------------------------------------------------------------

    def put(self, kind: Kind, raw: Object) -> Key | None:
        """Take in an object; return the queue it belongs to if anything changed that matters."""
        seen = _view(kind, raw)
        with self._lock:
            objects = self._objects.setdefault(kind.name, {})
            key = (seen.namespace, seen.name)
            before = objects.get(key)
            if seen.uid in self._buried:
                return None  # an answer that was overtaken by the news of the object's end
            self._touched[kind.name, *key] = self._now()
            if before is not None and before.uid == seen.uid and before.version >= seen.version:
                return None
            seen = still_hopeless(before, seen)
            objects[key] = seen
            self._index(before, seen)
            return None if before == seen else seen.queue

    def drop(self, kind: Kind, raw: Object) -> Key | None:
        """Forget an object that was deleted; return the queue it belonged to."""
        last = _view(kind, raw)
        with self._lock:
            before = self._find(kind, (last.namespace, last.name))
            if before is None or before.uid != last.uid:
                return None
            self._forget(kind, last)
            return last.queue

    def replace(
        self, kind: Kind, items: Iterable[Object], *, namespace: str | None, since: float
    ) -> set[Key]:
        """Take in a whole list that was asked for at ``since``; return the queues that are affected."""
        changed: set[Key] = set()
        listed: set[Key] = set()
        for raw in items:
            listed.add((raw["metadata"]["namespace"], raw["metadata"]["name"]))
            if (key := self.put(kind, raw)) is not None:
                changed.add(key)
        with self._lock:
            for key, seen in list(self._objects.get(kind.name, {}).items()):
                mine = namespace is None or seen.namespace == namespace
                if mine and key not in listed and self._touched[kind.name, *key] < since:
                    self._forget(kind, seen)
                    changed.add(seen.queue)
        return changed

    def scaled(self, seen: DeploymentSeen, replicas: int, version: int) -> None:
        """Note that we have scaled a Deployment."""
        with self._lock:
            objects = self._objects.setdefault(kinds.DEPLOYMENTS.name, {})
            now = objects.get((seen.namespace, seen.name))
            if isinstance(now, DeploymentSeen) and now.uid == seen.uid and now.version < version:
                objects[seen.namespace, seen.name] = replace(
                    now, replicas=replicas, version=version
                )

    def _forget(self, kind: Kind, last: Seen) -> None:
        before = self._objects[kind.name].pop((last.namespace, last.name))
        self._buried[last.uid] = None
        if len(self._buried) > _BURIED:
            self._buried.pop(next(iter(self._buried)))
        self._touched.pop((kind.name, last.namespace, last.name), None)
        if isinstance(before, QueueSeen):
            self._by_queue_name.get(before.queue_name, set()).discard(before.queue)
            self._gone.pop(before.queue, None)
        elif isinstance(before, PodSeen):
            self._pods.get(before.queue, {}).pop(before.name, None)
            # A pod that was removed by force may still run somewhere: its leases will tell.
            if isinstance(last, PodSeen) and last.ended:
                self._gone.setdefault(before.queue, {})[before.name] = self._now()

    def _index(self, before: Seen | None, seen: Seen) -> None:
        if isinstance(seen, QueueSeen):
            if isinstance(before, QueueSeen):
                self._by_queue_name.get(before.queue_name, set()).discard(before.queue)
            self._by_queue_name.setdefault(seen.queue_name, set()).add(seen.queue)
        elif isinstance(seen, PodSeen):
            self._pods.setdefault(seen.queue, {})[seen.name] = seen
            self._gone.get(seen.queue, {}).pop(seen.name, None)


def _view(kind: Kind, raw: Object) -> Seen:
    if kind == kinds.QUEUES:
        return queue_seen(raw)
    if kind == kinds.DEPLOYMENTS:
        return deployment_seen(raw)
    if kind == kinds.PODS:
        return pod_seen(raw, container=CONTAINER)
    return child_seen(raw)
