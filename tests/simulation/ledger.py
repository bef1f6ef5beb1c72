"""What the server must hold by now, from what it was asked and what it answered.

The ledger hears every script that the server carried out, also those whose answers nobody heard. It keeps
where each message is, and compares after each script; what the answers say must fit, too. Here stand the
promises that hold at every moment: nothing is lost or doubled, a lease is one holder's, a late settlement
changes nothing, a delivery is charged only to a worker that had trouble, and never more than the limit;
within a priority the oldest goes first, and no priority is overtaken or starved more than the policy allows.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.books import Asked, Copy, Lease, OnCharge, entry, promise
from tests.simulation.order import Order

STREAMS = "hnli"
COUNTERS = ("accepted", "done", "discarded", "dead", "retried", "redelivered")


@dataclass(slots=True)
class Ledger:
    """Where every message is."""

    on_charge: OnCharge
    on_return: Callable[[str, str], None]
    """Told who hands back which lease, or leaves with it."""
    forgetful: bool = False
    """Whether the server may have forgotten what it answered: then a lease may have had two holders."""
    record: dict[str, str] = field(default_factory=dict)
    ready: dict[str, deque[Copy]] = field(default_factory=lambda: {s: deque() for s in STREAMS})
    leases: dict[str, Lease] = field(default_factory=dict)
    delayed: list[tuple[int, str, Copy]] = field(default_factory=list)
    copies: dict[str, list[Copy]] = field(default_factory=dict)
    dedup: dict[str, tuple[str, int]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    confirmed: dict[str, int] = field(default_factory=dict)
    """When (ms) the server last said to a holder that a lease is his; of every lease there was."""
    issued: dict[str, str] = field(default_factory=dict)
    """Whose lease it was: message ids by token, of every lease there was."""
    highest_limit: int = 0
    looked_ms: int = 0
    watched_ms: int = 0
    order: Order = field(default_factory=Order)

    def hear(self, asked: Asked) -> None:
        """Keep the books of one script. Raises Broken."""
        hear = getattr(self, f"_{asked.name}", None)
        if hear is not None:
            hear(asked, asked.args, asked.answer)
        self._compare(asked.facts)

    @property
    def unfinished(self) -> int:
        """How many messages are ready, leased or delayed."""
        return sum(map(len, self.ready.values())) + len(self.leases) + len(self.delayed)

    def _compare(self, facts: Sequence[int]) -> None:
        held = Counter(token[0] for token in self.leases)
        expected = [len(self.ready[s]) + held[s] for s in STREAMS]
        expected += [held[s] for s in STREAMS]
        dead = self.counts["dead"]
        expected += [len(self.delayed), len(self.delayed), dead]
        names = ("high", "normal", "low", "isolated")
        labels = [
            *names,
            *(f"leased {name}" for name in names),
            "delayed",
            "bodies",
            "dead letters",
        ]
        for label, real, ours in zip(labels, facts, expected, strict=False):
            promise(real == ours, f"the server holds {real} in {label!r}, and it must be {ours}")
        for name, real in zip(COUNTERS, facts[12:], strict=True):
            ours = self.counts[name]
            promise(real == ours, f"the server counts {real} {name}, and it must be {ours}")

    # --- moves ------------------------------------------------------------------------------------

    def _make_ready(self, copy: Copy) -> None:
        isolated = copy.lost >= int(self.record.get("isolateAfter", 2))
        copy.state = "ready"
        self.ready["i" if isolated else copy.letter].append(copy)

    def _make_delayed(self, copy: Copy, due_ms: int) -> None:
        taken = {member for _, member, _ in self.delayed}
        member, number = copy.id, 0
        while member in taken:
            number += 1
            member = f"{copy.id}#{number}"
        copy.state = "delayed"
        insort(self.delayed, (due_ms, member, copy))

    def _make_dead(self, copy: Copy, reason: str) -> None:
        copy.state, copy.reason = "dead", reason
        self.counts["dead"] += 1

    def _promote_due(self, now_ms: int, limit: int) -> int:
        due = 0
        while due < limit and self.delayed and self.delayed[0][0] <= now_ms:
            self._make_ready(self.delayed.pop(0)[2])
            due += 1
        return due

    def _put_back(self, token: str, *, charged: bool, reason: str, late: bool) -> None:
        lease = self.leases.pop(token)
        copy = lease.copy
        if charged:
            self.on_charge(lease.holder, reason, late or lease.late)
            copy.delivery += 1
            copy.lost += 1
            self.counts["redelivered"] += 1
            limit = int(self.record.get("maxDeliveries", 5))
            self.highest_limit = max(limit, self.highest_limit)
            most = self.highest_limit
            promise(copy.lost <= most, f"{copy.id} was charged more than {most} deliveries")
            if copy.lost >= limit:
                self._make_dead(copy, "delivery_limit")
                return
        self._make_ready(copy)

    def _of(self, consumer: str, letter: str, after: str = "0-0") -> list[str]:
        return sorted(
            (
                token
                for token, lease in self.leases.items()
                if lease.holder == consumer and token[0] == letter and entry(token) > entry(after)
            ),
            key=entry,
        )

    def _take(self, token: str, who: str) -> Copy:
        lease = self.leases.get(token)
        if lease is None:
            copy = self._forgotten_lease(token)
            promise(copy is not None, f"{who} settled {token}, which nobody holds")
            assert copy is not None
            return copy
        mine = lease.holder == who or self.forgetful
        promise(mine, f"{who} settled {token} of {lease.copy.id}, which {lease.holder} holds")
        del self.leases[token]
        lease.copy.delivery += 1
        return lease.copy

    def _forgotten_lease(self, token: str) -> Copy | None:
        """A server that forgot the hand-out lets its holder finish what lies there as if it were ready."""
        ready = self.ready[token[0]]
        mine = [copy for copy in ready if copy.id == self.issued.get(token)]
        if not self.forgetful or not mine:
            return None
        ready.remove(mine[0])
        return mine[0]

    # --- what was asked ---------------------------------------------------------------------------

    def _declare(self, asked: Asked, args: Sequence[str], answer: Any) -> None:
        if args[0] == "0" or not self.record:
            self.order = Order()
            self.record.update(zip(args[1::2], args[2::2], strict=True))

    def _publish(self, asked: Asked, args: Sequence[str], answer: Any) -> None:
        notes = {note[0]: note[1].decode() for note in answer}
        for number in range(int(args[1])):
            letter, name, _, _, _, delay, _, key, ttl = args[2 + 9 * number : 11 + 9 * number]
            if key and self.dedup.get(key, ("", 0))[1] > asked.now_ms:
                promise(notes.get(number) == "duplicate", f"{name} was accepted twice")
                continue
            promise(number not in notes, f"{name} was not accepted: {notes.get(number)}")
            if key:
                self.dedup[key] = (name, asked.now_ms + int(ttl))
            copy = Copy(name, letter)
            self.copies.setdefault(name, []).append(copy)
            self.counts["accepted"] += 1
            if int(delay):
                self._make_delayed(copy, asked.now_ms + int(delay))
            else:
                self._make_ready(copy)

    def _claim(self, asked: Asked, args: Sequence[str], answer: Any) -> None:
        consumer, want, held = args[0], int(args[1]), int(args[2])
        self._promote_due(asked.now_ms, 128)
        rows = answer[4]
        promise(len(rows) <= max(0, want), f"{consumer} got {len(rows)} messages for {want}")
        before = {letter: len(self.ready[letter]) for letter in STREAMS}
        got: Counter[str] = Counter()
        for row in rows:
            token = (row[11] + row[12]).decode()
            got[token[0]] += 1
            self._hand_out(row, token, consumer, asked)
        promise(not got["i"] or (len(rows) == 1 and not held), "a suspect does not run alone")
        anything = sum(before.values()) - before["i"] + (before["i"] if not held else 0)
        patient = held and before["i"]  # then others may have to wait for a suspect
        if want > 0 and anything and not rows and not patient:
            promise(bool(answer[1]), f"{consumer} got nothing although {anything} are ready")
        if rows and not got["i"]:
            self.order.judge(self.record["order"], before, got, want=want)

    def _hand_out(self, row: Any, token: str, consumer: str, asked: Asked) -> None:
        message_id = row[1].decode()
        waiting = self.ready[token[0]]
        promise(bool(waiting), f"{message_id} was handed out, and is not ready")
        copy = waiting.popleft()
        promise(copy.id == message_id, f"{message_id} overtook {copy.id} in its priority")
        counts = tuple(int(row[at]) for at in (4, 5, 6))
        ours = (copy.attempt, copy.delivery, copy.lost)
        promise(counts == ours, f"{message_id}: attempt, delivery, lost: {counts}, not {ours}")
        promise(self.forgetful or token not in self.confirmed, f"lease {token} was given out twice")
        self.confirmed[token] = asked.now_ms
        self.issued[token] = message_id
        copy.state = "leased"
        self.leases[token] = Lease(copy, consumer, asked.now_ms, asked.late)

    def _renew(self, asked: Asked, args: Sequence[str], answer: Any) -> None:
        consumer = args[0]
        pairs = zip(args[1::2], args[2::2], strict=True)
        tokens = [letter + number for letter, number in pairs]
        lost = {token.decode() for token in answer}
        for token in tokens:
            promise(
                (token in lost) == (token not in self.leases), f"renewing {token} answers wrong"
            )
        for token in tokens or [t for s in STREAMS for t in self._of(consumer, s)]:
            lease = self.leases.get(token)
            if lease is not None:
                mine = lease.holder == consumer or self.forgetful
                promise(mine, f"{consumer} renewed {token}, which {lease.holder} holds")
                lease.holder, lease.renewed_ms = consumer, asked.now_ms
                self.confirmed[token] = asked.now_ms

    def _done(self, asked: Asked, args: Sequence[str], answer: Any) -> None:
        for number in range(int(args[1])):
            token = args[0] + args[2 + number]
            if number in answer:
                promise(token not in self.leases, f"settling {token} was refused without reason")
                continue
            copy = self._take(token, asked.who)
            copy.attempt += 1
            copy.state = "done"
            self.counts["done"] += 1

    def _settle(self, asked: Asked, args: Sequence[str], answer: Any) -> None:
        at = 1
        for number in range(int(args[0])):
            letter, name, outcome, delay, reason, _, replaced, run = args[at : at + 8]
            at += 10 if replaced == "1" else 8
            token = letter + name
            if number in answer:
                promise(token not in self.leases, f"settling {token} was refused without reason")
                continue
            copy = self._take(token, asked.who)
            copy.attempt += run != ""
            if outcome == "R":
                self.counts["retried"] += 1
                if int(delay):
                    self._make_delayed(copy, asked.now_ms + int(delay))
                else:
                    self._make_ready(copy)
            elif outcome == "X":
                self._make_dead(copy, reason)
            else:
                copy.state = "discarded"
                self.counts["discarded"] += 1

    def _release(self, asked: Asked, args: Sequence[str], answer: Any) -> None:
        tokens = [a + b for a, b in zip(args[3::2], args[4::2], strict=True)]
        back = [token for token in tokens if token in self.leases]
        promise(answer[0] == len(back), f"{answer[0]} messages were released, not {len(back)}")
        dead = self.counts["dead"]
        for token in back:
            holder = self.leases[token].holder
            mine = holder == args[0] or self.forgetful
            promise(mine, f"{args[0]} released {token}, which {holder} holds")
            self._put_back(token, charged=args[1] == "1", reason=args[2], late=asked.late)
        died = self.counts["dead"] - dead
        promise(answer[1] == died, f"{answer[1]} are said to be dead, not {died}")

    def _unheard(self, asked: Asked, args: Sequence[str], answer: Any) -> None:
        heard = zip(args[2::2], args[3::2], strict=True)
        back = [t for s, after in heard for t in self._of(args[0], s, s + after)[: int(args[1])]]
        promise(answer == len(back), f"{answer} unheard messages went back, not {len(back)}")
        for token in back:
            self._put_back(token, charged=False, reason="unheard", late=False)

    def _abandon(self, asked: Asked, args: Sequence[str], answer: Any) -> None:
        running = set(args[4:])
        back = [t for s in STREAMS for t in self._of(args[0], s)[: int(args[2])]]
        promise(answer[0] == len(back), f"{answer[0]} messages were taken back, not {len(back)}")
        for token in back:
            charged = args[3] == "all" or token in running
            if not charged:
                self.on_return(args[0], token)
            self._put_back(token, charged=charged, reason=args[1], late=asked.late)

    def _reclaim(self, asked: Asked, args: Sequence[str], answer: Any) -> None:
        lease_ms, limit = int(args[0]), int(args[1])
        back: list[str] = []
        for stream in STREAMS if self._may_reclaim(args[2], asked.now_ms, lease_ms) else "":
            late = [
                token
                for token, lease in self.leases.items()
                if token[0] == stream and asked.now_ms - lease.renewed_ms >= lease_ms
            ]
            back += sorted(late, key=entry)[:limit]
        promise(answer == len(back), f"{answer} messages were reclaimed, not {len(back)}")
        for token in back:
            self._put_back(token, charged=True, reason="lease_expired", late=asked.late)

    def _may_reclaim(self, how: str, now_ms: int, lease_ms: int) -> bool:
        """Whether somebody has looked often enough for a lease: else the server may have stood still."""
        if how == "now":
            return True
        if now_ms - self.looked_ms > lease_ms / 2:
            self.watched_ms = now_ms
        self.looked_ms = now_ms
        return how == "watch" and now_ms - self.watched_ms >= lease_ms

    def _promote(self, asked: Asked, args: Sequence[str], answer: Any) -> None:
        due = self._promote_due(asked.now_ms, int(args[0]))
        promise(answer == due, f"{answer} messages were due, not {due}")
