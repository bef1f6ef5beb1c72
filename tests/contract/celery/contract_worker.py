"""Starts the real worker as a process of its own, and watches it from outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, TypeVar

import redis
from celery.canvas import Signature
from celery.result import AsyncResult
from contract_app import app

from celeriac.broker.message import DeadMessage, NewMessage, QueueStats
from celeriac.broker.queue import Queue
from celeriac.chaos.processes import eventually
from celeriac.spec.policies import QueuePolicy
from celeriac.spec.pools import POOLS

T = TypeVar("T")

HERE = Path(__file__).parent
DEADLINE_S = 15.0

#: The Asyncio pool once more: its plain functions run in threads beside the event loop.
FUNCTIONS = "asyncio-functions"
#: Each pool by its name, and what else there is a shared worker of.
WORKERS = (*POOLS, FUNCTIONS)
SLOTS = {**dict.fromkeys(POOLS, 4), "solo": 1, "prefork": 2}

#: No waits between attempts, and limits that are reached soon.
FAST = QueuePolicy.model_validate(
    {
        "retry": {
            "maxAttempts": 3,
            "backoff": {"initialSeconds": 0, "maxSeconds": 0, "jitterPercent": 0},
        },
        "deadLetter": {"maxDeliveries": 3, "unknownTaskSeconds": 0},
    }
)


def fast(**changes: Any) -> QueuePolicy:
    """The fast policy with other sections in it, in the words of the YAML."""
    return QueuePolicy.model_validate({**FAST.model_dump(by_alias=True), **changes})


class Watched:
    """A queue, its worker process (once started), and the notes that its tasks leave."""

    def __init__(
        self, client: redis.Redis, notes: redis.Redis, broker_url: str, name: str, folder: Path
    ) -> None:
        self.name = name
        self.broker_url = broker_url
        self.queue = Queue(client, name, lease_ms=2000)
        self.queue.declare(FAST)
        self.pool = ""
        self.log_file = folder / f"{name}.log"
        self._notes = notes
        self._process: subprocess.Popen[bytes] | None = None
        self._environment: dict[str, str] = {}

    # --- the process ----------------------------------------------------------------------------

    def start(self, pool: str, *options: object, **environment: str) -> Watched:
        """Start a worker; options are those of the command line, after the ones given here."""
        self.pool = pool
        command = [sys.executable, "-m", "celeriac.cli", "worker", "-A", "contract_app:app"]
        command += ["-Q", self.name, "--pool", pool, "--concurrency", str(SLOTS[pool])]
        command += ["--lease", "2", "--name", f"{pool}-{self.name}", *map(str, options)]
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=HERE,
                env={
                    **os.environ,
                    "CELERIAC_BROKER_URL": self.broker_url,
                    "CONTRACT_QUEUE": self.name,
                    **environment,
                },
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self

    def wait_ready(self) -> Watched:
        """Wait until the worker has said that it is ready."""
        eventually(lambda: "is ready" in self.log or self.ended, what=lambda: f"ready: {self.log}")
        assert not self.ended, self.log
        return self

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def signal(self, number: int, *, group: bool = False) -> None:
        """Send a signal to the worker, or to its children as well, as a terminal does."""
        (os.killpg if group else os.kill)(self.pid, number)

    def wait(self, within: float = DEADLINE_S) -> int:
        """Wait for the worker's end and return its exit code."""
        assert self._process is not None
        return self._process.wait(within)

    def end(self) -> None:
        """End the worker at once; its children watch their parent and go with it."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    @property
    def log(self) -> str:
        return self.log_file.read_text() if self.log_file.exists() else ""

    def http(self, port: int, path: str) -> tuple[int, str]:
        """Get a page of the worker's HTTP server; (0, reason) when there is none."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    # --- messages -------------------------------------------------------------------------------

    def send(self, task: str, *args: Any, **options: Any) -> AsyncResult[Any]:
        """Publish a task as any Celery producer does; ``kwargs=`` are the task's."""
        options.setdefault("queue", self.name)
        return app.tasks[task].apply_async(args, **options)

    def signature(self, task: str, *args: Any) -> Signature:
        """A call of a task on this queue, for a canvas."""
        return app.tasks[task].s(*args).set(queue=self.name)

    def put(self, id_: str, task: str, body: bytes, head: bytes = b"") -> str:
        """Publish bytes as they are."""
        self.queue.publish([NewMessage(id=id_, task=task, body=body, head=head)])
        return id_

    def notes(self, key: Any) -> list[dict[str, Any]]:
        """What tasks noted under a message id (or result), oldest first."""
        rows: Any = self._notes.lrange(f"notes:{getattr(key, 'id', key)}", 0, -1)
        return [json.loads(row) for row in rows]

    def texts(self, key: Any) -> list[str]:
        return [str(record["note"]) for record in self.notes(key)]

    def noted(self, key: Any, text: str, *, times: int = 1) -> dict[str, Any]:
        """Wait until a note was left so many times, and return the last of them."""

        def found() -> list[dict[str, Any]]:
            same = [record for record in self.notes(key) if record["note"] == text]
            return same if len(same) >= times else []

        return eventually(found, what=lambda: f"note {text!r} {times}x; {self.log[-3000:]}")[-1]

    def settled(self, within: float = DEADLINE_S) -> QueueStats:
        """Wait until nothing is waiting or running, and return the counts."""

        def empty() -> QueueStats | None:
            stats = self.queue.stats()
            return None if stats.unfinished else stats

        stats = eventually(empty, within_s=within, what=lambda: f"settled; {self.log[-3000:]}")
        assert stats.imbalance == 0
        return stats

    def dead(self, key: Any) -> DeadMessage:
        """Wait until a message is among the dead letters."""
        message_id = getattr(key, "id", key)
        return eventually(
            lambda: next((dead for dead in self.queue.dead() if dead.id == message_id), None),
            what=lambda: f"dead letter {message_id}; {self.log[-3000:]}",
        )
