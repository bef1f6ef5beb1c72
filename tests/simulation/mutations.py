"""Bugs that somebody might write, each of which the simulation must find: that is what it is for.

Those that take hundreds of schedules to show are tried in the long form only. A mutation changes the text of
a script or of a method. One whose text is gone fails: somebody changed the code that it was about, and must
say what a bug there looks like now.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from celeriac.broker.queue import Queue
from celeriac.worker.consumer import Consumer
from celeriac.worker.housekeeper import Housekeeper
from celeriac.worker.pools import solo
from celeriac.worker.settler import Settler
from tests.simulation import actors
from tests.simulation.server import Changes

_TWO_STEPS = """answers = [True] * len(settlements)
    for at, settlement in enumerate(settlements):
        if isinstance(settlement.outcome, RetryAt):
            old = settlement.message
            self.publish([NewMessage(id=old.id, task=old.task, body=old.body)])
            settlements = [*settlements[:at], Settlement(old, Done(), 1), *settlements[at + 1 :]]
"""


@dataclass(frozen=True, slots=True)
class Mutation:
    """A change of ``old`` to ``new``, in a script (by its name) or a function (of a class or module)."""

    bug: str
    place: str | tuple[Any, str]
    old: str
    new: str
    seed: int = 0
    """A schedule that shows it."""
    rare: bool = False
    """Whether it takes hundreds of schedules to show."""

    @property
    def changes(self) -> Changes:
        """What it changes of the scripts."""
        return {self.place: (self.old, self.new)} if isinstance(self.place, str) else {}

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Change the function, if it is one, for as long as the block takes."""
        if isinstance(self.place, str):
            yield
            return
        owner, name = self.place
        original = inspect.getattr_static(owner, name)
        setattr(owner, name, self._mutated(original))
        try:
            yield
        finally:
            setattr(owner, name, original)

    def _mutated(self, original: Any) -> Any:
        function: Any = original.fget if isinstance(original, property) else original
        text = textwrap.dedent(inspect.getsource(function))
        if self.old not in text:
            raise LookupError(f"{function.__qualname__} does not hold {self.old!r} any more")
        found: dict[str, Any] = {}
        exec(
            "from __future__ import annotations\n" + text.replace(self.old, self.new),
            function.__globals__,
            found,
        )
        return found[function.__name__]


MUTATIONS = (
    # --- the scripts ---
    Mutation(
        "a late settlement counts",
        "done",
        "if redis.call('XDEL', key, ids[n]) == 1 then",
        "redis.call('XDEL', key, ids[n])\n    if true then",
        seed=10,
    ),
    Mutation(
        "any settlement counts",
        "settle",
        "if not v then\n    lost[#lost + 1] = n",
        "if not v then",
        seed=41,
    ),
    Mutation(
        "a delivery counts twice",
        "reclaim",
        "v[DELIVERY] = int(v[DELIVERY] + 1)",
        "v[DELIVERY] = int(v[DELIVERY] + 2)",
        seed=24,
    ),
    Mutation(
        "a lost delivery does not count towards the limit",
        "reclaim",
        "v[LOST] = int(v[LOST] + 1)",
        "",
        seed=17,
    ),
    Mutation(
        "a publish wakes nobody",
        "publish",
        "count('accepted', accepted)\n  wake()",
        "count('accepted', accepted)",
        seed=0,
    ),
    Mutation(
        "a message is accepted again",
        "publish",
        "return 'duplicate', type(first) == 'string' and first or ''",
        "",
        seed=0,
    ),
    Mutation(
        "low goes first",
        "claim",
        "for _, letter in ipairs({'h', 'n', 'l'}) do serve(letter, left) end",
        "for _, letter in ipairs({'l', 'n', 'h'}) do serve(letter, left) end",
        rare=True,
    ),
    Mutation("low starves", "claim", "local at = (turn + k) % #order + 1", "local at = 1", seed=12),
    Mutation(
        "suspects run with others",
        "claim",
        "held == 0 and draw('i', 1) > 0",
        "draw('i', 1) > 0",
        rare=True,
    ),
    Mutation(
        "what is promoted beside another is lost",
        "promote",
        "if packed[n] then",
        "if packed[n] and n == 1 then",
        seed=4,
    ),
    # --- the worker ---
    Mutation(
        "it forgets to renew", (Housekeeper, "_look_after"), "consumer.renew()", "pass", seed=0
    ),
    Mutation(
        "it forgets outcomes whose settling got no answer",
        (Settler, "settle"),
        "self._finished.extendleft(reversed(batch))",
        "",
        seed=29,
    ),
    Mutation(
        "it never asks for what it did not hear",
        (Consumer, "_take_in"),
        "self._unsure = claim is None",
        "self._unsure = False",
        rare=True,
    ),
    Mutation(
        "it reclaims at once after an outage",
        (Consumer, "reclaim"),
        "self.queue.watch(reclaim=settled)",
        "self.queue.reclaim()",
        rare=True,
    ),
    Mutation(
        "it trusts leases that were answered late",
        (Consumer, "_take_in"),
        "self.inflight.arrive(claim.messages, leased_at)",
        "self.inflight.arrive(claim.messages, leased_at)\n"
        "    self.inflight.leases_seen = self.machine.monotonic()",
        rare=True,
    ),
    Mutation(
        "it starts whatever it holds",
        (Consumer, "begin"),
        "not self.stale or (self.renew() and not self.stale)",
        "True",
        rare=True,
    ),
    Mutation(
        "it forgets messages that it could not hand back",
        (Consumer, "give_back"),
        "is None:\n        return False",
        "is None:\n        self.inflight.returning.clear()\n        return True",
        rare=True,
    ),
    Mutation(
        "handing back costs a delivery",
        (Consumer, "give_back"),
        "self.queue.release(self.name, leases)",
        "self.queue.release(self.name, leases, charged=True)",
        seed=8,
    ),
    Mutation(
        "it sleeps although a message is due",
        (Consumer, "_sleep"),
        "if next_due_ms < 0",
        "if True",
        seed=33,
    ),
    Mutation(
        "it runs on while it cannot settle",
        (actors, "run_solo"),
        "consumer.settler.settled_some.wait(0.05)",
        "pass",
        rare=True,
    ),
    Mutation("it tries once to leave", (solo, "close"), " and consumer.leave()):", "):", rare=True),
    Mutation(
        "a retry is published anew, then the old one settled",
        (Queue, "settle"),
        "answers = [True] * len(settlements)\n",
        _TWO_STEPS,
        seed=0,
    ),
    # --- producers and the supervisor ---
    Mutation(
        "a producer sends again under another id",
        (actors, "_send"),
        "[*error.uncertain, *error.unsent]",
        "[Job(job.task, id=job.id) for job in error.uncertain] + [*error.unsent]",
        seed=21,
    ),
)
