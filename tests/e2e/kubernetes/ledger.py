"""What really ran: a server of its own that jobs write to, out of reach of everything the tests break."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import redis

NAME = "ledger"
PORT = 6379


@dataclass(frozen=True, slots=True)
class Note:
    """A job has started or finished."""

    number: int
    what: str
    pod: str
    version: str
    at: float
    """Seconds since the epoch."""


class Ledger:
    """Reads what jobs have written."""

    def __init__(self, url: str, connect: Callable[[], redis.Redis]) -> None:
        self.url = url
        """Where jobs reach it."""
        self._connect = connect

    def notes(self, key: str) -> list[Note]:
        """Everything that jobs with this key have noted, in order."""
        client = self._connect()
        try:
            return [Note(**json.loads(line)) for line in client.lrange(f"ledger:{key}", 0, -1)]
        finally:
            client.close()

    def numbers(self, key: str, what: str) -> Counter[int]:
        """How often each job has started or finished."""
        return Counter(it.number for it in self.notes(key) if it.what == what)

    def started(self, key: str) -> Counter[int]:
        """How often each job has started."""
        return self.numbers(key, "started")

    def finished(self, key: str) -> Counter[int]:
        """How often each job has finished."""
        return self.numbers(key, "finished")

    def check(self, key: str, expected: Iterable[int], *, repeats: int = 0) -> None:
        """Hold that each of the jobs has finished, and that none but ``repeats`` has started twice."""
        wanted = set(expected)
        started, finished = self.started(key), self.finished(key)
        assert not (lost := wanted - finished.keys()), f"never finished: {sorted(lost)}"
        assert not (strange := finished.keys() - wanted), f"nobody sent: {sorted(strange)}"
        again = {number: times for number, times in started.items() if times > 1}
        stories = [it for it in self.notes(key) if it.number in again]
        assert len(again) <= repeats, f"started more than once: {again}\n{stories}"


def manifest(image: str) -> list[dict[str, Any]]:
    """The ledger as a pod and a service."""
    labels = {"app": NAME}
    command = (
        "import os; from celeriac.broker.server_process import find_server; server = str(find_server());"
        "os.execv(server, [server, '--protected-mode', 'no', '--save', '', '--dir', '/tmp'])"
    )
    pod: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": NAME, "labels": labels},
        "spec": {
            "containers": [
                {
                    "name": NAME,
                    "image": image,
                    "command": ["python3", "-c", command],
                    "ports": [{"containerPort": PORT}],
                    "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
                }
            ]
        },
    }
    service: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME},
        "spec": {"selector": labels, "ports": [{"port": PORT, "targetPort": PORT}]},
    }
    return [pod, service]
