"""A real Redis Cluster for tests: primaries with replicas, slots that move, primaries that die."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import redis

from celeriac.broker.hash_slots import SLOTS, slot_of
from celeriac.broker.server_process import free_port
from celeriac.chaos.processes import eventually

T = TypeVar("T")

PASSWORD = "secret of the cluster"
#: What tests run on: the embedded server, and Redis where it is installed.
PROGRAMS = ("embedded", "redis-server")
#: Silence after which a node counts as failed. Longer means slower tests; shorter, false alarms under load.
NODE_TIMEOUT_MS = 2000
#: A starved machine needs longer to agree than an idle one.
_PATIENCE_S = 60


@dataclass
class Node:
    """One server of the cluster."""

    binary: Path
    folder: Path
    options: Sequence[str] = ()
    port: int = field(default_factory=free_port)
    bus: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server, on what it has on disk."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    str(self.binary),
                    *("--port", str(self.port), "--cluster-port", str(self.bus)),
                    *("--bind", "127.0.0.1", "--cluster-enabled", "yes"),
                    *("--cluster-node-timeout", str(NODE_TIMEOUT_MS)),
                    *("--requirepass", PASSWORD, "--masterauth", PASSWORD),
                    *("--appendonly", "yes", "--save", "", "--repl-diskless-sync-delay", "0"),
                    *("--maxmemory-policy", "noeviction", *self.options),
                ],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        """SIGKILL it; return when it is gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop it, and let it go on after the block."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def answers(self) -> bool:
        """Whether it serves. Raises _PortTaken when somebody else was faster."""
        if self.process is not None and self.process.poll() is not None:
            log = (self.folder / "log").read_text()
            assert "ddress already in use" in log, log[-2000:]
            raise _PortTaken(self)
        return bool(self.ask("PING"))

    @property
    def client(self) -> redis.Redis:
        """A plain client of this one node."""
        return redis.Redis(port=self.port, password=PASSWORD, socket_timeout=30)

    def ask(self, *command: Any) -> Any:
        """Run a command here, wherever its keys belong; give the raw answer."""
        with self.client as client:
            client.response_callbacks.clear()
            return client.execute_command(*command)

    @property
    def id(self) -> str:
        """Its name in the cluster."""
        return _text(self.ask("CLUSTER MYID"))

    @property
    def is_primary(self) -> bool:
        """Whether it is one now."""
        return _text(self.ask("ROLE")[0]) == "master"


class _PortTaken(Exception):
    """A port that was free a moment ago is not any more."""

    def __init__(self, node: Node) -> None:
        super().__init__(f"port {node.port} or {node.bus}")
        self.node = node


