"""What `get` shows of a queue: the broker's counts, joined with what the control loop decided."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from celeriac.cli.durations import ago
from celeriac.cli.output import Cell, Column

if TYPE_CHECKING:
    from celeriac.broker.message import QueueStats

#: A worker that has not spoken for this long is not counted as running.
SILENT_MS = 30_000


def queue_record(stats: QueueStats, status: Mapping[str, Any] | None) -> dict[str, Any]:
    """One queue as `get -o json` prints it; the keys are a contract.

    ``replicas`` is what the control loop sees, or else the workers the broker has heard of lately;
    ``desiredReplicas`` is None when no control loop is known here.
    """
    known = status or {}
    return {
        "name": stats.name,
        "accepted": stats.accepted,
        "done": stats.done,
        "discarded": stats.discarded,
        "purged": stats.purged,
        "retried": stats.retried,
        "redelivered": stats.redelivered,
        "dead": stats.dead,
        "ready": stats.ready,
        "leased": stats.leased,
        "delayed": stats.delayed,
        "oldestReadySeconds": stats.oldest_ready_ms // 1000,
        "replicas": known.get("replicas", len(live_workers(stats))),
        "desiredReplicas": known.get("desiredReplicas"),
        "paused": stats.paused,
        "conditions": known.get("conditions", []),
    }


def live_workers(stats: QueueStats) -> set[str]:
    """Name the workers heard of lately; the children ``name/0``, ``name/1`` of one are one."""
    return {
        worker.name.partition("/")[0]
        for worker in stats.workers
        if stats.now_ms - worker.seen_ms < SILENT_MS
    }


def _alarm(cell: Cell) -> str:
    return "red" if isinstance(cell, int) and cell > 0 else ""


def _state(cell: Cell) -> str:
    if cell is None:
        return "dim"
    return {"Running": "green", "Idle": "green", "WorkersFailing": "red"}.get(str(cell), "yellow")


NARROW = (
    Column("NAME"),
    Column("READY", right=True),
    Column("LEASED", right=True),
    Column("DELAYED", right=True),
    Column("DONE", right=True),
    Column("DEAD", right=True, style=_alarm),
    Column("OLDEST", right=True),
    Column("WORKERS", right=True),
    Column("STATE", style=_state),
)
WIDE = (
    *NARROW,
    Column("ACCEPTED", right=True),
    Column("RETRIED", right=True),
    Column("REDELIVERED", right=True),
    Column("DISCARDED", right=True),
    Column("PURGED", right=True),
)


def queue_row(record: Mapping[str, Any], *, wide: bool = False) -> list[Cell]:
    """The cells of a record, in the order of NARROW or WIDE."""
    desired = record["desiredReplicas"]
    workers = str(record["replicas"])
    if desired is not None and desired != record["replicas"]:
        workers += f" → {desired}"
    row: list[Cell] = [
        record["name"],
        record["ready"],
        record["leased"],
        record["delayed"],
        record["done"],
        record["dead"],
        ago(record["oldestReadySeconds"]) if record["ready"] else None,
        workers,
        state(record),
    ]
    if wide:
        row += [
            record[key] for key in ("accepted", "retried", "redelivered", "discarded", "purged")
        ]
    return row


def state(record: Mapping[str, Any]) -> str | None:
    """One word for a queue: Paused, or the reason of Stalled or Ready; None when unknown."""
    if record["paused"]:
        return "Paused"
    conditions = {condition["type"]: condition for condition in record["conditions"]}
    stalled, ready = conditions.get("Stalled"), conditions.get("Ready")
    if stalled is not None and stalled["status"] == "True":
        return str(stalled["reason"])
    return None if ready is None else str(ready["reason"])


def count(number: int, thing: str) -> str:
    """Write a number of things: ``1 worker``, ``2 workers``."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
