"""Runs a worker: the user's Celery app, one queue, one pool, until told to stop.

signals -> drain          main thread: the pool
                          housekeeper thread: leases, late settlements, the end of a drain
                          remote thread: Celery's remote control       http thread: probes, metrics
"""

from __future__ import annotations

import logging
import signal
from functools import cached_property
from types import FrameType
from typing import Any

from celery import Celery, signals
from celery.app.trace import setup_worker_optimizations
from celery.concurrency import get_implementation

from celeriac.transport.amqp import declare_bindings
from celeriac.worker import http
from celeriac.worker.app_check import must_be_runnable, without_effect
from celeriac.worker.broker_check import BrokerCheck
from celeriac.worker.context import WorkerContext
from celeriac.worker.options import WorkerOptions, check
from celeriac.worker.pools import pool_class
from celeriac.worker.remote import RemoteControl

logger = logging.getLogger(__name__)


def run_worker(app: Celery, options: WorkerOptions) -> int:
    """Run a worker until SIGTERM or SIGINT, then drain it; return its exit code.

    Raises BrokerURLError for a bad broker URL, EvictingServer for a broker that deletes messages,
    ValueError for options that contradict each other, NotRunnable for an app whose tasks need Celery's own
    consumer, and OSError when the HTTP port is taken.
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
        kind = pool_class(options.pool)
        kind.check(options)
        self.app = app
        self.options = options
        self.context = WorkerContext(app, options)
        self.name = self.hostname = self.context.name
        self.concurrency = options.concurrency
        self.loglevel = options.log_level
        self.pool = kind(self.context)
        self.consumer = self.pool.consumer
        self.broker_check = BrokerCheck(
            self.consumer.queue.client, closing=self.consumer.closing, stop=self.shut_down
        )
        self._remote: RemoteControl | None = None
        self._http: http.Server | None = None
        self._stops = 0

    @cached_property
    def pool_cls(self) -> type:
        """Celery's class of the same kind of pool: nobody makes one, but its module tells the kind."""
        found: type = get_implementation(self.pool.celerys)
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
                quiet=self.pool.quiet,
            )
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        self.pool.run(self._started)
        if self._remote is not None:
            self._remote.stop()
        if self._http is not None:
            self._http.shutdown()
        signals.worker_shutdown.send(sender=self)
        logger.info("worker %s has drained", self.name)

    def _set_up_app(self) -> None:
        app = self.app
        app.conf.broker_url = self.context.url.text()
        app.loader.init_worker()
        setup_worker_optimizations(app, self.name)
        signals.celeryd_init.send(sender=self.name, instance=self, conf=app.conf, options={})
        signals.celeryd_after_setup.send(sender=self.name, instance=self, conf=app.conf)
        app.log.setup(self.options.log_level, redirect_stdouts=False, hostname=self.name)
        signals.worker_init.send(sender=self)
        soft_s, hard_s = self.context.limits()
        self.pool.warn_of_limits(app, soft_s=soft_s, hard_s=hard_s)
        must_be_runnable(app)
        for line in without_effect(app):
            logger.warning("%s", line)
        _tell_of_default_queue(app, self.options.queue)
        declare_bindings(app, self.options.queue)
        self.context.share()
        if app.steps["worker"] or app.steps["consumer"]:
            logger.warning("custom bootsteps are not run: this worker has a consumer of its own")

    def _started(self) -> None:
        """The pool is there: start the threads that look at it from outside, and tell the world."""
        if self.app.conf.worker_enable_remote_control:
            self._remote = RemoteControl(
                self.app,
                hostname=self.name,
                queue=self.options.queue,
                worker=self,
                quiet=self.pool.quiet,
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

    # --- the end --------------------------------------------------------------------------------

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stops += 1
        if self._stops == 1:
            self.shut_down()
        else:
            self.pool.stop_at_once()

    def shut_down(self) -> None:
        """Start the drain: claim nothing more, finish what runs, hand back the rest."""
        logger.info("worker %s drains: at most %s s", self.name, self.options.drain_s)
        signals.worker_shutting_down.send(sender=self.name, sig="SIGTERM", how="Warm", exitcode=0)
        self.pool.drain()

    # --- health, remote control -----------------------------------------------------------------

    def health(self) -> http.Health:
        """How the worker is now."""
        trouble = self.pool.trouble
        draining = self.consumer.closing.is_set()
        connected = self.consumer.link.connected_since is not None
        reason = trouble or ("ok" if connected else "the broker is out of reach")
        return http.Health(
            live=not trouble,
            ready=connected and not draining,
            reason=("draining" if draining else reason) + "\n",
            slots=self.options.concurrency,
            busy=len(self.pool.running()),
        )

    def active(self) -> list[dict[str, Any]]:
        """Describe the running tasks, as ``inspect active`` shows them (without arguments)."""
        return [
            {"id": message.id, "name": message.task, "hostname": self.name}
            for message in self.pool.running()
        ]

    def reserved(self) -> list[dict[str, Any]]:
        """Describe messages claimed but not started: none outlives a few hundredths of a second."""
        return []

    def stats(self) -> dict[str, Any]:
        """Describe the worker, as ``inspect stats`` shows it."""
        pool = {
            "implementation": self.options.pool,
            "max-concurrency": self.options.concurrency,
            **self.pool.stats(),
        }
        return {"total": {self.options.queue: self.pool.finished}, "pool": pool}

    def revoke(self, message_id: str, *, terminate: bool) -> bool:
        """Cancel a message in the queue; with ``terminate``, also stop it, where a pool can do that."""
        self.consumer.link.ask(lambda: self.consumer.queue.cancel(message_id))
        if not terminate:
            return False
        stopped = self.pool.terminate(message_id)
        if not stopped:
            text = "%s is not running here in a prefork child or as a coroutine: not terminated"
            logger.warning(text, message_id)
        return stopped


def _tell_of_default_queue(app: Celery, queue: str) -> None:
    """Parts of a canvas without a queue of their own go to the app's default queue, whoever serves that."""
    default = app.conf.task_default_queue
    if default != queue and not app.conf.task_routes:
        text = (
            "what this app sends without naming a queue goes to %r (task_default_queue), not to %r"
        )
        logger.warning(text, default, queue)
