"""A primary, two replicas and three Sentinels on machines of their own, with a network that can be split.

The machines are network namespaces on one bridge; ours is on it too, and always reaches all of them, as do
clients that stand on the wrong side of a partition, and go on talking to a primary that has been replaced.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import redis
from redis.sentinel import MasterNotFoundError, Sentinel

from celeriac.chaos.processes import eventually
from tests.programs import lacking, program

MASTER = "chaos"
#: A primary that no Sentinel hears for so long is down for it.
DOWN_AFTER_MS = 1000
_numbers = count()


def ip(*words: object) -> None:
    """Run iproute2."""
    subprocess.run(["ip", *map(str, words)], check=True, capture_output=True, text=True)


def need_namespaces() -> None:
    """Skip where no network namespaces can be made; in CI, fail."""
    try:
        ip("netns", "add", "chaos-probe")
        ip("netns", "del", "chaos-probe")
    except (OSError, subprocess.CalledProcessError) as error:
        lacking(f"no network namespaces can be made here (Linux, root, iproute2): {error}")


class Machine:
    """One machine: a namespace with a server and a Sentinel in it."""

    def __init__(self, name: str, address: str, bridge: str, folder: Path) -> None:
        self.name = name
        self.address = address
        self.client = redis.Redis(address, socket_timeout=2)
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        folder.mkdir(parents=True)
        ip("netns", "add", name)
        ip("link", "add", f"{name}v", "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("link", "set", f"{name}v", "master", bridge, "up")
        for words in ("link set lo up", "link set eth0 up", f"addr add {address}/24 dev eth0"):
            ip("-n", name, *words.split())

    def run(self, *command: str) -> None:
        """Start a program there."""
        with (self._folder / f"log{len(self._processes)}").open("wb") as log:
            self._processes.append(
                subprocess.Popen(
                    ["ip", "netns", "exec", self.name, *command],
                    cwd=self._folder,
                    stdout=log,
                    stderr=log,
                )
            )

    def sentinel(self, primary: str) -> None:
        """Start a Sentinel that watches a primary; two of three must agree that it is down."""
        config = self._folder / "sentinel.conf"
        config.write_text(
            "port 26379\nprotected-mode no\n"
            f"sentinel monitor {MASTER} {primary} 6379 2\n"
            f"sentinel down-after-milliseconds {MASTER} {DOWN_AFTER_MS}\n"
            f"sentinel failover-timeout {MASTER} 3000\n"
        )
        self.run(program("redis-sentinel"), str(config))

    def deaf_to(self, other: Machine, *, deaf: bool) -> None:
        """Send nothing to another machine any more, or again."""
        ip("-n", self.name, "route", "add" if deaf else "del", "blackhole", f"{other.address}/32")

    def end(self) -> None:
        """End what runs there, and take it down."""
        self.client.close()
        for process in self._processes:
            process.kill()
            process.wait()
        for words in (("link", "del", f"{self.name}v"), ("netns", "del", self.name)):
            with suppress(subprocess.CalledProcessError):
                ip(*words)


class SentinelSet:
    """Three machines; the first one's server is the primary, in the beginning."""

    def __init__(self, folder: Path, *, min_replicas: int = 0, options: str = "") -> None:
        """``min_replicas``: the primary writes nothing without so many; ``options`` of the URL."""
        self._folder = folder
        self._min_replicas = min_replicas
        self._options = options
        tag = f"{os.getpid() % 100_000:x}{next(_numbers):x}"
        self._net = f"10.213.{os.getpid() % 250}"
        self._bridge = f"cb{tag}"
        self._names = [f"cn{tag}{n}" for n in range(3)]
        self.machines: list[Machine] = []

    @property
    def url(self) -> str:
        """The URL of clients, who ask the Sentinels in this order."""
        hosts = ";".join(f"{machine.address}:26379" for machine in self.machines)
        return f"celeriac+sentinel://{hosts}/0?master={MASTER}&{self._options}".rstrip("&")

    def start(self) -> SentinelSet:
        """Start everything; return when the Sentinels know each other and both replicas."""
        need_namespaces()
        server = program("redis-server")
        try:
            ip("link", "add", self._bridge, "type", "bridge")
            ip("addr", "add", f"{self._net}.1/24", "dev", self._bridge)
            ip("link", "set", self._bridge, "up")
            for n, name in enumerate(self._names):
                home = self._folder / name
                self.machines.append(Machine(name, f"{self._net}.{n + 10}", self._bridge, home))
            primary = self.machines[0].address
            for machine in self.machines:
                follow = ["--replicaof", primary, "6379"] if machine.address != primary else []
                machine.run(
                    *(server, "--protected-mode", "no", "--save", "", *follow),
                    *("--repl-diskless-sync-delay", "0", "--repl-timeout", "5"),
                    *("--min-replicas-to-write", str(self._min_replicas)),
                    *("--min-replicas-max-lag", "1"),
                )
            self._until(lambda: self._replicas(self.machines[0]) == 2)
            for machine in self.machines:
                machine.sentinel(primary)
            self._until(self.settled)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End everything, and leave no trace in the machine's network."""
        for machine in self.machines:
            machine.end()
        with suppress(subprocess.CalledProcessError):
            ip("link", "del", self._bridge)

    def primary(self, *, seen_by: Machine | None = None) -> Machine:
        """The primary as one machine's Sentinel knows it."""
        witness = seen_by or self.machines[-1]
        found = Sentinel([(witness.address, 26379)], socket_timeout=2).discover_master(MASTER)
        return next(machine for machine in self.machines if machine.address == found[0])

    def settled(self) -> bool:
        """Whether all Sentinels name one primary, know each other, and it has both replicas."""
        primaries = {self.primary(seen_by=machine).name for machine in self.machines}
        sentinels = [redis.Redis(it.address, 26379, socket_timeout=2) for it in self.machines]
        states: list[Any] = [sentinel.sentinel_master(MASTER) for sentinel in sentinels]
        knows = all(state["num-other-sentinels"] == 2 for state in states)
        return len(primaries) == 1 and knows and self._replicas(self.primary()) == 2

    @contextmanager
    def split(self, *, hold_s: float) -> Iterator[tuple[Machine, Machine]]:
        """Part the primary from the others until they have chosen another, and ``hold_s`` longer.

        The block runs meanwhile, with the old and the new primary; afterwards all is one again.
        """
        old = self.primary()
        others = [machine for machine in self.machines if machine is not old]
        for other in others:
            old.deaf_to(other, deaf=True)
            other.deaf_to(old, deaf=True)
        try:
            self._until(lambda: self.primary(seen_by=others[0]) is not old)
            new = self.primary(seen_by=others[0])
            self._until(lambda: new.client.info("replication")["role"] == "master")
            yield old, new
            time.sleep(hold_s)
        finally:
            for other in others:
                old.deaf_to(other, deaf=False)
                other.deaf_to(old, deaf=False)
        self._until(self.settled)

    @staticmethod
    def _replicas(machine: Machine) -> int:
        info: Any = machine.client.info("replication")
        lines = [info.get(f"slave{n}", {}) for n in range(3)]
        return sum(line.get("state") == "online" for line in lines)

    @staticmethod
    def _until(condition: Callable[[], bool]) -> None:
        def holds() -> bool:
            with suppress(MasterNotFoundError, redis.RedisError):
                return condition()
            return False

        eventually(holds, within_s=40, what="the machines and their Sentinels agree")
