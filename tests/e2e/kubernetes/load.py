"""A producer that goes on sending while the world around it breaks, and knows what was accepted."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

import redis

from celeriac import Client

#: A send that failed is tried again, with the same key, for so long after the end.
_LAST_TRIES_S = 60.0


class Load:
    """Sends jobs at a steady pace while its block runs; `accepted` are the numbers of those accepted."""

    def __init__(
        self, client: Client, queue: str, *, per_second: float = 10, job_s: float = 0.2
    ) -> None:
        self.accepted: list[int] = []
        self.errors = 0
        """Sends that failed, and were tried again."""
        self._client = client
        self._queue = queue
        self._pause_s = 1 / per_second
        self._job_s = job_s
        self._end = threading.Event()
        # A thread starts in the network namespace of the one that starts it.
        self._thread = threading.Thread(target=self._run, name=f"load of {queue}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end.set()
        self._thread.join(_LAST_TRIES_S + 30)
        assert not self._thread.is_alive(), "the producer hangs"

    def _run(self) -> None:
        number = 0
        while not self._end.is_set():
            began = time.monotonic()
            if self._send(number):
                self.accepted.append(number)
            number += 1
            self._end.wait(max(0.0, self._pause_s - (time.monotonic() - began)))

    def _send(self, number: int) -> bool:
        """Send one job, again and again if need be: its key makes that harmless."""
        give_up = None
        while give_up is None or time.monotonic() < give_up:
            try:
                receipt = self._client.send(
                    self._queue,
                    "e2e.work",
                    args=(self._queue, number, self._job_s),
                    dedup_key=f"{self._queue}-{number}",
                )
            except (redis.RedisError, OSError):
                self.errors += 1
                time.sleep(0.2)
                if give_up is None and self._end.is_set():
                    give_up = time.monotonic() + _LAST_TRIES_S
            else:
                return receipt.status in ("accepted", "duplicate")
        return False
