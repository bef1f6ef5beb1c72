"""What `doctor` thinks of what it measured: pure functions from facts to findings.

A finding is ok, a warning (it works, but not as promised), or a failure (messages are, or will be,
lost or stuck), and says what to do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from celeriac.cli.durations import ago
from celeriac.cli.queue_table import count, live_workers

if TYPE_CHECKING:
    from celeriac.broker.message import QueueStats

Level = Literal["ok", "warn", "fail"]

OLDEST_REDIS = (7, 0)
OLDEST_VALKEY = (7, 2)
SKEW_MS = 1_000
ORPHAN_MS, LONGEST_LEASE_MS = 60_000, 3_600_000
FULL_PERCENT, NEARLY_FULL_PERCENT = 95, 80


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    level: Level
    check: str
    text: str
    advice: str = ""


def check_version(info: Mapping[str, Any], *, cluster: bool = False) -> Finding:
    """The scripts need what Redis 7.0 brought; Valkey below 7.2 does not exist."""
    if "valkey_version" in info:
        name, version, oldest = "Valkey", str(info["valkey_version"]), OLDEST_VALKEY
    else:
        name, version, oldest = "Redis", str(info.get("redis_version", "0.0")), OLDEST_REDIS
    numbers = [int(part) if part.isdigit() else 0 for part in version.split(".")]
    text = f"{name} {version}"
    if tuple(numbers[:2]) < oldest:
        return Finding(
            "fail",
            "server",
            f"{text} is too old",
            "Use Redis 7.0 or newer, or Valkey 7.2 or newer.",
        )
    if info.get("redis_mode") == "cluster" or info.get("server_mode") == "cluster":
        if not cluster:
            return Finding(
                "fail",
                "server",
                f"{text} in cluster mode, which this URL does not speak",
                "Write the URL as celeriac+cluster://host:port.",
            )
        text += " in cluster mode"
    return Finding("ok", "server", text)


def check_replicas(info: Mapping[str, Any]) -> Finding:
    """In a cluster, a primary that dies without a replica takes its queues out of reach."""
    replicas = int(info.get("connected_slaves", 0))
    if not replicas:
        return Finding(
            "warn",
            "replicas",
            "none: when this node is away, so are its queues",
            "Add one: redis-cli --cluster add-node NEW EXISTING --cluster-slave.",
        )
    return Finding("ok", "replicas", count(replicas, "replica"))


def check_persistence(info: Mapping[str, Any]) -> Finding:
    """Without the append-only file a restart loses what was accepted since the last snapshot."""
    if not info.get("aof_enabled"):
        return Finding(
            "warn",
            "persistence",
            "the append-only file is off: a restart loses messages",
            "On the server: CONFIG SET appendonly yes (and CONFIG REWRITE, to keep it).",
        )
    if info.get("aof_last_write_status", "ok") != "ok":
        return Finding(
            "fail",
            "persistence",
            "the append-only file cannot be written",
            "Look at the server's log and at the free space of its disk.",
        )
    return Finding("ok", "persistence", "append-only file on")


def check_memory(info: Mapping[str, Any]) -> Finding:
    """An evicting server deletes queues; a full one refuses messages."""
    from celeriac.broker.eviction import HOW_TO_STOP_IT

    policy = str(info.get("maxmemory_policy", "noeviction"))
    limit, used = int(info.get("maxmemory", 0)), int(info.get("used_memory", 0))
    if policy.startswith("allkeys"):
        text = f"maxmemory-policy is {policy}: a full server deletes messages"
        return Finding("fail" if limit else "warn", "memory", text, HOW_TO_STOP_IT)
    if policy != "noeviction":
        text = f"maxmemory-policy is {policy}: a full server deletes dedup keys, results, progress"
        return Finding("warn", "memory", text, HOW_TO_STOP_IT)
    if not limit:
        return Finding("ok", "memory", f"noeviction, {used // 2**20} MiB used, no limit")
    percent = used * 100 // limit
    text = f"noeviction, {used // 2**20} of {limit // 2**20} MiB used ({percent} %)"
    if percent >= NEARLY_FULL_PERCENT:
        level: Level = "fail" if percent >= FULL_PERCENT else "warn"
        return Finding(level, "memory", text, "Raise maxmemory, or purge dead letters and queues.")
    return Finding("ok", "memory", text)


def check_clock(skew_ms: int) -> Finding:
    """Delays and leases follow the server's clock; schedules and log lines this machine's."""
    text = f"the server's clock is {abs(skew_ms)} ms {'ahead' if skew_ms > 0 else 'behind'}"
    if abs(skew_ms) > SKEW_MS:
        return Finding(
            "warn", "clock", text, "Keep both clocks right with NTP: schedules use this one."
        )
    return Finding("ok", "clock", text)


def check_permissions(refused: Sequence[str], rule: str) -> Finding:
    """Every command that Celeriac sends must be allowed."""
    if refused:
        return Finding(
            "fail",
            "permissions",
            f"this user may not: {', '.join(refused)}",
            f"On the server: ACL SETUSER <user> {rule}",
        )
    return Finding("ok", "permissions", "every command, key and channel that is needed")


def check_queues(stats: Sequence[QueueStats]) -> Iterator[Finding]:
    """The conservation law, queues that stand still, and workers that fell silent."""
    if not stats:
        yield Finding("ok", "queues", "none yet", "Declare some with: celeriac up -f queues.yaml")
    for one in stats:
        problems = [*_queue_problems(one)]
        yield from problems
        if not problems:
            yield Finding(
                "ok",
                f"queue {one.name}",
                f"{one.accepted} accepted, all accounted for; "
                f"{one.unfinished} unfinished, {count(len(live_workers(one)), 'worker')}",
            )


def _queue_problems(one: QueueStats) -> Iterator[Finding]:
    check = f"queue {one.name}"
    if one.imbalance:
        word = "missing" if one.imbalance > 0 else "too many"
        yield Finding(
            "fail",
            check,
            f"{count(abs(one.imbalance), 'message')} {word}: accepted is not what can be accounted for",
            "Was the server evicting, restored from a snapshot, or written to by hand?",
        )
    if not one.declared:
        yield Finding(
            "warn",
            check,
            f"{count(one.accepted, 'message')}, but nobody has declared it",
            "Declare it, or purge it.",
        )
    elif (one.ready or one.due) and not one.paused and not live_workers(one):
        yield Finding(
            "warn",
            check,
            f"{count(one.ready + one.due, 'message')} to do for {ago(one.oldest_ready_ms / 1000)}, "
            "and no worker",
            f"Start workers; `celeriac explain {one.name}` shows why there are none.",
        )
    silent = [w for w in one.workers if w.leased and one.now_ms - w.seen_ms >= ORPHAN_MS]
    if silent:
        longest = max(one.now_ms - worker.seen_ms for worker in silent)
        yield Finding(
            # How long their leases are is not known here; none is longer than an hour.
            "fail" if longest > LONGEST_LEASE_MS else "warn",
            check,
            f"{count(sum(w.leased for w in silent), 'message')} held by "
            f"{count(len(silent), 'worker')}, silent for {ago(longest / 1000)}",
            "If that is longer than worker.leaseSeconds, nobody takes expired leases back: is a "
            "worker, `celeriac up` or the operator running?",
        )
    if one.dead:
        yield Finding(
            "warn",
            check,
            count(one.dead, "dead letter"),
            f"Look at them: celeriac dlq ls {one.name}",
        )
