"""A Redis client that goes nowhere: it answers what the test says, and remembers what it was asked.

For unit tests of what stands before a queue's scripts. It keeps no data, so it is no twin of a server.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import redis

from celeriac.broker import scripts

_LUA = Path(scripts.__file__).with_name("lua")
NAMES = {
    scripts.script(path.stem).sha: path.stem for path in _LUA.glob("*.lua") if path.stem != "common"
}


class ScriptedRedis(redis.Redis):
    """Answers by the name of a command (in small letters) or script; an exception is raised.

    ``asked`` are the names and arguments, those of a script without its keys.
    """

    def __init__(self, **answers: object) -> None:
        super().__init__()
        self.answers = answers
        self.asked: list[tuple[str, tuple[Any, ...]]] = []

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Look the answer up: a callable is called with the arguments."""
        name, arguments = str(args[0]).lower(), args[1:]
        if name == "evalsha":
            name, arguments = NAMES[args[1]], args[3 + int(args[2]) :]
        self.asked.append((name, arguments))
        answer = self.answers[name]
        if callable(answer):
            answer = answer(*arguments)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def times(self, name: str) -> int:
        """How often a command or script was asked for."""
        return sum(it == name for it, _ in self.asked)
