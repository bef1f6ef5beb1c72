"""One look after one queue, for every cause alike: resource, Secret, broker, pods and status, in that order.

    read the World -> may we? -> which broker? -> is it ours? -> Keeper.round -> status

What is asked again and again is decided here: when to look next.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import redis

from celeriac.control.broker import BrokerNotConfigured
from celeriac.control.clock import Clock
from celeriac.control.keeper import Keeper
from celeriac.spec.conditions import Reason
from celeriac.spec.errors import CeleriacError
from celeriac.spec.queue import MessageQueue
from celeriac.spec.status import MessageQueueStatus
from celeriac_operator import kinds
from celeriac_operator.api import Api, ApiError
from celeriac_operator.backend import KubernetesBackend
from celeriac_operator.brokers import BrokerAddress, Brokers
from celeriac_operator.declared import InvalidStored, declared
from celeriac_operator.keepers import Keepers
from celeriac_operator.reporting import News, Reporter
from celeriac_operator.resources import names
from celeriac_operator.seen import Key, QueueSeen
from celeriac_operator.settings import Settings
from celeriac_operator.statuses import hands_off, stalled
from celeriac_operator.world import World

#: A queue on the move is looked at this often, one whose workers merely run this often.
MOVING_S = 1.0
RUNNING_S = 5.0
#: What nobody tells us of, such as a Secret that was made at last, is looked for this often.
BLOCKED_S = 5.0
_AT_ONCE_S = 0.05
#: A deletion is never held up longer than this.
PURGE_S = 20.0


@dataclass(frozen=True, slots=True)
class Look:
    """What came of a look: when to look again, and whether something failed."""

    again_s: float | None = None
    trouble: str = ""


class NotPurged(CeleriacError, RuntimeError):
    """A queue keeps its messages although its resource goes; the text says why."""


@dataclass(frozen=True, slots=True)
class NamedStatus:
    """What was last said of a resource: the queue it names, and its status."""

    queue_name: str
    status: MessageQueueStatus


class Reconciler:
    """Looks after queues, one at a time for each key; keys may be worked on at once."""

    def __init__(
        self,
        api: Api,
        world: World,
        brokers: Brokers,
        backend: KubernetesBackend,
        reporter: Reporter,
        *,
        settings: Settings,
        clock: Clock,
    ) -> None:
        self._api = api
        self._world = world
        self._brokers = brokers
        self._backend = backend
        self._reporter = reporter
        self._settings = settings
        self._clock = clock
        self._keepers = Keepers(backend, brokers, clock)
        self._lock = threading.Lock()
        self._statuses: dict[Key, NamedStatus] = {}

    def statuses(self) -> Mapping[Key, NamedStatus]:
        """What is said of every resource now, written or not."""
        with self._lock:
            return dict(self._statuses)

    def look(self, key: Key) -> Look:
        """Look after one queue. Raises ApiError, and Fenced when this replica does not lead."""
        seen = self._world.queue(key)
        if seen is None:
            self._forget(key)
            return Look()
        if seen.deletion_time:
            return self._delete(seen)
        if seen.hands_off:
            self._tell(seen, hands_off(self._reporter.stored(seen), self._clock.now()))
            return Look()
        problem, ignored = "", tuple[str, ...]()
        kept = self._keepers.find(seen)
        try:
            queue, ignored = declared(seen)
        except InvalidStored as error:
            problem = str(error)
            if kept is None:
                self._stall(seen, Reason.INVALID_SPEC, problem)
                return Look(self._settings.resync)
            queue = kept.keeper.queue
        self._keep_finalizer(seen, queue)
        address, why = self._address(seen)
        if address is not None and (older := self._older(seen, address)) is not None:
            return self._give_way(seen, queue, older)
        stored = self._reporter.stored(seen)
        keeper = self._keepers.keep(seen, queue, address=address, why=why, stored=stored).keeper
        keeper.round(problem=problem, ignored=ignored)
        assert keeper.status is not None
        self._tell(seen, keeper.status)
        obstacle = self._backend.obstacle(seen.queue)
        if obstacle != keeper.fleet.obstacle:
            return Look(_AT_ONCE_S)  # the status does not tell of it yet
        return Look(self._again(keeper), "" if obstacle else keeper.trouble)

    # --- which queue, which broker --------------------------------------------------------------

    def _address(self, seen: QueueSeen) -> tuple[BrokerAddress | None, BrokerNotConfigured | None]:
        try:
            address = self._brokers.address(seen)
        except BrokerNotConfigured as error:
            self._backend.reach(seen.queue, None)
            self._brokers.forget(seen.queue)
            return None, error
        self._backend.reach(seen.queue, address)
        return address, None

    def _older(self, seen: QueueSeen, address: BrokerAddress) -> QueueSeen | None:
        """Another resource that had this queue of this broker first."""
        for other in self._world.namesakes(seen.queue_name):
            if (other.created, other.uid) >= (seen.created, seen.uid):
                continue
            try:
                if self._brokers.address(other).identity == address.identity:
                    return other
            except BrokerNotConfigured:
                continue
        return None

    def _give_way(self, seen: QueueSeen, queue: MessageQueue, older: QueueSeen) -> Look:
        text = (
            f"the queue {seen.queue_name} on this broker belongs to the MessageQueue {older.name} in "
            f"{older.namespace}, which is older: delete one of them, or set another spec.queue"
        )
        self._backend.remove(queue)
        self._keepers.drop(seen.queue)
        self._stall(seen, Reason.QUEUE_TAKEN, text)
        return Look(self._settings.resync)

    def _stall(self, seen: QueueSeen, reason: Reason, message: str) -> None:
        status = stalled(
            self._reporter.stored(seen),
            name=seen.name,
            generation=seen.generation,
            reason=reason,
            message=message,
            now=self._clock.now(),
        )
        self._tell(seen, status)

    def _tell(self, seen: QueueSeen, status: MessageQueueStatus) -> None:
        with self._lock:
            self._statuses[seen.queue] = NamedStatus(seen.queue_name, status)
        self._reporter.report(seen, status)

    def _forget(self, key: Key) -> None:
        self._keepers.drop(key)
        self._backend.forget(key)
        self._reporter.forget(key)
        with self._lock:
            self._statuses.pop(key, None)

    def _again(self, keeper: Keeper) -> float:
        """When to look again, if nobody calls before."""
        decision, fleet, status = keeper.decision, keeper.fleet, keeper.status
        assert decision is not None
        assert status is not None
        wait = float(self._settings.resync)
        if keeper.unreachable or fleet.obstacle:
            wait = BLOCKED_S
        elif (
            (decision.ready or decision.leased or decision.due or decision.hold_seconds)
            or (fleet.starting or fleet.waiting or fleet.draining or fleet.outdated or fleet.lost)
            or fleet.running != decision.desired
        ):
            wait = MOVING_S
        elif fleet.running:
            wait = RUNNING_S
        if (due := keeper.next_due()) is not None:
            wait = min(wait, max(0.05, (due - self._clock.now()).total_seconds()))
        return wait

    # --- deletion -------------------------------------------------------------------------------

    def _keep_finalizer(self, seen: QueueSeen, queue: MessageQueue) -> None:
        """A finalizer while, and only while, something is to be done when the resource goes."""
        wanted = queue.spec.deletion_policy == "Purge"
        if wanted != (names.PURGE_FINALIZER in seen.finalizers):
            others = [it for it in seen.finalizers if it != names.PURGE_FINALIZER]
            self._set_finalizers(seen, [*others, names.PURGE_FINALIZER] if wanted else others)

    def _set_finalizers(self, seen: QueueSeen, finalizers: list[str]) -> None:
        meta = {"finalizers": finalizers, "resourceVersion": str(seen.version), "uid": seen.uid}
        try:
            self._api.merge(
                *(kinds.QUEUES, seen.namespace, seen.name, {"metadata": meta}),
                manager=names.MANAGER,
            )
        except ApiError as error:
            if not error.not_found:
                raise

    def _delete(self, seen: QueueSeen) -> Look:
        """Let go of a resource that is being deleted; it must go, broker or no broker."""
        if names.PURGE_FINALIZER not in seen.finalizers:
            return Look()  # what belongs to it goes with it
        try:
            going_on, why = self._leave(seen), ""
        except (BrokerNotConfigured, InvalidStored, NotPurged, redis.RedisError) as error:
            going_on, why = False, str(error)
        if going_on:
            return Look(MOVING_S)
        others = [it for it in seen.finalizers if it != names.PURGE_FINALIZER]
        self._set_finalizers(seen, others)
        if why:
            text = f"the messages were not purged, and stay on the broker: {why}"
            self._reporter.tell(seen, News("Purge", "NotPurged", text, warning=True))
        else:
            self._reporter.tell(seen, News("Purge", "Purged", "the queue was purged"))
        self._keepers.drop(seen.queue)
        return Look()

    def _leave(self, seen: QueueSeen) -> bool:
        """Take one step towards an empty queue without workers; False once there.

        Raises whatever tells that the queue cannot, or must not, be emptied.
        """
        if seen.hands_off:
            raise NotPurged("the annotation celeriac.dev/paused is true")
        queue, _ = declared(seen)
        kept = self._keepers.find(seen)
        address, why = self._address(seen)
        if address is not None and (older := self._older(seen, address)) is not None:
            self._backend.remove(queue)
            raise NotPurged(f"the queue belongs to the MessageQueue {older.name}, which is older")
        if kept is None:
            if why is not None:
                raise why
            kept = self._keepers.keep(seen, queue, address=address, why=why, stored=None)
        # Else with the broker that it had: the Secret may be gone already.
        kept.keeper.declare(queue)
        if kept.keeper.leave():
            return False
        age = self._clock.now() - datetime.fromisoformat(seen.deletion_time)
        if age.total_seconds() < PURGE_S:
            return True
        if kept.keeper.unreachable:
            raise NotPurged(kept.keeper.unreachable)
        kept.access.purge()  # some workers still drain; what they hold they may finish
        return False
