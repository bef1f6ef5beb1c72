"""The operator's process: probes at once, the Lease first, everything else only while it is held.

It ends with 0 when it was asked to, with 1 when it lost the Lease or a part of it failed: whoever runs it
starts it again, and another replica leads meanwhile.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import sys
import threading
import time
from importlib.metadata import PackageNotFoundError, version

from celeriac.broker import signing
from celeriac_operator.api import Api
from celeriac_operator.connection import NoCluster, login
from celeriac_operator.engine import Engine
from celeriac_operator.fence import Fence
from celeriac_operator.health import Heartbeats, Server
from celeriac_operator.lease import Election
from celeriac_operator.metrics import Metrics, Queues
from celeriac_operator.settings import Settings, SettingsError

logger = logging.getLogger(__name__)

_READY_WITHIN_S = 30.0


def main() -> None:
    """Run the operator until it is told to stop; exit with its code."""
    try:
        config = Settings.from_environment()
        signing.from_environment()  # wrong keys are told now, not when a schedule is due
    except (SettingsError, signing.SigningKeysError) as error:
        sys.stderr.write(f"celeriac-operator: {error}\n")
        sys.exit(2)
    _set_up_logging(config.log_level)
    faulthandler.enable()
    try:
        login()
    except NoCluster as error:
        logger.error("%s", error)
        sys.exit(2)
    code = Operator(config).run()
    logging.shutdown()
    # Not sys.exit: a thread that hangs in a request must not keep a fenced process alive.
    os._exit(code)


class Operator:
    """One replica."""

    def __init__(self, config: Settings) -> None:
        self._config = config
        self._fence = Fence()
        agent = f"celeriac-operator/{_version()} ({config.identity})"
        self._api = Api(login, fence=self._fence, agent=agent)
        self._election = Election(
            self._api,
            self._fence,
            namespace=config.namespace,
            name=config.lease_name,
            identity=config.identity,
            duration_s=config.lease_duration,
        )
        self._heartbeats = Heartbeats()
        self._metrics = Metrics(self._api, version=_version())
        self._metrics.leader.set_function(lambda: float(self._leads()))
        self._engine: Engine | None = None
        self._asked_to_stop = threading.Event()

    def run(self) -> int:
        """Run; return the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._asked_to_stop.set())
        server = Server(
            (self._config.http_host, self._config.http_port),
            alive=self._heartbeats.silent,
            ready=self._unready,
            registry=self._metrics.registry,
        )
        server.start()
        logger.info("replica %s; HTTP on port %d", self._config.identity, server.server_port)
        limit = max(30.0, 3.0 * self._config.lease_duration)
        self._heartbeats.expect("lease", within_s=limit, last=lambda: self._election.beat)
        self._election.start()
        try:
            return self._lead()
        finally:
            if self._engine is not None:
                self._engine.stop()
            self._election.release()

    def _lead(self) -> int:
        while not self._election.leading.wait(0.1):
            if self._asked_to_stop.is_set():
                return 0
        self._engine = engine = Engine(
            self._config, self._api, self._fence, self._heartbeats, self._metrics
        )
        self._metrics.length.set_function(lambda: float(len(engine.work)))
        self._metrics.registry.register(
            Queues(
                stats=engine.brokers.stats,
                statuses=engine.reconciler.statuses,
                brokers=lambda: {it.url.redacted(): it.up for it in engine.brokers.links()},
            )
        )
        engine.start()
        while not self._asked_to_stop.wait(0.1):
            if self._election.lost.is_set():
                return 1
            if engine.failed.is_set():
                logger.error("a part of the operator has ended: the rest ends too")
                return 1
        return 0

    def _leads(self) -> bool:
        return self._election.leading.is_set() and self._fence.open

    def _unready(self) -> str:
        """Why this replica could not work or take over now; empty when it could."""
        silent = time.monotonic() - self._election.answered
        if silent > _READY_WITHIN_S:
            return "the API server does not answer"
        engine = self._engine
        if engine is not None and not engine.loaded.is_set():
            return "the cluster's state is being read"
        return ""


def _set_up_logging(level: str) -> None:
    logging.basicConfig(
        stream=sys.stdout,
        level=level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    # kopf tells of every handler; what goes wrong is enough.
    logging.getLogger("kopf").setLevel(logging.WARNING)
    # It runs in a thread of ours, and the signals are ours too.
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)
    for name in ("aiohttp", "urllib3", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _version() -> str:
    try:
        return version("celeriac")
    except PackageNotFoundError:
        return "0"


if __name__ == "__main__":
    main()
