"""What the model of a queue consists of, and the few moves that a message can make in it."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

from celeriac.broker.message import DeadLetter, Discard, Done, Outcome, Postpone, RetryAt
from celeriac.spec.policies import QueuePolicy

MINUTE_MS = 60_000
BOUNDS_MS = (
    *(5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000),
    *(60000, 300000, 1800000, 3600000),
)


@dataclass(slots=True, eq=False)
class Copy:
    """One copy of a message on its way: what is in it, and where it stands."""

    id: str
    letter: str
    body: bytes = b""
    head: bytes = b""
    ttl_ms: int = 0
    garbage: bool = False
    attempt: int = 0
    delivery: int = 0
    lost: int = 0
    history: list[tuple[str, int, int]] = field(default_factory=list)
    """Reason, attempt and delivery of everything that happened to it, newest first."""
    stream: str = ""
    place: int = 0
    """Grows whenever the copy becomes ready."""
    due_ms: int = 0
    member: str = ""
    reason: str = ""
    entry: str = ""
    """What the broker calls this copy now; learned by looking."""

    @property
    def expired(self) -> bool:
        """Tests give messages a few milliseconds, which they let pass, or days."""
        return 0 < self.ttl_ms < 100


@dataclass(frozen=True, slots=True)
class Ticket:
    """A lease: one hand-out of one copy."""

    copy: Copy
    stream: str
    place: int


@dataclass(frozen=True, slots=True)
class Holder:
    """Who leases a copy, and when the lease was last renewed (minutes of the model's clock)."""

    consumer: str
    minute: int


class State:
    """Everything known of a queue."""

    def __init__(self) -> None:
        self.minute = 0
        self.places = 0
        self.policy = QueuePolicy()
        self.version, self.hold, self.turn = 0, False, 0
        self.ready: dict[str, list[Copy]] = {stream: [] for stream in "hnli"}
        self.leased: dict[Copy, Holder] = {}
        self.delayed: list[Copy] = []
        self.dead: list[Copy] = []
        self.cancelled: dict[str, int] = {}
        self.dedup: dict[str, tuple[str, int]] = {}
        self.workers: dict[str, int] = {}
        self.counts: Counter[str] = Counter()
        self.discarded: Counter[str] = Counter()
        self.runs: Counter[int] = Counter()

    @property
    def now_ms(self) -> int:
        return self.minute * MINUTE_MS

    def is_live(self, ticket: Ticket) -> bool:
        """Whether a lease is still held."""
        return ticket.copy in self.leased and ticket.copy.place == ticket.place

    def held_by(self, consumer: str, stream: str) -> list[Copy]:
        """What a consumer holds of a stream, in the stream's order."""
        return [
            copy
            for copy in sorted(self.leased, key=lambda copy: copy.place)
            if copy.stream == stream and self.leased[copy].consumer == consumer
        ]

    def make_ready(self, copy: Copy, *, stream: str = "") -> None:
        isolate_after = max(1, min(2, self.policy.dead_letter.max_deliveries - 1))
        copy.stream = stream or ("i" if copy.lost >= isolate_after else copy.letter)
        copy.entry = ""
        self.places += 1
        copy.place = self.places
        self.ready[copy.stream].append(copy)

    def make_delayed(self, copy: Copy, delay_ms: int) -> None:
        members = {other.member for other in self.delayed}
        copy.member, number = copy.id, 0
        while copy.member in members:
            number += 1
            copy.member = f"{copy.id}#{number}"
        copy.due_ms = self.now_ms + delay_ms
        self.delayed.append(copy)
        self.delayed.sort(key=lambda other: other.due_ms)

    def make_dead(self, copy: Copy, reason: str) -> None:
        copy.reason, copy.entry = reason, ""
        self.dead.append(copy)
        self.counts["dead"] += 1
        while len(self.dead) > self.policy.dead_letter.max_messages:
            self.dead.pop(0)
            self.counts["purged"] += 1

    def discard(self, reason: str) -> None:
        self.counts["discarded"] += 1
        self.discarded[reason] += 1

    def promote_due(self, limit: int) -> int:
        due = [copy for copy in self.delayed if copy.due_ms < self.now_ms][:limit]
        for copy in due:
            self.delayed.remove(copy)
            self.make_ready(copy)
        return len(due)

    def draw(self, stream: str, most: int, consumer: str, out: list[Ticket]) -> int:
        """Take up to ``most`` from the front; what can be handed out goes to ``out``."""
        drawn, self.ready[stream] = self.ready[stream][:most], self.ready[stream][most:]
        for copy in drawn:
            if copy.garbage:
                copy.garbage = False  # from now on a message like any other, with nothing in it
                self.counts["accepted"] += 1
                self.make_dead(copy, "undecodable")
            elif copy.expired:
                self.discard("expired")
            elif self.cancelled.pop(copy.id, None) is not None:
                self.discard("cancelled")
            else:
                self.leased[copy] = Holder(consumer, self.minute)
                self.counts["waited"] += 1
                out.append(Ticket(copy, copy.stream, copy.place))
        return len(drawn)

    def put_back(self, copy: Copy, *, charged: bool, reason: str) -> None:
        del self.leased[copy]
        if charged:
            copy.delivery += 1
            copy.lost += 1
            copy.history.insert(0, (reason, copy.attempt, copy.delivery))
            self.counts["redelivered"] += 1
            if copy.lost >= self.policy.dead_letter.max_deliveries:
                self.make_dead(copy, "delivery_limit")
                return
        self.make_ready(copy)

    def apply(self, copy: Copy, outcome: Outcome, run_ms: int | None) -> None:
        """Take a copy off its lease, and do what the outcome says."""
        del self.leased[copy]
        handed_out = copy.delivery + 1
        if not isinstance(outcome, Postpone):
            copy.delivery = handed_out
        if run_ms is not None or isinstance(outcome, Done):
            copy.attempt += 1
            self.runs[bisect_left(BOUNDS_MS, run_ms or 0)] += 1
            self.counts["run_ms"] += run_ms or 0
        if isinstance(outcome, Done):
            self.counts["done"] += 1
        elif isinstance(outcome, Discard):
            self.discard(outcome.reason)
        else:
            if outcome.failure:
                copy.history.insert(0, (outcome.failure.reason, copy.attempt, handed_out))
            self._apply_failure(copy, outcome)

    def _apply_failure(self, copy: Copy, outcome: RetryAt | DeadLetter | Postpone) -> None:
        if isinstance(outcome, DeadLetter):
            self.make_dead(copy, outcome.reason)
            return
        if isinstance(outcome, Postpone):
            self.make_delayed(copy, outcome.delay_ms)
            return
        self.counts["retried"] += 1
        copy.head = copy.head if outcome.head is None else outcome.head
        copy.body = copy.body if outcome.body is None else outcome.body
        if outcome.delay_ms:
            self.make_delayed(copy, outcome.delay_ms)
        else:
            self.make_ready(copy)
