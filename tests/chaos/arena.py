"""Where a fault test takes place: a scene with a server of its own, which may be harmed as well."""

from __future__ import annotations

import re
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, Self

from celery.concurrency import get_available_pool_names

from celeriac.broker.connection import connect
from celeriac.broker.embedded import EmbeddedServer
from celeriac.chaos.faults import Fault
from celeriac.chaos.scene import LEASE_S, SLOTS, Job, Pool, Scene, work
from celeriac.spec.pools import POOLS
from tests.chaos.proxy import Proxy

__all__ = ["LEASE_S", "POOLS", "ROOT", "SLOTS", "STOCK_POOLS", "Arena", "Job", "Pool", "work"]

#: Those that stock Celery has too.
STOCK_POOLS = tuple(pool for pool in POOLS if pool in get_available_pool_names())

ROOT = Path(__file__).parents[2]


class Server(Protocol):
    """Where the broker is, in place of an embedded server."""

    @property
    def url(self) -> str:
        """The broker's URL."""
        ...

    def start(self) -> Any:
        """Start it; return when it answers."""
        ...

    def stop(self) -> None:
        """End it, and leave nothing behind."""
        ...


class Arena(Scene):
    """One server with one queue of one system. Everything in it ends with it."""

    def __init__(
        self,
        folder: Path,
        *,
        seed: str,
        appendfsync: Literal["everysec", "always", "no"] = "everysec",
        server: Server | None = None,
        proxied: bool = False,
        binary: str | None = None,
        prepare: Callable[[Any], None] | None = None,
        user: tuple[str, str] | None = None,
    ) -> None:
        """``prepare`` is called with the arena when the server runs.

        Producers and workers reach a ``proxied`` broker through a network that can be harmed, and log in as
        ``user`` (name and password).
        """
        super().__init__(folder, seed=seed)
        home = folder / f"{self.system}-server"
        self.server: Any = server or EmbeddedServer(home, appendfsync=appendfsync, binary=binary)
        self.proxy = Proxy(self.random) if proxied else None
        self._prepare = prepare
        self._user = user

    def __enter__(self) -> Self:
        self.server.start()
        try:
            if self.proxy is not None:
                self.proxy.start(self.server.port)
            if self._prepare is not None:
                self._prepare(self)
            self.open()
        except BaseException:
            self.server.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for worker_set in self.worker_sets:
            worker_set.end()
        self.close()
        if self.proxy is not None:
            self.proxy.stop()
        self.server.stop()

    @property
    def url(self) -> str:
        """The broker as producers and workers know it."""
        url: str = self.server.url
        if self._user is not None:
            url = re.sub("//.*@", f"//{':'.join(self._user)}@", url)
        return url if self.proxy is None else self.proxy.url(url)

    def as_admin(self) -> Any:
        """A connection as the user who may do everything, past the proxy."""
        return connect(self.server.url, client_name="admin")

    @abstractmethod
    def open(self) -> None:
        """Make the queue."""

    @abstractmethod
    def close(self) -> None:
        """Close connections."""

    @abstractmethod
    def send_surely(self, jobs: Sequence[Job]) -> None:
        """Publish jobs until the broker says that it has them, however often it goes away."""

    def restart_broker(
        self, *, down_s: float = 0.0, harm: Callable[[], None] | None = None
    ) -> None:
        """SIGKILL the broker and start it again on what its file holds."""
        at = time.monotonic()
        self.server.kill()
        if harm is not None:
            harm()
        time.sleep(down_s)
        self.server.start()
        self.journal.append(Fault(kind="broker", at=at, until=time.monotonic()))
