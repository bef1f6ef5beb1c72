"""How a queue lies on the server is said in one place, and that is a contract with every earlier release."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from celeriac.broker import layout
from celeriac.broker.record import record_fields
from celeriac.broker.scripts import script
from celeriac.broker.wire import claimed
from celeriac.spec.policies import QueuePolicy

FOLDER = files("celeriac.broker") / "lua"
OWN = {
    path.name.removesuffix(".lua"): path.read_text()
    for path in FOLDER.iterdir()
    if path.name.endswith(".lua")
}
SCRIPTS = sorted(OWN.keys() - {"common"})


def test_layout_1() -> None:
    """Another order, another field or another number is another layout: see docs/adr/0018."""
    assert layout.LAYOUT == 1
    assert layout.WAKE_TOKENS == 16
    assert "".join(layout.FIELDS.values()) == "pitqadlxyhb"
    assert list(layout.FIELDS) == [
        *("P", "ID", "TASK", "ENQUEUED", "ATTEMPT", "DELIVERY", "LOST", "EXPIRES", "HISTORY"),
        *("HEAD", "BODY"),
    ]


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_begins_with_it(name: str) -> None:
    lines = script(name).text.splitlines()

    assert lines[0].startswith("#!lua")
    assert lines[1] == "local LAYOUT, WAKE_TOKENS = 1, 16"
    assert name == "publish_one" or lines[2].startswith("local FIELDS, WIDTH = {'p', 'i', 't', ")
    assert "FIELD_" not in "\n".join(lines)


def test_no_script_says_it_again() -> None:
    again = re.compile(
        r"local [^=\n]*\b(?:LAYOUT|WAKE_TOKENS|WIDTH|FIELDS)\b[^=\n]* ="  # one of its own
        r"|tokens\w*(?:\(\))? *< *\d|limits\[3\] *[~=]= *'"  # or a number in its place
        r"|'p', *\w+, *'i'|#flat [~=]= \d\d|\bv\[\d"  # or an order
    )
    said = {name: found for name, text in OWN.items() if (found := again.findall(text))}

    assert said == {}


def test_the_short_script_writes_the_fields_in_their_order() -> None:
    (added,) = re.findall(r"'XADD', stream, '\*', (.*)\)", script("publish_one").text)

    assert re.findall(r"'(\w)', (\w)", added) == [(it, it) for it in layout.FIELDS.values()]


def test_who_raises_it_raises_it_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    raised = {**layout.FIELDS, "COLOUR": "c"}
    monkeypatch.setattr(layout, "LAYOUT", 2)
    monkeypatch.setattr(layout, "WAKE_TOKENS", 7)
    monkeypatch.setattr(layout, "FIELDS", raised)
    script.cache_clear()
    try:
        one, claim = script("publish_one").text, script("claim").text
    finally:
        script.cache_clear()

    assert "local LAYOUT, WAKE_TOKENS = 2, 7\n" in one
    assert "'b', b, 'c', c)" in one
    assert "local LAYOUT, WAKE_TOKENS = 2, 7\n" in claim
    assert "'b', 'c'}, 12\n" in claim
    assert "BODY, COLOUR, FROM, ENTRY, LAST, WHY = 1, 2" in claim
    assert record_fields(QueuePolicy())["layout"] == "2"


def test_an_answer_is_read_as_scripts_write_it() -> None:
    values = {
        "P": b"h",
        "ID": b"an-id",
        "TASK": b"a.task",
        "ENQUEUED": b"1000",
        "ATTEMPT": b"1",
        "DELIVERY": b"2",
        "LOST": b"3",
        "EXPIRES": b"4000",
        "HISTORY": b"{}\n",
        "HEAD": b"hd",
        "BODY": b"bd",
        "FROM": b"i",
        "ENTRY": b"2000-7",
        "LAST": b"1",
        "WHY": b"expired",
    }
    row = [values[name] for name in (*layout.FIELDS, *layout.CLAIMED)]

    claim = claimed([5, 0, 1, -1, [row[:-1]], [row]])

    (message,), ((dropped, why),) = claim.messages, claim.dropped
    assert (claim.version, claim.paused, claim.again, claim.next_due_ms) == (5, False, True, -1)
    assert (message.lease, message.id, message.task) == ("i2000-7", "an-id", "a.task")
    assert (message.priority, message.isolated) == ("high", True)
    assert (message.enqueued_ms, message.ready_ms, message.expires_ms) == (1000, 2000, 4000)
    assert (message.attempt, message.delivery, message.lost) == (1, 3, 3)
    assert message.last
    assert (message.history, message.head, message.body) == (b"{}\n", b"hd", b"bd")
    assert (dropped.id, why) == ("an-id", "expired")
