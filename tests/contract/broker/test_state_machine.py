"""The broker against the model: every operation in any order, with clients that die in the middle.

After each step the conservation law holds, and what lies on the broker is what the model says, entry by
entry. `HYPOTHESIS_PROFILE=long` looks longer, at other examples each time.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule, run_state_machine_as_test

from tests.conftest import RunningServer
from tests.contract.broker import strategies as draw
from tests.contract.broker.dying import DyingClient
from tests.contract.broker.look import let_time_pass
from tests.contract.broker.machine import Fate, small_scripts
from tests.contract.broker.work import Work, now_and_then, some_leases

PROFILES = {
    # The same examples each time, so that a failure belongs to the change that it comes with.
    "default": settings(max_examples=100, stateful_step_count=40, derandomize=True),
    "long": settings(max_examples=3000, stateful_step_count=80),
}
PROFILE = settings(
    PROFILES[os.environ.get("HYPOTHESIS_PROFILE", "default")],
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
    print_blob=True,
    report_multiple_bugs=False,
)

some_dead = precondition(lambda self: self.model.dead)


class BrokerMachine(Work):
    """Producers and workers, and whoever looks after the queue."""

    # --- time, and whoever looks after the queue --------------------------------------------------

    @now_and_then
    @rule(minutes=st.sampled_from([2, 2, 12, 3000]))
    def time_passes(self, minutes: int) -> None:
        let_time_pass(self.queue, minutes)
        self.model.minute += minutes

    @now_and_then
    @rule(fate=draw.fates)
    def reclaim(self, fate: Fate) -> None:
        self.act(lambda queue: queue.reclaim(), self.model.reclaim, fate)

    @some_leases
    @now_and_then
    @rule(fate=draw.fates)
    def leases_expire(self, fate: Fate) -> None:
        self.time_passes(2)
        self.reclaim(fate)

    @precondition(lambda self: self.model.delayed)
    @rule(minutes=st.sampled_from([2, 12, 3000]), limit=st.sampled_from([1, 2, 1000]))
    def delays_end(self, minutes: int, limit: int) -> None:
        self.time_passes(minutes)
        self.promote(limit, None)

    @now_and_then
    @rule(limit=st.sampled_from([1, 2, 1000]), fate=draw.fates)
    def promote(self, limit: int, fate: Fate) -> None:
        self.act(lambda queue: queue.promote(limit), lambda: self.model.promote(limit), fate)

    @now_and_then
    @rule()
    def lose_scripts(self) -> None:
        self.queue.client.script_flush()

    # --- dead letters and purging -----------------------------------------------------------------

    @some_dead
    @rule(numbers=draw.numbers, fate=draw.fates)
    def redrive(self, numbers: list[int], fate: Fate) -> None:
        copies = self.pick_dead(numbers)
        entries = [copy.entry for copy in copies]
        self.act(lambda queue: queue.redrive(entries), lambda: self.model.redrive(copies), fate)

    @some_dead
    @rule(numbers=draw.numbers, fate=draw.fates)
    def purge_dead(self, numbers: list[int], fate: Fate) -> None:
        copies = self.pick_dead(numbers)
        entries = [copy.entry for copy in copies]
        self.act(
            lambda queue: queue.purge_dead(entries), lambda: self.model.purge_dead(copies), fate
        )

    @some_dead
    @rule(everything=st.booleans(), fate=draw.fates)
    def trim_dead(self, everything: bool, fate: Fate) -> None:
        # All or nothing: how many died in one millisecond differs from run to run.
        since = self.queue.dead(count=1)[0].dead_ms + 1 if everything else 1
        self.act(
            lambda queue: queue.trim_dead(now_ms=since + 5, retention_ms=5),
            lambda: self.model.trim_dead(0 if everything else len(self.model.dead)),
            fate,
        )

    @now_and_then
    @rule(ready=st.booleans(), delayed=st.booleans(), fate=draw.fates)
    def purge(self, ready: bool, delayed: bool, fate: Fate) -> None:
        self.act(
            lambda queue: queue.purge(ready=ready, delayed=delayed),
            lambda: self.model.purge(ready=ready, delayed=delayed),
            fate,
        )


@pytest.mark.slow
@pytest.mark.timeout(0 if "HYPOTHESIS_PROFILE" in os.environ else 900)  # shrinking takes minutes
def test_the_broker_does_what_the_model_does_whoever_dies(
    valkey: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_scripts(monkeypatch)
    options = {"host": "127.0.0.1", "port": valkey.port, "password": valkey.password}
    with valkey.client() as client, DyingClient(**options) as dying:  # type: ignore[arg-type]
        run: Any = run_state_machine_as_test  # it takes any callable that makes a machine
        run(lambda: BrokerMachine(client, dying), settings=PROFILE)