class RedisCluster:
    """Some primaries, each with a replica (or with none). Ends with its block."""

    def __init__(
        self,
        folder: Path,
        *,
        binary: str | Path,
        primaries: int = 3,
        replicas: Literal[0, 1] = 1,
        options: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.nodes = [
            Node(Path(binary), folder / f"node{number}", options)
            for number in range(primaries * (1 + replicas))
        ]
        self._primaries = self.nodes[:primaries]

    def __enter__(self) -> Self:
        for _ in range(5):
            try:
                for node in self.nodes:
                    node.start()
                self._join()
            except _PortTaken as error:
                self.__exit__()
                for node in self.nodes:
                    shutil.rmtree(node.folder)
                error.node.port, error.node.bus = free_port(), free_port()
            except BaseException:
                self.__exit__()
                raise
            else:
                return self
        raise RuntimeError("others took the ports five times")

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            node.kill()

    @property
    def url(self) -> str:
        """The broker's URL, with two of the nodes."""
        return self.url_of(self.nodes[:2])

    def url_of(self, nodes: Sequence[Node], query: str = "") -> str:
        """A broker's URL with these nodes."""
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in nodes)
        return f"celeriac+cluster://:{PASSWORD.replace(' ', '%20')}@{hosts}/0{query}"

    def _join(self) -> None:
        count = len(self._primaries)
        for number, node in enumerate(self.nodes):
            _until(node.answers, "the servers answer")
            node.ask("CLUSTER SET-CONFIG-EPOCH", number + 1)
        for number, node in enumerate(self._primaries):
            first, last = number * SLOTS // count, (number + 1) * SLOTS // count - 1
            node.ask("CLUSTER ADDSLOTSRANGE", first, last)
        for node in self.nodes[1:]:
            self.nodes[0].ask("CLUSTER MEET", "127.0.0.1", node.port, node.bus)
        _until(
            lambda: all(len(self._seen_by(node)) == len(self.nodes) for node in self.nodes),
            "the nodes know each other",
        )
        for primary, replica in zip(self._primaries, self.nodes[count:], strict=False):
            replica.ask("CLUSTER REPLICATE", primary.id)
        self.wait_healthy()

    def _seen_by(self, node: Node) -> list[str]:
        lines = _text(node.ask("CLUSTER NODES")).strip().splitlines()
        return [line for line in lines if "handshake" not in line]

    def wait_healthy(self) -> None:
        """Wait until every slot is served, every node agrees, and every replica has a link."""
        count = len(self._primaries)

        def healthy() -> bool:
            for node in self.nodes:
                if "cluster_state:ok" not in _text(node.ask("CLUSTER INFO")):
                    return False
                lines = self._seen_by(node)
                if sum("master" in line for line in lines) != count or "fail" in str(lines):
                    return False
            roles = [node.ask("ROLE") for node in self.nodes]
            return all(role[0] == b"master" or role[3] == b"connected" for role in roles)

        _until(healthy, "the cluster is healthy")

    # --- where things are -----------------------------------------------------------------------

    def alive(self) -> list[Node]:
        """The nodes that run."""
        return [node for node in self.nodes if node.process and node.process.poll() is None]

    def primaries(self) -> list[Node]:
        """The nodes that are primaries now."""
        return [node for node in self.alive() if node.is_primary]

    def owner(self, slot: int) -> Node:
        """The primary of a slot, as that node itself sees it."""

        def found() -> Node | None:
            for node in self.primaries():
                for first, last, serving, *_ in node.ask("CLUSTER SLOTS"):
                    if first <= slot <= last and serving[1] == node.port:
                        return node
            return None

        return _until(found, f"somebody serves slot {slot}")

    def names_on_each(self, count: int, prefix: str = "queue") -> list[list[str]]:
        """Queue names that lie on each primary: a list of `count` for every one of the first ones."""
        share, wanted = SLOTS / len(self._primaries), len(self._primaries)
        found: list[list[str]] = [[] for _ in range(wanted)]
        number = 0
        while any(len(names) < count for names in found):
            name = f"{prefix}{number}"
            at = int(slot_of_queue(name) / share)
            if len(found[at]) < count:
                found[at].append(name)
            number += 1
        return found

    # --- what may happen to it ------------------------------------------------------------------

    @contextmanager
    def moving(self, slot: int, target: Node) -> Iterator[Callable[[], None]]:
        """Begin to move a slot, and end it after the block; the block may say when its keys move."""
        source = self.owner(slot)
        target.ask("CLUSTER SETSLOT", slot, "IMPORTING", source.id)
        source.ask("CLUSTER SETSLOT", slot, "MIGRATING", target.id)

        def move_keys() -> None:
            while keys := source.ask("CLUSTER GETKEYSINSLOT", slot, 100):
                to = ("127.0.0.1", target.port, "", 0, 30_000, "AUTH", PASSWORD)
                source.ask("MIGRATE", *to, "KEYS", *keys)

        yield move_keys
        move_keys()
        # The target first, or a node could send clients to one that does not serve the slot yet.
        for node in (target, source, *self.primaries()):
            node.ask("CLUSTER SETSLOT", slot, "NODE", target.id)

    def move(self, slot: int, target: Node) -> None:
        """Move a slot to another primary."""
        with self.moving(slot, target):
            pass

    def move_at_once(self, slot: int, target: Node) -> None:
        """Move a slot the new way, all of it at one moment. Raises ResponseError on servers without."""
        source = self.owner(slot)
        source.ask("CLUSTER MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", target.id)
        _until(lambda: self.owner(slot) is target, "the slot has moved")

    def wait_failover(self, slot: int) -> Node:
        """Wait until a living node serves the slot of a dead one, and all that live agree."""
        node = self.owner(slot)
        _until(
            lambda: all("state:ok" in _text(one.ask("CLUSTER INFO")) for one in self.alive()),
            "the cluster is up again",
        )
        return node


def _text(answer: Any) -> str:
    return answer.decode() if isinstance(answer, bytes) else str(answer)


def slot_of_queue(name: str) -> int:
    """The slot that all keys of a queue lie in."""
    return slot_of(f"{{{name}}}")


def _until(probe: Callable[[], T | None], what: str) -> T:
    def answer() -> T | None:
        with suppress(redis.RedisError):
            return probe()
        return None

    return eventually(answer, within_s=_PATIENCE_S, what=what)
