"""What a running `up` leaves for other commands, and when it is believed."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from celeriac.cli.state import STALE_SECONDS, StateFolder


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    state = StateFolder(tmp_path / ".celeriac")
    state.create()
    return state


def test_status_is_believed_while_it_is_fresh(folder: StateFolder) -> None:
    now = time.time() * 1000
    folder.write("status.json", {"writtenMs": int(now), "queues": {"mail": {}}})
    assert folder.status()["queues"] == {"mail": {}}

    old = int(now - (STALE_SECONDS + 1) * 1000)
    folder.write("status.json", {"writtenMs": old, "queues": {"mail": {}}})
    assert folder.status() == {}


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"writtenMs": "now"}'])
def test_a_damaged_file_is_no_file(folder: StateFolder, text: str) -> None:
    (folder.path / "status.json").write_text(text)
    assert folder.status() == {}


def test_only_one_up_has_the_folder(folder: StateFolder) -> None:
    lock = folder.lock()
    assert lock is not None
    assert folder.lock() is None
    os.close(lock)
    again = folder.lock()
    assert again is not None
    os.close(again)


def test_the_url_is_for_its_owner_only(folder: StateFolder) -> None:
    folder.write("broker.json", {"url": "celeriac://:secret@h"})

    assert stat.S_IMODE((folder.path / "broker.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    assert (folder.path / ".gitignore").read_text() == "*\n"
    assert folder.broker() == {"url": "celeriac://:secret@h"}
    folder.remove("broker.json")
    assert folder.broker() == {}
