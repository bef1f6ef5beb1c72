"""Publishing that waits until replicas have the messages too.

Redis answers before its replicas know; who takes over from a dead primary may never have heard of a message
that was accepted. WAIT asks how many replicas have what this very connection wrote last, so it travels with
the script, in one pipeline. It undoes nothing: what too few replicas have is in the queue all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis
from redis.exceptions import NoScriptError

from celeriac.broker.scripts import Argument, Script


@dataclass(frozen=True, slots=True)
class Replication:
    """How many replicas must have a message, and how long a publisher waits for them."""

    replicas: int
    timeout_ms: int

    def run(
        self,
        script: Script,
        client: redis.Redis,
        keys: Sequence[str],
        args: Sequence[Argument],
    ) -> tuple[Any, int]:
        """Run a script that writes; return its answer, and how many replicas have acknowledged it."""
        answer, reached = self._send(client, ("EVALSHA", script.sha, len(keys), *keys, *args))
        if isinstance(answer, NoScriptError):
            answer, reached = self._send(client, ("EVAL", script.text, len(keys), *keys, *args))
        for it in (answer, reached):
            if isinstance(it, redis.RedisError):
                raise it
        return answer, int(reached)

    def _send(self, client: redis.Redis, command: Sequence[Any]) -> list[Any]:
        pipeline = client.pipeline(transaction=False)
        pipeline.execute_command(*command)
        pipeline.execute_command("WAIT", self.replicas, self.timeout_ms)
        answers: list[Any] = pipeline.execute(raise_on_error=False)
        return answers
