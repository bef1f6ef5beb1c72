"""The network between processes and the server, and everything that can go wrong with one command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis

from tests.simulation.server import Request, Server
from tests.simulation.world import Process

#: A client waits no longer than this for an answer, in seconds: half a lease, as a worker does.
TIMEOUT_S = 2.0

#: What may become of one command, beside arriving and being answered.
FATES = (
    "unsent",  # it never arrives, and the client hears of it
    "unheard",  # it is carried out, and the client hears only that the connection broke
    "silent",  # it never arrives, and the client waits in vain
    "late",  # it is carried out after the client has given up
    "slow",
    "dies before",  # the process dies before it sends
    "dies after",  # the process dies when it has been carried out, and does not hear
    "freezes before",
    "freezes after",
)


@dataclass(slots=True)
class Odds:
    """How likely each fate is for one command."""

    of: dict[str, float]
    longest_freeze_s: float = 5.0

    def draw(self, number: float) -> str:
        """Choose, from a number between 0 and 1."""
        for fate, chance in self.of.items():
            number -= chance
            if number < 0:
                return fate
        return ""


class Network:
    """Carries commands."""

    def __init__(self, server: Server, *, latency_s: float, lingering: bool) -> None:
        self.server = server
        self.world = server.world
        self.odds = Odds({})
        """Changes when the faults stop."""
        self.latency_s = latency_s
        self.lingering = lingering
        self.fates = 0
        """How many commands met one."""

    def ask(self, process: Process, args: tuple[Any, ...]) -> Any:
        """Send a command and wait for what becomes of it, as redis-py would."""
        return self.hear(self.send(process, args))

    def send(
        self, process: Process, args: tuple[Any, ...], *, after: tuple[Any, ...] = ()
    ) -> Request:
        """Send a command, and one before it that the server may sleep in."""
        process.maybe_switch()
        world, fate = self.world, self._fate(process)
        if process.cut_until > world.now:
            fate = "silent"
        request = Request(process, args, after=after, fate=fate)
        request.lingers = self.lingering and world.random.random() < 0.5
        if fate:
            self.fates += 1
            world.trace(process.name, f"{args[0]}: {fate}")
        delay = self._latency()
        if fate == "unsent":
            process.park(delay)
            process.failed_at = process.troubled_at = world.now
            raise redis.ConnectionError("the connection broke before the command was sent")
        if fate == "dies before":
            world.at(0, process.kill, "before a command")
            process.park(None)
        if fate == "freezes before":
            self._freeze(process)
        elif fate == "slow":
            delay += world.random.uniform(0, TIMEOUT_S)
        elif fate == "late":
            delay = world.random.uniform(TIMEOUT_S, 3 * TIMEOUT_S)
        request.on_done = self._answer
        if fate != "silent":
            world.at(delay, self.server.deliver, request)
        return request

    def hear(self, request: Request) -> Any:
        """Wait for an answer."""
        process, world = request.process, self.world
        value = request.heard or process.park(TIMEOUT_S, request.waiting)
        if request.fate:
            process.troubled_at = world.now
        if value is False:
            process.failed_at = process.troubled_at = world.now
            request.late = True
            raise redis.TimeoutError("no answer in time")
        (answer,) = value
        if isinstance(answer, Exception):
            process.failed_at = world.now
            raise answer
        return answer

    def _answer(self, request: Request, answer: Any) -> None:
        process, world, fate = request.process, self.world, request.fate
        if process.cut_until > world.now:
            return  # the client waits in vain
        if fate == "unheard":
            answer = redis.ConnectionError("the connection broke before the answer came")
        elif fate == "dies after":
            process.kill("after a command")
        elif fate == "freezes after":
            self._freeze(process)
        world.at(self._latency(), self._arrive, request, answer)

    def _arrive(self, request: Request, answer: Any) -> None:
        if request.waiting:
            request.waiting[0].resume((answer,))
        else:
            request.heard = (answer,)

    def _freeze(self, process: Process) -> None:
        chance = self.world.random
        longest = self.odds.longest_freeze_s
        seconds = chance.choice([chance.uniform(0, 1), chance.uniform(0.6, 1)]) * longest
        process.freeze(seconds, cut_s=chance.choice([0, 0, TIMEOUT_S]))

    def _fate(self, process: Process) -> str:
        if not self.odds.of or not process.unlucky:
            return ""
        return self.odds.draw(self.world.random.random())

    def _latency(self) -> float:
        return self.latency_s * (0.5 + self.world.random.random())


class SimulatedConnection:
    """A connection on which commands can be sent before somebody waits for the answers."""

    def __init__(self, network: Network, process: Process) -> None:
        self._network, self._process = network, process
        self._request: Request | None = None
        self._first = False

    def pack_commands(self, commands: Sequence[tuple[Any, ...]]) -> Sequence[tuple[Any, ...]]:
        """Leave them as they are."""
        return commands

    def send_packed_command(self, commands: Sequence[tuple[Any, ...]]) -> None:
        """Send a command, or two that one answer tells of."""
        *after, last = commands
        self._first = bool(after)
        self._request = self._network.send(self._process, last, after=after[0] if after else ())

    def read_response(self) -> Any:
        """Wait for the answer; that of the first of two is never wanted."""
        if self._first:
            self._first = False
            return None
        request, self._request = self._request, None
        assert request is not None
        return self._network.hear(request)


class SimulatedPool:
    """As redis-py's, with no connection to keep."""

    def __init__(self, network: Network, process: Process) -> None:
        self._network, self._process = network, process

    def get_connection(self) -> SimulatedConnection:
        """Make a connection."""
        return SimulatedConnection(self._network, self._process)

    def release(self, connection: SimulatedConnection) -> None:
        """Forget it."""


class SimulatedClient(redis.Redis):
    """redis-py's client, with this network in place of connections."""

    def __init__(self, network: Network, process: Process) -> None:
        # Not redis-py's own beginning, which would make a pool of real connections.
        self._network = network
        self._process = process
        self.connection_pool: Any = SimulatedPool(network, process)

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Run a command; errors are redis-py's own."""
        return self._network.ask(self._process, args)

    def close(self) -> None:
        """Nothing is open."""

    __del__ = close
