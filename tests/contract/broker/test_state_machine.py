"""The broker against the model: every operation in any order, with clients that die in the middle.

After each step the conservation law holds, and what lies on the broker is what the model says, entry by
entry. `HYPOTHESIS_PROFILE=long` looks longer, at other examples each time.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule, run_state_machine_as_test

from celeriac.broker import queue as queue_module
from celeriac.broker.message import Claim, NewMessage, Outcome, Receipt, RetryAt, Settlement
from celeriac.broker.queue import Queue
from tests.conftest import RunningServer
from tests.contract.broker import strategies as draw
from tests.contract.broker.dying import DyingClient
from tests.contract.broker.look import STREAMS, let_time_pass
from tests.contract.broker.machine import (
    CHUNK,
    PAGE,
    Driver,
    Fate,
    message_row,
    ticket_row,
)
from tests.contract.broker.model import Claimed, Steps, Wanted

PROFILES = {
    # The same examples each time, so that a failure belongs to the change that it comes with.
    "default": settings(max_examples=60, stateful_step_count=40, derandomize=True),
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

consumers = st.sampled_from(["a", "b", "c"])


class BrokerMachine(Driver):
    """Does to a queue whatever can be done to one."""

    @initialize(early=st.lists(draw.new_messages, max_size=3), policy=draw.policies)
    def start(self, early: list[NewMessage], policy: str) -> None:
        self.publish(early, None)
        self.declare(policy, None)

    @rule(policy=draw.policies, fate=draw.fates)
    def declare(self, policy: str, fate: Fate) -> None:
        new = draw.POLICIES[policy]
        self.act(lambda queue: queue.declare(new), lambda: self.model.declare(new), fate)
        assert self.queue.record() == (self.model.version, new)

    @rule(hold=st.booleans(), fate=draw.fates)
    def pause_or_resume(self, hold: bool, fate: Fate) -> None:
        self.act(
            lambda queue: queue.pause() if hold else queue.resume(),
            lambda: self.model.set_hold(hold),
            fate,
        )

    # --- producers --------------------------------------------------------------------------------

    @rule(messages=st.lists(draw.new_messages, min_size=1, max_size=8), fate=draw.fates)
    def publish(self, messages: list[NewMessage], fate: Fate) -> None:
        sent: list[NewMessage] = []

        def real(queue: Queue) -> list[Receipt]:
            sent[:] = [replace(new, delay_ms=self.tick(new.delay_ms)) for new in messages]
            return queue.publish(sent)

        self.act(real, lambda: self.model.publish(sent), fate)
        if any(0 < message.ttl_ms < 100 for message in messages):
            time.sleep(0.003)

    @rule(message_id=st.sampled_from(draw.IDS), fate=draw.fates)
    def cancel(self, message_id: str, fate: Fate) -> None:
        self.act(
            lambda queue: queue.cancel(message_id), lambda: self.model.cancel(message_id), fate
        )

    @rule(stream=st.sampled_from(list(STREAMS)), junk=st.sampled_from(draw.GARBAGE))
    def throw_in_garbage(self, stream: str, junk: dict[str, str]) -> None:
        self.queue.client.xadd(self.queue.keys.base + STREAMS[stream], junk)  # type: ignore[arg-type]
        self.model.throw_in(stream)

    # --- workers ----------------------------------------------------------------------------------

    @rule(consumer=consumers, count=st.integers(0, 6), held=st.integers(0, 1), fate=draw.fates)
    def claim(self, consumer: str, count: int, held: int, fate: Fate) -> None:
        def check(claim: Claim, expected: Claimed) -> None:
            tells = (claim.version, claim.paused, claim.again, claim.next_due_ms >= 0)
            model = (self.model.version, expected.paused, expected.again, expected.tells_due)
            assert tells == model
            rows = [message_row(message) for message in claim.messages]
            assert rows == [ticket_row(ticket) for ticket in expected.tickets]
            pairs = zip(expected.tickets, claim.messages, strict=True)
            self.leases += [(ticket, message, consumer) for ticket, message in pairs]
            if claim.messages:
                self.wake_owed = True  # whoever could not be served with these is to be woken
            elif count > 0 and not claim.paused and not claim.again:
                self.wake_owed = False  # nothing is there

        self.act(
            lambda queue: queue.claim(consumer, count=count, held=held),
            lambda: self.model.claim(consumer, count=count, held=held),
            fate,
            check=check,
        )

    @rule()
    def wait(self) -> None:
        key = self.queue.keys.wake
        tokens = self.queue.client.llen(key)
        assert self.queue.wait(0.01) == (tokens > 0)
        assert self.queue.client.llen(key) == max(0, tokens - 1)
        if tokens:
            self.wake_owed = False  # whoever woke will claim

    @rule(consumer=consumers, everything=st.booleans(), fate=draw.fates)
    def renew(self, consumer: str, everything: bool, fate: Fate) -> None:
        mine = [] if everything else [lease for lease in self.leases if lease[2] == consumer][-6:]
        tickets = {message.lease: ticket for ticket, message, _ in mine}
        self.act(
            lambda queue: {tickets[lease] for lease in queue.renew(consumer, list(tickets))},
            lambda: self.model.renew(consumer, list(tickets.values())),
            fate,
        )

    @precondition(lambda self: self.leases)
    @rule(
        numbers=draw.numbers,
        outcomes=st.lists(draw.outcomes, min_size=5, max_size=5),
        run_ms=st.sampled_from([None, 0, 5, 6, 70, 10**8]),
        fate=draw.fates,
    )
    def settle(
        self, numbers: list[int], outcomes: list[Outcome], run_ms: int | None, fate: Fate
    ) -> None:
        picked = self.pick(numbers)
        chosen: list[Outcome] = []

        def real(queue: Queue) -> list[bool]:
            chosen[:] = [
                replace(outcome, delay_ms=self.tick(outcome.delay_ms))
                if isinstance(outcome, RetryAt)
                else outcome
                for outcome in outcomes
            ]
            return queue.settle(
                [
                    Settlement(message, outcome, run_ms)
                    for (_, message, _), outcome in zip(picked, chosen, strict=False)
                ]
            )

        def model() -> Steps[list[bool]]:
            return self.model.settle(
                [
                    Wanted(ticket, outcome, run_ms)
                    for (ticket, _, _), outcome in zip(picked, chosen, strict=False)
                ]
            )

        self.act(real, model, fate)

    @precondition(lambda self: self.leases)
    @rule(numbers=draw.numbers, charged=st.booleans(), fate=draw.fates)
    def release(self, numbers: list[int], charged: bool, fate: Fate) -> None:
        picked = self.pick(numbers)
        leases = [message.lease for _, message, _ in picked]
        tickets = [ticket for ticket, _, _ in picked]
        self.act(
            lambda queue: queue.release("a", leases, charged=charged, reason="gone"),
            lambda: self.model.release(tickets, charged=charged, reason="gone"),
            fate,
        )

    @rule(consumer=consumers, numbers=st.none() | draw.numbers, fate=draw.fates)
    def abandon(self, consumer: str, numbers: list[int] | None, fate: Fate) -> None:
        picked = None if numbers is None else self.pick(numbers)
        running = None if picked is None else [message.lease for _, message, _ in picked]
        tickets = None if picked is None else [ticket for ticket, _, _ in picked]
        self.act(
            lambda queue: queue.abandon(consumer, running=running),
            lambda: self.model.abandon(consumer, tickets),
            fate,
        )

    # --- time, and whoever looks after the queue --------------------------------------------------

    @rule(minutes=st.sampled_from([2, 2, 12, 3000]))
    def time_passes(self, minutes: int) -> None:
        let_time_pass(self.queue, minutes)
        self.model.minute += minutes

    @rule(fate=draw.fates)
    def reclaim(self, fate: Fate) -> None:
        self.act(lambda queue: queue.reclaim(), self.model.reclaim, fate)

    @rule(limit=st.sampled_from([1, 2, 1000]), fate=draw.fates)
    def promote(self, limit: int, fate: Fate) -> None:
        self.act(lambda queue: queue.promote(limit), lambda: self.model.promote(limit), fate)

    @rule()
    def lose_scripts(self) -> None:
        self.queue.client.script_flush()

    # --- dead letters and purging -----------------------------------------------------------------

    @precondition(lambda self: self.model.counts["dead"])
    @rule(numbers=draw.numbers, fate=draw.fates)
    def redrive(self, numbers: list[int], fate: Fate) -> None:
        copies = self.pick_dead(numbers)
        entries = [copy.entry for copy in copies]
        self.act(lambda queue: queue.redrive(entries), lambda: self.model.redrive(copies), fate)

    @precondition(lambda self: self.model.counts["dead"])
    @rule(numbers=draw.numbers, fate=draw.fates)
    def purge_dead(self, numbers: list[int], fate: Fate) -> None:
        copies = self.pick_dead(numbers)
        entries = [copy.entry for copy in copies]
        self.act(
            lambda queue: queue.purge_dead(entries), lambda: self.model.purge_dead(copies), fate
        )

    @precondition(lambda self: self.model.counts["dead"])
    @rule(number=st.integers(0, 5), fate=draw.fates)
    def trim_dead(self, number: int, fate: Fate) -> None:
        times = [letter.dead_ms for letter in self.queue.dead()]
        since = times[number % len(times)] if times else 0
        keep = sum(dead_ms >= since for dead_ms in times)
        self.act(
            lambda queue: queue.trim_dead(now_ms=since + 5, retention_ms=5),
            lambda: self.model.trim_dead(keep),
            fate,
        )

    @rule(ready=st.booleans(), delayed=st.booleans(), fate=draw.fates)
    def purge(self, ready: bool, delayed: bool, fate: Fate) -> None:
        self.act(
            lambda queue: queue.purge(ready=ready, delayed=delayed),
            lambda: self.model.purge(ready=ready, delayed=delayed),
            fate,
        )


@pytest.mark.timeout(0)  # a failure takes minutes to shrink
def test_the_broker_does_what_the_model_does_whoever_dies(
    valkey: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_module, "PUBLISH_CHUNK_MESSAGES", CHUNK)
    monkeypatch.setattr(queue_module, "_PAGE", PAGE)
    options = {"host": "127.0.0.1", "port": valkey.port, "password": valkey.password}
    with valkey.client() as client, DyingClient(**options) as dying:  # type: ignore[arg-type]
        run: Any = run_state_machine_as_test  # it takes any callable that makes a machine
        run(lambda: BrokerMachine(client, dying), settings=PROFILE)
