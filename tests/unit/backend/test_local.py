"""Child processes, real ones: quick scripts in place of workers, so that deaths can be arranged."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from celeriac.backend.base import Fleet
from celeriac.backend.command import Command
from celeriac.backend.local import LocalBackend
from celeriac.backend.output import LogFiles
from celeriac.backend.process import describe_end
from celeriac.spec.queue import MessageQueue

GOOD = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("ready", flush=True)
while True: time.sleep(0.05)
"""
BROKEN = "import sys; print('Error: there is no module mail\\nLook for it'); sys.exit(2)"
DEAF = """
import signal, time
signal.signal(signal.SIGTERM, lambda *_: print("term", flush=True))
print("ready", flush=True)
while True: time.sleep(0.05)
"""
PARENT = """
import os, time
if os.fork() == 0:
    print(f"child {os.getpid()}", flush=True)
print("ready", flush=True)
while True: time.sleep(0.05)
"""


def queue(**worker: Any) -> MessageQueue:
    return MessageQueue.model_validate(
        {
            "apiVersion": "celeriac.dev/v1alpha1",
            "kind": "MessageQueue",
            "metadata": {"name": "mail"},
            "spec": {"worker": {"app": "a", "drainSeconds": 0, **worker}},
        }
    )


MAIL = queue()


class Yard:
    """A backend whose workers are scripts, and whose clock can be pushed on."""

    def __init__(self, folder: Path) -> None:
        self.script = GOOD
        self.pushed = 0.0
        self.logs = LogFiles(folder)
        self.backend = LocalBackend(
            broker_url="celeriac://nowhere",
            output=self.logs,
            monotonic=lambda: time.monotonic() + self.pushed,
            command=lambda *_, **__: Command(("-c", self.script), ()),
        )

    def look(self) -> Fleet:
        """Observe; a worker that printed "ready" was heard of."""
        names = self.backend.pids(MAIL)
        heard = {n: 0 for n in names if any("ready" in it for it in self.logs.last_lines(n))}
        return self.backend.observe(MAIL, heard=heard)

    def until(
        self, done: Callable[[Fleet], bool], *, replicas: int | None = None, seconds: float = 10
    ) -> Fleet:
        deadline = time.monotonic() + seconds
        while not done(fleet := self.look()):
            assert time.monotonic() < deadline, fleet
            if replicas is not None:
                self.backend.ensure(MAIL, replicas=replicas)
            time.sleep(0.02)
        return fleet


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    made = Yard(tmp_path / "logs")
    yield made
    made.backend.close()


@pytest.mark.parametrize(
    ("code", "lines", "told"),
    [
        (-9, ["whatever"], "killed by SIGKILL"),
        (0, ["drained"], "exit code 0"),
        (1, [], "exit code 1"),
        (1, ["Traceback", "KeyError: 'x'"], "exit code 1: KeyError: 'x'"),
        (2, ["Error: no module", "Install it."], "exit code 2: no module"),
    ],
)
def test_how_a_process_ended_is_told_in_its_own_words(
    code: int, lines: list[str], told: str
) -> None:
    assert describe_end(code, lines) == told


def test_workers_have_a_session_of_their_own(yard: Yard) -> None:
    """Ctrl-C in the terminal reaches this process alone, which then decides."""
    yard.until(lambda fleet: fleet.ready == 2, replicas=2)

    for pid in yard.backend.pids(MAIL).values():
        assert os.getsid(pid) == pid


