"""`make demo`: from nothing to a redrive, also with an interruption in the middle."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROWS = {
    "message-delivery": (205, 203, 2),
    "message-notification": (40, 40, 0),
    "message-encryption": (32, 31, 1),
    "message-indexing": (46, 46, 0),
    "batch-message-sending": (4, 4, 0),
    "message-cleanup": (2, 2, 0),
}


def start(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "celeriac_messaging.demo", "--data", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(demo: subprocess.Popen[str], seconds: float = 120) -> str:
    try:
        return demo.communicate(timeout=seconds)[0]
    except subprocess.TimeoutExpired:
        demo.kill()
        raise


def left_in(folder: Path) -> list[str]:
    """Processes that still work in that folder (where /proc can tell)."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cwd").readlink().is_relative_to(folder):
                found.append((entry / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


def table_of(output: str) -> dict[str, tuple[int, ...]]:
    """The last table of the queues: accepted, done, dead."""
    found = {}
    for line in output.splitlines():
        if match := re.match(r"(\S+) +(\d+) +(\d+) +(\d+) +0 +\d+ +\d+ *$", line):
            found[match[1]] = tuple(int(number) for number in match.groups()[1:])
    return found


@pytest.mark.slow
def test_a_demo_that_is_interrupted_carries_on_and_comes_to_its_end(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    first = start(folder)
    journal = folder / "web.jsonl"
    ends = time.monotonic() + 60
    while not journal.exists() or len(journal.read_text().splitlines()) < 20:
        assert first.poll() is None, finish(first)
        assert time.monotonic() < ends, "nothing was delivered"
        time.sleep(0.02)
    first.send_signal(signal.SIGINT)
    output = finish(first)
    assert first.returncode in (130, -signal.SIGINT), output
    assert "Start it again and it carries on with what is left." in output
    assert "Traceback" not in output
    assert left_in(folder) == []

    second = start(folder)
    output = finish(second)
    assert second.returncode == 0, output
    assert "carrying on with what an earlier start left" in output
    assert "0 accepted, 288 were sent before, 1 refused before it left" in output
    assert "recipient.email: must be an e-mail address" in output
    assert "one recipient answered 503, 503, 201" in output
    assert re.search(r"attempts_exhausted  ×2\n +RecipientBusy: 127\.0\.0\.1 answered 503", output)
    assert "its worker died 5 times" in output
    assert "2 redriven" in output
    assert table_of(output) == ROWS
    assert "Conservation law holds" in output
    assert "\x1b" not in output
    assert left_in(folder) == []
    arrivals = [json.loads(line) for line in journal.read_text().splitlines()]
    taken = [(one["place"], one["id"]) for one in arrivals if one["status"] == 201]
    assert len(taken) == len(set(taken)) == 126 + 23


def test_a_folder_that_is_no_demo_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("irreplaceable")
    demo = start(tmp_path)
    output = finish(demo)
    assert demo.returncode == 2
    assert "name another with --data" in output
    assert [one.name for one in tmp_path.iterdir()] == ["thesis.txt"]
