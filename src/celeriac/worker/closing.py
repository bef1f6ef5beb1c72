"""The flag that starts a drain."""

from __future__ import annotations

from celeriac.worker.machine import THIS_MACHINE, Machine

_SLICE_S = 0.05


class Closing:
    """An event that signal handlers may set.

    ``threading.Event`` takes a lock to do that. A handler runs in the midst of the main thread, which may be
    waiting for the very event and hold that lock: then both would wait for ever, and SIGTERM with them.
    """

    def __init__(self, machine: Machine = THIS_MACHINE) -> None:
        self._machine = machine
        self._set = False

    def set(self) -> None:
        """Start the drain."""
        self._set = True

    def is_set(self) -> bool:
        """Whether the drain has started."""
        return self._set

    def wait(self, timeout_s: float) -> bool:
        """Sleep until then, or for ``timeout_s`` seconds; whether it has started."""
        clock = self._machine.monotonic
        deadline = clock() + timeout_s
        while not self._set and (left := deadline - clock()) > 0:
            self._machine.sleep(min(_SLICE_S, left))
        return self._set
