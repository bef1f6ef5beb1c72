"""Which time limits a message has. Who keeps them, and how, is its pool's business."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

from celeriac.broker.message import Message


class KeepsLimits(Protocol):
    """Keeps the limits of messages that run in this process."""

    def kept(
        self, message: Message, task: Any, request: dict[str, Any], max_attempts: int | None
    ) -> AbstractContextManager[None]:
        """Enter with ``with``: the limits hold inside."""


def limits_of(
    task: Any, request: dict[str, Any], *, soft_s: float, hard_s: float
) -> tuple[float, float]:
    """Soft and hard limit of one message, in seconds; 0 means none.

    The message's own come before the task's, and those before the queue's, which are given.
    """
    hard, soft = request.get("timelimit") or (None, None)
    return soft or task.soft_time_limit or soft_s, hard or task.time_limit or hard_s
