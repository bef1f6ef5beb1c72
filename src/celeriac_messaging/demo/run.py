"""The demo itself: start everything, send, watch, repair, redrive, check.

Every part may be interrupted and started again: what was sent is known by its id, what was
delivered by its effect, and what is waiting waits in the broker's folder.
"""

from __future__ import annotations

import time
import uuid
from contextlib import ExitStack
from itertools import groupby
from typing import Any, Self

from cryptography.exceptions import InvalidTag

from celeriac import Client
from celeriac_messaging.demo import crash, expect, sample
from celeriac_messaging.demo.expect import Expected
from celeriac_messaging.demo.folder import DemoFolder
from celeriac_messaging.demo.platform import Platform, PlatformFailed
from celeriac_messaging.demo.sample import Line
from celeriac_messaging.demo.sinks import HttpSink, Journal, Manners, SmtpSink
from celeriac_messaging.demo.view import View, finished
from celeriac_messaging.metrics import QueueMetrics
from celeriac_messaging.routing import QUEUES
from celeriac_messaging.service import MessageQueueService

DEDUP_SECONDS = 7 * 86_400
LOOK_SECONDS = 0.25
STALL_SECONDS = 120.0
CHUNK = 40
EXHAUSTED = "attempts_exhausted"
_IDS = uuid.UUID("b0c7c2a6-8d44-5a34-8c7e-5b1f2f8f9f10")


class DemoFailed(Exception):
    """The demo did not come to its end."""


