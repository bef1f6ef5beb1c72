"""Stock Celery in the same arena, with the settings that lose least (and none of ours)."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl

from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from celeriac.chaos.processes import Command, Worker, eventually
from celeriac.chaos.sidefile import SIDE_FILE
from tests.chaos.arena import ROOT, SLOTS, Arena, Job, Pool

VISIBILITY_S = 2

#: Acknowledge late, take back what a lost child ran, and look every second for what a dead worker held.
BEST: dict[str, Any] = {
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "task_ignore_result": True,
    "worker_send_task_events": False,
    "broker_connection_retry_on_startup": True,
    "broker_transport_options": {
        "visibility_timeout": VISIBILITY_S,
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
    },
}


class Stock(Arena):
    """Celery's own worker on kombu's Redis transport."""

    system = "stock"

    @property
    def _config(self) -> dict[str, Any]:
        url, _, query = self.url.partition("?")
        if not url.startswith("celeriac+sentinel://"):
            return {**BEST, "broker_url": self.url.replace("celeriac://", "redis://")}
        hosts = url.removeprefix("celeriac+sentinel://").partition("/")[0].split(";")
        options = {
            **BEST["broker_transport_options"],
            "master_name": dict(parse_qsl(query))["master"],
        }
        urls = ";".join(f"sentinel://{host}/0" for host in hosts)
        return {**BEST, "broker_url": urls, "broker_transport_options": options}

    def open(self) -> None:
        self.app = Celery("producer")
        self.app.conf.update(self._config)

    def close(self) -> None:
        self.app.close()

    def command(self, pool: Pool, *options: object) -> Command:
        fixed = ["-m", "celery", "-A", "tests.chaos.jobs:app", "worker", "-Q", "chaos", "-P", pool]
        fixed += ["-c", str(SLOTS[pool]), "-l", "WARNING"]
        fixed += ["--without-mingle", "--without-gossip", "--without-heartbeat", *map(str, options)]
        return Command(
            lambda name: [sys.executable, *fixed, "-n", f"{name}@chaos"],
            {"CHAOS_CELERY": json.dumps(self._config), SIDE_FILE: str(self.history.path)},
            ROOT,
        )

    def send(self, jobs: Sequence[Job]) -> None:
        with self.app.producer_pool.acquire(block=True) as producer:
            for job in jobs:
                self.app.send_task(
                    job.task,
                    (job.id, *job.args),
                    task_id=job.id,
                    queue="chaos",
                    producer=producer,
                    ignore_result=True,
                    retry=False,
                )
                self.accepted[job.id] = time.monotonic()

    def on_death(self, worker: Worker) -> None:
        """Celery has nobody who would take back what a worker held."""

    def send_surely(self, jobs: Sequence[Job]) -> None:
        """Publish jobs until the broker says that it has them; each try may have been one message."""
        for job in jobs:
            while True:
                try:
                    self.send([job])
                    break
                except (OperationalError, RedisError, OSError):
                    self.uncertain.add(job.id)
                    time.sleep(0.02)

    def waiting(self) -> int:
        with self.app.connection_for_read() as connection:
            redis = connection.default_channel.client
            return int(redis.llen("chaos")) + int(redis.hlen("unacked"))

    def drained(self, *, within_s: float = 60) -> None:
        """Wait until nothing waits, and a little longer than a message can be out of sight."""

        def empty() -> bool:
            return not self.waiting() or self.finished(self.accepted)

        eventually(empty, within_s=within_s, what=lambda: f"{self.waiting()} wait")
        if not self.finished(self.accepted):
            time.sleep(VISIBILITY_S + 1.5)
            eventually(empty, within_s=within_s, what=lambda: f"{self.waiting()} wait")
