"""The flag that starts a drain."""

from __future__ import annotations

import time

_SLICE_S = 0.05


class Closing:
    """An event that signal handlers may set.

    ``threading.Event`` takes a lock to do that. A handler runs in the midst of the main thread, which may be
    waiting for the very event and hold that lock: then both would wait for ever, and SIGTERM with them.
    """

    def __init__(self) -> None:
        self._set = False

    def set(self) -> None:
        """Start the drain."""
        self._set = True

    def is_set(self) -> bool:
        """Whether the drain has started."""
        return self._set

    def wait(self, timeout_s: float) -> bool:
        """Sleep until then, or for ``timeout_s`` seconds; whether it has started."""
        deadline = time.monotonic() + timeout_s
        while not self._set and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(_SLICE_S, left))
        return self._set
