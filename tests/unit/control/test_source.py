"""Files of queues: read again when they change, and never broken by a broken one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from celeriac.control.source import FileSource
from celeriac.spec.load import SpecError

GOOD = """\
apiVersion: celeriac.dev/v1alpha1
kind: MessageQueue
metadata: {name: NAME}
spec: {worker: {app: a}}
"""


def write(path: Path, text: str) -> None:
    path.write_text(text)
    os.utime(path, (1_700_000_000, 1_700_000_000 + len(text)))


def names(source: FileSource) -> list[str]:
    return [queue.name for queue in source.read().queues]


def test_the_first_read_must_succeed(tmp_path: Path) -> None:
    with pytest.raises(SpecError):
        FileSource(tmp_path / "none.yaml")


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "queues.yaml"
    write(path, GOOD.replace("NAME", "a"))
    source = FileSource(path)
    assert names(source) == ["a"]

    write(path, GOOD.replace("NAME", "a") + "---\n" + GOOD.replace("NAME", "b"))

    assert names(source) == ["a", "b"]


def test_an_edit_within_one_tick_of_the_clock_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "queues.yaml"
    path.write_text(GOOD.replace("NAME", "a"))
    source = FileSource(path)
    seen = path.stat()
    path.write_text(GOOD.replace("NAME", "b"))
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))

    assert names(source) == ["b"]


@pytest.mark.parametrize("broken", ["spec: [", GOOD.replace("NAME", "A B"), None])
def test_a_broken_file_leaves_the_last_good_declaration(tmp_path: Path, broken: str | None) -> None:
    path = tmp_path / "queues.yaml"
    write(path, GOOD.replace("NAME", "a"))
    source = FileSource(path)
    if broken is None:
        path.unlink()
    else:
        write(path, broken)

    declaration = source.read()
    assert [queue.name for queue in declaration.queues] == ["a"]
    assert str(path) in declaration.problem

    write(path, GOOD.replace("NAME", "cc"))
    declaration = source.read()
    assert [queue.name for queue in declaration.queues] == ["cc"]
    assert declaration.problem == ""


def test_the_name_of_a_queue_cannot_be_changed(tmp_path: Path) -> None:
    path = tmp_path / "queues.yaml"
    write(path, GOOD.replace("NAME", "a"))
    source = FileSource(path)
    write(path, GOOD.replace("NAME", "a").replace("{worker", "{queue: other, worker"))

    declaration = source.read()

    assert declaration.queues[0].queue_name == "a"
    assert "a: spec.queue: queue must not be changed" in declaration.problem


def test_several_files_are_one_declaration(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"{name}.yaml", GOOD.replace("NAME", name))

    assert names(FileSource(tmp_path / "a.yaml", tmp_path / "b.yaml")) == ["a", "b"]
    write(tmp_path / "b.yaml", GOOD.replace("NAME", "a"))
    with pytest.raises(SpecError, match="another file"):
        FileSource(tmp_path / "a.yaml", tmp_path / "b.yaml")
