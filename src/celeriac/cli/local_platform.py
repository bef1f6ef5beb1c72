"""One run of `up`: broker, control loop with its workers, metrics, and what others may read of it.

    server -> client -> metrics -> loop (main thread: the kernel ties children to it) -> report
                                     each second: status.json, the display, a look at the server

Everything is undone in the opposite order, on any way out.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import redis

from celeriac import __version__
from celeriac.backend.local import LocalBackend
from celeriac.backend.output import Lines, LogFiles, Output
from celeriac.broker.connection import BrokerURLError, connect, parse
from celeriac.broker.embedded import Appendfsync, EmbeddedServer, ServerFailed
from celeriac.broker.eviction import HOW_TO_STOP_IT, EvictingServer, refuse_eviction
from celeriac.broker.nearby import FOLDER
from celeriac.broker.server_process import NoServerFound
from celeriac.broker.signing import SigningKeysError, from_environment
from celeriac.cli import live_display, queue_table
from celeriac.cli.errors import BadInput, Problem, Unreachable
from celeriac.cli.state import METRICS_PORT, StateFolder
from celeriac.control import metrics
from celeriac.control.broker import RedisBroker
from celeriac.control.loop import Loop
from celeriac.control.source import FileSource
from celeriac.spec.load import SpecError
from celeriac.spec.status import MessageQueueStatus

logger = logging.getLogger(__name__)

#: The loop must notice a silent broker within a few rounds.
BROKER_SILENCE_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What was asked for."""

    files: tuple[str, ...]
    data: Path | None = None
    broker: str | None = None
    appendfsync: Appendfsync = "everysec"
    metrics_port: int | None = None
    logs: bool = False


