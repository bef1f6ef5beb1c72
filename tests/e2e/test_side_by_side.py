"""Commands side by side: all are heard to the end, and one that fails is not drowned by the others."""

from __future__ import annotations

import time

import pytest

from scripts import side_by_side


def test_all_run_at_once_and_every_line_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    assert (
        side_by_side.main(["sh -c 'sleep 2; echo a >&2'", "sh -c 'sleep 2; echo b; echo c'"]) == 0
    )
    assert time.monotonic() - began < 3.9
    shown = capsys.readouterr().out.splitlines()
    assert {*shown[:3]} == {"1| a", "2| b", "2| c"}
    assert [it.rpartition(": ")[2] for it in shown[3:]] == ["passed", "passed"]


def test_one_that_fails_fails_all_once_the_others_are_through(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert side_by_side.main(["false", "sh -c 'sleep 0.5; echo done'"]) == 1
    shown = capsys.readouterr().out.splitlines()
    assert shown == ["2| done", "false: ended with 1", "sh -c 'sleep 0.5; echo done': passed"]