class Demo:
    """One start of the demo; use as a context manager, which stops everything it started."""

    def __init__(self, folder: DemoFolder, view: View) -> None:
        self._folder = folder
        self._view = view
        self._stack = ExitStack()
        self._manners = Manners(
            refuse_first={expect.FLAKY: expect.REFUSALS},
            failing={expect.BROKEN},
            gone={expect.GONE},
        )
        if folder.state.phase == "repaired":
            self._manners.failing.clear()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._view.step("Stopping the workers and the broker")
        self._stack.close()

    def _start(self) -> None:
        state, path = self._folder.state, self._folder.path
        self._journals = [Journal(path / f"{name}.jsonl") for name in ("web", "smtp")]
        web = HttpSink(port=state.web_port, manners=self._manners, journal=self._journals[0])
        web.start()
        self._stack.callback(web.stop)
        smtp = SmtpSink(port=state.smtp_port, journal=self._journals[1]).start()
        self._stack.callback(smtp.stop)
        state.web_port, state.smtp_port = web.port, smtp.port
        lines = sample.read(
            web=web.url(""),
            device=lambda name: self._folder.browser(name).target(web.url(f"/push/{name}")),
        )
        self._lines = list(lines)
        self._folder.save()
        self._wanted = expect.expected(self._lines)
        self._platform = Platform(path, self._folder.environment())
        self._stack.callback(self._platform.stop)
        self._client = Client(self._platform.start())
        self._stack.callback(self._client.close)
        self._service = MessageQueueService(self._client, dedup_seconds=DEDUP_SECONDS)
        self._until_declared()

    def _until_declared(self) -> None:
        ends = time.monotonic() + STALL_SECONDS
        while not all(self._client.stats(queue).declared for queue in QUEUES):
            self._check_alive()
            if time.monotonic() > ends:
                raise DemoFailed(f"the queues were not declared; see {self._platform.log}")
            time.sleep(0.05)

    def send(self) -> None:
        """Send the whole sample; what an earlier start sent counts as a duplicate."""
        refused = [line for line in self._lines if line.job is None]
        accepted = duplicates = 0
        valid = [line for line in self._lines if line.job is not None]
        for delay, group in groupby(valid, key=lambda line: line.delay):
            for chunk in _chunks(list(group)):
                jobs = [line.job for line in chunk if line.job is not None]
                for bulk in self._service.enqueue_many(jobs, delay=delay).values():
                    accepted += bulk.accepted
                    duplicates += bulk.duplicates
        for queue, task, payload in self._extras():
            receipt = self._client.send(
                queue,
                task,
                kwargs=payload,
                id=str(uuid.uuid5(_IDS, task)),
                dedup_key=task,
                dedup_seconds=DEDUP_SECONDS,
            )
            accepted += receipt.status == "accepted"
            duplicates += receipt.status == "duplicate"
        before = f", {duplicates} were sent before" if duplicates else ""
        self._view.line(f"{accepted} accepted{before}, {len(refused)} refused before it left:")
        for line in refused:
            self._view.trouble(f"sample line {line.number}: {line.refusal}")

    def _extras(self) -> list[tuple[str, str, dict[str, object]]]:
        """What no careful producer sends: a payload nobody validated, a task that kills."""
        unchecked: dict[str, object] = {
            "payload": {"version": 2, "tenant": "Riverside", "message_id": "x"}
        }
        return [
            (expect.DELIVERY, "messaging.send_message", unchecked),
            (expect.ENCRYPTION, crash.NAME, {}),
        ]

    def watch(self) -> None:
        """Show progress until every job has come to an end."""
        total = self._wanted.total
        best, since = -1, time.monotonic()
        with self._view.progress(total) as show:
            while True:
                metrics = self._service.metrics()
                show(metrics)
                done = finished(metrics)
                if done >= total and not any(one.unfinished for one in metrics.values()):
                    return
                if done != best:
                    best, since = done, time.monotonic()
                self._check_alive()
                if time.monotonic() - since > STALL_SECONDS:
                    raise DemoFailed(f"nothing has finished for {STALL_SECONDS:g} s")
                time.sleep(LOOK_SECONDS)

    def redrive(self) -> None:
        """Repair the broken recipient and send its dead letters back to their queue."""
        self._manners.failing.clear()
        self._folder.enter("repaired")
        for queue, letters in self._dead_letters().items():
            if not any(one["reason"] == EXHAUSTED for one in letters):
                continue
            command = ("dlq", "redrive", queue, "--reason", EXHAUSTED, "--yes")
            self._view.line(f"$ celeriac {' '.join(command)}")
            for printed in self._platform.command(*command).splitlines():
                self._view.line(printed)

    def flaky(self) -> list[int]:
        """What the recipient that refuses twice answered."""
        return [one.status for one in self._journals[0].arrivals(expect.FLAKY)]

    def report(self) -> None:
        """The six queues, and every dead letter with its reason."""
        self._view.queues(self._service.metrics())
        self._view.dead_letters(self._dead_letters())

    def _dead_letters(self) -> dict[str, list[dict[str, Any]]]:
        dead = (queue for queue, now in self._service.metrics().items() if now.dead)
        return {queue: self._platform.dead_letters(queue) for queue in dead}

    def complaints(self) -> list[str]:
        """What did not come true."""
        arrivals = [one for journal in self._journals for one in journal.arrivals()]
        return expect.complaints(self._wanted, self._metrics(), arrivals) + self._unreadable()

    def wanted(self) -> Expected:
        """The numbers that the demo should come to."""
        return self._wanted

    def _metrics(self) -> dict[str, QueueMetrics]:
        return self._service.metrics()

    def _unreadable(self) -> list[str]:
        """Pushes that the device they were for cannot read; those of an earlier start are gone."""
        found = []
        for one in self._journals[0].arrivals():
            if one.accepted and one.body and expect.channel(one) == "push":
                browser = self._folder.browser(one.place.removeprefix("/push/"))
                try:
                    browser.read(one.body).decode()
                except (InvalidTag, ValueError) as error:
                    found.append(f"{one.place}: cannot read its push ({type(error).__name__})")
        return found

    def _check_alive(self) -> None:
        if not self._platform.alive():
            words = self._platform.last_words()
            raise PlatformFailed(f"celeriac up ended unexpectedly:\n{words}")


def _chunks(lines: list[Line]) -> list[list[Line]]:
    return [lines[start : start + CHUNK] for start in range(0, len(lines), CHUNK)]
