"""The drain's flag, and the handlers that set it in the midst of anything."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

from celeriac.worker.closing import Closing


def test_it_can_be_set_at_every_line_of_waiting_for_it():
    lines = set()

    def interrupt(frame: FrameType, event: str, arg: Any) -> Any:
        if frame.f_code is not Closing.wait.__code__:
            return None
        if event == "line" and frame.f_lineno not in lines:
            lines.add(frame.f_lineno)
            closing.set()
        return interrupt

    for _ in range(10):
        closing = Closing()
        sys.settrace(interrupt)
        try:
            closing.wait(0.01)
        finally:
            sys.settrace(None)
    assert len(lines) >= 3


def test_a_signal_ends_the_wait_soon():
    closing = Closing()
    before = signal.signal(signal.SIGUSR1, lambda *_: closing.set())
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1)).start()
    started = time.monotonic()
    try:
        assert closing.wait(5)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert time.monotonic() - started < 1


def test_it_waits_as_long_as_it_is_told_when_nobody_sets_it():
    started = time.monotonic()
    assert not Closing().wait(0.12)
    assert 0.12 <= time.monotonic() - started < 1
