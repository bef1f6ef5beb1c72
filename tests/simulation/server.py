"""A real server, whose clock is the simulated world's, and the network to it.

Scripts are the queue's own, run inside ``virtual.lua``: what they do by the server's clock, they do by the
world's. What a server does for a client that waits is done here, and so is a restart that forgets the last
writes: what remains of the log is done again on an empty server.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import redis
from redis.exceptions import NoScriptError, ResponseError

from celeriac.broker.scripts import Script, script
from tests.simulation.books import Asked, Broken
from tests.simulation.ledger import Ledger
from tests.simulation.world import Parked, Process, World

EPOCH_MS = 1_800_000_000_000
_HERE = Path(__file__).parent
#: Changes that mutations make: script name to (old, new).
Changes = Mapping[str, tuple[str, str]]


@cache
def names() -> dict[str, str]:
    """Every script's name, by its digest and by its text."""
    folder = files("celeriac.broker") / "lua"
    every = [path.name.removesuffix(".lua") for path in folder.iterdir()]
    found: dict[str, str] = {}
    for name in every:
        if name != "common":
            found[script(name).sha] = found[script(name).text] = name
    return found


@cache
def virtual(name: str, change: tuple[str, str] | None) -> Script:
    """Put a script inside the simulation's clock, with a mutation if there is one."""
    text = script(name).text
    if change is not None:
        if change[0] not in text:
            raise LookupError(f"{name}.lua does not hold {change[0]!r} any more")
        text = text.replace(*change)
    shebang, _, own = text.partition("\n")
    around = (_HERE / "virtual.lua").read_text()
    text = f"{shebang}\n" + around.replace("-- SCRIPT", own)
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


@dataclass(slots=True)
class Request:
    """A command on its way, and the thread that waits for the answer."""

    process: Process
    args: tuple[Any, ...]
    after: tuple[Any, ...] = ()
    """A command before it, in which the server lets the client sleep."""
    waiting: deque[Parked] = field(default_factory=deque)
    on_done: Callable[[Request, Any], None] = lambda request, answer: None
    fate: str = ""
    heard: tuple[Any] | None = None
    """The answer, if it is there before somebody waits for it."""
    late: bool = False
    lingers: bool = False
    """Whether the server does not notice when the client is gone."""

    def answer(self, value: Any) -> None:
        """Send an answer back."""
        self.on_done(self, value)


