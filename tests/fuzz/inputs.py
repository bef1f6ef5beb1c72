"""Where fuzzing begins: honest messages, known attacks, and every input that was ever a finding."""

from __future__ import annotations

import json
import pickle
import zlib
from typing import Any

from tests.fuzz.target import SEPARATOR

BODY = b'[[1,"two"],{"three":4.5},{"callbacks":null,"errbacks":null,"chain":null,"chord":null}]'


def made(head: Any = None, body: bytes = BODY, history: bytes = b"") -> bytes:
    """An input, from the parts of a message."""
    packed = head if isinstance(head, bytes) else json.dumps(head).encode() if head else b""
    return SEPARATOR.join((packed, body, history))


_HEADERS: list[dict[str, Any]] = [
    {"ignore_result": True, "root_id": "r", "parent_id": "p", "group": "g", "group_index": 1},
    {"timelimit": [10, 5.5], "max_attempts": 3, "retries": 2, "stamps": {}, "shadow": "s"},
    {"tenant": "x", "expires": "2030-01-01T00:00:00Z", "eta": None},
    {"compression": "gzip"},
]

#: Each was an exception, or a trap for what comes after, when it was found.
FOUND: dict[str, bytes] = {
    "embed brings a time limit": made(body=b'[[],{},{"timelimit":5}]'),
    "embed takes a method away": made(body=b'[[],{},{"get":1,"update":2}]'),
    "header takes a method away": made({"h": {"get": 1, "update": 2, "children": 3}}),
    "limit that no timer can hold": made({"h": {"timelimit": [1e300, None]}}),
    "limit without end": made(b'{"h":{"timelimit":[Infinity,NaN]}}'),
    "attempts that no slot can hold": made({"h": {"max_attempts": 10**12}}),
    "attempts below none": made({"h": {"max_attempts": -1}}),
    "retries that are no count": made({"h": {"retries": -(10**30)}}),
    "deep head": made(b'{"h":' * 100_000),
    "deep body": made(body=b"[" * 100_000),
    "deep history": made(history=b"[" * 100_000),
    "number of more digits than Python reads": made(body=b"[[" + b"9" * 5000 + b"],{},{}]"),
    "data through a codec": made(
        {"ct": "application/data", "ce": "zlib_codec"}, zlib.compress(BODY)
    ),
    "text through a codec": made({"ct": "application/text", "ce": "rot13"}),
    "content type that is a number": made({"ct": 5}),
    "encoding that is a list": made({"ce": []}),
    "bomb": made({"h": {"compression": "gzip"}}, zlib.compress(bytes(100_000_000), 9)),
    "half a surrogate pair in a history": made(history=b'{"error":"\\ud800E"}\n'),
    "number that is none in a head": made(b'{"h":{"__type__":"decimal","__value__":"1,."}}'),
    "history that is no text": made(history=b"\xff\xfe\n{}\n[1]\n"),
}

SEEDS: list[bytes] = [
    made(),
    *[made({"h": headers}) for headers in _HEADERS],
    made({"h": {"compression": "gzip"}}, zlib.compress(BODY)),
    made({"p": {"reply_to": "q", "priority": 3, "correlation_id": "c"}}),
    made({"ct": "application/x-python-serialize", "ce": "binary"}, pickle.dumps(((), {}, {}))),
    made({"ct": "application/x-yaml"}, b"- []\n- {}\n- {}\n"),
    made(body=b'[[{"__type__":"decimal","__value__":"1.5"}],{},{}]'),
    made(body=b'[[{"__type__":"bytes","__value__":"AA=="}],{},null]'),
    made(b"s1 k1 " + b"A" * 43 + b'\n{"h":{"x":1}}'),
    made(history=b'{"reason":"failed","error":"E","startedMs":1,"endedMs":2,"attempt":1}\n'),
    made(history=b'{"endedMs":99999999999999999999,"startedMs":"x","reason":[]}\n'),
]

#: Words that a mutation may put anywhere.
WORDS = [
    *('"h":', '"p":', '"ct":', '"ce":', '"timelimit":', '"retries":', '"max_attempts":', "null"),
    *('"compression":"gzip"', '"compression":"bzip2"', '"compression":"lzma"', '"__type__":"uuid"'),
    *('"__type__":"datetime"', '"__type__":"decimal"', '"__type__":"bytes"', '"__type__":"date"'),
    *('"__value__":', '"ignore_result":', '"stamps":', '"chain":', '"callbacks":', '"get":'),
    *("application/json", "application/data", "application/text", "application/x-yaml", "utf-16"),
    *(
        "s1 k1 ",
        "\x1e\x1e",
        "[[],{},{}]",
        "1e999",
        "-1",
        "Infinity",
        "NaN",
        "\\ud800",
        '"startedMs":',
    ),
]
