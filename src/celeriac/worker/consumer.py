"""A consumer of a queue: claims messages, keeps their leases, and hands back what does not start.

    claim ──▶ in flight ──▶ settler ──▶ settled
                 └─ give back ──▶ released

Pools take messages from here and bring settlements back. What is held stands in :class:`InFlight`, what has
ended in :class:`Settler`; both outlast the broker's absence, which :class:`Link` sits out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from celeriac.broker.message import Claim, Message, Settlement
from celeriac.broker.queue import Queue, RecordDamaged
from celeriac.spec.policies import QueuePolicy
from celeriac.worker.closing import Closing
from celeriac.worker.inflight import InFlight
from celeriac.worker.link import Link
from celeriac.worker.machine import THIS_MACHINE, Machine
from celeriac.worker.prefetch import Prefetch
from celeriac.worker.settler import Settler

logger = logging.getLogger(__name__)

#: An idle worker claims, and notices that it is to close, at least so often: a wake-up can be lost with a
#: frozen worker. Whoever delays a message for less wakes it (lua/common.lua): it would sleep past the time.
LONGEST_WAIT_S = 1.25
#: What an idle worker takes when it wakes, since it may be frozen or cut off by then. The rest is for the
#: next claim, or for others, who are woken in turn.
WHEN_WOKEN = 1


class Consumer:
    """One consumer of a queue, shared by the threads of one process.

    The *claimer* claims, *runners* run messages (in Solo both are one thread), the *housekeeper* looks after
    all that is held. Every attribute that changes says which of them write it and which read it.
    """

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
        self.closing = Closing(machine)
        self.link = Link(queue, closing=self.closing, machine=machine, declare=self._declare)
        self.inflight = InFlight(machine)
        self.settler = Settler(self.link, machine)
        #: How much to claim. Written by claimer and runners, read by any: it says why that needs no lock.
        self.prefetch = Prefetch(slots)
        #: When a claim last answered, and with it said whether the policy changed. Written by claimer and
        #: housekeeper under `_claiming`, read by the housekeeper.
        self.last_claim = machine.monotonic()
        #: The policy and its version. Written by claimer and housekeeper, each in one step; read by any.
        self._policy = QueuePolicy()
        self._version = -1
        #: Held while a claim's answer is taken in: by the claimer, or by the housekeeper for one asked for
        #: ahead.
        self._claiming = machine.lock()
        #: Waits for the answer to a claim that is on its way, since then. Set by the claimer, cleared by
        #: claimer and housekeeper under `_claiming`, read by any.
        self._ahead: Callable[[], Claim] | None = None
        self._asked_at = 0.0
        #: Whether an answer may have got lost since `inflight.newest`. As `_ahead`, but read by the claimer.
        self._unsure = False
        #: Whether what was claimed last must run alone. Written by claimer and housekeeper under `_claiming`,
        #: read by the claimer.
        self._alone = False
        #: Whether nothing of a predecessor's is left under our name. The claimer's.
        self._sole_owner = False
        #: The newest answer, when there was nothing in it: what came since has left a wake-up. The claimer's.
        self._nothing: Claim | None = None

    # --- what is held ---------------------------------------------------------------------------

    @property
    def held(self) -> int:
        """Messages on lease: not started, running or not settled yet."""
        return len(self.inflight) + len(self.settler)

    @property
    def _room(self) -> int:
        """How many more may be claimed: what waits for its turn to be settled takes no room."""
        return self.prefetch.capacity - len(self.inflight) - self.settler.backlog

    @property
    def asking(self) -> bool:
        """Whether a claim is on its way."""
        return self._ahead is not None

    @property
    def stale(self) -> bool:
        """Whether what waits may have been run elsewhere: the process was frozen, or starved."""
        unseen_s = self.machine.monotonic() - self.inflight.leases_seen
        return unseen_s > self.queue.lease_ms / 1000

    def begin(self, message: Message) -> bool:
        """Note that a message starts; False when its lease was lost while it waited, or may have been."""
        inflight = self.inflight
        inflight.last_take = now = self.machine.monotonic()
        ours = not self.stale or (self.renew() and not self.stale)
        return inflight.begin(message, now, ours=ours)

    def finish(self, settlement: Settlement) -> None:
        """Note that a message ended; it is settled soon, at once when nothing else waits."""
        if self.note_end(settlement) or self.inflight.waiting.empty():
            self.settler.settle()

    def note_end(self, settlement: Settlement) -> bool:
        """Note that a message ended, without asking the broker; True when it is time to settle."""
        prefetch = self.prefetch
        started = self.inflight.end(settlement.message.lease)
        now = self.machine.monotonic()
        if started is not None:
            prefetch.observe(now - started)
        return self.settler.add(settlement, now, prefetch.trip_s)

    def settle_is_due(self, now: float) -> bool:
        """Whether finished messages have waited long enough."""
        return self.settler.is_due(now, self.prefetch.trip_s)

    # --- claiming -------------------------------------------------------------------------------

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
            self._ahead = self.link.ask(
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
            self._take_in(self.link.ask(answer), self._asked_at)

    def _claim_now(self) -> Claim | None:
        room = self._room
        if self._alone and self.held:
            return None
        if room <= 0 or not (self._sole_owner or self._take_back_name()):
            return None
        if self._unsure and not self._take_back_unheard():
            return None
        asked = self.machine.monotonic()
        claim = self.link.ask(lambda: self.queue.claim(self.name, count=room, held=self.held))
        if claim is not None:
            self.prefetch.observe_trip(self.machine.monotonic() - asked)
        self._take_in(claim, asked)
        return claim

    def _sleep(self, next_due_ms: int) -> Claim | None:
        """Wait for a wake-up or the next delayed message, and claim it."""
        left = LONGEST_WAIT_S if next_due_ms < 0 else min(LONGEST_WAIT_S, next_due_ms / 1000)
        self._unsure, asked = True, self.machine.monotonic()
        claim = self.link.ask(
            lambda: self.queue.claim_when_woken(
                self.name, count=WHEN_WOKEN, held=self.held, timeout_s=left
            )
        )
        with self._claiming:
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
        if claim.messages:
            self.prefetch.observe_claim(urgent=any(it.priority == "high" for it in claim.messages))
        self.inflight.arrive(claim.messages, leased_at)
        for dropped, reason in claim.dropped:
            self._on_dropped(dropped, reason)

    def _take_back_name(self) -> bool:
        """Make ready again what a dead worker of the same name held, or it would be renewed for ever."""
        back = self.link.ask(lambda: self.queue.abandon(self.name))
        if back:
            logger.warning("%s: %d messages of a predecessor are ready again", self.name, back)
        self._sole_owner = back is not None
        return self._sole_owner

    def _take_back_unheard(self) -> bool:
        """Make ready again what a claim handed out in an answer that was lost with the connection."""
        heard = self.inflight.newest
        back = self.link.ask(lambda: self.queue.take_back_unheard(self.name, heard))
        if back:
            logger.info("%s: %d messages of a lost answer are ready again", self.name, back)
        return back is not None

    # --- leases ---------------------------------------------------------------------------------

    def renew(self) -> bool:
        """Keep the leases of everything held, and note those that are gone; False when that failed."""
        self.take_answer()  # what is in it is held too
        inflight = self.inflight
        leases = [*list(inflight.running), *self.settler.leases(), *list(inflight.returning)]
        unstarted = inflight.unstarted
        if not leases and not unstarted:
            # Naming none would renew what a lost answer handed out, and nobody would ever run it.
            return True
        asked = self.machine.monotonic()
        lost = self.link.ask(lambda: self.queue.renew(self.name, leases + unstarted))
        if lost is None:
            return False
        inflight.lose(lost)  # first: what is not stale any more may start at once
        inflight.seen(unstarted, asked)
        return True

    def give_back(self) -> bool:
        """Hand messages that have not started back to the queue, free of charge.

        False when the broker could not be reached: they stay ours and do not start, since they may be back
        already; call again.
        """
        self.take_answer()
        leases = self.inflight.call_back()
        if leases and self.link.ask(lambda: self.queue.release(self.name, leases)) is None:
            return False
        self.inflight.returned(leases)
        return True

    def give_back_all(self) -> None:
        """Hand back everything, running messages too: the process is about to end."""
        self.settler.settle(wait=True)
        self.give_back()
        leases = list(self.inflight.running)
        if leases:
            self.link.ask(lambda: self.queue.release(self.name, leases))
        self.leave()

    def leave(self) -> bool:
        """Take this consumer, which runs nothing any more, off the queue's list; False when that failed.

        What a lost answer handed out to it is ready again, free of charge.
        """
        return self.link.ask(lambda: self.queue.abandon(self.name, running=[])) is not None

    def reclaim(self) -> None:
        """Make other workers' expired leases ready, once the broker has answered for a whole lease.

        After an outage every lease looks expired: their holders must have had time to renew.
        """
        since = self.link.connected_since
        settled = (
            since is not None and self.machine.monotonic() - since > self.queue.lease_ms / 1000
        )
        self.link.ask(lambda: self.queue.watch(reclaim=settled))

    # --- the policy -----------------------------------------------------------------------------

    def policy(self) -> QueuePolicy:
        """The queue's policy as last read from its record."""
        return self._policy

    def read_record(self) -> bool:
        """Read the queue's policy, where it may have changed; False when the broker did not answer."""
        try:
            record = self.link.ask(self.queue.record)
        except RecordDamaged as error:
            logger.error("queue %s: %s; the policy stays what it was", self.queue.name, error)
            return True
        if record is not None:
            self._version, self._policy = record
        return record is not None

    def _declare(self) -> None:
        self.queue.declare(self._policy, only_if_absent=True)


def _came(claim: Claim) -> bool:
    return bool(claim.messages) or claim.again
