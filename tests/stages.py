"""Everything that `make test` runs, in the order in which it tells most for the time it takes.

    python -m tests.stages                  all stages, as `make test`
    python -m tests.stages api kubernetes   these runs alone, as `make e2e`
    python -m tests.stages --second-try     what fails in the last stage gets one more chance, as in CI

A stage begins when the one before has passed. The first, which needs nobody's luck, ends everything when it
fails and is never tried again. In the second real processes are killed, frozen and cut off on a clock of
their own; a test that needed its second try is named at the end: it is to be mended.

Runs in one row go on side by side, and within a run two tests or more, since they wait more than they work:
for leases, for pods, for what is dead to be missed. No run asks for more than two cores can give.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scripts import side_by_side
from tests.layers import ROOT, WAITING, compile_once

#: Real processes under load: one test for each of the two cores that CI has.
IN_PAIRS = ("-n", "2", "--dist", "worksteal")
_CACHES = ROOT / ".pytest_cache"
_CLOSING = re.compile(r"^=+ (.*\bin [\d.]+s.*?) =+$")
_COUNT = re.compile(r"(\d+) (passed|failed|errors?|skipped)")


@dataclass(frozen=True, slots=True)
class Run:
    """One pytest process: its name, and what it is called with."""

    name: str
    paths: tuple[str, ...]
    options: tuple[str, ...] = ()

    @property
    def cache(self) -> Path:
        """The cache of its own, in which pytest notes what failed."""
        return _CACHES / self.name

    def command(self, *more: str) -> list[str]:
        """The command that runs it."""
        fixed = [sys.executable, "-m", "pytest", "-o", f"cache_dir={self.cache}"]
        return [*fixed, *self.options, *more, *self.paths]

    def failed(self) -> list[str]:
        """The tests that failed when it ran last."""
        noted = self.cache / "v/cache/lastfailed"
        return sorted(json.loads(noted.read_text())) if noted.exists() else []


@dataclass(frozen=True, slots=True)
class Stage:
    """Rows of runs; a row begins when all of the one before have ended."""

    name: str
    rows: tuple[tuple[Run, ...], ...]
    second_try: bool = False


STAGES = (
    Stage(
        "the core and its contracts",
        (
            (Run("unit", ("tests/unit",), WAITING),),
            (Run("contract", ("tests/contract",), WAITING),),
        ),
    ),
    Stage(
        "everything real",
        (
            (
                Run("kubernetes", ("tests/e2e/kubernetes",)),
                Run("api", ("tests/api", "tests/chart", "tests/security", "tests/fuzz")),
            ),
            (Run("programs", ("tests/e2e",), (*IN_PAIRS, "--ignore=tests/e2e/kubernetes")),),
            (Run("faults", ("tests/chaos", "tests/simulation"), IN_PAIRS),),
        ),
        second_try=True,
    ),
)


@dataclass(slots=True)
class Report:
    """What is printed at the end."""

    closing: list[str] = field(default_factory=list)
    again: int = 0
    """Tests that were tried a second time,"""
    twice: list[str] = field(default_factory=list)
    """and those of them that passed then."""
    failed: list[str] = field(default_factory=list)

    def counts(self) -> Counter[str]:
        """How many tests passed, failed and so on, each by its last try."""
        found: Counter[str] = Counter()
        for line in self.closing:
            for number, what in _COUNT.findall(line):
                found["failed" if what.startswith("error") else what] += int(number)
        found["failed"] -= self.again
        return found

    def show(self) -> None:
        """Print it, so that who reads only the last lines knows all."""
        print()
        for name in self.twice:
            print(f"NEEDED A SECOND TRY: {name}")
        for name in self.failed:
            print(f"FAILED {name}")
        for line in self.closing:
            print(f"===== {line} =====")
        counts = self.counts()
        print(f"{len(self.twice)} tests needed a second try.")
        print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")


def main(arguments: Sequence[str]) -> int:
    """Run the stages; 0 when everything passed, if need be in its second try."""
    options = _options(arguments)
    compile_once()
    return run_all(_chosen(options.runs), second_try=options.second_try)


def run_all(stages: Iterable[Stage], *, second_try: bool) -> int:
    """Run stages until one fails, and print the report; 0 when everything passed."""
    report = Report()
    passed = all(_stage(stage, report, second_try=second_try) for stage in stages)
    report.show()
    return int(not passed)


def _chosen(names: Sequence[str]) -> Iterable[Stage]:
    for stage in STAGES:
        rows = [tuple(run for run in row if not names or run.name in names) for row in stage.rows]
        if any(rows):
            yield Stage(stage.name, tuple(filter(None, rows)), stage.second_try)


def _stage(stage: Stage, report: Report, *, second_try: bool) -> bool:
    failed: list[Run] = []
    for row in stage.rows:
        failed += _row(row, report)
        if failed and not stage.second_try:
            break
    again = failed if second_try and stage.second_try else []
    for run in again:
        names = run.failed()
        print(f"\nSOME OF {run.name} FAILED: once more, those only.", flush=True)
        if names and not _row([run], report, "--last-failed", "--last-failed-no-failures", "none"):
            failed = [it for it in failed if it is not run]
        report.again += len(names)
        report.twice += sorted({*names} - {*run.failed()})
    for run in failed:
        report.failed += run.failed() or [f"{run.name}: pytest itself"]
    return not failed


def _row(row: Sequence[Run], report: Report, *more: str) -> list[Run]:
    """Run a row; return the runs that failed."""
    closing = [""] * len(row)

    def show(index: int, line: str) -> None:
        if found := _CLOSING.match(line):
            closing[index] = found[1]
        label = f"{row[index].name}| " if len(row) > 1 else ""
        print(f"{label}{line}", end="", flush=True)

    began = time.monotonic()
    if not more:
        for run in row:
            shutil.rmtree(run.cache, ignore_errors=True)  # what failed in the past is no matter
    codes = side_by_side.run([run.command(*more) for run in row], show)
    print(f"{' and '.join(run.name for run in row)}: {time.monotonic() - began:.0f} s", flush=True)
    report.closing += [
        f"{run.name}: {line or 'no closing line'}" for run, line in zip(row, closing, strict=True)
    ]
    return [run for run, code in zip(row, codes, strict=True) if code]


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    names = [run.name for stage in STAGES for row in stage.rows for run in row]
    parser = argparse.ArgumentParser(prog="python -m tests.stages")
    parser.add_argument("runs", nargs="*", metavar="RUN", help=f"some of: {', '.join(names)}")
    parser.add_argument("--second-try", action="store_true", help="as in CI")
    options = parser.parse_args(arguments)
    if unknown := {*options.runs} - {*names}:
        parser.error(f"no such run: {', '.join(sorted(unknown))}")
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
