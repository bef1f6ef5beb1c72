"""Runs the workers of queues as Deployments: the same protocol as child processes on one machine.

Everything is read from the World. Everything that is written goes through the Applier, but for two things:
the number of replicas, through /scale, and the order in which pods go, as an annotation of theirs.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Mapping

from celeriac.backend.base import Fleet, Obstacle
from celeriac.spec.conditions import Reason
from celeriac.spec.queue import MessageQueue
from celeriac_operator import kinds
from celeriac_operator.api import Api, ApiError, Kind
from celeriac_operator.apply import Applier, Blocked
from celeriac_operator.brokers import BrokerAddress
from celeriac_operator.fleet import costs, fleet_of, held
from celeriac_operator.resources import Object, names
from celeriac_operator.resources.broker_secret import URL, broker_secret, parts
from celeriac_operator.resources.config_map import config_map
from celeriac_operator.resources.deployment import BrokerSecret, deployment, seed
from celeriac_operator.resources.disruption import disruption_budget
from celeriac_operator.resources.network import network_policy
from celeriac_operator.resources.scaled_object import (
    scaled_object,
    trigger_authentication,
)
from celeriac_operator.seen import DeploymentSeen, Key
from celeriac_operator.settings import Settings
from celeriac_operator.world import World

logger = logging.getLogger(__name__)

#: A second deletion with this grace ends a drain.
_HURRY_S = 1


class KubernetesBackend:
    """Workers as pods. One queue's calls come one after the other; queues may be worked on at once."""

    def __init__(self, api: Api, world: World, applier: Applier, settings: Settings) -> None:
        self._api = api
        self._world = world
        self._applier = applier
        self._settings = settings
        self._lock = threading.Lock()
        self._addresses: dict[Key, BrokerAddress] = {}
        self._obstacles: dict[Key, Obstacle] = {}
        self._heard: dict[Key, Mapping[str, int]] = {}
        self._acknowledged: dict[Key, set[str]] = {}

    def reach(self, key: Key, address: BrokerAddress | None) -> None:
        """Say where a queue's broker is; None while nobody knows."""
        with self._lock:
            if address is None:
                self._addresses.pop(key, None)
            else:
                self._addresses[key] = address

    def obstacle(self, key: Key) -> Obstacle | None:
        """What is in the way of a queue since it was last ensured."""
        with self._lock:
            return self._obstacles.get(key)

    def forget(self, key: Key) -> None:
        """Forget a queue that does not exist any more."""
        with self._lock:
            for known in (self._addresses, self._obstacles, self._heard, self._acknowledged):
                known.pop(key, None)
        self._applier.forget(key)

    # --- the protocol ---------------------------------------------------------------------------

    def observe(self, queue: MessageQueue, *, heard: Mapping[str, int]) -> Fleet:
        key = key_of(queue)
        with self._lock:
            self._heard[key] = heard
            known = self._acknowledged.setdefault(key, set())
            known &= heard.keys()
            news = heard.keys() - known
            obstacle = self._obstacles.get(key)
        return fleet_of(
            self._deployment(queue),
            self._world.pods(key),
            heard=news,
            gone=self._world.gone(key),
            obstacle=obstacle,
        )

    def ensure(self, queue: MessageQueue, *, replicas: int) -> None:
        key = key_of(queue)
        with self._lock:
            address = self._addresses.get(key)
        if address is None:
            return  # nothing can be rendered; what runs goes on running
        obstacle = None
        try:
            self._ensure(queue, address, replicas)
        except Blocked as blocked:
            obstacle = blocked.obstacle
            raise
        finally:
            with self._lock:
                self._obstacles.pop(key, None)  # whatever else is wrong now, it is not that
                if obstacle is not None:
                    self._obstacles[key] = obstacle

    def remove(self, queue: MessageQueue) -> None:
        namespace, name = key_of(queue)
        uid = queue.metadata.uid
        for kind, suffix in (
            (kinds.SCALED_OBJECTS, ""),
            (kinds.AUTHENTICATIONS, ""),
            (kinds.DEPLOYMENTS, ""),
            (kinds.BUDGETS, ""),
            (kinds.POLICIES, ""),
            (kinds.CONFIG_MAPS, names.WORKER_SUFFIX),
        ):
            self._applier.delete(kind, namespace, name + suffix, owner=uid)

    def hurry(self, queue: MessageQueue) -> None:
        for pod in self._world.pods(key_of(queue)):
            if pod.deleting:
                options = {"gracePeriodSeconds": _HURRY_S, "preconditions": {"uid": pod.uid}}
                self._api.delete(kinds.PODS, pod.namespace, pod.name, options)

    def acknowledge(self, queue: MessageQueue, workers: Collection[str]) -> None:
        with self._lock:
            self._acknowledged.setdefault(key_of(queue), set()).update(workers)

    # --- the objects ----------------------------------------------------------------------------

    def _ensure(self, queue: MessageQueue, address: BrokerAddress, replicas: int) -> None:
        image = queue.spec.worker.image or self._settings.image
        if not image:
            text = "spec.worker.image must be given: the operator has no default"
            raise Blocked(Obstacle(Reason.INVALID_SPEC, text))
        before = self._deployment(queue)
        broker = self._broker(queue, address)
        self._applier.ensure(kinds.CONFIG_MAPS, config_map(queue))
        self._applier.ensure(kinds.BUDGETS, disruption_budget(queue))
        self._maybe(queue, kinds.POLICIES, network_policy(queue), self._settings.network_policy)
        body = deployment(queue, image=image, broker=broker)
        first = seed(queue, image=image, replicas=_first_replicas(queue))
        self._applier.ensure(kinds.DEPLOYMENTS, body, seed=first)
        self._scale(queue, address, replicas, before)

    def _broker(self, queue: MessageQueue, address: BrokerAddress) -> BrokerSecret:
        """The Secret beside the workers that has the URL; made there when it has to be."""
        namespace, name = address.secret
        key, away, ca = address.key, namespace != queue.metadata.namespace, bool(address.ca)
        for_keda = queue.spec.autoscaling.mode == "KEDA" and bool(parts(address.url, ca=address.ca))
        if away or for_keda:
            body = broker_secret(queue, text=address.text, url=address.url, ca=address.ca)
            self._applier.ensure_secret(body)
            if away:
                name, key = body["metadata"]["name"], URL
        return BrokerSecret(name, key, digest=address.digest, ca=ca)

    def _maybe(self, queue: MessageQueue, kind: Kind, body: Object | None, wanted: bool) -> None:
        if wanted and body is not None:
            self._applier.ensure(kind, body)
        else:
            namespace, name = key_of(queue)
            self._applier.delete(kind, namespace, name, owner=queue.metadata.uid)

    # --- the number of workers ------------------------------------------------------------------

    def _scale(
        self,
        queue: MessageQueue,
        address: BrokerAddress,
        replicas: int,
        before: DeploymentSeen | None,
    ) -> None:
        """Let one, and only one, say how many run: us, KEDA, or whoever else."""
        mode = queue.spec.autoscaling.mode
        seen = self._deployment(queue)
        if mode == "KEDA":
            login = trigger_authentication(queue, url=address.url, ca=address.ca)
            self._maybe(queue, kinds.AUTHENTICATIONS, login, wanted=True)
            body = scaled_object(queue, url=address.url, authentication=login is not None)
            self._applier.ensure(kinds.SCALED_OBJECTS, body)
            return
        self._maybe(queue, kinds.SCALED_OBJECTS, None, wanted=False)
        self._maybe(queue, kinds.AUTHENTICATIONS, None, wanted=False)
        if seen is None or self._world.child(kinds.SCALED_OBJECTS, *key_of(queue)) is not None:
            return  # KEDA still holds on to it
        if mode == "HPA":
            # A HorizontalPodAutoscaler leaves nothing alone but zero: hand over something to scale.
            if before is not None and before.mode != "HPA" and not seen.replicas:
                self._set_replicas(seen, _first_replicas(queue))
            return
        if seen.replicas != replicas:
            if replicas < seen.replicas:
                self._order_pods(key_of(queue), to_zero=not replicas)
            self._set_replicas(seen, replicas)

    def _set_replicas(self, seen: DeploymentSeen, replicas: int) -> None:
        body = {"spec": {"replicas": replicas}}
        where = (seen.namespace, seen.name)
        logger.info("%s/%s: replicas %d, before %d", *where, replicas, seen.replicas)
        answer = self._api.merge(kinds.DEPLOYMENTS, *where, body, manager=names.SCALER, sub="scale")
        self._world.scaled(seen, replicas, int(answer["metadata"].get("resourceVersion") or 0))

    def _order_pods(self, key: Key, *, to_zero: bool) -> None:
        """Let idle workers go first. Without this the scale-down is merely less kind, so go on."""
        if to_zero:
            return
        with self._lock:
            heard = self._heard.get(key, {})
        pods = {pod.name: pod for pod in self._world.pods(key)}
        for name, cost in costs(pods.values(), held(heard)).items():
            body = {"metadata": {"annotations": {names.DELETION_COST: str(cost)}}}
            try:
                self._api.merge(kinds.PODS, key[0], name, body, manager=names.MANAGER)
            except ApiError as error:
                logger.info("%s/%s: its deletion cost cannot be set: %s", key[0], name, error)

    def _deployment(self, queue: MessageQueue) -> DeploymentSeen | None:
        namespace, name = key_of(queue)
        seen = self._world.deployment(namespace, name)
        return seen if seen is not None and seen.owner == queue.metadata.uid else None


def key_of(queue: MessageQueue) -> Key:
    """Namespace and name."""
    return (queue.metadata.namespace or "default", queue.name)


def _first_replicas(queue: MessageQueue) -> int:
    """What a Deployment is created with: nothing, unless an autoscaler could never start from there."""
    scaling = queue.spec.autoscaling
    if scaling.mode != "HPA" or queue.spec.paused:
        return 0
    return min(scaling.max_replicas, max(1, scaling.min_replicas, queue.spec.replicas))
