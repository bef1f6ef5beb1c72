"""Who may lose a delivery, what a worker may leave behind, and what must be true at the end."""

from __future__ import annotations

from celeriac.worker.pools.base import LAST_SETTLE_S
from tests.simulation.actors import Notes, Task, Worker
from tests.simulation.schedule import Schedule
from tests.simulation.server import Server
from tests.simulation.world import Process, Violation, World

#: So long after its last trouble a worker has renewed what it holds, and given back what it never heard of:
#: it waits a second at most before it asks again, and renews three times a lease.
RECOVERY_S = 1.8


class Judge:
    """Knows what happened to whom."""

    server: Server

    def __init__(self, schedule: Schedule, world: World, notes: Notes) -> None:
        self.schedule, self.world, self.notes = schedule, world, notes
        self.processes: dict[str, Process] = {}
        self.died: set[str] = set()

    def charge(self, holder: str, reason: str, late: bool) -> None:
        """A delivery is charged to whom something happened; nobody else loses one."""
        process = self.processes[holder]
        cut_until = min(process.cut_until, self.world.now)
        recovered_s = self.world.now - max(process.troubled_at, cut_until)
        excused = (
            late
            or self.server.ledger.forgetful  # it may hold what it has settled long ago
            or not process.alive
            or process.frozen
            or holder in self.died
            or recovered_s < RECOVERY_S
        )
        if not excused or (self.schedule.calm and process.alive):
            self.world.accuse(f"{holder} lost a delivery ({reason}), and nothing happened to it")

    def exit(self, worker: Worker) -> None:
        """Who had the time to leave in good order holds nothing any more, and has settled what it ran."""
        name, ledger = worker.process.name, self.server.ledger
        if not worker.process.clean or self.world.now - worker.busy_until >= LAST_SETTLE_S:
            return
        held = [
            lease.copy.id
            for lease in ledger.leases.values()
            if lease.holder == name and not lease.late
        ]
        if held and not ledger.forgetful:
            self.world.accuse(f"{name} left, and holds {held}")

    def return_(self, holder: str, token: str) -> None:
        """What has ended is settled, not handed back, as long as the server is there."""
        process = self.processes[holder]
        troubled = self.world.now - max(process.failed_at, process.thawed_at) < LAST_SETTLE_S
        ended = [run for run in self.notes.runs if run.lease == token and run.ended]
        if ended and not troubled and not self.server.ledger.forgetful:
            self.world.accuse(f"{holder} handed back {ended[0].task}, which it has run")

    def end(self) -> None:
        ledger, notes = self.server.ledger, self.notes
        succeeded = {run.task for run in notes.runs if run.ended == "succeeded"}
        for task in notes.tasks.values():
            copies = ledger.copies.get(task.id, [])
            if not copies and task.id in self.server.forgotten:
                continue
            if len(copies) != 1:
                self.world.accuse(f"{task.id} was accepted {len(copies)} times")
            for copy in copies:
                if copy.state == "done" and task.id not in succeeded:
                    self.world.accuse(f"{task.id} counts as done, and never ran to its end")
                if copy.state == "dead":
                    self._dead(task, copy.reason, copy.attempt)
                elif copy.state != "done":
                    self.world.accuse(f"{task.id} ended as {copy.state}")
        if self.schedule.calm:
            self._calm()
        if self.world.violations:
            raise Violation(self.world.violations[0])

    def _dead(self, task: Task, reason: str, attempts: int) -> None:
        failed = [run for run in self.notes.runs if run.task == task.id and run.ended == "failed"]
        if reason == "attempts_exhausted":
            if (
                not 3 <= attempts <= 5 or len(failed) < attempts
            ):  # the declared policy, or the default
                self.world.accuse(f"{task.id} is dead after {len(failed)} failures ({attempts})")
        elif reason != "delivery_limit":
            self.world.accuse(f"{task.id} is dead because {reason}")

    def _calm(self) -> None:
        """With nothing wrong, every message runs exactly as often as it fails, and once more."""
        for task in self.notes.tasks.values():
            runs = sum(run.task == task.id for run in self.notes.runs)
            expected = (task.failures + 1,) if task.failures < 3 else (3, 5)
            if not task.poison and runs not in expected:
                self.world.accuse(f"{task.id} ran {runs} times in a world without faults")
