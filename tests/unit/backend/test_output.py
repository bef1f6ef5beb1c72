"""What workers print is kept, within bounds."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from celeriac.backend.output import Lines, LogFiles


def test_a_file_for_each_worker(tmp_path: Path) -> None:
    logs = LogFiles(tmp_path / "logs")
    with logs.open("mail-1") as stream:
        stream.write(b"one\n\ntwo\nthree\n")

    assert (tmp_path / "logs/mail-1.log").read_text().startswith("one")
    assert logs.last_lines("mail-1", 2) == ["two", "three"]
    assert logs.last_lines("nobody") == []


def test_a_file_is_cut_to_its_newer_half_while_the_worker_goes_on_writing(tmp_path: Path) -> None:
    logs = LogFiles(tmp_path, max_bytes=1000)
    with logs.open("mail-1") as stream:
        for n in range(200):
            stream.write(f"line {n}\n".encode())
        stream.flush()
        logs.trim("mail-1")
        stream.write(b"after\n")

    text = logs.path("mail-1").read_text()
    assert 400 < len(text) < 520
    assert text.startswith("line ")
    assert text.endswith("line 199\nafter\n")


def test_the_oldest_files_go(tmp_path: Path) -> None:
    logs = LogFiles(tmp_path, max_files=3)
    for n in range(5):
        logs.open(f"mail-{n}").close()
        os.utime(logs.path(f"mail-{n}"), (n, n))

    assert sorted(path.stem for path in tmp_path.iterdir()) == ["mail-2", "mail-3", "mail-4"]


def test_lines_go_to_a_function(tmp_path: Path) -> None:
    got: list[tuple[str, str]] = []
    lines = Lines(lambda worker, line: got.append((worker, line)))
    script = "print('one'); print(); print('x' * 20000)"
    process = subprocess.Popen([sys.executable, "-c", script], stdout=lines.open("mail-1"))
    lines.started("mail-1", process)
    process.wait()

    assert lines.last_lines("mail-1")[0] == "one"
    deadline = time.monotonic() + 5
    while len(got) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert got[0] == ("mail-1", "one")
    assert max(len(line) for _, line in got) <= 8192
