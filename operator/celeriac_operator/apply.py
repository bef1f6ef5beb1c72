"""Keeps the objects of a queue as they are rendered: creates, applies, repairs, and writes nothing in vain.

An object is in order while it carries the digest of what would be applied now, and stands there as it did
after our last apply. After a start nothing is known of the latter, so each object is applied once more, some
time within the first resync.
"""

from __future__ import annotations

import copy
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from celeriac.backend.base import Obstacle
from celeriac.spec.conditions import Reason
from celeriac.spec.errors import CeleriacError
from celeriac_operator import kinds
from celeriac_operator.api import Api, ApiError, Kind
from celeriac_operator.resources import Object, names
from celeriac_operator.resources.rendering import digest
from celeriac_operator.secrets import decoded
from celeriac_operator.seen import ChildSeen, Key, controller
from celeriac_operator.world import World

#: A refusal that only another declaration, or somebody's help, can change.
_FINAL = (400, 403, 405, 422)
#: A field that no schema has, or an item given twice: said with the code of a fault of the server's own.
_UNTYPED = "failed to create typed patch object"
#: How long such a refusal is believed before the same thing is tried once more.
_BELIEVED_S = 10.0


class Blocked(CeleriacError, OSError):
    """Something is in the way that only a person can remove."""

    def __init__(self, obstacle: Obstacle) -> None:
        super().__init__(obstacle.message)
        self.obstacle = obstacle


@dataclass(slots=True)
class _Applied:
    uid: str
    essence: str
    verify_at: float
    """When to apply it once more although nothing seems to be wrong."""


@dataclass(frozen=True, slots=True)
class _Refused:
    stamp: str
    why: Obstacle
    until: float


