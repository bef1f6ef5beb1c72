"""Redrive and purge of the command line are killed half-way: run again they carry on; nothing is lost."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from celeriac.broker.message import DeadLetter, Failure, QueueStats, Settlement
from celeriac.chaos.processes import eventually
from tests.chaos.arena import POOLS, ROOT, Pool, work
from tests.chaos.ours import Celeriac
from tests.chaos.report import row
from tests.chaos.settings import LONG, scale

ALL = ("--all",)
FILTER = ("--error", "OddError")


def _bury(arena: Celeriac, number: int) -> None:
    """Make dead letters, every second one of another error."""
    arena.send(work(number))
    while messages := arena.queue.claim("undertaker", count=500).messages:
        arena.queue.settle(
            [
                Settlement(
                    message,
                    DeadLetter(
                        reason="attempts_exhausted",
                        failure=Failure(
                            reason="failed",
                            error="OddError" if int(message.id[1:]) % 2 else "EvenError",
                        ),
                    ),
                    1,
                )
                for message in messages
            ]
        )
    assert arena.queue.stats().dead == number


def _start(arena: Celeriac, verb: str, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "celeriac.cli", "dlq", verb, "chaos", *words, "--yes"]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "CELERIAC_BROKER_URL": arena.url},
        stdout=subprocess.PIPE,
        text=True,
    )


def _interrupt(arena: Celeriac, verb: str, words: tuple[str, ...], *, kills: int) -> int:
    """Kill the command at work so often, let it end once, and return how often it was cut short."""
    cut = 0
    for _ in range(kills):
        before = arena.queue.stats()
        process = _start(arena, verb, *words)
        eventually(
            lambda: arena.queue.stats().dead < before.dead or process.poll() is not None,  # noqa: B023
            within_s=30,
            what="it begins",
        )
        time.sleep(arena.random.uniform(0, 0.01))
        process.kill()
        process.communicate()
        stats = arena.queue.stats()
        assert stats.imbalance == 0, stats
        cut += process.returncode < 0 and stats.dead < before.dead
    process = _start(arena, verb, *words)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0, out
    return cut


@pytest.mark.parametrize(
    ("pool", "words"),
    [(pool, words) for pool in POOLS for words in (ALL, FILTER)]
    if LONG
    else [("solo", ALL), ("prefork", FILTER)],
)
def test_a_redrive_killed_half_way_is_carried_on(
    pool: Pool, words: tuple[str, ...], celeriac_arena: Callable, report: Callable
):
    arena: Celeriac = celeriac_arena()
    number = scale(10_000, 20_000)
    _bury(arena, number)
    meant = number if words == ALL else number // 2
    cut = _interrupt(arena, "redrive", words, kills=2)
    stats = arena.queue.stats()
    assert cut, "it was never killed half-way"
    assert (stats.dead, stats.ready, stats.redriven) == (number - meant, meant, meant)
    left = {letter.id for letter in arena.queue.dead_letters()}
    assert all(int(job[1:]) % 2 == 0 for job in left), "another error was redriven"
    arena.worker_set(pool)
    arena.drained(within_s=300)
    verdict = arena.verdict(dead=left)
    name = f"dlq redrive {words[0]} killed"
    report(row(name, arena, pool, verdict, faults=cut, note=f"{meant:,} redriven, once each"))
    assert not verdict.violations() and not verdict.repeats
    assert len(arena.history.finished) == meant


@pytest.mark.parametrize("words", [ALL, FILTER] if LONG else [FILTER])
def test_a_purge_killed_half_way_is_carried_on(
    words: tuple[str, ...], celeriac_arena: Callable, report: Callable
):
    arena: Celeriac = celeriac_arena()
    number = scale(10_000, 20_000)
    _bury(arena, number)
    meant = number if words == ALL else number // 2
    cut = _interrupt(arena, "purge", words, kills=2)
    stats: QueueStats = arena.drained()
    assert cut, "it was never killed half-way"
    assert (stats.dead, stats.purged) == (number - meant, meant)
    left = {letter.id for letter in arena.queue.dead_letters()}
    assert all(int(job[1:]) % 2 == 0 for job in left), "another error was purged"
    arena.accepted = {job: at for job, at in arena.accepted.items() if job in left}
    verdict = arena.verdict(dead=left)
    name = f"dlq purge {words[0]} killed"
    report(row(name, arena, "solo", verdict, faults=cut, note=f"{meant:,} purged, once each"))
    assert not verdict.violations()