class LocalPlatform:
    """One run of `up`; see `run`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder = StateFolder()
        self._server: EmbeddedServer | None = None
        self._statuses: Mapping[str, MessageQueueStatus] = {}
        self._signals = 0
        self._heard: queue.SimpleQueue[int] = queue.SimpleQueue()  # safe in a signal handler

    def run(self) -> None:
        """Run until a signal, then drain. Raise Problem when something cannot be started."""
        try:
            source = FileSource(*self._settings.files)
        except SpecError as error:
            raise BadInput(str(error)) from error
        with ExitStack() as stack:
            try:
                self._take_folder(stack)
            except OSError as error:
                raise Problem(f"{self._folder.path} cannot be written: {error.strerror}") from error
            self._display = live_display.choose(logs=self._settings.logs)
            handler = live_display.LogLines(self._display)
            handler.install()
            stack.callback(handler.remove)
            url = self._start_broker(stack)
            self._connect(stack, url)
            server = self._serve_metrics(stack)
            self._backend = LocalBackend(broker_url=url, output=self._worker_output())
            stack.callback(self._backend.kill)
            self._loop = Loop(
                backend=self._backend,
                broker=RedisBroker(self._client, prefix=self._prefix, signing=self._signing),
                source=source,
                report=self._report,
            )
            self._folder.write(
                "broker.json",
                {"url": url, "pid": os.getpid(), "metricsPort": server.port},
            )
            stack.callback(self._folder.remove, "broker.json", "status.json")
            self._banner(server.url, [one.queue_name for one in source.read().queues])
            stack.callback(self._display.close)
            with self._signals_taken():
                self._loop.run()
            self._display.close()
            self._farewell()

    # --- starting -------------------------------------------------------------------------------

    def _take_folder(self, stack: ExitStack) -> None:
        self._folder.create()
        lock = self._folder.lock()
        if lock is None:
            pid = self._folder.broker().get("pid", "unknown")
            raise Problem(
                f"`celeriac up` runs in this folder already (pid {pid})",
                hint="Stop it first, or work in another folder.",
            )
        stack.callback(os.close, lock)
        self._folder.remove("broker.json", "status.json")  # a killed run could not

    def _start_broker(self, stack: ExitStack) -> str:
        settings = self._settings
        if settings.broker:
            return settings.broker
        data = settings.data or self._folder.path / "data"
        server = EmbeddedServer(data, appendfsync=settings.appendfsync, attach=False)
        try:
            server.start()
        except (NoServerFound, ServerFailed) as error:
            raise Problem(str(error)) from error
        except OSError as error:
            raise Problem(f"{data} cannot be used: {error.strerror}") from error
        stack.callback(server.stop)
        self._server = server
        return server.url

    def _connect(self, stack: ExitStack, url: str) -> None:
        try:
            parsed = parse(url)
        except BrokerURLError as error:
            raise BadInput(f"--broker: {error}") from error
        try:
            self._signing = from_environment()
        except SigningKeysError as error:
            raise BadInput(str(error)) from error
        self._shown_url, self._prefix = parsed.redacted(), parsed.prefix
        self._client = stack.enter_context(connect(parsed, socket_timeout=BROKER_SILENCE_S))
        try:
            self._client.ping()
        except redis.RedisError as error:
            raise Unreachable(
                f"the broker {self._shown_url} does not answer: {error}",
                hint="Without --broker, an embedded one is started.",
            ) from error
        try:
            refuse_eviction(self._client)
        except EvictingServer as error:
            raise Problem(str(error), hint=HOW_TO_STOP_IT) from error

    def _serve_metrics(self, stack: ExitStack) -> metrics.MetricsServer:
        self._collector = metrics.QueueCollector(
            metrics.read_all(self._client, self._prefix),
            scaling=lambda: {name: metrics.Scaling.of(one) for name, one in self._statuses.items()},
            version=__version__,
        )
        registry = metrics.registry_of(self._collector)
        wanted = self._settings.metrics_port
        try:
            server = metrics.serve(METRICS_PORT if wanted is None else wanted, registry)
        except metrics.PortInUse as error:
            if wanted is not None:
                raise BadInput(f"--metrics-port: {error}") from error
            server = metrics.serve(0, registry)
        stack.callback(server.close)
        return server

    def _worker_output(self) -> Output:
        if isinstance(self._display, live_display.LineDisplay):
            return Lines(lambda worker, line: self._display.line(f"{worker} | {line}"))
        return LogFiles(self._folder.path / "logs")

    def _banner(self, metrics_url: str, queues: list[str]) -> None:
        settings = self._settings
        say = self._display.line
        number = queue_table.count(len(queues), "queue")
        say(f"celeriac {__version__} is up: {number} of {', '.join(settings.files)}")
        where = f", data in {_short(self._server.data_dir)}" if self._server else ""
        say(f"  broker   {self._shown_url}{where}")
        say(f"  metrics  {metrics_url}")
        if isinstance(self._display, live_display.TableDisplay):
            say(f"  logs     {FOLDER}/logs")
        say("In another terminal, in this folder:")
        say(f"  celeriac send {queues[0]} TASK --args '[\"Ada\"]'")
        say("  celeriac get")
        say(f"  celeriac explain {queues[0]}")
        say("Ctrl-C drains the workers and stops.")
        say("")

    # --- while it runs --------------------------------------------------------------------------

    def _report(self, statuses: Mapping[str, MessageQueueStatus]) -> None:
        self._statuses = statuses
        self._mend_server()
        known = {
            name: status.model_dump(mode="json", by_alias=True) for name, status in statuses.items()
        }
        self._folder.write(
            "status.json",
            {"writtenMs": int(time.time() * 1000), "pid": os.getpid(), "queues": known},
        )
        if not self._signals:
            stats = [one for one in self._collector.stats() if one.name in known]
            self._display.queues([queue_table.queue_record(one, known[one.name]) for one in stats])

    def _mend_server(self) -> None:
        if self._server is not None and not self._server.alive and not self._signals:
            logger.warning("the embedded server has ended; it is started again with its data")
            try:
                self._server.start()
            except (NoServerFound, ServerFailed) as error:
                logger.error("%s", error)

    # --- stopping -------------------------------------------------------------------------------

    @contextmanager
    def _signals_taken(self) -> Iterator[None]:
        taken = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        speaker = threading.Thread(target=self._speak, name="signals", daemon=True)
        speaker.start()
        before = {number: signal.signal(number, self._on_signal) for number in taken}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            self._heard.put(0)
            speaker.join()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1
        # The display has a lock, which the interrupted main thread may hold: another one speaks.
        self._heard.put(self._signals)
        if self._signals == 1:
            self._loop.stop()
        elif self._signals == 2:
            self._loop.hurry()
        else:
            self._backend.kill()

    def _speak(self) -> None:
        while (signals := self._heard.get()) > 0:
            self._display.close()
            if signals == 1:
                self._display.line("Draining the workers; once more to have them stop at once.")
            elif signals == 2:
                self._display.line("Stopping at once: what runs is handed back.")

    def _farewell(self) -> None:
        left = 0
        try:
            left = sum(one.unfinished for one in metrics.read_all(self._client, self._prefix)())
        except redis.RedisError:
            logger.warning("the broker does not answer any more")
        self._display.line(
            "Stopped."
            + (f" {queue_table.count(left, 'message')} left for the next start." if left else "")
        )


def _short(path: Path) -> Any:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