def test_a_dead_worker_is_told_replaced_and_kept_until_acknowledged(yard: Yard) -> None:
    yard.until(lambda fleet: fleet.ready == 1, replicas=1)
    ((name, pid),) = yard.backend.pids(MAIL).items()
    os.kill(pid, signal.SIGKILL)

    fleet = yard.until(lambda fleet: bool(fleet.lost))
    assert fleet.lost == (name,)
    assert fleet.last_failure == "killed by SIGKILL"
    yard.until(lambda fleet: fleet.ready == 1, replicas=1)
    assert yard.look().lost == (name,)

    yard.backend.acknowledge(MAIL, [name])
    assert yard.look().lost == ()
    assert name not in yard.backend.pids(MAIL)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_children_of_a_dead_worker_are_gone_before_it_is_told(yard: Yard) -> None:
    yard.script = PARENT
    yard.until(lambda fleet: fleet.ready == 1, replicas=1)
    ((name, pid),) = yard.backend.pids(MAIL).items()

    def children() -> list[int]:
        lines = yard.logs.last_lines(name)
        return [int(line.split()[1]) for line in lines if line.startswith("child")]

    yard.until(lambda _: bool(children()))  # the log is read by a thread, a moment later
    child = children()[0]
    os.kill(pid, signal.SIGKILL)
    yard.until(lambda fleet: bool(fleet.lost))

    deadline = time.monotonic() + 2
    while _alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_worker_that_cannot_start_is_tried_less_and_less_and_its_last_line_is_told(
    yard: Yard,
) -> None:
    yard.script = BROKEN
    fleet = yard.until(lambda fleet: fleet.failures == 2, replicas=3)
    assert fleet.last_failure == "exit code 2: there is no module mail"

    yard.backend.ensure(MAIL, replicas=3)
    assert yard.look().starting == 0  # not before a second has passed, and then only one
    yard.pushed += 1
    yard.backend.ensure(MAIL, replicas=3)
    assert yard.look().starting <= 1
    yard.until(lambda fleet: fleet.failures == 3)


def test_a_mended_declaration_is_tried_at_once(yard: Yard) -> None:
    yard.script = BROKEN
    yard.until(lambda fleet: fleet.failures == 2, replicas=2)
    yard.script = GOOD

    fleet = yard.until(lambda fleet: fleet.ready == 2, replicas=2, seconds=5)

    assert (fleet.failures, fleet.outdated) == (0, 0)


def test_a_proven_worker_that_dies_is_replaced_at_once(yard: Yard) -> None:
    yard.until(lambda fleet: fleet.ready == 1, replicas=1)
    for _ in range(3):
        yard.pushed += 30
        (pid,) = yard.backend.pids(MAIL).values()
        os.kill(pid, signal.SIGKILL)
        fleet = yard.until(lambda fleet: fleet.waiting == 1)
        assert fleet.failures == 1
        yard.until(lambda fleet: fleet.ready == 1, replicas=1)


def test_a_worker_that_does_not_drain_is_asked_again_and_then_killed(yard: Yard) -> None:
    yard.script = DEAF
    yard.until(lambda fleet: fleet.ready == 1, replicas=1)
    ((name, _),) = yard.backend.pids(MAIL).items()
    yard.backend.ensure(MAIL, replicas=0)
    yard.until(lambda _: yard.logs.last_lines(name).count("term") == 1)

    yard.pushed += 5
    yard.backend.ensure(MAIL, replicas=0)
    yard.until(lambda _: yard.logs.last_lines(name).count("term") == 2)
    assert yard.look().draining == 1

    yard.pushed += 5
    yard.until(lambda fleet: fleet.draining == 0, replicas=0)


def test_hurry_does_not_wait_for_the_drain(yard: Yard) -> None:
    yard.script = DEAF
    yard.until(lambda fleet: fleet.ready == 1, replicas=1)
    ((name, _),) = yard.backend.pids(MAIL).items()
    yard.backend.ensure(queue(drainSeconds=3600), replicas=1)
    yard.backend.remove(MAIL)
    yard.until(lambda _: yard.logs.last_lines(name).count("term") == 1)

    yard.backend.hurry(MAIL)
    yard.backend.remove(MAIL)
    yard.until(lambda _: yard.logs.last_lines(name).count("term") == 2)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the worker watches its parent")
def test_workers_do_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    program = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
import test_local as it
yard = it.Yard(Path({str(tmp_path)!r}))
yard.until(lambda fleet: fleet.ready == 2, replicas=2)
print(*yard.backend.pids(it.MAIL).values(), flush=True)
time.sleep(60)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=_with_source()
    ) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        parent.kill()
    assert len(pids) == 2

    deadline = time.monotonic() + 5
    while any(map(_alive, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _with_source() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
