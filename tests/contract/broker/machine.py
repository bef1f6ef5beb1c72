"""How the state machine does one operation to a queue and to its model, and compares the two."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from operator import eq
from typing import Any, TypeVar

import pytest
import redis
from hypothesis.stateful import RuleBasedStateMachine, invariant

from celeriac.broker import queue as queue_module
from celeriac.broker import wire
from celeriac.broker.message import Message
from celeriac.broker.queue import Queue
from tests.contract.broker.dying import Death, DyingClient
from tests.contract.broker.look import agree
from tests.contract.broker.model import Model, Steps
from tests.contract.broker.model_state import MINUTE_MS, Copy, Ticket

T = TypeVar("T")
M = TypeVar("M")

#: So small that a few messages make several scripts, between which a client can die.
PAGE = 2
CHUNK = 3


def small_scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the queue use them."""
    monkeypatch.setattr(wire, "PUBLISH_CHUNK_MESSAGES", CHUNK)
    monkeypatch.setattr(queue_module, "_PAGE", PAGE)


#: How a first caller dies, and after how many scripts; None: nobody dies.
Fate = tuple[Death, int] | None


class Driver(RuleBasedStateMachine):
    """A queue, its model, and the leases that workers know of."""

    def __init__(self, client: redis.Redis, dying: DyingClient) -> None:
        super().__init__()
        name = f"machine-{uuid.uuid4().hex[:12]}"
        self.queue = Queue(client, name, lease_ms=MINUTE_MS)
        self.dying = Queue(dying, name, lease_ms=MINUTE_MS)
        self.dier = dying
        self.model = Model(page=PAGE, chunk=CHUNK)
        self.leases: list[tuple[Ticket, Message, str]] = []
        self.ticks = 0
        self.steps = 0
        #: Something became ready, and no worker is awake because of it.
        self.wake_owed = False

    def teardown(self) -> None:
        keys = list(self.queue.client.scan_iter(self.queue.keys.base + "*"))
        if keys:
            self.queue.client.delete(*keys)

    def act(
        self,
        real: Callable[[Queue], T],
        model: Callable[[], Steps[M]],
        fate: Fate = None,
        *,
        check: Callable[[T, M], object] = eq,
        again: bool = True,
    ) -> None:
        """Do an operation and compare; with a fate, ``again`` after a caller who meets it."""
        places = self.model.places
        if fate is not None:
            self._try(real, model, fate, check)
            self.agree()
        if fate is None or again:
            answer, expected = real(self.queue), _finish(model())
            assert check(answer, expected) is not False, (answer, expected)
        if self.model.places > places:
            self.wake_owed = True

    def _try(
        self,
        real: Callable[[Queue], T],
        model: Callable[[], Steps[M]],
        fate: tuple[Death, int],
        check: Callable[[T, M], object],
    ) -> None:
        self.dier.death, self.dier.after = fate
        self.dier.executed = 0
        try:
            answer = real(self.dying)
        except redis.exceptions.ConnectionError:
            steps = model()
            for _ in range(self.dier.executed):
                next(steps)
        else:
            expected = _finish(model())
            assert check(answer, expected) is not False, (answer, expected)

    @invariant()
    def agree(self) -> None:
        """Nothing is lost, doubled or miscounted, and all is where the model has it."""
        if self.model.version == 0:
            return
        seen = agree(self.model, self.queue, page=3)
        for ticket, message, _ in self.leases:
            if self.model.is_live(ticket):
                assert message.lease == ticket.stream + ticket.copy.entry
        ready = [copy for letter in "hnl" for copy in self.model.ready[letter]]
        if self.wake_owed and not self.paused and not all(copy.garbage for copy in ready):
            assert 1 <= seen.wake_tokens <= 16, "messages are ready, and nobody is woken"

    @property
    def paused(self) -> bool:
        """Whether nothing is handed out."""
        return self.model.policy.paused or self.model.hold

    @invariant()
    def count_steps(self) -> None:
        """Let some operations be rarer than others."""
        self.steps += 1

    def tick(self, delay_ms: int) -> int:
        """Make delays differ, so that it is known which message is due first."""
        self.ticks += 1
        return delay_ms + self.ticks * 10 if delay_ms else 0

    def pick(self, numbers: Sequence[int]) -> list[tuple[Ticket, Message, str]]:
        """Choose leases: live ones, and a few that were lost."""
        live = [lease for lease in self.leases if self.model.is_live(lease[0])]
        stale = [lease for lease in self.leases if not self.model.is_live(lease[0])][-3:]
        return choose(live + stale, numbers)

    def pick_dead(self, numbers: Sequence[int]) -> list[Copy]:
        """Choose dead letters, and one that never was."""
        return choose([*self.model.dead, Copy("never", "n", entry="1-1")], numbers)


def choose(pool: Sequence[T], numbers: Sequence[int]) -> list[T]:
    """Take the elements with these numbers, counted round and round."""
    return [pool[number % len(pool)] for number in numbers] if pool else []


def message_row(message: Message) -> Any:
    """What a worker is told."""
    content = (message.body, message.head) if message.id else ()  # what was garbage once is packed
    return (
        *(message.id, message.priority[0], message.isolated, *content),
        *(message.attempt, message.delivery, message.lost, message.expires_ms > 0),
        message.history.count(b"\n"),
    )


def ticket_row(ticket: Ticket) -> Any:
    """What the model expects it to be told."""
    copy = ticket.copy
    content = (copy.body, copy.head) if copy.id else ()
    return (
        *(copy.id, copy.letter, ticket.stream == "i", *content),
        *(copy.attempt, copy.delivery + 1, copy.lost, copy.ttl_ms > 0),
        len(copy.history),
    )


def _finish(steps: Steps[M]) -> M:
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            answer: M = stop.value
            return answer
