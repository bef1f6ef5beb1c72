"""What the state machine does to a queue, first part: declare it, publish to it, and work on it."""

from __future__ import annotations

import time
from dataclasses import replace

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from celeriac.broker.message import (
    Claim,
    NewMessage,
    Outcome,
    Postpone,
    Receipt,
    RetryAt,
    Settlement,
)
from celeriac.broker.queue import Queue
from tests.contract.broker import strategies as draw
from tests.contract.broker.look import STREAMS
from tests.contract.broker.machine import Driver, Fate, message_row, ticket_row
from tests.contract.broker.model import Claimed, Steps, Wanted

#: Most steps are publishing, claiming and settling, as in life; the rest has every third step.
now_and_then = precondition(lambda self: self.steps % 3 == 0)
some_leases = precondition(lambda self: self.model.leased)


class Work(Driver):
    """Producers and workers."""

    @initialize(early=st.lists(draw.new_messages, max_size=6), policy=draw.policies)
    def start(self, early: list[NewMessage], policy: str) -> None:
        self.publish(early, None)
        self.declare(policy, None, only_if_absent=bool(early))

    @now_and_then
    @rule(policy=draw.policies, fate=draw.fates, only_if_absent=st.booleans())
    def declare(self, policy: str, fate: Fate, *, only_if_absent: bool = False) -> None:
        new, paused = draw.POLICIES[policy], self.paused
        self.act(
            lambda queue: queue.declare(new, only_if_absent=only_if_absent),
            lambda: self.model.declare(new, only_if_absent=only_if_absent),
            fate,
        )
        self.wake_owed = self.wake_owed or (paused and not self.paused)
        assert self.queue.record() == (self.model.version, self.model.policy)

    @now_and_then
    @rule(hold=st.booleans(), fate=draw.fates)
    def pause_or_resume(self, hold: bool, fate: Fate) -> None:
        paused = self.paused
        self.act(
            lambda queue: queue.pause() if hold else queue.resume(),
            lambda: self.model.set_hold(hold),
            fate,
        )
        self.wake_owed = self.wake_owed or (paused and not self.paused)

    @precondition(lambda self: self.paused)
    @rule(policy=draw.policies)
    def go_on(self, policy: str) -> None:
        self.pause_or_resume(False, None)
        self.declare(policy, None)

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

    @now_and_then
    @rule(message_id=st.sampled_from(draw.IDS), fate=draw.fates)
    def cancel(self, message_id: str, fate: Fate) -> None:
        self.act(
            lambda queue: queue.cancel(message_id), lambda: self.model.cancel(message_id), fate
        )

    @now_and_then
    @rule(stream=st.sampled_from(list(STREAMS)), junk=st.sampled_from(draw.GARBAGE))
    def throw_in_garbage(self, stream: str, junk: dict[str, str]) -> None:
        self.queue.client.xadd(self.queue.keys.base + STREAMS[stream], junk)  # type: ignore[arg-type]
        self.model.throw_in(stream)

    # --- workers ----------------------------------------------------------------------------------

    @rule(
        consumer=draw.consumers,
        count=st.sampled_from([0, 1, 2, 3, 4, 6]),
        held=st.integers(0, 1),
        fate=draw.fates,
    )
    def claim(
        self, consumer: str, count: int, held: int, fate: Fate, *, again: bool = True
    ) -> None:
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
            again=again,
        )

    @now_and_then
    @rule()
    def wait(self, seconds: float = 0.01) -> None:
        key = self.queue.keys.wake
        tokens = self.queue.client.llen(key)
        if not tokens and not seconds:
            return
        assert self.queue.wait(0.01) == (tokens > 0)
        assert self.queue.client.llen(key) == max(0, tokens - 1)
        if tokens:
            self.wake_owed = False  # whoever woke will claim

    @now_and_then
    @rule(consumer=draw.consumers, everything=st.booleans(), fate=draw.fates)
    def renew(self, consumer: str, everything: bool, fate: Fate) -> None:
        mine = [] if everything else [lease for lease in self.leases if lease[2] == consumer][-6:]
        tickets = {message.lease: ticket for ticket, message, _ in mine}
        self.act(
            lambda queue: {tickets[lease] for lease in queue.renew(consumer, list(tickets))},
            lambda: self.model.renew(consumer, list(tickets.values())),
            fate,
        )

    @some_leases
    @rule(
        numbers=draw.numbers,
        outcomes=draw.five_outcomes,
        run_ms=draw.run_times,
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
                if isinstance(outcome, RetryAt | Postpone)
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

    @rule(
        consumer=draw.consumers,
        numbers=draw.numbers,
        outcomes=draw.five_outcomes,
        run_ms=draw.run_times,
    )
    def a_worker_works(
        self, consumer: str, numbers: list[int], outcomes: list[Outcome], run_ms: int | None
    ) -> None:
        self.wait(seconds=0)
        self.claim(consumer, 6, 0, None)
        self.settle(numbers, outcomes, run_ms, None)

    @rule(consumer=draw.consumers, numbers=st.none() | draw.numbers)
    def a_worker_dies(self, consumer: str, numbers: list[int] | None) -> None:
        self.claim(consumer, 4, 0, None)
        self.abandon(consumer, numbers, None)

    @some_leases
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

    @now_and_then
    @rule(consumer=draw.consumers, count=st.integers(0, 6), fate=draw.fates)
    def take_back_unheard(self, consumer: str, count: int, fate: Fate) -> None:
        if count:  # an answer gets lost
            self.claim(consumer, count, 0, ("unanswered", 0), again=False)
        mine = [(ticket, message) for ticket, message, name in self.leases if name == consumer]
        mine.sort(key=lambda lease: lease[0].place)
        entries = {ticket.stream: message.lease[1:] for ticket, message in mine}
        places = {ticket.stream: ticket.place for ticket, _ in mine}
        self.act(
            lambda queue: queue.take_back_unheard(consumer, entries),
            lambda: self.model.take_back_unheard(consumer, places),
            fate,
        )

    @now_and_then
    @rule(consumer=draw.consumers, numbers=st.none() | draw.numbers, fate=draw.fates)
    def abandon(self, consumer: str, numbers: list[int] | None, fate: Fate) -> None:
        picked = None if numbers is None else self.pick(numbers)
        running = None if picked is None else [message.lease for _, message, _ in picked]
        tickets = None if picked is None else [ticket for ticket, _, _ in picked]
        self.act(
            lambda queue: queue.abandon(consumer, running=running),
            lambda: self.model.abandon(consumer, tickets),
            fate,
        )
