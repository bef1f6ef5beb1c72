"""Run commands at the same time, and show their lines as they come, each with the command's number.

    python scripts/side_by_side.py 'pytest -v tests/api' 'pytest -v tests/e2e/kubernetes'

Ends with 0 when all of them have, else with 1. Ctrl-C reaches all of them.
"""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence

#: Gets the index of a command, and a line of it (with its end).
Show = Callable[[int, str], None]


def main(commands: list[str]) -> int:
    """Run the commands; return the exit code."""
    codes = run(
        [shlex.split(command) for command in commands],
        lambda index, line: print(f"{index + 1}| {line}", end="", flush=True),
    )
    for command, code in zip(commands, codes, strict=True):
        print(f"{command}: {'passed' if code == 0 else f'ended with {code}'}")
    return int(any(codes))


def run(commands: Sequence[Sequence[str]], show: Show) -> list[int]:
    """Run the commands until all have ended; return their exit codes. ``show`` is called by threads."""
    running = [
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        for command in commands
    ]
    readers = [
        threading.Thread(target=_read, args=(index, process, show))
        for index, process in enumerate(running)
    ]
    for reader in readers:
        reader.start()
    for reader in readers:
        # They hear of Ctrl-C themselves, and must have time to clean up.
        while reader.is_alive():
            with contextlib.suppress(KeyboardInterrupt):
                reader.join()
    return [process.wait() for process in running]


def _read(index: int, process: subprocess.Popen[str], show: Show) -> None:
    assert process.stdout is not None  # noqa: S101  # it was asked for
    with process.stdout as lines:
        for line in lines:
            show(index, line)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
