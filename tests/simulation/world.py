"""A world of one thread: its time, and processes whose threads it switches itself.

Everything that may happen lies on one heap, by the time at which it happens; what happens at the same time
comes in an order that the seed decides. The threads of processes are greenlets: one runs until it waits for
something, so the code under test is what it always is, and two of its threads take turns at every lock,
event, clock reading, command and sleep.
"""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from random import Random
from typing import Any

from greenlet import GreenletExit, getcurrent, greenlet

from tests.simulation.machine import SimulatedMachine

#: A thread that asks its machine so many things without waiting is interrupted,
_SLICE = 100
#: and one that is interrupted so often without ever waiting burns the processor.
_SPINS = 20


class Violation(Exception):
    """Something happened that never may."""


class World:
    """Time, chance, and what happened."""

    def __init__(self, seed: str, *, tracing: bool = False) -> None:
        self.random = Random(seed)
        self.now = 0.0
        """Seconds since the beginning."""
        self.tracing = tracing
        self.lines: deque[str] = deque(maxlen=100_000)
        self.switch_chance = 0.0
        """How often a thread is interrupted where it could be."""
        self.violations: list[str] = []
        self.hub = getcurrent()
        self.steps = 0
        self._heap: list[tuple[float, float, int, Callable[..., None], tuple[Any, ...]]] = []

    def at(self, delay_s: float, call: Callable[..., None], *args: Any) -> None:
        """Let something happen after a while."""
        self.steps += 1
        entry = (self.now + delay_s, self.random.random(), self.steps, call, args)
        heappush(self._heap, entry)

    def run(self, until: Callable[[], bool], *, at_most_s: float) -> bool:
        """Let things happen until something is true; False when it did not become so in time."""
        end = self.now + at_most_s
        heap = self._heap
        while not until():
            if self.violations:
                raise Violation(self.violations[0])
            if not heap or heap[0][0] > end:
                self.now = end
                return False
            self.now, _, _, call, args = heappop(heap)
            call(*args)
        return True

    def trace(self, who: str, what: str) -> None:
        """Note what happened."""
        if self.tracing:
            self.lines.append(f"{self.now:10.4f}  {who:<14} {what}")

    def accuse(self, what: str) -> None:
        """Note a violation; the run ends with it."""
        self.trace("VIOLATION", what)
        self.violations.append(what)


class Parked:
    """A thread that waits. It goes on once, whoever lets it first."""

    __slots__ = ("_over", "process", "thread")

    def __init__(self, process: Process) -> None:
        self.process = process
        self.thread = getcurrent()
        self._over = False

    @property
    def waits(self) -> bool:
        """Whether nobody has let it go on yet."""
        return not self._over and self.process.alive

    def resume(self, value: Any) -> None:
        """Let it go on, now or when its process thaws. Called by the hub only."""
        if not self.waits:
            return
        self._over = True
        self.process.enter(self.thread, value)


class Process:
    """A process: alive until it exits or is killed, and sometimes frozen."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.alive = True
        self.frozen = False
        self.thawed_at = -1.0
        """When it thawed last."""
        self.cut_until = -1.0
        """Until when no command comes through, nor an answer."""
        self.clean = False
        """Whether its main thread ran to its end."""
        self.unlucky = world.random.random() < 0.5
        """Whether its commands may go wrong."""
        self.failed_at = -1e9
        """When a command of its failed last."""
        self.troubled_at = -1e9
        """When something last happened to it that keeps it from doing its work."""
        self.machine = SimulatedMachine(self)
        self.on_end: list[Callable[[Process], None]] = []
        self._calls = self._slices = 0
        self._threads: list[greenlet] = []
        self._deferred: list[tuple[greenlet, Any]] = []

    def start(self, target: Callable[[], None]) -> None:
        """Run the main thread, with whose end the process ends."""

        def main() -> None:
            target()
            self.clean = True
            self.exit()

        self.machine.thread(main, name="main").start()

    def spawn(self, target: Callable[[], None], name: str) -> None:
        """Start a thread. An error in it is a violation: there is nobody to handle it."""

        def run(_: Any = None) -> None:
            try:
                target()
            except GreenletExit:
                pass
            except Exception:  # noqa: BLE001
                text = traceback.format_exc()
                self.world.accuse(f"{self.name}/{name} raised\n{text}")

        thread = greenlet(run, parent=self.world.hub)
        self._threads.append(thread)
        self.world.at(self.world.random.random() * 0.001, self.enter, thread, None)

    def enter(self, thread: greenlet, value: Any) -> None:
        """Go on with a thread. Called by the hub only."""
        if not self.alive:
            return
        if self.frozen:
            self._deferred.append((thread, value))
        else:
            thread.switch(value)

    def freeze(self, seconds: float, *, cut_s: float = 0) -> None:
        """Stop all threads for a while; a machine that wakes may have no network for a while longer."""
        if self.alive and not self.frozen:
            self.world.trace(self.name, f"freezes for {seconds:.2f} s")
            self.frozen = True
            if cut_s:
                self.cut_until = self.world.now + seconds + cut_s
            self.world.at(seconds, self.thaw)

    def thaw(self) -> None:
        """Let all threads go on."""
        if not self.alive or not self.frozen:
            return
        self.world.trace(self.name, "thaws")
        self.frozen = False
        self.thawed_at = self.troubled_at = self.world.now
        deferred, self._deferred = self._deferred, []
        for thread, value in deferred:
            self.world.at(self.world.random.random() * 0.001, self.enter, thread, value)

    def kill(self, why: str) -> None:
        """End it at once. Called by the hub only."""
        if self.alive:
            self.world.trace(self.name, f"dies: {why}")
            self._end()

    def exit(self) -> None:
        """End the process from inside."""
        if self.alive:
            self.world.trace(self.name, "exits")
            self.alive = False
            self.world.at(0, self._end)
        raise GreenletExit

    def _end(self) -> None:
        self.alive = False
        for thread in self._threads:
            if thread and not thread.dead:
                thread.throw(GreenletExit)
        self._threads.clear()
        for tell in self.on_end:
            tell(self)

    # --- inside its threads -----------------------------------------------------------------------

    def park(self, timeout_s: float | None, among: deque[Parked] | None = None) -> Any:
        """Wait until somebody resumes this thread, or for ``timeout_s``: then the answer is False."""
        self.check()
        parked = Parked(self)
        if among is not None:
            among.append(parked)
        if timeout_s is not None:
            self.world.at(timeout_s, parked.resume, False)
        value = self.world.hub.switch()
        self.check()
        self._calls = self._slices = 0
        return value

    def check(self) -> None:
        """Unwind a thread whose process is dead."""
        if not self.alive:
            raise GreenletExit

    def maybe_switch(self) -> None:
        """Let other threads run, by chance."""
        world = self.world
        if getcurrent() is world.hub:
            return
        self.check()
        self._calls += 1
        if self._calls > _SLICE:
            self._slices += 1
            if self._slices > _SPINS:
                world.accuse(f"{self.name} spins:\n{''.join(traceback.format_stack(limit=6))}")
            self._rest(0.005)
        elif world.random.random() < world.switch_chance:
            self._rest(world.random.expovariate(1000))

    def _rest(self, seconds: float) -> None:
        slices = self._slices
        self.park(seconds)
        self._slices = slices
