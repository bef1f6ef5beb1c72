"""The operator's core on an API server that is a dictionary and a broker that does what the test says.

    Dictionary <- Applier, Reporter, Reconciler -> ScriptedLink -> MemoryQueue

Time passes only when told. Nothing is watched: before each look the World is told what is stored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from celeriac.broker.message import QueueStats, WorkerSeen
from celeriac.broker.url import BrokerURL
from celeriac.spec.conditions import ConditionType
from celeriac_operator import kinds
from celeriac_operator.api import Kind
from celeriac_operator.apply import Applier
from celeriac_operator.backend import KubernetesBackend
from celeriac_operator.broker_link import LinkedQueue
from celeriac_operator.brokers import Brokers
from celeriac_operator.fence import Fence
from celeriac_operator.handlers import WATCHED
from celeriac_operator.reconcile import Look, Reconciler
from celeriac_operator.reporting import Reporter, parse_status
from celeriac_operator.resources import names
from celeriac_operator.secrets import Secrets
from celeriac_operator.seen import Key
from celeriac_operator.settings import Settings
from celeriac_operator.world import World
from tests.unit.control.conftest import NOW
from tests.unit.control.memory import MemoryQueue
from tests.unit.operator.conftest import Raw, Time
from tests.unit.operator.dictionary import Dictionary, Object

URL = "celeriac://redis.example:6379/0"
KEY = ("shop", "mail")


class ScriptedLink:
    """A link whose queues live in memory; it measures nothing, so that every look reads anew."""

    def __init__(self, url: BrokerURL, *, ca: str, fence: Fence, refused: Callable[[], None]):
        self.url = url
        self.ca = ca
        self.fence = fence
        self.refused = refused
        self.included: dict[Key, str] = {}
        self.queues: dict[str, MemoryQueue] = {}
        self.leases: dict[str, int] = {}
        self.closed = False

    def queue(self, name: str, *, lease_seconds: int) -> LinkedQueue:
        self.leases[name] = lease_seconds
        memory = self.queues.setdefault(name, MemoryQueue())
        return LinkedQueue(self, name, memory)  # type: ignore[arg-type]

    def stats(self, name: str) -> QueueStats | None:
        return None

    def forget(self, name: str) -> None:
        """Nothing was measured."""

    def include(self, key: Key, name: str) -> None:
        self.included[key] = name

    def exclude(self, key: Key) -> None:
        self.included.pop(key)

    @property
    def empty(self) -> bool:
        return not self.included

    def close(self) -> None:
        self.closed = True


class ShopClock:
    """Both clocks of the control loop, moved by one hand."""

    def __init__(self, time: Time) -> None:
        self._time = time
        self._began = time.now

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self._time.now - self._began)

    def seconds(self) -> float:
        return self._time.now


class Shop:
    """A namespace ``shop`` with a MessageQueue ``mail``, and an operator that leads."""

    def __init__(self, **settings: Any) -> None:
        self.raw = Raw()
        self.clock = Time()
        self.times = ShopClock(self.clock)
        self.fence = Fence(monotonic=self.clock)
        self.fence.open_until(float("inf"))
        self.api = Dictionary(self.fence)
        self.settings = Settings(namespace="platform", identity="me", **settings)
        self.start()
        self.secret(url=URL)

    def start(self) -> None:
        """Start the operator, which knows nothing of what was before."""
        self.world = World(monotonic=self.clock)
        self.links: list[ScriptedLink] = []
        self.secrets = Secrets(self.api, monotonic=self.clock)
        self.brokers = Brokers(
            self.settings,
            self.secrets,
            fence=self.fence,
            changed=lambda key: None,
            open_link=self._open,
        )
        self.applier = Applier(
            self.api, self.world, resync_s=self.settings.resync, monotonic=self.clock
        )
        self.backend = KubernetesBackend(self.api, self.world, self.applier, self.settings)
        self.reporter = Reporter(self.api, identity="me", monotonic=self.clock)
        self.reconciler = Reconciler(
            self.api,
            self.world,
            self.brokers,
            self.backend,
            self.reporter,
            settings=self.settings,
            clock=self.times,
        )

    def _open(self, url: BrokerURL, **given: Any) -> Any:
        link = ScriptedLink(url, ca=given["ca"], fence=given["fence"], refused=given["refused"])
        self.links.append(link)
        return link

    # --- what people do -------------------------------------------------------------------------

    def secret(self, name: str = "celeriac-broker", namespace: str = "shop", **data: str) -> None:
        meta = {"name": name, "namespace": namespace}
        self.api.put(kinds.SECRETS, {"metadata": meta, "stringData": data})

    def declare(self, name: str = "mail", *, meta: Object | None = None, **spec: Any) -> Object:
        """Create the MessageQueue, or edit it."""
        before = self.api.find(kinds.QUEUES, name)
        body = self.raw.queue(**spec)
        given = {"name": name, "uid": f"uid-of-{name}", **(meta or {})}
        if before is not None:
            given = {**before["metadata"], **(meta or {})}
        body["metadata"] = {**body["metadata"], **given}
        if before is not None and "status" in before:
            body["status"] = before["status"]
        return self.api.put(kinds.QUEUES, body)

    def delete(self, name: str = "mail") -> None:
        """As kubectl does; without a finalizer the children go with it."""
        if not (self.api.find(kinds.QUEUES, name) or {})["metadata"].get("finalizers"):
            for where, it in list(self.api.objects.items()):
                owners = it["metadata"].get("ownerReferences", [])
                if any(owner["uid"] == f"uid-of-{name}" for owner in owners):
                    del self.api.objects[where]
        self.api.delete(kinds.QUEUES, "shop", name)
        self.api.writes.clear()

    def pod(self, name: str = "mail-1", **given: Any) -> None:
        """Run a pod of what the Deployment says now."""
        deployment = self.deployment
        template = deployment["spec"]["template"]["metadata"]["labels"][names.TEMPLATE]
        self.api.put(kinds.PODS, self.raw.pod(name, **{"template": template, **given}))

    def load(self, name: str = "mail", *, workers: tuple[str, ...] = (), **numbers: Any) -> None:
        """Say what is on the broker."""
        if "ready" in numbers:
            numbers["ready_by"] = {"normal": numbers.pop("ready")}
        numbers["workers"] = [WorkerSeen(it, 0, 1) for it in workers]
        queue = self.on_broker(name)
        queue.numbers = replace(queue.numbers, **numbers)

    # --- what the operator does -----------------------------------------------------------------

    def see(self) -> None:
        """Tell the World what is stored, as lists do."""
        watched: tuple[Kind, ...] = WATCHED
        if self.api.keda:
            watched += (kinds.SCALED_OBJECTS, kinds.AUTHENTICATIONS)
        for kind in watched:
            labels = "" if kind == kinds.QUEUES else names.QUEUE_LABEL
            items = self.api.list(kind, None, labels=labels)
            self.world.replace(kind, items, namespace=None, since=float("inf"))

    def look(self, name: str = "mail") -> Look:
        """Look after the queue once."""
        self.see()
        return self.reconciler.look(("shop", name))

    def looks(self, count: int, *, every: float = 1.0) -> Look:
        """Look after it again and again; return what came of the last time."""
        look = self.look()
        for _ in range(count - 1):
            self.clock.now += every
            look = self.look()
        return look

    # --- what is there --------------------------------------------------------------------------

    def on_broker(self, name: str = "mail") -> MemoryQueue:
        return self.links[-1].queues[name]

    def stored(self, kind: Kind, name: str = "mail") -> Object:
        found = self.api.find(kind, name)
        assert found is not None, f"no {kind.name} {name}"
        return found

    @property
    def deployment(self) -> Object:
        return self.stored(kinds.DEPLOYMENTS)

    @property
    def replicas(self) -> int:
        return int(self.deployment["spec"]["replicas"])

    def conditions(self, name: str = "mail") -> dict[str, str]:
        """Status and reason of each condition that is written."""
        status = parse_status(self.stored(kinds.QUEUES, name).get("status"))
        assert status is not None
        return {it.type: f"{it.status} {it.reason}" for it in status.conditions}

    def message(self, type_: ConditionType, name: str = "mail") -> str:
        status = parse_status(self.stored(kinds.QUEUES, name).get("status"))
        condition = status.condition(type_) if status else None
        assert condition is not None
        return condition.message

    def events(self) -> list[str]:
        """The reasons of all Events, in order."""
        found = [it for where, it in self.api.objects.items() if where[0] == kinds.EVENTS.plural]
        return [it["reason"] for it in found]

    def broker_goes(self) -> None:
        for link in self.links:
            for queue in link.queues.values():
                queue.down = True

    def broker_comes(self) -> None:
        for link in self.links:
            for queue in link.queues.values():
                queue.down = False
