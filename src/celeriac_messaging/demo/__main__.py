"""``python -m celeriac_messaging.demo``: see the platform work, from nothing to a redrive, in a minute."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from celeriac_messaging.demo.folder import DemoFolder
    from celeriac_messaging.demo.run import Demo
    from celeriac_messaging.demo.view import View

STOPPED = "Stopped. Start it again and it carries on with what is left."


def main() -> int:
    """Run the demo; the exit code is 0 only if everything came true, 130 when interrupted."""
    arguments = _arguments()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:  # the imports too: they take a moment, in which somebody may change their mind
        return _start(arguments)
    except KeyboardInterrupt:
        print(STOPPED)
        return 130
    except ModuleNotFoundError as missing:
        if missing.name != "aiosmtpd":
            raise
        print('The demo needs an extra: pip install "celeriac-messaging[demo]"')
        return 2


def _start(arguments: argparse.Namespace) -> int:
    from celeriac_messaging.demo.folder import DemoFolder, NotOurFolder
    from celeriac_messaging.demo.platform import PlatformFailed
    from celeriac_messaging.demo.run import DemoFailed
    from celeriac_messaging.demo.view import View

    view = View()
    try:
        folder = DemoFolder(arguments.data, fresh=arguments.fresh)
        return _run(folder, view, keep=arguments.keep)
    except (DemoFailed, PlatformFailed) as failure:
        view.trouble(str(failure))
        return 1
    except (NotOurFolder, OSError) as wrong:
        view.trouble(str(wrong))
        return 2


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m celeriac_messaging.demo", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(".demo"), help="default: %(default)s")
    parser.add_argument("--fresh", action="store_true", help="forget what an earlier start left")
    parser.add_argument("--keep", action="store_true", help="stay up at the end, until Ctrl-C")
    return parser.parse_args()


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _run(folder: DemoFolder, view: View, *, keep: bool) -> int:
    from celeriac_messaging.demo.run import Demo

    again = " (carrying on with what an earlier start left)" if folder.resumed else ""
    view.step(f"Starting a broker, six queues and two recipients in {folder.path}{again}")
    with Demo(folder, view) as demo:
        if folder.state.phase == "sending":
            view.step("Sending the sample")
            demo.send()
            demo.watch()
            answers = ", ".join(map(str, demo.flaky()))
            view.line(f"one recipient answered {answers}: it was tried until it took its message")
            view.step("Every job has come to an end. Dead letters, with their reasons:")
            demo.report()
            view.step("The broken recipient is repaired; its dead letters go back to their queue")
        demo.redrive()
        demo.watch()
        view.step("The six queues in the end")
        demo.report()
        complaints = demo.complaints()
        for complaint in complaints:
            view.trouble(complaint)
        if complaints:
            view.line("--fresh begins anew; the folder keeps everything for a closer look")
        else:
            _celebrate(view, demo)
            folder.enter("finished")
        _next(view, folder)
        if keep:
            view.step("Staying up; Ctrl-C ends it")
            _forever()
    return 1 if complaints else 0


def _celebrate(view: View, demo: Demo) -> None:
    taken = demo.wanted().taken
    effects = ", ".join(f"{count} by {channel}" for channel, count in taken.items())
    view.step("Conservation law holds: accepted = done + discarded + purged + dead + unfinished")
    view.line(f"recipients took {effects}; nothing was lost, nothing arrived twice")


def _next(view: View, folder: DemoFolder) -> None:
    view.step("Next")
    view.line(
        "python -m celeriac_messaging.demo --keep       # again, and stay up; then in another terminal:"
    )
    view.line(f"cd {folder.path}")
    view.line("celeriac get                          # the queues")
    view.line("celeriac explain message-delivery     # why it has the workers it has")
    view.line("celeriac dlq ls message-encryption    # what the delivery limit stopped")


def _forever() -> None:
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    sys.exit(main())
