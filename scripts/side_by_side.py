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


def main(commands: list[str]) -> int:
    """Run the commands; return the exit code."""
    running = [
        subprocess.Popen(
            shlex.split(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        for command in commands
    ]
    readers = [
        threading.Thread(target=_show, args=(number, process))
        for number, process in enumerate(running, start=1)
    ]
    for reader in readers:
        reader.start()
    for reader in readers:
        # They hear of Ctrl-C themselves, and must have time to clean up.
        while reader.is_alive():
            with contextlib.suppress(KeyboardInterrupt):
                reader.join()
    codes = [process.wait() for process in running]
    for command, code in zip(commands, codes, strict=True):
        print(f"{command}: {'passed' if code == 0 else f'ended with {code}'}")
    return int(any(codes))


def _show(number: int, process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None  # noqa: S101  # it was asked for
    with process.stdout as lines:
        for line in lines:
            print(f"{number}| {line}", end="", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
