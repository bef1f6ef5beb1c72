"""``celeriac chaos``: are the guarantees kept on your broker? Workers die, and every job is accounted for."""

from __future__ import annotations

import secrets
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from celeriac.cli import output
from celeriac.cli.broker import BrokerConnection, broker_option, connected
from celeriac.cli.errors import FAILED, BadInput, Problem
from celeriac.cli.output import Column
from celeriac.spec.pools import POOLS

if TYPE_CHECKING:
    from celeriac.chaos.checker import Verdict
    from celeriac.chaos.scene import Pool
    from celeriac.chaos.storm import Kind
    from celeriac.chaos.trial import Trial

#: The kinds of celeriac.chaos.storm, which is imported only when the command runs.
FAULTS: tuple[Kind, ...] = ("kill", "freeze", "term", "child")


@click.command(
    epilog="""\b
Examples:
  celeriac chaos --broker celeriac://:password@host:6379/0
  celeriac chaos --pool threads --jobs 10000 --rounds 20 --fault kill --fault freeze
  celeriac chaos --seed 4711 -o json""",
)
@click.option(
    "--pool",
    type=click.Choice(list(POOLS), case_sensitive=False),
    default="prefork",
    show_default=True,
)
@click.option("--workers", type=click.IntRange(1, 20), default=2, show_default=True)
@click.option(
    "--jobs",
    type=click.IntRange(100, 1_000_000),
    default=1000,
    show_default=True,
    help="At least so many; more are sent for as long as faults go on.",
)
@click.option(
    "--fault",
    "faults",
    type=click.Choice(FAULTS),
    multiple=True,
    help="kill: SIGKILL a worker; freeze: stop it for longer than its lease; term: SIGTERM, as a "
    "deploy does; child: SIGKILL a prefork child. May be given again.  [default: all]",
)
@click.option(
    "--rounds", type=click.IntRange(1, 10_000), default=8, show_default=True, help="Faults in all."
)
@click.option("--seed", type=click.IntRange(min=0), help="Repeats a run's choices.")
@click.option(
    "--within",
    type=click.IntRange(1, 86_400),
    default=120,
    show_default=True,
    metavar="SECONDS",
    help="For the queue to become empty after the last fault; what is left then is stuck.",
)
@click.option("-o", "--output", "form", type=click.Choice(["json"]))
@broker_option
def chaos(
    pool: Pool,
    workers: int,
    jobs: int,
    faults: tuple[Kind, ...],
    rounds: int,
    seed: int | None,
    within: int,
    form: str | None,
    broker: str | None,
) -> None:
    """Kill and freeze workers on a queue of their own, and account for every job.

    Makes a queue with a fresh name, starts workers, sends numbered jobs that do nothing, and injects
    faults while they run. Each start and finish is noted in a file beside the broker; from it, and
    from the broker's counts, a verdict follows. No other queue is touched, and nothing is left
    on the broker. Exits with 1 when a job is lost, stuck, or was run again without a reason.
    """
    from celeriac.chaos.storm import suits

    chosen = tuple(dict.fromkeys(faults or (kind for kind in FAULTS if suits(kind, pool))))
    for kind in chosen:
        if not suits(kind, pool):
            raise BadInput(f"--fault {kind} needs --pool prefork: {pool} has no child processes")
    seed = secrets.randbelow(10**9) if seed is None else seed
    # As after Ctrl-C: the workers and the queue must not stay behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="celeriac-chaos-"))
    try:
        with connected(broker) as connection:
            found = carry_out(connection, folder, pool, workers, jobs, chosen, rounds, seed, within)
    except BaseException:
        keep_logs(folder)
        raise
    show(found, form)
    if found["violations"]:
        keep_logs(folder)
        raise SystemExit(FAILED)
    shutil.rmtree(folder, ignore_errors=True)


