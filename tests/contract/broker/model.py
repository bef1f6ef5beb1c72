"""A queue in plain Python: lists instead of streams, and a clock that the tests move.

Each operation is a generator that yields after every script the real one runs, so that a caller may die
between two of them. Nothing here is clever: this is what the broker promises, to be read as such.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from celeriac.broker.message import Done, NewMessage, Outcome, Receipt
from celeriac.broker.record import serving_order
from celeriac.spec.policies import QueuePolicy
from tests.contract.broker.model_state import Copy, Holder, State, Ticket

T = TypeVar("T")
Steps = Generator[None, None, T]

LETTER = {"high": "h", "normal": "n", "low": "l"}
LEASE_MINUTES = 1
#: Workers are forgotten after this many lease times.
FORGET_LEASES = 10
CANCEL_MINUTES = 24 * 60


@dataclass(slots=True)
class Claimed:
    """What one claim hands out."""

    tickets: list[Ticket] = field(default_factory=list)
    paused: bool = False
    again: bool = False
    tells_due: bool = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """A lease to settle, with its outcome."""

    ticket: Ticket
    outcome: Outcome
    run_ms: int | None


class Model(State):
    """The queue. ``page`` and ``chunk`` are how many messages one script takes at most."""

    def __init__(self, *, page: int, chunk: int) -> None:
        super().__init__()
        self.page, self.chunk = page, chunk

    # --- the record -------------------------------------------------------------------------------

    def declare(self, policy: QueuePolicy, *, only_if_absent: bool) -> Steps[int]:
        if self.version == 0 or (policy != self.policy and not only_if_absent):
            self.policy = policy
            self.version += 1
        yield
        return self.version

    def set_hold(self, hold: bool) -> Steps[None]:
        if hold != self.hold:
            self.hold = hold
            self.version += 1
        yield

    # --- producers --------------------------------------------------------------------------------

    def publish(self, messages: Sequence[NewMessage]) -> Steps[list[Receipt]]:
        receipts: list[Receipt] = []
        for start in range(0, len(messages), self.chunk):
            receipts += [self._accept(new) for new in messages[start : start + self.chunk]]
            yield
        return receipts

    def _accept(self, new: NewMessage) -> Receipt:
        size, most = len(new.body) + len(new.head), self.policy.limits.max_message_bytes
        if self.version and size > most:
            reason = f"message of {size} bytes is over limits.maxMessageBytes {most}"
            return Receipt(new.id, "refused", reason)
        unfinished = sum(map(len, self.ready.values())) + len(self.leased) + len(self.delayed)
        room = self.policy.limits.max_messages
        if self.version and 0 < room <= unfinished:
            return Receipt(new.id, "refused", f"queue is full: limits.maxMessages {room}")
        if new.dedup_key:
            first, until = self.dedup.get(new.dedup_key, ("", 0))
            if until > self.now_ms:
                return Receipt(first, "duplicate")
            self.dedup[new.dedup_key] = (new.id, self.now_ms + new.dedup_ttl_ms)
        self.counts["accepted"] += 1
        letter = LETTER[new.priority]
        copy = Copy(new.id, letter, new.body, new.head, new.ttl_ms)
        if new.delay_ms:
            self.make_delayed(copy, new.delay_ms)
        else:
            self.make_ready(copy, stream=letter)
        return Receipt(new.id, "accepted")

    def cancel(self, message_id: str) -> Steps[str]:
        members = {copy.member: copy for copy in self.delayed}
        found, copies, member = 0, 0, message_id
        while member in members:
            if members[member].id == message_id:
                self.delayed.remove(members[member])
                self.discard("cancelled")
                found += 1
            copies += 1
            member = f"{message_id}#{copies}"
        if not found:
            self.cancelled[message_id] = self.minute + CANCEL_MINUTES
        yield
        return "cancelled" if found else "requested"

    def throw_in(self, stream: str) -> None:
        """Somebody XADDs what is no message, behind the queue's back."""
        self.make_ready(Copy("", "n", garbage=True), stream=stream)

    # --- workers ----------------------------------------------------------------------------------

    def claim(self, consumer: str, *, count: int, held: int) -> Steps[Claimed]:
        self.workers[consumer] = self.minute
        self.promote_due(128)
        if self.policy.paused or self.hold:
            yield
            return Claimed(paused=True)
        if count <= 0:
            yield
            return Claimed()
        answer = Claimed()
        out = answer.tickets
        drawn = self.draw("i", 1, consumer, out) if held == 0 else 0
        if not drawn:
            drawn = self._serve(consumer, count, out)
        answer.again = not out and drawn > 0
        answer.tells_due = not out and bool(self.delayed)
        yield
        return answer

    def _serve(self, consumer: str, count: int, out: list[Ticket]) -> int:
        """Share ``count`` turns out; what one priority leaves over goes to the highest that wants it."""
        order = serving_order(self.policy.priority)
        turns = [order[(self.turn + k) % len(order)] for k in range(count)]
        share, left = Counter(turns), count
        for letter in dict.fromkeys(turns[:1] + list("hnl")):
            left -= self.draw(letter, share[letter], consumer, out)
        for letter in "hnl":
            left -= self.draw(letter, left, consumer, out)
        if left < count:
            self.turn = (self.turn + count - left) % (len(order) * 1000)
        return count - left

    def renew(self, consumer: str, tickets: Sequence[Ticket]) -> Steps[set[Ticket]]:
        """Keep leases; return those lost."""
        self.workers[consumer] = self.minute
        live = {ticket.copy for ticket in tickets if self.is_live(ticket)}
        for copy, holder in self.leased.items():
            if copy in live or (not tickets and holder.consumer == consumer):
                self.leased[copy] = Holder(consumer, self.minute)
        yield
        return {ticket for ticket in tickets if not self.is_live(ticket)}

    def settle(self, wanted: Sequence[Wanted]) -> Steps[list[bool]]:
        done = [n for n, each in enumerate(wanted) if isinstance(each.outcome, Done)]
        streams = dict.fromkeys(wanted[n].ticket.stream for n in done)
        batches = [[n for n in done if wanted[n].ticket.stream == stream] for stream in streams]
        batches.append([n for n in range(len(wanted)) if n not in done])
        answers = [False] * len(wanted)
        for batch in filter(None, batches):
            for n in batch:
                if self.is_live(wanted[n].ticket):
                    self.apply(wanted[n].ticket.copy, wanted[n].outcome, wanted[n].run_ms)
                    answers[n] = True
            yield
        return answers

    def release(self, tickets: Sequence[Ticket], *, charged: bool, reason: str) -> Steps[int]:
        back = 0
        for ticket in tickets:
            if self.is_live(ticket):
                self.put_back(ticket.copy, charged=charged, reason=reason)
                back += 1
        if tickets:
            yield
        return back

    def take_back_unheard(self, consumer: str, heard: dict[str, int]) -> Steps[int]:
        """Put back what the consumer holds beyond the newest places it has heard of."""
        total, back = 0, 1
        while back:
            unheard = [
                copy
                for stream in "hnli"
                for copy in [
                    copy
                    for copy in self.held_by(consumer, stream)
                    if copy.place > heard.get(stream, 0)
                ][: self.page]
            ]
            for copy in unheard:
                self.put_back(copy, charged=False, reason="unheard")
            back = len(unheard)
            total += back
            yield
        return total

    def abandon(self, consumer: str, running: Sequence[Ticket] | None) -> Steps[int]:
        charged = None if running is None else {t.copy for t in running if self.is_live(t)}
        total, more = 0, True
        while more:
            more = False
            for stream in "hnli":
                held = self.held_by(consumer, stream)[: self.page]
                more = more or len(held) == self.page
                for copy in held:
                    self.put_back(
                        copy, charged=charged is None or copy in charged, reason="worker_lost"
                    )
                total += len(held)
            if not more:
                self.workers.pop(consumer, None)
            yield
        return total

    # --- whoever looks after the queue ------------------------------------------------------------

    def reclaim(self) -> Steps[int]:
        back = 0
        for stream in "hnli":
            expired = [
                copy
                for copy in sorted(self.leased, key=lambda copy: copy.place)
                if copy.stream == stream and self.minute - self.leased[copy].minute >= LEASE_MINUTES
            ][: self.page]
            for copy in expired:
                self.put_back(copy, charged=True, reason="lease_expired")
            back += len(expired)
        busy = {holder.consumer for holder in self.leased.values()}
        long_ago = self.minute - FORGET_LEASES * LEASE_MINUTES
        for name, seen in list(self.workers.items()):
            if name not in busy and seen <= long_ago:
                del self.workers[name]
        self.cancelled = {k: until for k, until in self.cancelled.items() if until > self.minute}
        yield
        return back

    def promote(self, limit: int) -> Steps[int]:
        promoted = self.promote_due(limit)
        yield
        return promoted

    # --- dead letters and purging -----------------------------------------------------------------

    def redrive(self, copies: Sequence[Copy]) -> Steps[int]:
        moved = 0
        for copy in copies:
            if copy in self.dead:
                self.dead.remove(copy)
                copy.history.insert(0, ("redriven", -1, -1))
                copy.attempt = copy.delivery = copy.lost = 0
                copy.ttl_ms = 0
                self.cancelled.pop(copy.id, None)
                self.make_ready(copy, stream=copy.letter)
                self.counts["redriven"] += 1
                moved += 1
        if copies:
            yield
        return moved

    def purge_dead(self, copies: Sequence[Copy]) -> Steps[int]:
        total = 0
        for start in range(0, len(copies), self.page):
            part = copies[start : start + self.page]
            before = len(self.dead)
            self.dead = [copy for copy in self.dead if copy not in part]
            self.counts["purged"] += before - len(self.dead)
            total += before - len(self.dead)
            yield
        return total

    def trim_dead(self, keep: int) -> Steps[int]:
        """Purge all but the newest ``keep``."""
        gone = max(0, len(self.dead) - keep)
        self.dead = self.dead[gone:]
        self.counts["purged"] += gone
        yield
        return gone

    def purge(self, *, ready: bool, delayed: bool) -> Steps[int]:
        total = 0
        for what in ([self.ready[letter] for letter in "hnli"] if ready else []) + (
            [self.delayed] if delayed else []
        ):
            gone = 1
            while gone:
                gone = len(what[: self.page])
                self.counts["accepted"] += sum(copy.garbage for copy in what[:gone])
                del what[:gone]
                self.counts["purged"] += gone
                total += gone
                yield
        return total
