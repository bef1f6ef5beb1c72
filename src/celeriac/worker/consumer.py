"""What one process holds of a queue: messages claimed, running, and finished but not settled yet.

Pools take messages from here and bring settlements back. Everything that talks to the broker on a
worker's behalf goes through this class, and survives the broker: outcomes that could not be settled wait
until it is back, since their leases are still ours or somebody else's by then, which settling will tell.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from queue import Empty
from typing import TypeVar

import redis

from celeriac.broker.message import Claim, Lease, Message, Settlement
from celeriac.broker.queue import Queue, QueueNotDeclared, RecordDamaged
from celeriac.spec.policies import QueuePolicy
from celeriac.worker.closing import Closing
from celeriac.worker.machine import THIS_MACHINE, Machine, Mailbox
from celeriac.worker.prefetch import Prefetch

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Finished messages are settled when so many wait, or when the oldest has waited so long; where the broker is
#: farther away than that, for one round trip: a pool of one thread does nothing else while it settles.
SETTLE_MESSAGES = 128
SETTLE_AFTER_S = 0.005
#: An idle worker claims, and notices that it is to close, at least so often: a wake-up can be lost with a
#: frozen worker. Whoever delays a message for less wakes it (lua/common.lua): it would sleep past the time.
LONGEST_WAIT_S = 1.25
#: What an idle worker takes when it wakes, since it may be frozen or cut off by then. The rest is for the
#: next claim, or for others, who are woken in turn.
WHEN_WOKEN = 1
#: With the broker out of reach, try again after this, doubling up to a second.
_RETRY_S = 0.05


class Consumer:
    """One consumer of a queue, shared by the threads of one process."""

    def __init__(
        self,
        queue: Queue,
        name: str,
        *,
        slots: int,
        on_dropped: Callable[[Message, str], None] = lambda message, reason: None,
        machine: Machine = THIS_MACHINE,
    ) -> None:
        """``on_dropped`` hears of messages that had expired or were cancelled, and why (`Claim.dropped`)."""
        self.queue = queue
        self.name = name
        self.machine = machine
        self._on_dropped = on_dropped
        self.prefetch = Prefetch(slots)
        self.waiting: Mailbox[Message | None] = machine.mailbox()
        #: What waits, and what a thread has taken and not begun yet.
        self._unstarted: dict[Lease, None] = {}
        self.running: dict[Lease, tuple[Message, float]] = {}
        #: On their way back to the queue, in the order in which they came.
        self.returning: dict[Lease, None] = {}
        self.finished_one = machine.event()
        self.closing = Closing(machine)
        self.last_take = machine.monotonic()
        #: When a claim last answered, and with it said whether the policy changed.
        self.last_claim = machine.monotonic()
        #: When the leases of all that is unstarted were last known to be ours.
        self.leases_seen = machine.monotonic()
        #: Since when the broker has answered without a break; None while it does not.
        self.connected_since: float | None = None
        self.count = 0
        self._finished: deque[Settlement] = deque()
        #: On their way to the broker.
        self._sent: list[Settlement] = []
        self._oldest_finished = 0.0
        #: Leases whose settling got no answer: it may have happened.
        self._sent_before: set[Lease] = set()
        self._settling = machine.lock()
        self._lost: set[Lease] = set()
        #: Stops a message that runs and is not ours any more, where the pool can: whether it can.
        self.stop_taken: Callable[[Message], bool] = lambda message: False
        self._taken: set[Lease] = set()
        self._policy = QueuePolicy()
        self._version = -1
        self._failures = 0
        self._alone = False
        self._sole_owner = False
        #: The newest entry that arrived from each stream, and whether an answer may have got lost since.
        self._heard: dict[str, str] = {}
        self._unsure = False
        #: Held while a claim's answer is taken in.
        self._claiming = machine.lock()
        #: Waits for the answer to a claim that is on its way, since then.
        self._ahead: Callable[[], Claim] | None = None
        self._asked_at = 0.0
        #: The newest answer, when there was nothing in it: what came since has left a wake-up.
        self._nothing: Claim | None = None

    # --- what is held ---------------------------------------------------------------------------

    @property
    def held(self) -> int:
        """Messages on lease: not started, running or not settled yet."""
        started = len(self.running) + len(self._finished)
        return len(self._unstarted) + len(self.returning) + started

    @property
    def _room(self) -> int:
        """How many more may be claimed: what waits for its turn to be settled takes no room."""
        in_turn = min(SETTLE_MESSAGES, len(self._finished))  # more only when settling fails
        return self.prefetch.capacity - self.held + in_turn

    def policy(self) -> QueuePolicy:
        """The queue's policy as last read from its record."""
        return self._policy

    def begin(self, message: Message) -> bool:
        """Note that a message starts; False when its lease was lost while it waited, or may have been."""
        self.last_take = started = self.machine.monotonic()
        lease = message.lease
        ours = not self.stale or (self.renew() and not self.stale)
        if lease in self._lost:
            self._lost.discard(lease)
            logger.warning("%s[%s] lost its lease before it started", message.task, message.id)
            ours = False
        elif ours:
            self.running[lease] = (message, started)
        else:
            self.returning[lease] = None
        # A server that forgot a claim may hand out the same lease again.
        self._unstarted.pop(lease, None)
        return ours

    @property
    def asking(self) -> bool:
        """Whether a claim is on its way."""
        return self._ahead is not None

    @property
    def stale(self) -> bool:
        """Whether what waits may have been run elsewhere: the process was frozen, or starved."""
        return self.machine.monotonic() - self.leases_seen > self.queue.lease_ms / 1000

    def finish(self, settlement: Settlement) -> None:
        """Note that a message ended; it is settled soon, at once when nothing else waits."""
        if self.note_end(settlement) or self.waiting.empty():
            self.settle()

    def note_end(self, settlement: Settlement) -> bool:
        """Note that a message ended, without asking the broker; True when it is time to settle."""
        message = settlement.message
        entry = self.running.pop(message.lease, None)
        self._taken.discard(message.lease)
        now = self.machine.monotonic()
        if entry is not None:
            self.prefetch.observe(now - entry[1])
        if not self._finished:
            self._oldest_finished = now
        self._finished.append(settlement)
        self.count += 1
        return self.settle_is_due(now)

    def settle_is_due(self, now: float) -> bool:
        """Whether finished messages have waited long enough."""
        waiting = len(self._finished)
        after_s = max(SETTLE_AFTER_S, self.prefetch.trip_s)
        return waiting > 0 and (
            waiting >= SETTLE_MESSAGES or now - self._oldest_finished >= after_s
        )

    # --- talking to the broker ------------------------------------------------------------------

    def claim(self) -> bool:
        """Fill up to capacity; False when nothing came. Sleeps when the broker has nothing to give."""
        with self._claiming:
            if self._ahead is not None:
                self._take_answer()
                return True  # or nothing came, and things may have changed since: claim again
            claim = self._nothing or self._claim_now()
        if claim is not None and not _came(claim) and not self.closing.is_set():
            claim = self._sleep(claim.next_due_ms)
        came = claim is not None and _came(claim)
        self._nothing = None if came else claim
        return came

    def claim_ahead(self) -> None:
        """Ask for more while messages wait to run: the next :meth:`claim` finds the answer there.

        The claiming thread's, as ``claim`` is.
        """
        if self._ahead is not None or self._alone or self._unsure or self.closing.is_set():
            return
        if not self.queue.asks_ahead:
            return
        room = self._room
        if room > 0:
            # Until the answer is here, messages may be ours that we have not heard of.
            self._unsure, self._asked_at = True, self.machine.monotonic()
            self._ahead = self.ask(
                lambda: self.queue.ask_claim(self.name, count=room, held=self.held)
            )

    def take_answer(self) -> None:
        """Take in what was asked for ahead, unless the claiming thread is about to. From any thread."""
        if self._ahead is not None and self._claiming.acquire(blocking=False):
            try:
                self._take_answer()
            finally:
                self._claiming.release()

    def _take_answer(self) -> None:
        answer, self._ahead = self._ahead, None
        if answer is not None:
            self._take_in(self.ask(answer), self._asked_at)

    def _claim_now(self) -> Claim | None:
        room = self._room
        if self._alone and self.held:
            return None
        if room <= 0 or not (self._sole_owner or self._take_back_name()):
            return None
        if self._unsure and not self._take_back_unheard():
            return None
        asked = self.machine.monotonic()
        claim = self.ask(lambda: self.queue.claim(self.name, count=room, held=self.held))
        if claim is not None:
            self.prefetch.observe_trip(self.machine.monotonic() - asked)
        self._take_in(claim, asked)
        return claim

    def _take_in(self, claim: Claim | None, leased_at: float) -> None:
        self._unsure = claim is None
        if claim is None:
            return
        self.last_claim = self.machine.monotonic()
        if claim.version != self._version and self.read_record():
            # So that one that is damaged is not read again and again.
            self._version = claim.version
        self._alone = len(claim.messages) == 1 and claim.messages[0].isolated
        if self._alone:
            message = claim.messages[0]
            logger.warning(
                "%s[%s] runs alone: %d workers died with it", message.task, message.id, message.lost
            )
        # By the time of asking: who freezes before the answer is read has slept on these leases.
        self.leases_seen = min(leased_at, self.leases_seen) if self._unstarted else leased_at
        if claim.messages:
            self.prefetch.observe_claim(urgent=any(it.priority == "high" for it in claim.messages))
        for message in claim.messages:
            self._heard[message.lease[0]] = message.lease[1:]
            self._unstarted[message.lease] = None
            self.waiting.put(message)
        for dropped, reason in claim.dropped:
            self._on_dropped(dropped, reason)

    def settle(self, *, wait: bool = False) -> bool:
        """Settle what is finished; False when the broker could not be reached.

        Another thread may be at it, and will take ours along or leave them to the keeper; with ``wait`` all
        is settled when this returns.
        """
        if not self._settling.acquire(blocking=wait):
            return True
        try:
            batch = self._sent = list(self._finished)
            if not batch:
                return True
            for _ in batch:
                self._finished.popleft()
            answers = self.ask(lambda: self.queue.settle(batch))
            if answers is None:
                self._finished.extendleft(reversed(batch))
                self._sent_before.update(settlement.message.lease for settlement in batch)
                return False
        finally:
            self._sent = []
            self._settling.release()
        self.finished_one.set()
        for settlement, ours in zip(batch, answers, strict=True):
            if not ours:
                self._tell_refused(settlement.message, type(settlement.outcome).__name__)
        self._sent_before.clear()
        return True

    def _tell_refused(self, message: Message, outcome: str) -> None:
        if message.lease in self._sent_before:
            text = "%s[%s] was settled just before the broker went away, or its lease is lost (%s)"
            logger.info(text, message.task, message.id, outcome)
        else:
            text = "%s[%s] finished after its lease was lost (%s): it counts where it runs again"
            logger.warning(text, message.task, message.id, outcome)

    def renew(self) -> bool:
        """Keep the leases of everything held, and note those that are gone; False when that failed."""
        self.take_answer()  # what is in it is held too
        leases = list(self.running)
        ended = [*self._sent, *list(self._finished)]
        leases += [settlement.message.lease for settlement in ended]
        leases += list(self.returning)
        unstarted = list(self._unstarted)
        if not leases and not unstarted:
            # Naming none would renew what a lost answer handed out, and nobody would ever run it.
            return True
        asked = self.machine.monotonic()
        lost = self.ask(lambda: self.queue.renew(self.name, leases + unstarted))
        if lost is None:
            return False
        self.leases_seen = asked
        self._lost |= lost.intersection(self._unstarted)
        self._stop(lost)
        return True

    def _stop(self, lost: set[Lease]) -> None:
        """Stop what runs under a lost lease: it runs elsewhere, or will."""
        for lease in lost - self._taken:
            # What has ended since may have been settled, and is lost for that reason.
            message, _ = self.running.get(lease, (None, 0.0))
            if message is None:
                continue
            self._taken.add(lease)
            end = "it is stopped" if self.stop_taken(message) else "this pool cannot stop it"
            text = "%s[%s]: its lease was lost while it ran, so that it runs elsewhere: %s"
            logger.warning(text, message.task, message.id, end)

    def give_back(self) -> bool:
        """Hand messages that have not started back to the queue, free of charge.

        False when the broker could not be reached: they stay ours and do not start, since they may be back
        already; call again.
        """
        self.take_answer()
        stops = 0
        while True:
            try:
                message = self.waiting.get_nowait()
            except Empty:
                break
            if message is None:
                stops += 1
            else:
                self.returning[message.lease] = None
                self._unstarted.pop(message.lease, None)
        for _ in range(stops):
            self.waiting.put(None)  # still meant for a thread that is busy
        leases = list(self.returning)
        if leases and self.ask(lambda: self.queue.release(self.name, leases)) is None:
            return False
        for lease in leases:
            self.returning.pop(lease, None)
        return True

    def give_back_all(self) -> None:
        """Hand back everything, running messages too: the process is about to end."""
        self.settle(wait=True)
        self.give_back()
        leases = list(self.running)
        if leases:
            self.ask(lambda: self.queue.release(self.name, leases))
        self.leave()

    def leave(self) -> bool:
        """Take this consumer, which runs nothing any more, off the queue's list; False when that failed.

        What a lost answer handed out to it is ready again, free of charge.
        """
        return self.ask(lambda: self.queue.abandon(self.name, running=[])) is not None

    def reclaim(self) -> None:
        """Make other workers' expired leases ready, once the broker has answered for a whole lease.

        After an outage every lease looks expired: their holders must have had time to renew.
        """
        since = self.connected_since
        settled = (
            since is not None and self.machine.monotonic() - since > self.queue.lease_ms / 1000
        )
        self.ask(lambda: self.queue.watch(reclaim=settled))

    def _take_back_name(self) -> bool:
        """Make ready again what a dead worker of the same name held, or it would be renewed for ever."""
        back = self.ask(lambda: self.queue.abandon(self.name))
        if back:
            logger.warning("%s: %d messages of a predecessor are ready again", self.name, back)
        self._sole_owner = back is not None
        return self._sole_owner

    def _take_back_unheard(self) -> bool:
        """Make ready again what a claim handed out in an answer that was lost with the connection."""
        back = self.ask(lambda: self.queue.take_back_unheard(self.name, self._heard))
        if back:
            logger.info("%s: %d messages of a lost answer are ready again", self.name, back)
        return back is not None

    def read_record(self) -> bool:
        """Read the queue's policy, where it may have changed; False when the broker did not answer."""
        try:
            record = self.ask(self.queue.record)
        except RecordDamaged as error:
            logger.error("queue %s: %s; the policy stays what it was", self.queue.name, error)
            return True
        if record is not None:
            self._version, self._policy = record
        return record is not None

    def _sleep(self, next_due_ms: int) -> Claim | None:
        """Wait for a wake-up or the next delayed message, and claim it."""
        left = LONGEST_WAIT_S if next_due_ms < 0 else min(LONGEST_WAIT_S, next_due_ms / 1000)
        self._unsure, asked = True, self.machine.monotonic()
        claim = self.ask(
            lambda: self.queue.claim_when_woken(
                self.name, count=WHEN_WOKEN, held=self.held, timeout_s=left
            )
        )
        with self._claiming:
            self._take_in(claim, asked)
        return claim

    def ask(self, call: Callable[[], T]) -> T | None:
        """Ask the broker; None when it could not answer, after a short wait."""
        try:
            answer = call()
        except QueueNotDeclared:
            self._after_trouble("no record, so it gets the default policy", self._declare)
            return None
        except redis.RedisError as error:
            self._after_trouble(f"{type(error).__name__}: {error}")
            return None
        if self.connected_since is None:
            self.connected_since = self.machine.monotonic()
            if self._failures:
                logger.info("queue %s: the broker answers again", self.queue.name)
            self._failures = 0
        return answer

    def _declare(self) -> None:
        self.queue.declare(self._policy, only_if_absent=True)

    def _after_trouble(self, text: str, remedy: Callable[[], None] | None = None) -> None:
        self.connected_since = None
        self._failures += 1
        if self._failures == 1:
            logger.error(
                "queue %s: %s; holding what is leased and trying again", self.queue.name, text
            )
        try:
            if remedy is not None:
                remedy()
        except redis.RedisError:
            logger.debug("queue %s: declaring failed", self.queue.name, exc_info=True)
        self.closing.wait(min(1.0, _RETRY_S * 2 ** min(self._failures, 6)))


def _came(claim: Claim) -> bool:
    return bool(claim.messages) or claim.again
