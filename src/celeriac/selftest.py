"""A Celery app with one task, and a command that sends a message through it: is a queue alive?

celeriac worker -A celeriac.selftest:app -Q selftest --pool solo      (or a MessageQueue with this app)
python -m celeriac.selftest selftest                                  exits 0 once the message is done
"""

from __future__ import annotations

import sys
import time

from celery import Celery

from celeriac import Client

#: A pod may have to be scheduled, pull an image and start before the message runs.
TIMEOUT_S = 180.0
_POLL_S = 0.2

app = Celery("celeriac-selftest")


@app.task(name="celeriac.selftest.echo", ignore_result=True)  # type: ignore[untyped-decorator]
def echo(text: str) -> str:
    """Return what came."""
    return text


def main(queue_name: str) -> int:
    """Send one message and wait until it is done; 0 when it is, 1 when it is not in time."""
    client = Client()
    before = client.stats(queue_name).done
    receipt = client.send(queue_name, echo.name, args=("hello",))
    sys.stdout.write(f"{receipt.status}: {receipt.id}\n")
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        if client.stats(queue_name).done > before:
            sys.stdout.write("done\n")
            return 0
        time.sleep(_POLL_S)
    sys.stderr.write(f"not done within {TIMEOUT_S:.0f} s: {client.stats(queue_name)}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "selftest"))
