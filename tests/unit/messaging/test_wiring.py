"""The parts belong to one process: made once in it, and anew in a child."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from celeriac_messaging.settings import from_environment
from celeriac_messaging.wiring import OfThisProcess, Tools, build


@pytest.fixture
def made(tmp_path: Path) -> list[Tools]:
    return []


@pytest.fixture
def per_process(tmp_path: Path, made: list[Tools]) -> OfThisProcess:
    settings = from_environment({"MESSAGING_DATA_DIR": str(tmp_path)})

    def make() -> Tools:
        made.append(build(settings))
        return made[-1]

    return OfThisProcess(make)


def test_many_threads_get_the_same_parts(per_process: OfThisProcess, made: list[Tools]) -> None:
    threads = [threading.Thread(target=per_process) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    per_process.close()
    assert per_process() is not made[0]
    assert len(made) == 2
    per_process.close()


def test_a_child_makes_its_own_also_when_forked_in_the_middle(per_process: OfThisProcess) -> None:
    """The lock may be held by another thread at the moment of the fork."""
    ours = per_process()
    with per_process._lock:
        child = os.fork()
        if child == 0:  # pragma: no cover - in the child
            fine = per_process() is not ours and per_process().store.record("e", kind="k")
            os._exit(0 if fine else 1)
    _pid, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert ours.store.is_done("e")
    per_process.close()
