"""Messages on lease that have not ended: those that wait, those that run, and those on their way back.

    claim ─▶ unstarted ──▶ running ──▶ ended: the settler's
                 └──▶ returning ──▶ released

A pool's threads take them from `waiting`. A lease that was lost meanwhile is noted here, so that what waits
under it does not start, and what runs under it is stopped.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from queue import Empty

from celeriac.broker.message import Lease, Message
from celeriac.worker.machine import Machine, Mailbox

logger = logging.getLogger(__name__)


class InFlight:
    """What one consumer holds on lease, for its claimer, its runners and its housekeeper (see there).

    Each step is one operation on a dict or set, and who reads takes a copy: that needs no lock.
    """

    def __init__(self, machine: Machine) -> None:
        #: Filled by the claimer, emptied by runners, and by claimer and housekeeper when they hand back. None
        #: ends the runner that takes it.
        self.waiting: Mailbox[Message | None] = machine.mailbox()
        #: What waits, and what a runner has taken and not begun yet. Filled by claimer and housekeeper under
        #: the consumer's `_claiming`, emptied by runners and by who hands back, read by any.
        self._unstarted: dict[Lease, None] = {}
        #: What runs, and since when. Written by runners, read by any.
        self.running: dict[Lease, tuple[Message, float]] = {}
        #: On their way back to the queue, in the order in which they came. Filled by runners and by who hands
        #: back, emptied by who hands back: claimer or housekeeper. Read by any.
        self.returning: dict[Lease, None] = {}
        #: The newest entry that arrived from each stream. Written as `_unstarted`, read by the claimer.
        self.newest: dict[str, str] = {}
        #: When the leases of all that is unstarted were last known to be ours. Written by claimer and
        #: housekeeper, and by a runner that renews, under `_seeing`; read by runners.
        self.leases_seen = machine.monotonic()
        #: Held for no longer than a look at `_unstarted` takes.
        self._seeing = threading.Lock()
        #: When a message last started. Written by runners, read by the housekeeper.
        self.last_take = machine.monotonic()
        #: Unstarted ones whose lease is gone. Filled by who renews (housekeeper or runner), emptied by
        #: runners.
        self._lost: set[Lease] = set()
        #: Running ones whose lease is gone, which was told. As `_lost`.
        self._taken: set[Lease] = set()
        #: Stops a message that runs and is not ours any more, where the pool can: whether it can. Written
        #: before any thread starts, called by who renews.
        self.stop_taken: Callable[[Message], bool] = lambda message: False

    def __len__(self) -> int:
        return len(self._unstarted) + len(self.running) + len(self.returning)

    @property
    def unstarted(self) -> list[Lease]:
        """The leases of what waits, or is about to start."""
        return list(self._unstarted)

    def arrive(self, messages: Sequence[Message], leased_at: float) -> None:
        """Take in what a claim handed out, which was asked for at ``leased_at`` (monotonic)."""
        unstarted, newest, put = self._unstarted, self.newest, self.waiting.put
        with self._seeing:
            # By the time of asking: who freezes before the answer is read has slept on these leases.
            self.leases_seen = min(leased_at, self.leases_seen) if unstarted else leased_at
            for message in messages:
                lease = message.lease
                newest[lease[0]] = lease[1:]
                unstarted[lease] = None
        for message in messages:
            put(message)

    def seen(self, leases: Collection[Lease], asked: float) -> None:
        """Note that these were known to be ours or lost at ``asked`` (monotonic).

        What has arrived since was not among them, and may have been slept on.
        """
        with self._seeing:
            if self._unstarted.keys() <= set(leases):
                self.leases_seen = asked

    def begin(self, message: Message, now: float, *, ours: bool) -> bool:
        """Note that a message starts ``now``; if its lease is not surely ``ours``, it goes back: False."""
        lease = message.lease
        if lease in self._lost:
            self._lost.discard(lease)
            logger.warning("%s[%s] lost its lease before it started", message.task, message.id)
            ours = False
        elif ours:
            self.running[lease] = (message, now)
        else:
            self.returning[lease] = None
        # A server that forgot a claim may hand out the same lease again.
        self._unstarted.pop(lease, None)
        return ours

    def end(self, lease: Lease) -> float | None:
        """Note that a message ended; since when it ran, None if it did not."""
        entry = self.running.pop(lease, None)
        self._taken.discard(lease)
        return None if entry is None else entry[1]

    def lose(self, lost: set[Lease]) -> None:
        """Note leases that are gone: what waits does not start, and what runs is stopped.

        It runs elsewhere, or will.
        """
        self._lost |= lost.intersection(self._unstarted)
        for lease in lost - self._taken:
            # What has ended since may have been settled, and is lost for that reason.
            message, _ = self.running.get(lease, (None, 0.0))
            if message is None:
                continue
            self._taken.add(lease)
            end = "it is stopped" if self.stop_taken(message) else "this pool cannot stop it"
            text = "%s[%s]: its lease was lost while it ran, so that it runs elsewhere: %s"
            logger.warning(text, message.task, message.id, end)

    def call_back(self) -> list[Lease]:
        """Let nothing start any more that waits; return the leases of all that is on its way back."""
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
        return list(self.returning)

    def returned(self, leases: Iterable[Lease]) -> None:
        """Note that they are back in the queue."""
        for lease in leases:
            self.returning.pop(lease, None)
