"""Names the keys of a queue that somebody wrote something else to: scripts only say that one is wrong."""

from __future__ import annotations

import redis

from celeriac.broker.keys import QueueKeys

#: A command for each key, in their order, that its proper type answers; all are among those scripts call.
_COMMANDS = (
    *["XLEN"] * 4,
    "ZCARD",
    "HEXISTS",
    "XLEN",
    "HEXISTS",
    "HEXISTS",
    "ZCARD",
    "LLEN",
    "ZCARD",
)


def wrong_keys(client: redis.Redis, keys: QueueKeys) -> list[str]:
    """Name the keys that hold a value of another type."""
    wrong = []
    for command, key in zip(_COMMANDS, keys.all, strict=True):
        try:
            client.execute_command(command, key, *(["-"] if command == "HEXISTS" else []))
        except redis.ResponseError as error:
            if "WRONGTYPE" in str(error):
                wrong.append(key)
    return wrong


def described(client: redis.Redis, keys: QueueKeys, otherwise: str) -> str:
    """Say which keys are wrong and what to do; ``otherwise`` when none is."""
    wrong = wrong_keys(client, keys)
    if not wrong:
        return otherwise
    return (
        f"not a queue's: {', '.join(wrong)} (WRONGTYPE: another program wrote there); "
        "rename or delete, and the queue goes on"
    )
