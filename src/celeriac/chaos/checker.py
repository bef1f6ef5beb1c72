"""Decides from the history what was lost, stuck or out of order, what ran twice and why. Pure.

The evidence: which jobs the broker accepted (the producer's notes), what ran (the side file), which faults
were injected (the journal), what lies in the dead letters, and what still waits. A job that ran twice is fine
when a fault took its first run from its worker, and a violation when nothing explains it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from celeriac.chaos.faults import Fault, Kind
from celeriac.chaos.order import Disorder, disorders
from celeriac.chaos.sidefile import Run
from celeriac.chaos.stall import longest_stall

#: A finished run is settled within this time, or its worker was out of breath: it may run again when
#: its worker is killed in between. Celeriac promises a few hundredths of a second on an idle machine.
SETTLE_S = 1.0
#: Clocks of the journal and of the side file are one, but a kill is noted just before it happens.
_SLACK_S = 0.01


@dataclass(frozen=True, slots=True)
class Repeat:
    """A run after which its job ran again."""

    run: Run
    again: Run
    fault: Fault | None
    why: str
    """Empty when no fault explains it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the history shows."""

    jobs: int
    lost: list[str]
    """Accepted jobs that nobody finished, and of which the broker knows nothing."""
    stuck: list[str]
    """Accepted jobs that nobody finished, and that the broker still holds though it should be empty."""
    dead: set[str]
    repeats: list[Repeat]
    strangers: set[str]
    """Jobs that ran and that the producer knows nothing of."""
    recovery_s: float
    """The longest time from a fault to the next start of a job that it interrupted."""
    stall_s: float = 0.0
    """The longest time in which jobs waited and none was at work."""
    disorders: list[Disorder] = field(default_factory=list)
    """Priorities that were not served first in, first out; looked for on demand only."""

    @property
    def reasons(self) -> Counter[str]:
        """How many jobs ran again, by why."""
        return Counter(repeat.why or "unexplained" for repeat in self.repeats)

    @property
    def duplicated(self) -> int:
        """Jobs that finished more than once: whose effects a user sees twice."""
        return len({repeat.run.job for repeat in self.repeats if repeat.run.finished is not None})

    @property
    def why(self) -> str:
        """Why jobs ran again, for people."""
        return ", ".join(f"{number} {why}" for why, number in self.reasons.most_common())

    @property
    def unexplained(self) -> list[Repeat]:
        """Repeats that no fault explains."""
        return [repeat for repeat in self.repeats if not repeat.why]

    def out_of_order(self, *, excused: int = 0) -> int:
        """Jobs out of order within their priority, beyond those that faults may have displaced."""
        return max(0, sum(disorder.displaced for disorder in self.disorders) - excused)

    def violations(self, *, displaced: int = 0) -> list[str]:
        """Say what must not be, for people; ``displaced`` jobs may be out of order."""
        found = [
            (f"{len(self.lost)} lost", self.lost),
            (f"{len(self.stuck)} stuck", self.stuck),
            (f"{len(self.strangers)} from nowhere", sorted(self.strangers)),
            (
                f"{len(self.unexplained)} run again for no reason",
                [repeat.run.job for repeat in self.unexplained],
            ),
        ]
        if beyond := self.out_of_order(excused=displaced):
            pairs = [" before ".join(disorder.example) for disorder in self.disorders]
            found.append((f"{beyond} out of order", pairs))
        return [f"{text}: {', '.join(jobs[:5])}" for text, jobs in found if jobs]


def judge(
    *,
    accepted: Mapping[str, float],
    runs: Sequence[Run],
    faults: Iterable[Fault] = (),
    dead: Collection[str] = (),
    discarded: Collection[str] = (),
    waiting: Collection[str] = (),
    uncertain: Collection[str] = (),
    broker_tail_s: float = 0.0,
    priorities: Mapping[str, str] | None = None,
    until: float | None = None,
) -> Verdict:
    """Judge a history whose queue has been drained.

    ``dead``, ``discarded`` and ``waiting`` jobs are those that the broker says are in these states.
    ``uncertain`` jobs may have been accepted: nobody got an answer. ``broker_tail_s``: how much of the past a
    broker forgets when it is killed. ``priorities``: those of jobs that are not normal; given (if empty)
    only where one consumer with one slot served the queue, since elsewhere no order is promised. ``until``:
    when it was looked at, in monotonic seconds.
    """
    by_job: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        by_job[run.job].append(run)
    done = {job for job, its in by_job.items() if any(run.finished is not None for run in its)}
    open_ = [job for job in accepted if job not in done and job not in dead]
    struck = list(faults)
    repeats = [
        _explain(run, again, struck, broker_tail_s)
        for its in by_job.values()
        for run, again in _pairs(its)
    ]
    # Of jobs that are dead or discarded nobody knows how long they waited.
    told = {job: at for job, at in accepted.items() if job not in {*dead, *discarded}}
    return Verdict(
        jobs=len(accepted),
        lost=sorted(set(open_).difference(waiting, discarded)),
        stuck=sorted(set(open_).intersection(waiting)),
        dead=set(dead),
        repeats=repeats,
        strangers=by_job.keys() - accepted.keys() - set(uncertain),
        recovery_s=max(map(_recovery_s, repeats), default=0.0),
        stall_s=longest_stall(told, runs, struck, until=until) if told else 0.0,
        disorders=[] if priorities is None else disorders(accepted, runs, priorities=priorities),
    )


def forgotten(
    lost: Iterable[str], accepted: Mapping[str, float], outages: Sequence[Fault]
) -> float:
    """How long before a kill of the broker, at most, the jobs that it lost had been accepted (seconds).

    A job may be noted as accepted a moment after the kill, and before the broker is back.
    """

    def age(job: str) -> float:
        since = (max(0.0, it.at - accepted[job]) for it in outages if accepted[job] <= it.until)
        return min(since, default=1e9)

    return max(map(age, lost), default=0.0)


def _pairs(runs: Sequence[Run]) -> Iterable[tuple[Run, Run]]:
    ordered = sorted(runs, key=lambda run: run.started)
    return pairwise(ordered)


def _explain(run: Run, again: Run, faults: Sequence[Fault], tail_s: float) -> Repeat:
    for fault in faults:
        if fault.at < again.started and fault.hits(run):
            why = _why(run, fault, tail_s)
            if why:
                return Repeat(run, again, fault, why)
    return Repeat(run, again, None, "")


def _why(run: Run, fault: Fault, tail_s: float) -> str:
    end = float("inf") if run.finished is None else run.finished
    return _EXPLAINED[fault.kind](run, end, fault, tail_s)


def _killed(run: Run, end: float, fault: Fault, tail_s: float) -> str:
    if run.finished is None:
        return "killed while it ran"
    if -_SLACK_S <= fault.at - end <= SETTLE_S:
        return "killed before its end was settled"
    return ""


def _frozen(run: Run, end: float, fault: Fault, tail_s: float) -> str:
    during = fault.until >= run.started - _SLACK_S and fault.at <= end + SETTLE_S
    return "frozen past its lease" if during else ""


def _away(run: Run, end: float, fault: Fault, tail_s: float) -> str:
    tail = (
        0.0 if fault.kind == "cut" else tail_s
    )  # the broker of a worker that was cut off forgets nothing
    during = run.started <= fault.until and fault.at - tail <= end + SETTLE_S
    return _AWAY[fault.kind] if during else ""


_AWAY: dict[Kind, str] = {
    "broker": "the broker went away with its end",
    "cut": "cut off from the broker past its lease",
    "failover": "settled at a primary that was replaced",
}
_EXPLAINED: dict[Kind, Callable[[Run, float, Fault, float], str]] = {
    "kill": _killed,
    "freeze": _frozen,
    "broker": _away,
    "cut": _away,
    "failover": _away,
}


def _recovery_s(repeat: Repeat) -> float:
    if repeat.fault is None:
        return 0.0
    outage = repeat.fault.kind in ("broker", "failover")
    since = repeat.fault.until if outage else repeat.fault.at
    return max(0.0, repeat.again.started - since)
