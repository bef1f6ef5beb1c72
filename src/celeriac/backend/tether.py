"""Runs a command that does not outlive the process that started it.

    python tether.py PARENT_PID COMMAND...

Linux sends SIGTERM to the command when the parent is gone, even by SIGKILL; elsewhere a worker
watches its parent by itself. This is a program of its own, and not a hook between fork and exec,
because such a hook may deadlock in a process with threads. It must not import anything of ours.
"""

from __future__ import annotations

import os
import sys

_PR_SET_PDEATHSIG = 1


def main(parent: int, command: list[str]) -> None:
    """Tie this process to its parent and become the command."""
    if sys.platform == "linux":
        import ctypes
        import signal

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))
    if os.getppid() != parent:  # it died before the tie was made
        sys.exit(0)
    os.execv(command[0], command)  # noqa: S606 (no shell is the point)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
