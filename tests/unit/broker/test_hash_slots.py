"""Which slot a key belongs to, what a cluster says of itself, and which key leads a command."""

from __future__ import annotations

from typing import Any

import pytest
from redis.crc import key_slot

from celeriac.broker.hash_slots import SLOTS, SlotMap, guarded, key_of, slot_of
from celeriac.broker.keys import QueueKeys, kombu_prefix


@pytest.mark.parametrize(
    "key",
    ["foo", "celeriac:{mail}:high", "{}x", "a{}{b}", "{a", "}{", "{{a}}", "ä{ö}ü", b"\xff{\x00}"],
)
def test_slots_are_those_of_redis(key: str | bytes) -> None:
    assert slot_of(key) == key_slot(key.encode() if isinstance(key, str) else key)


def test_a_queue_is_whole_in_one_slot_and_kombu_in_one_too() -> None:
    keys = QueueKeys.of("mail", prefix="shop")
    assert {slot_of(key) for key in (*keys.all, keys.progress("m1"))} == {slot_of("{mail}")}
    kombu = kombu_prefix("shop", cluster=True)
    assert kombu.startswith(kombu_prefix("shop", cluster=False))
    assert slot_of(f"{kombu}a.reply.celery.pidbox") == slot_of(f"{kombu}/0.celery.pidbox")


def node(host: Any, port: int) -> list[Any]:
    return [host, port, b"id", []]


def test_a_map_is_read_from_what_a_node_says() -> None:
    answer = [
        [0, 99, node(b"a", 1), node(b"b", 2)],
        [200, SLOTS - 1, node(b"", 3), node(None, 4), node(b"?", 5)],
    ]
    found = SlotMap.parse(answer, asked="here")
    assert [found.primaries[slot] for slot in (0, 99)] == [("a", 1)] * 2
    assert found.primaries[100] is None
    assert [found.primaries[slot] for slot in (200, SLOTS - 1)] == [("here", 3)] * 2
    assert found.nodes == {("a", 1), ("b", 2), ("here", 3), ("here", 4), ("here", 5)}


@pytest.mark.parametrize(
    ("command", "key"),
    [
        (("GET", "k"), "k"),
        (("XGROUP CREATE", "k", "g", "0"), "k"),
        (("BLPOP", "k", 1), "k"),
        (("EVALSHA", "sha", 2, "a", "b", "x"), "a"),
        (("EVALSHA", "sha", 0, "x"), None),
        (("PING",), None),
        (("SCRIPT LOAD", "return 1"), None),
        (("SCRIPT", "LOAD", "return 1"), None),
        (("CONFIG GET", "x"), None),
    ],
)
def test_the_key_of_a_command(command: tuple[Any, ...], key: str | None) -> None:
    assert key_of(command) == key


def test_a_script_is_named_one_key_more() -> None:
    found = guarded(("EVALSHA", "sha", 2, "p:{q}:a", "p:{q}:b", "x", "y"))
    assert found[:5] == ("EVALSHA", "sha", 3, "p:{q}:a", "p:{q}:b")
    assert found[6:] == ("x", "y")
    assert slot_of(found[5]) == slot_of("{q}")
    assert guarded(("GET", "k")) == ("GET", "k")
    assert guarded(("EVAL", "return 1", 0)) == ("EVAL", "return 1", 0)
