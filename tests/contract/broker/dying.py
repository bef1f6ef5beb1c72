"""A client that dies between two commands: with its last request half sent, or sent and unanswered."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import redis

from celeriac.broker.scripts import script

Death = Literal["cut", "unanswered"]


@cache
def _texts() -> dict[str, str]:
    names = [
        path.name.removesuffix(".lua") for path in (files("celeriac.broker") / "lua").iterdir()
    ]
    return {script(name).sha: script(name).text for name in names if name != "common"}


class DyingClient(redis.Redis):
    """Answers ``after`` scripts, and dies with the next one.

    ``executed`` counts the scripts that the server has run, the unanswered one included.
    """

    death: Death = "unanswered"
    after = 0
    executed = 0

    def execute_command(self, *args: Any, **options: Any) -> Any:
        if args[0] not in ("EVALSHA", "EVAL"):
            return self._ask(*args, **options)
        if self.after == 0:
            self._die(*args)
        answer = self._ask(*args, **options)  # NOSCRIPT is raised: nothing ran
        self.after -= 1
        self.executed += 1
        return answer

    def _ask(self, *args: Any, **options: Any) -> Any:
        return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]

    def _die(self, name: str, text: str, *rest: Any) -> None:
        connection: Any = self.connection_pool.get_connection()
        connection.send_command("CLIENT", "ID")
        number = connection.read_response()
        # By its text, so that a server without the script does not refuse the last request.
        request = b"".join(connection.pack_command("EVAL", _texts().get(text, text), *rest))
        if self.death == "cut":
            request = request[: len(request) // 2]
        else:
            self.executed += 1
        connection._sock.sendall(request)
        connection.disconnect()
        self.connection_pool.release(connection)
        until(lambda: not self._ask("CLIENT", "LIST", "ID", number))
        raise redis.exceptions.ConnectionError("died")


def until(check: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait until something is true; an error when it does not become so."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.001)
