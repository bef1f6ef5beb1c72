"""Loads the Lua scripts that move messages, and runs them by digest.

Each script is its shebang line, then what broker/layout.py says, then lua/common.lua (but for one that stands
alone), then its own text. A server that lost its script cache (a restart, SCRIPT FLUSH) answers NOSCRIPT; the
script is then sent whole, which is safe because a refused EVALSHA has done nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import redis
from redis.exceptions import NoScriptError, ResponseError

from celeriac.broker import layout

Argument = str | bytes | int

#: Run once for each message, and short: what lua/common.lua defines would be most of its time.
_ALONE = frozenset({"publish_one"})


@dataclass(frozen=True, slots=True)
class Script:
    """A script's text and the digest under which servers know it."""

    text: str
    sha: str

    def run(self, client: redis.Redis, keys: Sequence[str], args: Sequence[Argument]) -> Any:
        """Run it in one round trip, or two when the server did not know it."""
        try:
            return client.execute_command("EVALSHA", self.sha, len(keys), *keys, *args)
        except NoScriptError:
            return client.execute_command("EVAL", self.text, len(keys), *keys, *args)

    def send(
        self,
        client: redis.Redis,
        keys: Sequence[str],
        args: Sequence[Argument],
        *,
        after: Sequence[Argument | float] = (),
    ) -> Callable[[], Any]:
        """Send it on a connection of its own and return at once; what is returned waits for the answer.

        Call that once, or the connection is lost to its pool. ``after`` is a command that the server
        carries out first, however long that takes; only an error of it is told, once the script has run.
        """
        pool = client.connection_pool
        connection = pool.get_connection()
        commands = [("EVALSHA", self.sha, len(keys), *keys, *args)]
        try:
            connection.send_packed_command(
                connection.pack_commands([after, *commands] if after else commands)
            )
        except BaseException:
            pool.release(connection)
            raise

        def answer() -> Any:
            try:
                trouble = _error_in(connection) if after else None
                found = connection.read_response()
            except NoScriptError:
                found = client.execute_command("EVAL", self.text, len(keys), *keys, *args)
            finally:
                pool.release(connection)
            if trouble is not None:
                raise trouble
            return found

        return answer


def _error_in(connection: Any) -> ResponseError | None:
    """Read an answer of which only an error matters."""
    try:
        connection.read_response()
    except ResponseError as error:
        return error
    return None


@cache
def script(name: str) -> Script:
    """Load the script ``name`` from the package."""
    folder = files("celeriac.broker") / "lua"
    shebang, _, own = (folder / f"{name}.lua").read_text().partition("\n")
    shared = () if name in _ALONE else (layout.names(), (folder / "common.lua").read_text())
    text = layout.filled("\n".join((shebang, layout.constants(), *shared, own)))
    return Script(text=text, sha=hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
