"""Which commands, keys and channels Celeriac needs, and which of them a server refuses this user.

A command is tried inside MULTI and then discarded: the server checks permissions when it queues a
command, so nothing is executed, and no right to ask about rights is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import redis

#: Every command in a form it takes; K is a key, C a channel, both under the prefix. A test
#: compares this with what the scripts call; PUBLISH to WATCH are for Celery's remote control.
FORMS = """
EVALSHA sha 1 K; EVAL return 1 K; SCRIPT LOAD return; SCRIPT EXISTS sha; TIME; EXISTS K
DEL K; GET K; SET K 1
EXPIRE K 1; SADD K m; SMEMBERS K; SREM K m; LLEN K; LPUSH K 1; BLPOP K 1
HGET K f; HMGET K f; HGETALL K; HSET K f 1; HDEL K f; HEXISTS K f; HINCRBY K f 1
ZADD K 1 m; ZCARD K; ZCOUNT K 0 1; ZRANGE K 0 1; ZRANGEBYSCORE K 0 1; ZREM K m; ZSCORE K m
ZREMRANGEBYSCORE K 0 1; XADD K * f v; XACK K g 1-0; XCLAIM K g c 0 1-0; XDEL K 1-0; XLEN K
XGROUP CREATE K g 0; XGROUP DELCONSUMER K g c; XINFO GROUPS K; XPENDING K g; XRANGE K - +
XREVRANGE K + -; XTRIM K MAXLEN 1; XREADGROUP GROUP g c STREAMS K >
PUBLISH C m; SUBSCRIBE C; UNSUBSCRIBE C; BRPOP K 1; RPOP K; RPUSH K 1; ZREVRANGEBYSCORE K 1 0
WATCH K
PING; SELECT 0; CLIENT SETNAME celeriac; INFO
"""
#: What a cluster's nodes are asked beside that.
CLUSTER_FORMS = "CLUSTER SLOTS; ASKING"
#: Of publishers whose broker URL says `wait_replicas`.
WAIT_FORM = "WAIT 1 1"
FAMILIES = ("SCRIPT", "XGROUP", "XINFO", "CLIENT", "CLUSTER")


def _read(forms: str) -> dict[str, list[str]]:
    words = (form.split() for line in forms.split("\n") for form in line.split(";"))
    return {" ".join(it[:2]) if it[0] in FAMILIES else it[0]: it for it in words if it}


COMMANDS = _read(FORMS)


def _needed(*, cluster: bool, waits: bool) -> dict[str, list[str]]:
    more = [CLUSTER_FORMS] * cluster + [WAIT_FORM] * waits
    return COMMANDS | _read(";".join(more))


def acl_rule(prefix: str, *, cluster: bool = False, waits: bool = False) -> str:
    """The ACL rule that allows all of it, to paste behind ``ACL SETUSER <user>``."""
    commands = _needed(cluster=cluster, waits=waits)
    names = sorted(
        {name.lower().replace(" ", "|") for name in commands} | {"multi", "exec", "discard"}
    )
    return f"~{prefix}:* &{prefix}:* " + " ".join(f"+{name}" for name in names)


def refused(
    client: redis.Redis, prefix: str, *, cluster: bool = False, waits: bool = False
) -> list[str]:
    """Name what one server does not permit this user: commands, and patterns of keys, channels."""
    from redis.exceptions import NoPermissionError, ResponseError

    stand_ins = {"K": f"{prefix}:{{doctor}}:probe", "C": f"{prefix}:kombu:doctor"}
    pool = client.connection_pool
    connection: Any = pool.get_connection()  # redis-py does not type its methods
    wrong: dict[str, None] = {}

    def send(*words: str) -> None:
        connection.send_command(*words)
        connection.read_response()

    try:
        for name, words in _needed(cluster=cluster, waits=waits).items():
            try:
                send("MULTI")
                try:
                    send(*(stand_ins.get(word, word) for word in words))
                finally:
                    send("DISCARD")
            except NoPermissionError as error:
                wrong[_what(name, str(error), prefix)] = None
            except ResponseError:
                pass  # refused for another reason than permission: the command itself is allowed
    finally:
        # In doubt about its state: a fresh connection is cheap.
        connection.disconnect()
        pool.release(connection)
    return list(wrong)


def _what(name: str, error: str, prefix: str) -> str:
    """Say it is the command, or the pattern of keys or channels that the user lacks."""
    if "key" in error:
        return f"keys {prefix}:*"
    return f"channels {prefix}:*" if "channel" in error else name