class Applier:
    """Applies objects that belong to a MessageQueue. Every method may be called from any thread."""

    def __init__(
        self,
        api: Api,
        world: World,
        *,
        resync_s: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._world = world
        self._resync_s = resync_s
        self._now = monotonic
        self._lock = threading.Lock()
        self._applied: dict[tuple[str, str, str], _Applied] = {}
        self._refused: dict[tuple[str, str, str], _Refused] = {}

    def ensure(self, kind: Kind, body: Object, *, seed: Object | None = None) -> ChildSeen:
        """Bring one object to what ``body`` says. ``seed`` is what to create first, if it is absent.

        Raises Blocked when a person must help, ApiError when it should be tried again.
        """
        meta = body["metadata"]
        where = (kind.name, meta["namespace"], meta["name"])
        wanted = rendered(body)
        stamp = wanted["metadata"]["annotations"][names.RENDERED]
        seen = self._world.child(kind, meta["namespace"], meta["name"])
        mine = seen if seen and seen.owner == controller(meta) and not seen.deleting else None
        if mine is not None and self._in_order(where, mine, stamp):
            return mine
        with self._minding_refusals(kind, where, stamp):
            if mine is not None:
                wanted["metadata"]["uid"] = mine.uid  # never create it anew from here
            else:
                self._must_be_free(kind, body, seed=seed)
            return self._apply(kind, where, wanted)

    def ensure_secret(self, body: Object) -> None:
        """The same for a Secret, which nobody watches: it is read now and then. Raises as ``ensure``."""
        kind, meta = kinds.SECRETS, body["metadata"]
        where = (kind.name, meta["namespace"], meta["name"])
        wanted = rendered(body)
        stamp = wanted["metadata"]["annotations"][names.RENDERED]
        with self._lock:
            known = self._applied.get(where)
        if known is not None and known.essence == stamp and self._now() < known.verify_at:
            return
        with self._minding_refusals(kind, where, stamp):
            found = self._api.get(kind, meta["namespace"], meta["name"])
            if found is not None and controller(found["metadata"]) != controller(meta):
                raise Blocked(_taken(kind, meta))
            if found is None or decoded(found) != body["stringData"]:
                found = self._api.apply(
                    kind, meta["namespace"], meta["name"], wanted, manager=names.MANAGER
                )
        verify_at = self._now() + self._resync_s
        with self._lock:
            self._applied[where] = _Applied(found["metadata"]["uid"], stamp, verify_at)

    def delete(self, kind: Kind, namespace: str, name: str, *, owner: str) -> None:
        """Delete an object if it belongs to ``owner``, the uid of a MessageQueue."""
        seen = self._world.child(kind, namespace, name)
        if seen is not None and seen.owner == owner and not seen.deleting:
            body = {"preconditions": {"uid": seen.uid}}
            try:
                self._api.delete(kind, namespace, name, body)
            except ApiError as error:
                if not error.conflict:  # another object of that name: not ours to delete
                    raise
        with self._lock:
            self._applied.pop((kind.name, namespace, name), None)

    def forget(self, key: Key) -> None:
        """Forget the objects of a queue that is gone."""
        namespace, name = key
        with self._lock:
            for where in [it for it in {**self._applied, **self._refused} if it[1] == namespace]:
                if where[2] in (name, name + names.WORKER_SUFFIX, name + names.BROKER_SUFFIX):
                    self._applied.pop(where, None)
                    self._refused.pop(where, None)

    @contextmanager
    def _minding_refusals(
        self, kind: Kind, where: tuple[str, str, str], stamp: str
    ) -> Iterator[None]:
        """Do not ask again and again for what was refused a moment ago; say why it was."""
        with self._lock:
            known = self._refused.get(where)
        if known is not None and known.stamp == stamp and self._now() < known.until:
            raise Blocked(known.why)
        try:
            yield
        except ApiError as error:
            refusal = _refusal(kind, where, error)
            if isinstance(refusal, Blocked):
                self._note(where, stamp, refusal)
            raise refusal from error
        except Blocked as blocked:
            self._note(where, stamp, blocked)
            raise
        with self._lock:
            self._refused.pop(where, None)

    def _note(self, where: tuple[str, str, str], stamp: str, why: Blocked) -> None:
        with self._lock:
            self._refused[where] = _Refused(stamp, why.obstacle, self._now() + _BELIEVED_S)

    def _in_order(self, where: tuple[str, str, str], seen: ChildSeen, stamp: str) -> bool:
        with self._lock:
            known = self._applied.get(where)
            if known is None or known.uid != seen.uid:
                wait = random.uniform(0.2, 1.0) * self._resync_s
                known = _Applied(seen.uid, seen.essence, self._now() + wait)
                self._applied[where] = known
            return (
                seen.rendered == stamp
                and seen.essence == known.essence
                and self._now() < known.verify_at
            )

    def _must_be_free(self, kind: Kind, body: Object, *, seed: Object | None) -> None:
        """Make sure that an object is ours before it is applied with force."""
        meta = body["metadata"]
        found: Object | None
        try:
            if seed is not None:
                self._api.create(kind, meta["namespace"], seed, manager=names.SCALER)
                return
            found = self._api.get(kind, meta["namespace"], meta["name"])
        except ApiError as error:
            if not error.conflict:
                raise
            found = self._api.get(kind, meta["namespace"], meta["name"])
        if found is None:
            return
        if controller(found["metadata"]) != controller(meta):
            raise Blocked(_taken(kind, meta))
        if "deletionTimestamp" in found["metadata"]:
            raise ApiError(409, "Deleting", f"the old {kind.name} {meta['name']} is still going")

    def _apply(self, kind: Kind, where: tuple[str, str, str], wanted: Object) -> ChildSeen:
        _, namespace, name = where
        answer = self._api.apply(kind, namespace, name, wanted, manager=names.MANAGER)
        answer.setdefault("kind", kind.name)
        self._world.put(kind, answer)
        seen = self._world.child(kind, namespace, name)
        if seen is None:
            raise ApiError(409, "Deleting", f"the {kind.name} {name} went away")
        with self._lock:
            self._applied[where] = _Applied(seen.uid, seen.essence, float("inf"))
        return seen


def rendered(body: Object) -> Object:
    """A copy that is annotated with its own digest."""
    result = copy.copy(body)
    result["metadata"] = dict(body["metadata"])
    annotations = dict(body["metadata"].get("annotations") or {})
    result["metadata"]["annotations"] = {**annotations, names.RENDERED: digest(body)}
    return result


def _taken(kind: Kind, meta: Object) -> Obstacle:
    text = (
        f"a {kind.name} named {meta['name']} is in {meta['namespace']} already and belongs to somebody else: "
        "remove it, or choose another name for this MessageQueue"
    )
    return Obstacle(Reason.OBJECT_TAKEN, text)


def _refusal(kind: Kind, where: tuple[str, str, str], error: ApiError) -> ApiError | Blocked:
    """Tell a refusal that stays one from a passing trouble."""
    if "being terminated" in str(error):
        return ApiError(
            error.status, error.reason, str(error)
        )  # the namespace goes, and with it all
    if kind.group == kinds.SCALED_OBJECTS.group and error.not_found:
        text = "autoscaling.mode is KEDA, but the cluster has no KEDA: install it, or choose another mode"
        return Blocked(Obstacle(Reason.KEDA_MISSING, text))
    if error.status in _FINAL or _UNTYPED in str(error):
        text = f"the API server refuses the {kind.name} {where[2]}: {error}"
        return Blocked(Obstacle(Reason.REFUSED, text[:4000]))
    text = f"the {kind.name} {where[2]} could not be written: {error}"
    return ApiError(error.status, error.reason, text)
