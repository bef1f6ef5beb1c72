"""Faults that a worker must survive, one after the other, in an order that a seed decides.

kill     SIGKILL a worker, or only its first process, as the kernel does when memory runs out
freeze   stop a worker for longer than its lease, and wake it up
term     SIGTERM a worker, as a deploy does, once another serves
child    SIGKILL one process of a prefork pool
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Literal

from celeriac.chaos.processes import WorkerSet
from celeriac.chaos.scene import LEASE_S, Pool, Scene
from celeriac.spec.errors import CeleriacError

Kind = Literal["kill", "freeze", "term", "child"]
FREEZE_S = 1.5 * LEASE_S
#: A worker that is told to stop has its current jobs to finish, and a busy machine under it.
LEAVE_S = 35.0


class BadExit(CeleriacError):
    """A worker that was told to stop did not end well."""


def sequence(scene: Scene, kinds: Sequence[Kind], number: int) -> list[Kind]:
    """Choose so many faults: each kind about equally often, in an order by chance."""
    order: list[Kind] = []
    while len(order) < number:
        order += scene.random.sample(list(kinds), len(kinds))
    return order[:number]


def blow(
    scene: Scene, worker_set: WorkerSet, kinds: Sequence[Kind], *, tell: Callable[[str], None]
) -> None:
    """Inject faults into workers that are at work; ``tell`` hears of each.

    Raises TimeoutError when no worker gets to work any more, BadExit when one does not leave as told.
    """
    harms = {"kill": _kill, "freeze": _freeze, "term": _terminate, "child": _kill_child}
    for kind in kinds:
        tell(f"{kind:<7}{harms[kind](scene, worker_set)}")
        time.sleep(scene.random.uniform(0.2, 0.6))


def suits(kind: Kind, pool: Pool) -> bool:
    """Whether a fault is possible in a pool."""
    return kind != "child" or pool == "prefork"


def _kill(scene: Scene, worker_set: WorkerSet) -> str:
    worker = scene.catch_busy(worker_set, within_s=60)
    parent_only = scene.random.random() < 0.5
    scene.kill(worker, parent_only=parent_only)
    return f"{worker.name}, its first process only" if parent_only else worker.name


def _freeze(scene: Scene, worker_set: WorkerSet) -> str:
    worker = scene.catch_busy(worker_set, within_s=60)
    with scene.frozen(worker):
        time.sleep(FREEZE_S)
    return f"{worker.name} for {FREEZE_S:.0f} s, with leases of {LEASE_S} s"


def _terminate(scene: Scene, worker_set: WorkerSet) -> str:
    successor = worker_set.add().wait_ready(60)
    worker = scene.catch_busy(worker_set, within_s=60)
    while worker is successor:
        worker = scene.catch_busy(worker_set, within_s=60)
    worker_set.remove(worker)
    since = time.monotonic()
    worker.terminate()
    try:
        code = worker.wait(LEAVE_S)
    except subprocess.TimeoutExpired as error:
        text = f"{worker.name} did not leave within {LEAVE_S:.0f} s: {worker.log[-2000:]}"
        raise BadExit(text) from error
    if code:
        raise BadExit(f"{worker.name} ended with {code}: {worker.log[-2000:]}")
    return f"{worker.name}, which left after {time.monotonic() - since:.1f} s"


def _kill_child(scene: Scene, worker_set: WorkerSet) -> str:
    worker = scene.catch_busy(worker_set, within_s=60)
    pid = scene.busy_child(worker)
    scene.kill_process(pid)
    return f"{pid} of {worker.name}"
