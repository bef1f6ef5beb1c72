"""What is measured of everybody: each group is one measurement, and a table of what it shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bench.harness.report import number, percentile, spread, table
from bench.peers.measure import Bench, Delay, Drain, Start
from bench.peers.systems import Variant

SMALL, LARGE = 500, 20_000
RATE = 100
#: What one process can run of each job in a second, whatever the queue.
CPU_LIMIT, IO_LIMIT_A_SLOT = 1000, 100
LARGE_LIMIT = 8_000


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured: about so many seconds of each drain, and so many delays."""

    seconds: float
    delays: int
    sent: int
    idle_s: float


FULL = Size(seconds=3.0, delays=600, sent=5_000, idle_s=5.0)
QUICK = Size(seconds=0.5, delays=100, sent=1_000, idle_s=1.0)

Value = Callable[[Any, Variant], float]


@dataclass(frozen=True, slots=True)
class Column:
    """One figure of a measurement."""

    title: str
    value: Value
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """One measurement of every variant. The first column also gets a ratio to the first variant."""

    name: str
    title: str
    measure: Callable[[Bench, Variant, Size], Any]
    columns: Sequence[Column]
    less_is_better: bool = False
    takes: Callable[[Variant], bool] = lambda variant: True

    def table(self, results: dict[Variant, list[Any]]) -> str:
        """Medians of all rounds."""
        variants = list(results)
        head = ["", *(column.title for column in self.columns), f"to {variants[0].name}"]
        first = self._median(results, variants[0])
        rows = []
        for variant in variants:
            cells = [
                spread([column.value(it, variant) for it in results[variant]], column.unit)
                for column in self.columns
            ]
            mine = self._median(results, variant)
            ratio = first / mine if self.less_is_better else mine / first
            rows.append([self._name(variant), *cells, f"{number(ratio)}x"])
        return f"{self.title}\n\n{table(head, rows)}"

    def _name(self, variant: Variant) -> str:
        return variant.system.name if self.name == "send" else variant.name

    def record(self, results: dict[Variant, list[Any]]) -> dict[str, dict[str, list[float]]]:
        """The same as data: every value of every round."""
        return {
            variant.name: {
                column.title: [column.value(it, variant) for it in measured]
                for column in self.columns
            }
            for variant, measured in results.items()
        }

    def _median(self, results: dict[Variant, list[Any]], variant: Variant) -> float:
        return percentile([self.columns[0].value(it, variant) for it in results[variant]], 0.5)


def limit(variant: Variant, job: str) -> float:
    """Jobs a second that no queue could exceed with this variant's slots."""
    if job == "cpu":
        return CPU_LIMIT * (2 if "refork" in variant.name else 1)
    return IO_LIMIT_A_SLOT * variant.slots if job == "io" else float("inf")


def _drain(job: str, size: int, *, workers: int = 1) -> Callable[[Bench, Variant, Size], Drain]:
    def measure(bench: Bench, variant: Variant, how_much: Size) -> Drain:
        most = min(variant.guess, limit(variant, job), LARGE_LIMIT if size == LARGE else 1e9)
        count = max(50, int(most * how_much.seconds * workers))
        return bench.drain(variant, job, count=count, size=size, workers=workers)

    return measure


def _send(bench: Bench, variant: Variant, how_much: Size) -> tuple[float, float, float]:
    one, memory = bench.send(variant, "one", count=how_much.sent, size=SMALL)
    many, _ = bench.send(variant, "many", count=how_much.sent * 4, size=SMALL)
    return one, many, memory


def _delay(bench: Bench, variant: Variant, how_much: Size) -> Delay:
    return bench.delay(variant, count=how_much.delays, rate=RATE)


def _two(bench: Bench, variant: Variant, how_much: Size) -> tuple[Drain, Drain]:
    one = _drain("noop", SMALL)(bench, variant, how_much)
    return one, _drain("noop", SMALL, workers=2)(bench, variant, how_much)


def _loaded(bench: Bench, variant: Variant, how_much: Size) -> tuple[float, Delay]:
    """Delays at 70 % of what the same worker drains while it is sent to."""
    full = _drain("noop", SMALL)(bench, variant, how_much).rate
    rate = 0.7 * full
    count = max(200, int(rate * how_much.seconds * 2))
    return rate, bench.delay(variant, count=count, rate=rate)