def carry_out(
    connection: BrokerConnection,
    folder: Path,
    pool: Pool,
    workers: int,
    jobs: int,
    kinds: tuple[Kind, ...],
    rounds: int,
    seed: int,
    within_s: int,
) -> dict[str, Any]:
    """Run the whole trial and return what it showed."""
    from celeriac.chaos.storm import BadExit, blow, sequence
    from celeriac.chaos.trial import Trial

    trial = Trial(
        folder,
        seed=str(seed),
        client=connection.client,
        prefix=connection.prefix,
        url=connection.choice.url,
    )
    with trial:
        output.note(f"queue {trial.queue.name}, {workers} {pool} workers, seed {seed}")
        blows = sequence(trial, kinds, rounds)
        try:
            with trial.loaded(jobs, ms=lambda: trial.random.uniform(0, 10)):
                worker_set = trial.worker_set(pool, size=workers, supervised=True)
                blow(trial, worker_set, blows, tell=output.note)
        except (BadExit, RuntimeError, TimeoutError) as error:
            raise Problem(f"the workers did not do as they should: {error}") from error
        output.note("waiting for the queue to become empty")
        stats, held = trial.drained(within_s=within_s)
        # Only there is an order promised, and only while no successor works beside it.
        alone = pool == "solo" and workers == 1 and not set(kinds) & {"term", "freeze"}
        verdict = trial.verdict(dead=_dead(trial), waiting=held, ordered=alone)
        laws = trial.broken_laws(stats)
    return summary(verdict, laws, blows, seed=seed, pool=pool, ordered=alone)


def _dead(trial: Trial) -> set[str]:
    return {letter.id for letter in trial.queue.dead_letters()}


def summary(
    verdict: Verdict, laws: list[str], blows: list[Kind], *, seed: int, pool: str, ordered: bool
) -> dict[str, Any]:
    """Put a verdict into words for programs; its keys, underlined, are the table's lines."""
    from celeriac.worker.prefetch import LARGEST

    # A worker that is killed gives back what it held, which then comes later.
    excused = len(blows) * (1 + LARGEST)
    violations = [*verdict.violations(displaced=excused), *laws]
    if verdict.dead:
        violations.append(f"{len(verdict.dead)} dead letters, though no job fails")
    return {
        "seed": seed,
        "pool": pool,
        "jobs": verdict.jobs,
        "faults": {kind: blows.count(kind) for kind in FAULTS if kind in blows},
        "lost": len(verdict.lost),
        "stuck": len(verdict.stuck),
        "fromNowhere": len(verdict.strangers),
        "deadLetters": len(verdict.dead),
        "runAgainWithoutReason": len(verdict.unexplained),
        "finishedMoreThanOnce": verdict.duplicated,
        "runAgain": dict(verdict.reasons),
        "outOfOrder": verdict.out_of_order(excused=excused) if ordered else None,
        "longestRecoverySeconds": round(verdict.recovery_s, 1),
        "longestStandstillSeconds": round(verdict.stall_s, 1),
        "conservationLaw": not laws,
        "violations": violations,
    }


def show(found: dict[str, Any], form: str | None) -> None:
    """Print the verdict."""
    if form == "json":
        output.print_json(found)
        return
    faults = ", ".join(f"{number} {kind}" for kind, number in found["faults"].items())
    again = ", ".join(f"{number} {why}" for why, number in found["runAgain"].items())
    twice, disorder = found["finishedMoreThanOnce"], found["outOfOrder"]
    rows: list[list[output.Cell]] = [
        ["jobs accepted", f"{found['jobs']:,}"],
        ["faults", faults],
        ["lost", found["lost"]],
        ["stuck", found["stuck"]],
        ["from nowhere", found["fromNowhere"]],
        ["dead letters", found["deadLetters"]],
        ["run again without a reason", found["runAgainWithoutReason"]],
        ["finished more than once", f"{twice}" + (f" ({again})" if again else "")],
        ["out of order", "not judged: several consumers" if disorder is None else disorder],
        ["longest recovery", f"{found['longestRecoverySeconds']} s"],
        ["longest standstill", f"{found['longestStandstillSeconds']} s"],
        ["conservation law", "holds" if found["conservationLaw"] else "broken"],
    ]
    output.print_table([Column("CHECKED"), Column("FOUND")], rows)
    for violation in found["violations"]:
        output.note(f"VIOLATION: {violation}")
    if not found["violations"]:
        output.note(f"Nothing lost. Repeat with --seed {found['seed']}")


def keep_logs(folder: Path) -> None:
    """Say where the workers' logs and the runs are, or remove the folder when there are none."""
    if any(folder.iterdir()):
        output.note(f"Logs and runs are kept in {folder}")
    else:
        folder.rmdir()
