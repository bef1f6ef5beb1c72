"""How long did a queue stand still? Pure.

It stands still while jobs wait that the broker has accepted and none is at work. A frozen worker is not
at work; neither is a dead one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from celeriac.chaos.faults import Fault
from celeriac.chaos.sidefile import Run

_Span = tuple[float, float]


def longest_stall(
    accepted: Mapping[str, float],
    runs: Sequence[Run],
    faults: Iterable[Fault] = (),
    *,
    until: float | None = None,
) -> float:
    """The longest time (seconds) in which accepted jobs waited and none ran.

    A job waits from its acceptance until some run has finished it, or until the last event when none did:
    ``until`` says when the history was looked at, if later.
    """
    struck: dict[tuple[str, int], list[Fault]] = defaultdict(list)
    for fault in faults:
        if fault.kind != "broker":
            struck["pid" if fault.pid else "group", fault.pid or fault.group].append(fault)
    end = max([*accepted.values(), *(run.finished or run.started for run in runs), until or 0.0])
    finished: dict[str, float] = {}
    for run in runs:
        if run.finished is not None:
            finished[run.job] = min(run.finished, finished.get(run.job, run.finished))
    waiting = [(at, finished.get(job, end)) for job, at in accepted.items()]
    working = [
        span
        for run in runs
        for span in _at_work(run, [*struck["group", run.group], *struck["pid", run.pid]])
    ]
    return max(
        (till - since for since, till in _minus(_union(waiting), _union(working))), default=0
    )


def _at_work(run: Run, hits: Sequence[Fault]) -> Iterable[_Span]:
    """When a run made progress: not while it was frozen, nor after its worker's death."""
    till = run.finished
    if till is None:
        till = min((hit.at for hit in hits if hit.at >= run.started), default=run.started)
    since = run.started
    for freeze in sorted((hit.at, hit.until) for hit in hits if hit.kind == "freeze"):
        if freeze[0] < till and freeze[1] > since:
            yield since, max(since, freeze[0])
            since = freeze[1]
    yield since, till


def _union(spans: Iterable[_Span]) -> list[_Span]:
    joined: list[_Span] = []
    for since, till in sorted(spans):
        if joined and since <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(till, joined[-1][1]))
        elif till >= since:
            joined.append((since, till))
    return joined


def _minus(spans: Sequence[_Span], holes: Sequence[_Span]) -> Iterable[_Span]:
    """What is left of the spans without the holes; both are sorted and do not overlap."""
    at = 0
    for since, till in spans:
        rest = since
        while at < len(holes) and holes[at][1] < rest:
            at += 1
        n = at
        while n < len(holes) and holes[n][0] < till:
            if holes[n][0] > rest:
                yield rest, holes[n][0]
            rest = max(rest, holes[n][1])
            n += 1
        if rest < till:
            yield rest, till