def _start(bench: Bench, variant: Variant, how_much: Size) -> Start:
    return bench.start(variant, idle_s=how_much.idle_s)


def _a_job(what: Callable[[Drain], float]) -> Value:
    return lambda drain, variant: what(drain) / drain.jobs


_RATE = Column("jobs/s", lambda drain, variant: drain.rate)
_COSTS = (
    Column("worker µs", _a_job(lambda drain: drain.used.worker_s * 1e6)),
    Column("server µs", _a_job(lambda drain: drain.used.server_s * 1e6)),
    Column("commands", _a_job(lambda drain: drain.used.commands)),
    Column("reads", _a_job(lambda drain: drain.used.reads)),
    Column("bytes", _a_job(lambda drain: drain.used.wire)),
)


def _of_limit(job: str) -> Column:
    return Column(
        "of the limit", lambda drain, variant: 100 * drain.rate / limit(variant, job), "%"
    )


def _tagged(tag: str, share: float) -> Value:
    return lambda it, variant: percentile(it[1].by_tag.get(tag) or it[1].all, share)


GROUPS = {
    group.name: group
    for group in (
        Group(
            "consume",
            "No-op, 500 bytes, one worker: jobs a second, and what one job costs",
            _drain("noop", SMALL),
            (_RATE, *_COSTS, Column("MB after it", lambda drain, variant: drain.memory / 1e6)),
        ),
        Group(
            "large",
            "No-op, 20 kB, one worker",
            _drain("noop", LARGE),
            (_RATE, *_COSTS),
        ),
        Group(
            "cpu",
            "1 ms of CPU, 500 bytes, one worker (limit: 1,000/s a process)",
            _drain("cpu", SMALL),
            (_RATE, _of_limit("cpu")),
        ),
        Group(
            "io",
            "10 ms of I/O, 500 bytes, one worker (limit: 100/s a slot)",
            _drain("io", SMALL),
            (_RATE, _of_limit("io"), Column("worker µs", _COSTS[0].value)),
        ),
        Group(
            "send",
            "Sending, 500 bytes, one process: a second, and memory for each that waits",
            _send,
            (
                Column("one by one", lambda it, variant: it[0], "/s"),
                Column("in bulk", lambda it, variant: it[1], "/s"),
                Column("bytes waiting", lambda it, variant: it[2]),
            ),
            takes=lambda variant: variant.sends,
        ),
        Group(
            "latency",
            "From the call that sends to the start of the job, at 100/s",
            _delay,
            (
                Column("p50", lambda it, variant: percentile(it.all, 0.5), "ms"),
                Column("p99", lambda it, variant: percentile(it.all, 0.99), "ms"),
            ),
            less_is_better=True,
            takes=lambda variant: variant.guess > RATE,
        ),
        Group(
            "load",
            "The same at 70 % of what the worker drains; one job in ten has priority high",
            _loaded,
            (
                Column("p50", lambda it, variant: percentile(it[1].all, 0.5), "ms"),
                Column("p99 of all", lambda it, variant: percentile(it[1].all, 0.99), "ms"),
                Column("p99 high", _tagged("high", 0.99), "ms"),
                Column("wanted", lambda it, variant: it[0], "/s"),
                Column("sent", lambda it, variant: it[1].rate, "/s"),
            ),
            less_is_better=True,
            takes=lambda variant: variant.system.name in {"celery", "celeriac"},
        ),
        Group(
            "start",
            "From starting a worker to its first finished job; its memory; and what it does when idle",
            _start,
            (
                Column("cold start", lambda it, variant: it.cold_ms, "ms"),
                Column("PSS", lambda it, variant: it.memory / 1e6, "MB"),
                Column("commands/s", lambda it, variant: it.idle.commands / it.idle_s),
                Column("reads/s", lambda it, variant: it.idle.reads / it.idle_s),
                Column("CPU", lambda it, variant: 100 * it.idle.worker_s / it.idle_s, "%"),
            ),
            less_is_better=True,
        ),
        Group(
            "two",
            "Two worker processes beside one: no-op, 500 bytes (two cores, which the server shares)",
            _two,
            (
                Column("two", lambda it, variant: it[1].rate, "/s"),
                Column("one", lambda it, variant: it[0].rate, "/s"),
                Column("two to one", lambda it, variant: it[1].rate / it[0].rate, "x"),
            ),
            takes=lambda variant: "refork" not in variant.name and "RQ" not in variant.name,
        ),
    )
}
