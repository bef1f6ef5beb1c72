"""The threads of a leading operator, and what they share.

kopf thread ──▶ World ──▶ work queue ──▶ workers: Reconciler.look
broker threads ─────────────▲
lister thread: whole lists at the start, after a broken watch, and at every resync
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable

import kopf

from celeriac.control.clock import SystemClock
from celeriac.spec.errors import CeleriacError
from celeriac_operator import kinds
from celeriac_operator.api import Api, ApiError, Kind
from celeriac_operator.apply import Applier
from celeriac_operator.backend import KubernetesBackend
from celeriac_operator.brokers import Brokers
from celeriac_operator.fence import Fence, Fenced
from celeriac_operator.handlers import WATCHED, Lists, registry
from celeriac_operator.handlers import settings as kopf_settings
from celeriac_operator.health import Heartbeats
from celeriac_operator.metrics import Metrics
from celeriac_operator.reconcile import Reconciler
from celeriac_operator.reporting import Reporter
from celeriac_operator.resources import names
from celeriac_operator.secrets import Secrets
from celeriac_operator.seen import Key
from celeriac_operator.settings import Settings
from celeriac_operator.workqueue import WorkQueue
from celeriac_operator.world import World

logger = logging.getLogger(__name__)

#: A worker that is on one queue for longer than this hangs: every request has a limit far below.
_STUCK_S = 120.0
_KOPF_SILENT_S = 60.0
#: When watches were broken, wait so long before listing everything once more.
_RELIST_S = 2.0


class NotInstalled(CeleriacError, RuntimeError):
    """The cluster lacks what the operator is for; the text says what to do."""


class Engine:
    """Everything that runs while this replica leads."""

    def __init__(
        self, config: Settings, api: Api, fence: Fence, heartbeats: Heartbeats, metrics: Metrics
    ) -> None:
        self._config = config
        self._api = api
        self._heartbeats = heartbeats
        self._metrics = metrics
        self.world = World()
        self.work: WorkQueue[Key] = WorkQueue()
        self.brokers = Brokers(config, Secrets(api), fence=fence, changed=self.work.add)
        applier = Applier(api, self.world, resync_s=config.resync)
        self.reconciler = Reconciler(
            api,
            self.world,
            self.brokers,
            KubernetesBackend(api, self.world, applier, config),
            Reporter(api, identity=config.identity),
            settings=config,
            clock=SystemClock(),
        )
        self.failed = threading.Event()
        """Set when a thread ended that must not end."""
        self.loaded = threading.Event()
        """Set once the World knows everything."""
        self._watched: tuple[Kind, ...] = WATCHED
        self._list_again = threading.Event()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Load the World, and start all threads."""
        self._start("lister", self._run_lister)

    def stop(self) -> None:
        """Stop taking up work, and wait a little for what is under way."""
        self._stop.set()
        self.work.close()
        self._list_again.set()
        deadline = time.monotonic() + 5
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self.brokers.close()

    # --- threads --------------------------------------------------------------------------------

    def _start(self, name: str, run: Callable[[], None]) -> None:
        def guarded() -> None:
            try:
                run()
            except Fenced:
                logger.info("%s stops: the Lease is gone", name)
            except NotInstalled as error:
                logger.error("%s", error)
            except Exception:
                logger.exception("%s ended", name)
            if not self._stop.is_set():
                self.failed.set()

        thread = threading.Thread(target=guarded, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _run_kopf(self) -> None:
        self._heartbeats.expect("kopf", within_s=_KOPF_SILENT_S)
        made = registry(
            self.world,
            self._watched,
            affected=self.work.add,
            lists=Lists(self._list_again.set),
            beat=lambda: self._heartbeats.beat("kopf"),
        )
        namespaces = self._config.watch_namespaces
        asyncio.run(
            kopf.operator(
                registry=made,
                settings=kopf_settings(self._watched),
                standalone=True,
                # kopf would look up a name for the uid it runs under, and a pod's uid has none.
                identity=self._config.identity,  # type: ignore[arg-type]  # its type is private
                clusterwide=not namespaces,
                namespaces=list(namespaces),
                stop_flag=self._stop,
            )
        )

    def _run_worker(self, name: str) -> None:
        while not self._stop.is_set():
            self._heartbeats.beat(name)
            key = self.work.take(5.0)
            if key is None:
                continue
            try:
                self._look(key)
            finally:
                self.work.done(key)

    def _look(self, key: Key) -> None:
        began = time.monotonic()
        try:
            look = self.reconciler.look(key)
        except Fenced:
            return
        except ApiError as error:
            trouble = str(error)
        except Exception as error:
            logger.exception("%s/%s: looking after it failed", *key)
            trouble = str(error)
        else:
            trouble = look.trouble
            if look.again_s is not None and not trouble:
                self.work.add_after(key, look.again_s)
        self._metrics.looked(time.monotonic() - began, failed=bool(trouble))
        if trouble:
            delay = self.work.retry(key)
            logger.warning("%s/%s: %s; again in %.1f s", *key, trouble, delay)
        else:
            self.work.succeeded(key)

    # --- lists ----------------------------------------------------------------------------------

    def _run_lister(self) -> None:
        self._load()
        self.loaded.set()
        self._start("kopf", self._run_kopf)
        for number in range(self._config.workers):
            name = f"worker {number}"
            self._heartbeats.expect(name, within_s=_STUCK_S)
            self._start(name, lambda name=name: self._run_worker(name))  # type: ignore[misc]
        for key in self.world.queues():
            self.work.add(key)
        self._relist_forever()

    def _load(self) -> None:
        self._watched = WATCHED
        if self._exists(kinds.SCALED_OBJECTS):
            self._watched += (kinds.SCALED_OBJECTS, kinds.AUTHENTICATIONS)
        for kind in self._watched:
            while not self._stop.is_set():
                try:
                    self._list(kind)
                    break
                except ApiError as error:
                    if kind == kinds.QUEUES and error.not_found:
                        raise NotInstalled(
                            "this cluster has no MessageQueues: install the chart celeriac-crds"
                        ) from error
                    logger.warning("%s cannot be listed: %s", kind.plural, error)
                    self._stop.wait(1.0)

    def _exists(self, kind: Kind) -> bool:
        """Whether the cluster has a kind; as before while it cannot be asked."""
        try:
            found = self._api.request("GET", kind.base)
        except ApiError as error:
            return not error.not_found and kind in self._watched
        return any(it.get("name") == kind.plural for it in found.get("resources", ()))

    def _relist_forever(self) -> None:
        while not self._stop.is_set():
            if self._list_again.wait(self._config.resync):
                self._stop.wait(_RELIST_S)  # all watches were broken, and not all are back yet
                self._list_again.clear()
            for kind in self._watched:
                if self._stop.is_set():
                    return
                try:
                    for key in self._list(kind):
                        self.work.add(key)
                except ApiError as error:
                    logger.warning("%s cannot be listed: %s", kind.plural, error)
                    self._list_again.set()
            if self._exists(kinds.SCALED_OBJECTS) != (kinds.SCALED_OBJECTS in self._watched):
                logger.info("KEDA was installed or removed: starting anew, to watch what is there")
                return

    def _list(self, kind: Kind) -> set[Key]:
        labels = "" if kind == kinds.QUEUES else names.QUEUE_LABEL
        changed: set[Key] = set()
        for namespace in self._config.watch_namespaces or (None,):
            since = time.monotonic()
            items = self._api.list(kind, namespace, labels=labels)
            changed |= self.world.replace(kind, items, namespace=namespace, since=since)
        return changed
