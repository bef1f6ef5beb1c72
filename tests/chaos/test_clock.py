"""The clocks of workers jump by an hour, to and fro. Leases, delays and expiry follow the server's clock."""

from __future__ import annotations

import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from celeriac import Job as Call
from celeriac.chaos.processes import Worker, eventually
from celeriac.chaos.scene import LEASE_S
from tests.chaos.arena import POOLS, STOCK_POOLS, Arena, Job, Pool, work
from tests.chaos.load import feeding
from tests.chaos.ours import Celeriac
from tests.chaos.report import row
from tests.chaos.settings import scale
from tests.chaos.stock import Stock
from tests.programs import program

FAULT = "clock steps of 1 h"
HOUR_S = 3600
DELAY_S = 1
#: A due message is promoted within about a second; the rest is for a busy machine.
LATE_S = 4.0


class Clock:
    """A clock that can be set; the processes that have it read from a file by how much it is wrong."""

    def __init__(self, file: Path) -> None:
        self._file = file
        file.write_bytes(bytes(8))

    def step(self, seconds: int) -> None:
        """Be wrong by so many seconds from now on."""
        with self._file.open("r+b") as file:
            file.write(struct.pack("=q", seconds))

    def worker(self, arena: Arena, pool: Pool, patch: pytest.MonkeyPatch) -> Worker:
        """Start a worker that has this clock; the monotonic one stays right, as the kernel's does."""
        library = self._file.with_name("clock.so")
        if not library.exists():
            source = Path(__file__).with_name("clock.c")
            subprocess.run(
                [program("gcc", "cc"), "-shared", "-fPIC", "-O2", "-o", library, source, "-ldl"],
                check=True,
            )
        with patch.context() as patched:
            patched.setenv("LD_PRELOAD", str(library))
            patched.setenv("CHAOS_CLOCK", str(self._file))
            return arena.worker_set(pool).workers[0]


def _send_timed(arena: Celeriac, number: int, count: int) -> dict[str, float]:
    """Send delayed jobs, jobs that must be retried after a wait, and jobs that expire in a minute."""
    due: dict[str, float] = {}
    calls = []
    for n in range(count):
        for kind in ("delayed", "retried", "expiring"):
            name = f"{kind}{number}-{n}"
            args = (name, time.time(), kind == "retried")
            delay = DELAY_S if kind == "delayed" else 0
            expires = 60 if kind == "expiring" else None
            calls.append(Call("chaos.tell_time", args, id=name, delay=delay, expires=expires))
            due[name] = time.monotonic() + (0 if kind == "expiring" else DELAY_S)
    assert arena.client.send_many("chaos", calls).accepted == len(calls)
    arena.accepted.update(dict.fromkeys(due, time.monotonic()))
    return due


def _step(clocks: list[Clock], number: int) -> None:
    clocks[number % 2].step((HOUR_S, -HOUR_S, 0)[number % 3])
    clocks[1 - number % 2].step((-HOUR_S, 0, HOUR_S)[number % 3])


@pytest.mark.parametrize("pool", POOLS)
def test_a_worker_with_a_wrong_clock_is_early_and_late_for_nothing(
    pool: Pool,
    tmp_path: Path,
    celeriac_arena: Callable,
    report: Callable,
    monkeypatch: pytest.MonkeyPatch,
):
    backoff = {"initialSeconds": DELAY_S, "maxSeconds": DELAY_S, "jitterPercent": 0}
    arena: Celeriac = celeriac_arena(policy={"retry": {"backoff": backoff}})
    clocks = [Clock(tmp_path / f"clock{n}") for n in range(2)]
    workers = [clock.worker(arena, pool, monkeypatch) for clock in clocks]
    steps = scale(4, 40)
    due: dict[str, float] = {}
    arena.send_surely([Job("long", args=(1000 * (LEASE_S + 1),))])
    with feeding(arena, work(scale(300, 12_000), ms=1), seconds=0.5 * steps):
        for number in range(steps):
            due |= _send_timed(arena, number, scale(3, 5))
            _step(clocks, number)
            due |= _send_timed(arena, steps + number, scale(3, 5))
            time.sleep(0.5)
    for n, hours in enumerate((1, -1)):
        clocks[n].step(hours * HOUR_S)
    due |= _send_timed(arena, 2 * steps, 20)
    words = ("ahead", "behind")
    eventually(lambda: all(arena.logs(f"an hour {it}") for it in words), within_s=20, what="steps")
    stats = arena.drained(within_s=scale(60, 300))
    verdict = arena.verdict(dead=arena.dead())
    starts = {run.job: run.started for run in arena.history.runs}
    early = max(at - starts[job] for job, at in due.items())
    late = max(starts[job] - at for job, at in due.items())
    told = sum(arena.logs(f"an hour {it}") for it in words)
    note = f"{told} runs on a wrong clock; {late:.1f} s late at most"
    report(row(FAULT, arena, pool, verdict, faults=2 * steps, note=note))
    assert [worker.code for worker in workers] == [None, None]
    assert not verdict.lost and not verdict.dead, "a job expired"
    assert not verdict.repeats, verdict.repeats[:5]
    assert (stats.redelivered, stats.discarded) == (0, 0)
    assert stats.retried == sum(job.startswith("retried") for job in due)
    # Jobs that may run at once are early by nothing; their due time is when they were sent.
    assert early < 0.1, "it ran before its time"
    assert late < LATE_S


@pytest.mark.parametrize("pool", STOCK_POOLS)
def test_stock_celery_beside_it(
    pool: Pool,
    tmp_path: Path,
    stock_arena: Callable,
    report: Callable,
    monkeypatch: pytest.MonkeyPatch,
):
    """Without delays: by such a clock they end an hour early or late."""
    arena: Stock = stock_arena()
    clocks = [Clock(tmp_path / f"clock{n}") for n in range(2)]
    for clock in clocks:
        clock.worker(arena, pool, monkeypatch)
    steps = 40
    jobs = work(10_000, ms=lambda: arena.random.choice([0, 0, 1, 5, 100]))
    with feeding(arena, jobs, seconds=0.5 * steps):
        for number in range(steps):
            _step(clocks, number)
            time.sleep(0.5)
    for clock in clocks:
        clock.step(0)
    arena.drained(within_s=300)
    report(row(FAULT, arena, pool, arena.verdict(), faults=2 * steps))
