"""Many schedules on one server, and what they add up to."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import redis

from celeriac.broker.connection import parse
from celeriac.broker.embedded import EmbeddedServer
from celeriac.client.pinned import pinned_client
from tests.simulation.schedule import Schedule
from tests.simulation.server import Changes
from tests.simulation.simulation import Result, Simulation, Tally


@contextmanager
def private_server(folder: str | Path) -> Iterator[redis.Redis]:
    """Run a server that nobody else uses and that writes no files."""
    with EmbeddedServer(folder, appendfsync="no") as server:
        client = pinned_client(parse(server.url))
        client.config_set("appendonly", "no")
        client.config_set("save", "")
        yield client
        client.close()


def play(
    seed: int, real: redis.Redis, *, changes: Changes | None = None, tracing: bool = False
) -> Result:
    """Play one schedule. The workers' own log lines are silent unless it is traced."""
    logging.disable(logging.CRITICAL)
    try:
        return Simulation(Schedule.of(seed), real, changes=changes, tracing=tracing).play()
    finally:
        logging.disable(logging.NOTSET)
        gc.collect(0)


@dataclass(slots=True)
class Series(Tally):
    """The sum of many results."""

    schedules: int = 0
    broken: list[Result] = field(default_factory=list)

    def add(self, result: Result) -> None:
        """Count one."""
        self.schedules += 1
        if result.violation:
            self.broken.append(result)
        result.add_to(self)

    def text(self) -> str:
        """One line for people."""
        return (
            f"{self.schedules} schedules, {self.messages} messages, {self.commands} commands, "
            f"{self.faults} faults, {self.runs} runs, {self.redelivered} charged, "
            f"{self.repeated} ran twice, {self.forgotten} forgotten, "
            f"{self.seconds / 3600:.1f} h of simulated time, {len(self.broken)} violations"
        )
