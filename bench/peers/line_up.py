"""Who takes part, and in which variants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bench.peers.install import Home
from bench.peers.systems import (
    RQ,
    Arq,
    BullMQ,
    Celeriac,
    Celery,
    Dramatiq,
    Huey,
    System,
    Taskiq,
    Variant,
)

_LEASED = "run again: its lease ends after 15 s"


def systems(home: Home, host: str) -> dict[str, System]:
    """Every project by its name."""
    found: list[System] = [
        Celery(
            "celery",
            "run again after an hour, but for the moment between pop and record",
            home,
            host,
        ),
        Dramatiq("dramatiq", "run again: its heartbeat ends after 60 s", home, host),
        Huey("huey", "LOST: it was popped", home, host),
        Taskiq("taskiq", "run again after 10 minutes (idle_timeout)", home, host),
        Arq("arq", "run again: its lock ends after the job's time-out, 310 s", home, host),
        RQ("rq", "marked as failed after 90 s; run again if it has a Retry", home, host),
        BullMQ("bullmq", "run again, once: its lock ends after 30 s", home, host),
        Celeriac("celeriac", _LEASED, home, host),
    ]
    return {system.name: system for system in found}


def line_up(by_name: dict[str, System], names: Sequence[str]) -> list[Variant]:
    """The variants of some projects (of all, if none is named)."""
    found = []
    for name, system in by_name.items():
        if not names or name in names:
            first, *others = _variants(system)
            found += [replace(first, sends=True), *others]
    return found


def _variants(system: System) -> list[Variant]:
    def variant(name: str, slots: int, guess: int, *options: str, **extra: str) -> Variant:
        return Variant(
            system=system, name=name, slots=slots, guess=guess, options=options, extra=extra
        )

    coroutines = {"BENCH_COROUTINES": "1"}
    return {
        "celery": [
            variant("Celery solo", 1, 2_000, "-P", "solo"),
            variant("Celery threads 10", 10, 1_700, "-P", "threads"),
            variant("Celery prefork 2", 2, 1_600, "-P", "prefork"),
        ],
        "dramatiq": [
            variant("Dramatiq 8 threads", 8, 2_000, dramatiq_queue_prefetch="128"),
            variant("Dramatiq 1 thread", 1, 1_500, dramatiq_queue_prefetch="128"),
        ],
        "huey": [variant("huey 1 thread", 1, 6_500), variant("huey 10 threads", 10, 5_500)],
        "taskiq": [variant("taskiq 100", 100, 5_000)],
        "arq": [variant("arq 100", 100, 2_500)],
        "rq": [
            variant("RQ SimpleWorker", 1, 400, "-w", "rq.SimpleWorker"),
            variant("RQ Worker (forks)", 1, 90),
        ],
        "bullmq": [
            variant("BullMQ 1", 1, 6_000),
            variant("BullMQ 10", 10, 15_000),
            variant("BullMQ 50", 50, 18_000),
        ],
        "celeriac": [
            variant("Celeriac Solo", 1, 25_000, "--pool", "solo"),
            variant("Celeriac Threads 10", 10, 18_000, "--pool", "threads"),
            variant("Celeriac Prefork 2", 2, 20_000, "--pool", "prefork"),
            variant("Celeriac Asyncio 100", 100, 15_000, "--pool", "asyncio", **coroutines),
        ],
    }[system.name]
