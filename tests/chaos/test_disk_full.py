"""The disk of the append-only file is full: the server refuses to write, or ends, until there is space."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from celeriac import BrokerRefuses
from celeriac.broker.embedded import EmbeddedServer
from celeriac.chaos.faults import Fault
from celeriac.chaos.processes import eventually
from tests.chaos.arena import LEASE_S, POOLS, STOCK_POOLS, Job, Pool, work
from tests.chaos.load import all_resume, feeding, resumed_s
from tests.chaos.ours import Celeriac
from tests.chaos.report import row, stock_row
from tests.chaos.servers import Kind, servers
from tests.chaos.settings import LONG, scale
from tests.chaos.stock import Stock
from tests.programs import lacking

FAULT = "disk full, AOF everysec"
WORKERS = 2
DISK_MB = 64


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A disk of its own; skipped where none can be mounted, which in CI is a failure."""
    folder.mkdir()
    size = f"size={DISK_MB}m"
    mount = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        lacking(f"no small disk can be mounted here (Linux, root): {error}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk") as folder:
        yield folder


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """Take all space that is left, for as long as the block takes."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        for size in (1 << 20, 1 << 12):
            with suppress(OSError):
                while True:
                    file.write(bytes(size))
    try:
        yield
    finally:
        ballast.unlink()


def _refused(arena: Celeriac) -> bool:
    """Whether a producer hears that the disk is full."""
    try:
        arena.client.send("chaos", "chaos.work", args=("probe", 0), id="probe", dedup_key="probe")
    except BrokerRefuses as error:
        return "cannot write to its disk" in str(error)
    arena.accepted.setdefault("probe", time.monotonic())
    return False


@pytest.mark.parametrize("server", servers() if LONG else servers()[:1])
@pytest.mark.parametrize("pool", POOLS)
def test_a_full_disk_stops_all_and_costs_nothing(
    pool: Pool, server: Kind, disk: Path, celeriac_arena: Callable, report: Callable
):
    arena: Celeriac = celeriac_arena(server=EmbeddedServer(disk / "server", binary=server.binary()))
    worker_set = arena.worker_set(pool, size=WORKERS)
    times, ends = scale(1, 8), []
    jobs = work(scale(2_000, 20_000), ms=lambda: arena.random.choice([0, 0, 1, 5]))
    with feeding(arena, jobs, seconds=4.0 * times):
        for number in range(times):
            arena.send_surely([Job(f"long{number}", args=(1000 * (LEASE_S + 2),))])
            eventually(lambda: arena.history.read().of(f"long{number}"), within_s=20)  # noqa: B023
            with filled(disk):
                eventually(lambda: _refused(arena), within_s=20, what="it refuses")
                time.sleep(LEASE_S + 0.5)  # no lease can be renewed
                quiet = arena.queue.client.info("persistence")
                assert quiet["aof_last_write_status"] == "err"
            ends.append(time.monotonic())
            eventually(lambda: not _refused(arena), within_s=20, what="it writes again")
    all_resume(arena, worker_set)
    stats = arena.drained(within_s=scale(60, 300))
    verdict = arena.verdict(dead=arena.dead())
    recovery_s, note = resumed_s(arena, ends), server.name
    report(row(FAULT, arena, pool, verdict, faults=times, recovery_s=recovery_s, note=note))
    assert not verdict.lost and not verdict.dead and not verdict.strangers
    assert not verdict.repeats, verdict.repeats[:5]
    assert stats.done == verdict.jobs and stats.redelivered == 0


@pytest.mark.parametrize("pool", POOLS if LONG else ["threads"])
def test_a_server_that_writes_always_ends_on_a_full_disk_and_has_promised_nothing_more(
    pool: Pool, disk: Path, celeriac_arena: Callable, report: Callable
):
    server = EmbeddedServer(disk / "server", appendfsync="always")
    arena: Celeriac = celeriac_arena(server=server)
    worker_set = arena.worker_set(pool, size=WORKERS)
    times, ends = scale(1, 8), []
    jobs = work(scale(2_000, 20_000), ms=lambda: arena.random.choice([0, 0, 1, 5]))
    with feeding(arena, jobs, seconds=2.0 * times):
        for _ in range(times):
            time.sleep(0.3)
            at = time.monotonic()
            with filled(disk):
                eventually(lambda: not server.alive, within_s=20, what="it ends")
            server.start()
            ends.append(time.monotonic())
            arena.journal.append(Fault(kind="broker", at=at, until=ends[-1]))
            eventually(lambda: arena.ended_since(ends[-1]), within_s=20, what="work goes on")
    all_resume(arena, worker_set)
    stats = arena.drained(within_s=scale(60, 300))
    verdict = arena.verdict(dead=arena.dead())
    name, recovery_s = "disk full, AOF always", resumed_s(arena, ends)
    report(row(name, arena, pool, verdict, faults=times, recovery_s=recovery_s, note=verdict.why))
    assert not verdict.lost and not verdict.dead and not verdict.strangers
    assert not verdict.unexplained, verdict.unexplained[:5]
    assert stats.done == verdict.jobs


@pytest.mark.parametrize("pool", STOCK_POOLS)
def test_stock_celery_beside_it(pool: Pool, disk: Path, stock_arena: Callable, report: Callable):
    arena: Stock = stock_arena(server=EmbeddedServer(disk / "server"))
    worker_set = arena.worker_set(pool, size=WORKERS, supervised=True)
    times, ends = 8, []
    jobs = work(10_000, ms=lambda: arena.random.choice([0, 0, 1, 5]))
    with feeding(arena, jobs, seconds=4.0 * times), arena.as_admin() as server:
        for _ in range(times):
            time.sleep(0.5)
            with filled(disk):
                eventually(
                    lambda: server.info("persistence")["aof_last_write_status"] == "err",
                    within_s=20,
                    what="it cannot write",
                )
                time.sleep(LEASE_S + 0.5)
            ends.append(time.monotonic())
            eventually(lambda: arena.ended_since(ends[-1]), within_s=60, what="work goes on")
    arena.drained(within_s=300)
    report(stock_row(FAULT, arena, pool, worker_set, faults=times, ends=ends))
