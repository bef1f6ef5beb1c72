"""What an administrator does to a server under load: flush its scripts, kill its clients, pause it, take a
right away and give it back.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

import pytest
import redis

from celeriac.broker.connection import connect
from celeriac.broker.queue import Queue
from celeriac.chaos.processes import eventually
from tests.chaos.arena import LEASE_S, POOLS, SLOTS, STOCK_POOLS, Arena, Job, Pool, work
from tests.chaos.load import all_resume, feeding, resumed_s
from tests.chaos.ours import Celeriac
from tests.chaos.report import row, stock_row
from tests.chaos.settings import LONG, scale
from tests.chaos.stock import Stock

WORKERS = 2
#: A user of the arena's own: what is taken from it is not taken from the judge.
USER, PASSWORD = "app", "chaos-app"


def flush_scripts(arena: Arena) -> None:
    """Make the server forget every script."""
    arena.as_admin().script_flush()


def kill_clients(arena: Arena) -> None:
    """Break every connection but the judge's."""
    server = arena.as_admin()
    for client in server.client_list():
        if client["name"] != "admin" and client["user"] == USER:
            with suppress(redis.ResponseError):  # it has gone by itself
                server.client_kill_filter(_id=client["id"])


def revoke(arena: Arena) -> None:
    """Take all rights away, and give them back before a lease has run out."""
    server = arena.as_admin()
    server.execute_command("ACL", "SETUSER", USER, "-@all")
    time.sleep(arena.random.uniform(0.1, LEASE_S / 4))
    server.execute_command("ACL", "SETUSER", USER, "+@all")


def log_out(arena: Arena) -> None:
    """Disable the user and break its connections: each must log in again, and may not for a while."""
    server = arena.as_admin()
    server.execute_command("ACL", "SETUSER", USER, "off")
    kill_clients(arena)
    time.sleep(arena.random.uniform(0.1, LEASE_S / 4))
    server.execute_command("ACL", "SETUSER", USER, "on")


def pause(arena: Arena) -> None:
    """Let the server answer nobody for longer than a lease, while every lease in it grows old."""
    length = LEASE_S + 1
    arena.as_admin().client_pause(length * 1000, all=True)
    time.sleep(length)


HANDS: dict[str, Callable[[Arena], None]] = {
    "SCRIPT FLUSH": flush_scripts,
    "CLIENT KILL": kill_clients,
    "ACL revoked": revoke,
    "user disabled": log_out,
}


def add_user(arena: Arena) -> None:
    arena.as_admin().execute_command(
        *("ACL", "SETUSER", USER, "reset", "on", f">{PASSWORD}", "~*", "&*", "+@all")
    )


@contextmanager
def watched(arena: Celeriac) -> Iterator[None]:
    """Look after leases from outside, as `celeriac up` and the operator do, on a connection of its own.

    What it asks during a pause is answered right after it, before workers can renew anything.
    """
    over = threading.Event()
    queue = Queue(connect(arena.server.url), "chaos", lease_ms=LEASE_S * 1000)

    def watch() -> None:
        while not over.wait(0.2):
            queue.watch()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    yield
    over.set()
    thread.join(20)
    queue.client.close()


def _tamper_often(
    arena: Arena, hand: Callable[[Arena], None], times: int, *, patience_s: float = 20
) -> list[float]:
    ends = []
    for _ in range(times):
        ended = partial(arena.ended_since, time.monotonic())
        eventually(ended, within_s=patience_s, what="work goes on")
        time.sleep(arena.random.uniform(0, 0.2))
        hand(arena)
        ends.append(time.monotonic())
    return ends


@pytest.mark.parametrize("pool", POOLS if LONG else ["threads"])
@pytest.mark.parametrize("name", HANDS)
def test_an_administrators_hand_costs_nothing(
    name: str, pool: Pool, celeriac_arena: Callable, report: Callable
):
    arena: Celeriac = celeriac_arena(prepare=add_user, user=(USER, PASSWORD))
    worker_set = arena.worker_set(pool, size=WORKERS)
    times = scale(4, 60)
    jobs = work(scale(2_000, 15_000), ms=lambda: arena.random.choice([0, 0, 1, 5]))
    with feeding(arena, jobs, seconds=0.5 * times):
        ends = _tamper_often(arena, HANDS[name], times)
    all_resume(arena, worker_set)
    stats = arena.drained(within_s=scale(60, 300))
    verdict = arena.verdict(dead=arena.dead())
    recovery_s = resumed_s(arena, ends)
    report(row(name, arena, pool, verdict, faults=times, recovery_s=recovery_s))
    assert not verdict.lost and not verdict.dead and not verdict.strangers
    assert not verdict.repeats, verdict.reasons
    assert stats.done == verdict.jobs and stats.redelivered == 0


@pytest.mark.parametrize("pool", POOLS)
def test_a_server_that_stands_still_for_longer_than_a_lease_costs_nobody_a_delivery(
    pool: Pool, celeriac_arena: Callable, report: Callable
):
    arena: Celeriac = celeriac_arena(prepare=add_user, user=(USER, PASSWORD))
    times = scale(1, 20)
    slots = WORKERS * SLOTS[pool]
    with watched(arena):
        trusted = time.monotonic() + LEASE_S + 0.1  # when it has watched for a lease
        worker_set = arena.worker_set(pool, size=WORKERS)
        time.sleep(max(0.0, trusted - time.monotonic()))
        for number in range(times):
            # Through the whole pause, and a little longer.
            args = (1000 * (LEASE_S + 1.6),)
            long = [Job(f"long{number}-{n}", args=args) for n in range(slots)]
            arena.send_surely(long)
            started = {job.id for job in long}
            eventually(
                lambda: started <= {run.job for run in arena.history.read().runs},  # noqa: B023
                within_s=20,
                what="the long ones run",
            )
            arena.send_surely(work(scale(500, 700), ms=1, prefix=f"quick{number}-"))
            time.sleep(arena.random.uniform(0, 0.6))
            pause(arena)
            arena.drained(within_s=30)
    all_resume(arena, worker_set)
    stats = arena.drained(within_s=scale(60, 300))
    verdict = arena.verdict(dead=arena.dead())
    note = f"{stats.redelivered} deliveries charged"
    report(row("CLIENT PAUSE", arena, pool, verdict, faults=times, note=note))
    assert not verdict.lost and not verdict.dead
    assert not verdict.repeats, verdict.repeats[:5]
    assert stats.done == verdict.jobs and stats.redelivered == 0


@pytest.mark.parametrize("pool", STOCK_POOLS)
@pytest.mark.parametrize("name", HANDS)
def test_stock_celery_beside_it(name: str, pool: Pool, stock_arena: Callable, report: Callable):
    arena: Stock = stock_arena(prepare=add_user, user=(USER, PASSWORD))
    worker_set = arena.worker_set(pool, size=WORKERS, supervised=True)
    times = 20
    jobs = work(10_000, ms=lambda: arena.random.choice([0, 0, 1, 5]))
    with feeding(arena, jobs, seconds=0.5 * times):
        ends = _tamper_often(arena, HANDS[name], times, patience_s=120)
    note = ""
    try:
        arena.drained(within_s=300)
    except TimeoutError:
        note = f"stuck, {arena.waiting()} of the lost still wait, "
    report(stock_row(name, arena, pool, worker_set, faults=times, ends=ends, note=note))
