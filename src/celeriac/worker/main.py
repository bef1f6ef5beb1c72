"""Runs a worker: the user's Celery app, one queue, one pool, until told to stop.

signals -> drain          main thread: the pool (solo, threads, asyncio) or the parent of children (prefork)
                          keeper thread: leases, late settlements, the end of a drain
                          remote thread: Celery's remote control       http thread: probes, metrics
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from types import FrameType
from typing import Any, TypeVar

from billiard import util as billiard_util
from celery import Celery, signals
from celery.app.trace import setup_worker_optimizations
from celery.concurrency import get_implementation

from celeriac.broker import signing
from celeriac.broker.connection import connect, from_environment, parse
from celeriac.broker.message import Lease, Message, Outcome
from celeriac.broker.queue import Queue
from celeriac.client.progress import QueueProgress
from celeriac.worker import http, record
from celeriac.worker.broker_check import BrokerCheck
from celeriac.worker.consumer import LONGEST_WAIT_S, Consumer
from celeriac.worker.keeper import Keeper
from celeriac.worker.limits import Slot, TimeLimits, warn_of_limits
from celeriac.worker.native import NativeRunner
from celeriac.worker.opening import Opener
from celeriac.worker.options import WorkerOptions, check
from celeriac.worker.pools.aio import Aio
from celeriac.worker.pools.loop import new_loop
from celeriac.worker.pools.prefork import Prefork
from celeriac.worker.pools.solo import run_solo
from celeriac.worker.pools.threads import run_threads
from celeriac.worker.remote import RemoteControl
from celeriac.worker.runner import AttemptRunner

logger = logging.getLogger(__name__)

R = TypeVar("R", bound=AttemptRunner)

#: A broker that is silent for so long counts as gone. With short leases it is half a lease, since a request
#: that hangs must leave time to renew; but longer than an idle worker's sleep, which is a request as well.
BROKER_TIMEOUT_S = 10.0
SHORTEST_TIMEOUT_S = LONGEST_WAIT_S + 0.75
#: A worker whose threads have not moved for so long is not live. Well above the broker's time-out, so
#: that an outage makes a worker unready and never dead.
STALE_S = 60.0


def run_worker(app: Celery, options: WorkerOptions) -> int:
    """Run a worker until SIGTERM or SIGINT, then drain it; return its exit code.

    Raises BrokerURLError for a bad broker URL, EvictingServer for a broker that deletes messages,
    ValueError for options that contradict each other, and OSError when the HTTP port is taken.
    """
    worker = Worker(app, options)
    worker.run()
    return 1 if worker.broker_check.refused else 0


class Worker:
    """A worker process and what runs in it.

    It is the sender of Celery's worker signals: whoever hears them (Celery's Django fixup, APMs) finds
    what they look for in Celery's own `WorkController`.
    """

    logfile = pidfile = None

    def __init__(self, app: Celery, options: WorkerOptions) -> None:
        check(options)
        self.app = app
        self.options = options
        self.name = options.name or f"{options.queue}@{socket.gethostname()}:{os.getpid()}"
        self.hostname = self.name
        self.concurrency = options.concurrency
        self.loglevel = options.log_level
        self._url = parse(options.broker or from_environment())
        self._signing = signing.from_environment()
        slots = {"solo": 1, "prefork": 0}.get(options.pool, options.concurrency)
        self.consumer = self._consumer(self.name, slots=slots)
        self.broker_check = BrokerCheck(
            self.consumer.queue.client, closing=self.consumer.closing, stop=self.shut_down
        )
        self.keeper: Keeper | None = None
        self.prefork: Prefork | None = None
        self.aio: Aio | None = None
        self._remote: RemoteControl | None = None
        self._http: http.Server | None = None
        self._stops = 0
        #: Who started this worker, and does not want it to live on alone; 0 when nobody said so.
        self._parent = int(os.environ.get("CELERIAC_PARENT_PID", "0"))

    @cached_property
    def pool_cls(self) -> type:
        """Celery's class of the same kind of pool: nobody makes one, but its module tells the kind."""
        kind = "threads" if self.options.pool == "asyncio" else self.options.pool
        found: type = get_implementation(kind)
        return found

    def run(self) -> None:
        """Run until drained."""
        self.broker_check.now()
        self._set_up_app()
        if self.options.http_port is not None:
            self._http = http.server(
                self.health,
                queue=self.options.queue,
                host=self.options.http_host,
                port=self.options.http_port,
            )
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        self._run_pool()
        if self._remote is not None:
            self._remote.stop()
        if self._http is not None:
            self._http.shutdown()
        signals.worker_shutdown.send(sender=self)
        logger.info("worker %s has drained", self.name)

    def _started(self) -> None:
        """The pool is there: start the threads that look at it from outside, and tell the world."""
        if self.app.conf.worker_enable_remote_control:
            self._remote = RemoteControl(
                self.app, hostname=self.name, queue=self.options.queue, worker=self
            )
            self._remote.start()
        if self._http is not None:
            self._http.start()
        self.broker_check.later()
        signals.worker_ready.send(sender=self)
        logger.info(
            "worker %s is ready: queue %s, %s pool, concurrency %d",
            self.name,
            self.options.queue,
            self.options.pool,
            self.options.concurrency,
        )

    # --- set-up ---------------------------------------------------------------------------------

    def _queue(self) -> Queue:
        timeout_s = min(BROKER_TIMEOUT_S, max(SHORTEST_TIMEOUT_S, self.options.lease_s / 2))
        return Queue(
            connect(self._url, socket_timeout=timeout_s),
            self.options.queue,
            prefix=self._url.prefix,
            lease_ms=self.options.lease_s * 1000,
            signing=self._signing,
        )

    def _consumer(self, name: str, *, slots: int) -> Consumer:
        return Consumer(self._queue(), name, slots=slots, on_dropped=self._record_dropped)

    def _set_up_app(self) -> None:
        app = self.app
        app.conf.broker_url = self._url.text()
        app.loader.init_worker()
        setup_worker_optimizations(app, self.name)
        signals.celeryd_init.send(sender=self.name, instance=self, conf=app.conf, options={})
        signals.celeryd_after_setup.send(sender=self.name, instance=self, conf=app.conf)
        app.log.setup(self.options.log_level, redirect_stdouts=False, hostname=self.name)
        signals.worker_init.send(sender=self)
        soft, hard = self._limits()
        warn_of_limits(app, pool=self.options.pool, soft_s=soft, hard_s=hard)
        if app.steps["worker"] or app.steps["consumer"]:
            logger.warning("custom bootsteps are not run: this worker has a consumer of its own")

    def _limits(self) -> tuple[float, float]:
        """Soft and hard limit for tasks without: the queue's, else those of the app's configuration."""
        options, conf = self.options, self.app.conf
        if options.soft_timeout_s or options.timeout_s:
            return options.soft_timeout_s, options.timeout_s
        return conf.task_soft_time_limit or 0, conf.task_time_limit or 0

    @cached_property
    def _opener(self) -> Opener:
        return Opener(self.app, queue=self.consumer.queue, hostname=self.name)

    def _runner(self, kind: type[R], consumer: Consumer, **options: Any) -> R:
        queue = consumer.queue
        return kind(
            app=self.app,
            queue=queue,
            worker=consumer.name,
            opener=self._opener,
            policy=consumer.policy,
            **{"progress_sink": lambda message: QueueProgress(queue, message.id), **options},
        )

    def _aio(self) -> Aio:
        soft, hard = self._limits()
        queue, later = self.consumer.queue, ThreadPoolExecutor(1, "celeriac-progress").submit
        runner = self._runner(
            NativeRunner,
            self.consumer,
            loop=new_loop(),
            soft_s=soft,
            hard_s=hard,
            progress_sink=lambda message: QueueProgress(queue, message.id, run=later),
        )
        return Aio(self.consumer, runner, concurrency=self.options.concurrency)

    # --- pools ----------------------------------------------------------------------------------

    def _run_pool(self) -> None:
        if self.options.pool == "prefork":
            self.prefork = Prefork(
                self.consumer,
                concurrency=self.options.concurrency,
                child_main=self._child_main,
                on_ended=self._record_end,
                parent=self._parent,
            )
            self.prefork.run(grace_s=self.options.drain_s, started=self._started)
            return
        on_tick = None
        if self.options.pool == "asyncio":
            self.aio = self._aio()
            self.consumer.inflight.stop_taken = self.aio.take_away
            on_tick = self.aio.watch.tick
        self.keeper = Keeper(self.consumer, parent=self._parent, on_tick=on_tick)
        self.keeper.start()
        signals.worker_process_init.send(sender=None)
        self._started()
        if self.aio is not None:
            self.aio.run()
        elif self.options.pool == "solo":
            run_solo(self.consumer, self._runner(AttemptRunner, self.consumer))
        else:
            runner = self._runner(AttemptRunner, self.consumer)
            run_threads(self.consumer, runner, concurrency=self.options.concurrency)
        self.keeper.stop()

    def _child_main(self, name: str, slot: Slot) -> None:
        billiard_util._run_after_forkers()
        consumer = self._consumer(name, slots=1)
        consumer.inflight.stop_taken = slot.take_away
        keeper = Keeper(consumer, parent=os.getppid(), on_tick=slot.beat)

        def drain(number: int, frame: FrameType | None) -> None:
            consumer.closing.set()
            keeper.close_by(time.monotonic() + self.options.drain_s)

        signal.signal(signal.SIGTERM, drain)
        signals.worker_process_init.send(sender=None)
        soft, hard = self._limits()
        limits = TimeLimits(slot, soft_s=soft, hard_s=hard)
        keeper.start()
        most = self.app.conf.worker_max_tasks_per_child or 0
        runner = self._runner(AttemptRunner, consumer, limits=limits)
        run_solo(consumer, runner, most=most)
        keeper.stop()
        signals.worker_process_shutdown.send(sender=None, pid=os.getpid(), exitcode=0)

    def _record_end(self, message: Message, outcome: Outcome, error: Exception) -> None:
        record.lost(self._opener, message, outcome, error)

    def _record_dropped(self, message: Message, reason: str) -> None:
        record.dropped(self._opener, message, reason)

    # --- signals, health, remote control --------------------------------------------------------

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stops += 1
        if self._stops == 1:
            self.shut_down()
        elif self.keeper is not None:
            # The handler may have interrupted the broker client: the keeper's thread does the talking.
            self.keeper.close_by(time.monotonic())
        elif self.prefork is not None:
            self.prefork.kill_all()

    def shut_down(self) -> None:
        """Start the drain: claim nothing more, finish what runs, hand back the rest."""
        logger.info("worker %s drains: at most %s s", self.name, self.options.drain_s)
        signals.worker_shutting_down.send(sender=self.name, sig="SIGTERM", how="Warm", exitcode=0)
        if self.keeper is not None:
            self.keeper.close_by(time.monotonic() + self.options.drain_s)
        self.consumer.closing.set()

    def health(self) -> http.Health:
        """How the worker is now."""
        keeper: Keeper | Prefork | None = self.prefork or self.keeper
        beat = keeper.beat if keeper is not None else time.monotonic()
        if self.aio is not None:
            beat = min(beat, self.aio.watch.beat)
        live = time.monotonic() - beat < STALE_S
        consumer = self.consumer
        ready = consumer.link.connected_since is not None and not consumer.closing.is_set()
        reason = (
            "ok"
            if live and ready
            else "draining"
            if self.consumer.closing.is_set()
            else ("the broker is out of reach" if live else f"no progress for {STALE_S:.0f} s")
        )
        return http.Health(
            live, ready, reason + "\n", self.options.concurrency, len(self._running())
        )

    def active(self) -> list[dict[str, Any]]:
        """Describe the running tasks, as ``inspect active`` shows them (without arguments)."""
        return self._running()

    def reserved(self) -> list[dict[str, Any]]:
        """Describe messages claimed but not started: none outlives a few hundredths of a second."""
        return []

    def stats(self) -> dict[str, Any]:
        """Describe the worker, as ``inspect stats`` shows it."""
        pool: dict[str, Any] = {
            "implementation": self.options.pool,
            "max-concurrency": self.options.concurrency,
        }
        if self.prefork is not None:
            pool["processes"] = list(self.prefork.children)
        total = self.consumer.settler.count if self.prefork is None else self.prefork.finished
        return {"total": {self.options.queue: total}, "pool": pool}

    def revoke(self, message_id: str, *, terminate: bool) -> bool:
        """Cancel a message in the queue; with ``terminate``, also stop it, where a pool can do that."""
        self.consumer.link.ask(lambda: self.consumer.queue.cancel(message_id))
        if not terminate:
            return False
        pool = self.prefork or self.aio
        stopped = pool is not None and pool.terminate(message_id)
        if not stopped:
            text = "%s is not running here in a prefork child or as a coroutine: not terminated"
            logger.warning(text, message_id)
        return stopped

    def _running(self) -> list[dict[str, Any]]:
        if self.prefork is not None:
            slots = [child.slot.read() for child in list(self.prefork.children.values())]
            return [
                {"id": running.message.id, "name": running.message.task, "hostname": self.name}
                for running in slots
                if running is not None
            ]
        held: dict[Lease, tuple[Message, float]] = dict(self.consumer.inflight.running)
        return [
            {"id": message.id, "name": message.task, "hostname": self.name}
            for message, _ in held.values()
        ]