class Server:
    """The server of one world."""

    def __init__(
        self,
        world: World,
        real: redis.Redis,
        ledger: Callable[[], Ledger],
        *,
        changes: Changes | None = None,
        calm: bool = False,
    ) -> None:
        self.world = world
        self.real = real
        self.ledger = ledger()
        self.down = False
        self.commands = 0
        self.wake_key = ""
        self._make_ledger = ledger
        self._calm = calm
        self._asleep_since: float | None = None
        self._changes = changes or {}
        self._known: set[str] = set()
        self._blocked: deque[Request] = deque()
        self._wakes = 0
        self.forgotten: set[str] = set()
        """Ids of messages that a restart forgot."""
        self._log: list[tuple[tuple[Any, ...], Asked | None, float]] = []
        real.flushdb()

    @property
    def now_ms(self) -> int:
        """What its clock says."""
        return EPOCH_MS + int(self.world.now * 1000)

    # --- commands ---------------------------------------------------------------------------------

    def deliver(self, request: Request) -> None:
        """A command arrives."""
        if not request.process.alive and not request.lingers:
            return
        if self.down:
            request.answer(redis.ConnectionError("the server is down"))
            return
        self.commands += 1
        if request.after:
            self.world.trace(request.process.name, f"sleeps for {request.after[-1]} s")
            self._blocked.append(request)
            self._wake_blocked()
            if request in self._blocked:
                self.world.at(float(request.after[-1]), self._stop_waiting, request)
            return
        self._serve(request)

    def _serve(self, request: Request) -> None:
        try:
            answer = self._carry_out(request)
        except ResponseError as error:
            answer = error
        self.world.trace(request.process.name, _told(request.args, answer))
        request.answer(answer)
        self._wake_blocked()
        if self._calm:
            self._watch_sleepers()

    def _carry_out(self, request: Request) -> Any:
        process, args = request.process, request.args
        if args[0] not in ("EVALSHA", "EVAL"):
            if args[0] in ("SADD", "HSET", "HDEL"):
                self._log.append((args, None, self.world.now))
            return self.real.execute_command(*args)
        name = names()[args[1]]
        if args[0] == "EVALSHA" and name not in self._known:
            raise NoScriptError("NOSCRIPT No matching script")
        self._known.add(name)
        if name == "stats":
            return self._run(name, args[2:], self.now_ms)[0]
        answer, facts = self._run(name, args[2:], self.now_ms)
        self._wakes = facts[11]
        self.wake_key = args[3 + 10]
        own = tuple(_text(arg) for arg in args[3 + int(args[2]) :])
        asked = Asked(name, own, answer, facts, self.now_ms, process.name, request.late)
        self._log.append((args, asked, self.world.now))
        try:
            self.ledger.hear(asked)
        except Broken as error:
            self.world.trace(process.name, _told(args, answer))
            self.world.accuse(f"{process.name}, {name}: {error}")
        return answer

    def _run(self, name: str, rest: tuple[Any, ...], now_ms: int) -> Any:
        """Run a script; ``rest`` is the number of keys, the keys and the arguments."""
        ours = virtual(name, self._changes.get(name))
        keys = int(rest[0])
        full = (keys + 1, *rest[1 : keys + 1], now_ms, *rest[keys + 1 :])
        try:
            return self.real.execute_command("EVALSHA", ours.sha, *full)
        except NoScriptError:
            return self.real.execute_command("EVAL", ours.text, *full)

    # --- clients that wait --------------------------------------------------------------------------

    def _wake_blocked(self) -> None:
        while self._blocked and self._wakes:
            request = self._blocked.popleft()
            if not request.process.alive and not request.lingers:
                continue
            self.real.execute_command("LPOP", self.wake_key)
            self._wakes -= 1
            self.world.trace(request.process.name, "is woken")
            self._serve(request)

    def _stop_waiting(self, request: Request) -> None:
        if request in self._blocked:
            self._blocked.remove(request)
            if request.process.alive or request.lingers:
                self._serve(request)

    def _watch_sleepers(self) -> None:
        """Nobody sleeps while there is work; a worker that has just woken may be on its way."""
        if not self._sleeps_on():
            self._asleep_since = None
        elif self._asleep_since is None:
            self._asleep_since = self.world.now
            self.world.at(0.15, self._check_sleepers, self.world.now)

    def _check_sleepers(self, since: float) -> None:
        if self._asleep_since == since and self._sleeps_on():
            self.world.accuse("messages are ready, and a worker sleeps")

    def _sleeps_on(self) -> bool:
        ledger = self.ledger
        overdue = bool(ledger.delayed) and ledger.delayed[0][0] <= self.now_ms - 150
        return bool(self._blocked) and (overdue or any(ledger.ready[s] for s in "hnl"))

    # --- a restart ----------------------------------------------------------------------------------

    def stop(self, *, down_s: float, forget_s: float = 0.0) -> None:
        """Kill it; it is back after a while, without what was written in the last ``forget_s`` seconds."""
        if self.down:
            return
        self.world.trace("server", f"dies for {down_s:.2f} s, and forgets {forget_s:.2f} s")
        self.down = True
        self._known.clear()
        for request in self._blocked:
            request.answer(redis.ConnectionError("the server died"))
        self._blocked.clear()
        if forget_s:
            self._forget(self.world.now - forget_s)
        self.world.at(down_s, self._come_back)

    def _come_back(self) -> None:
        self.world.trace("server", "is back")
        self.down = False

    def _forget(self, since: float) -> None:
        kept = [row for row in self._log if row[2] <= since]
        self.world.trace("server", f"forgets {len(self._log) - len(kept)} writes")
        self._log = kept
        self.real.flushdb()
        before, self.ledger = self.ledger, self._make_ledger()
        self.ledger.forgetful = True
        self.ledger.issued |= before.issued
        for args, asked, _ in kept:
            if asked is None:
                self.real.execute_command(*args)
                continue
            _, facts = self._run(asked.name, args[2:], asked.now_ms)
            self._wakes = facts[11]
            self.ledger.hear(asked)
        self.forgotten |= before.copies.keys() - self.ledger.copies.keys()


def _text(arg: Any) -> str:
    return arg.decode() if isinstance(arg, bytes) else str(arg)


def _told(args: tuple[Any, ...], answer: Any) -> str:
    if args[0] not in ("EVALSHA", "EVAL"):
        return f"{' '.join(_text(arg) for arg in args)[:80]} -> {str(answer)[:80]}"
    own = " ".join(_text(arg)[:40] for arg in args[3 + int(args[2]) :])
    return f"{names()[args[1]]} {own[:200]} -> {str(answer)[:160]}"
