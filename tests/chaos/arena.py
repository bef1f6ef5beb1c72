"""Where a fault test takes place: a scene with a server of its own, which may be harmed as well."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, Self

from celeriac.broker.embedded import EmbeddedServer
from celeriac.chaos.checker import Fault
from celeriac.chaos.scene import LEASE_S, POOLS, SLOTS, Job, Pool, Scene, work

__all__ = ["LEASE_S", "POOLS", "ROOT", "SLOTS", "Arena", "Job", "Pool", "work"]

ROOT = Path(__file__).parents[2]


class Arena(Scene):
    """One server with one queue of one system. Everything in it ends with it."""

    def __init__(
        self,
        folder: Path,
        *,
        seed: str,
        appendfsync: Literal["everysec", "always", "no"] = "everysec",
    ) -> None:
        super().__init__(folder, seed=seed)
        self.server = EmbeddedServer(folder / f"{self.system}-server", appendfsync=appendfsync)

    def __enter__(self) -> Self:
        self.server.start()
        try:
            self.open()
        except BaseException:
            self.server.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for fleet in self.fleets:
            fleet.end()
        self.close()
        self.server.stop()

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
