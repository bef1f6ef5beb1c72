"""How a queue lies on the server, in the one place that says it: every script begins with what stands here.

docs/adr/0018 says when the number grows, and what releases side by side may expect of each other.
"""

from __future__ import annotations

#: Grows when a release before could not handle what is written: keys, fields, the meaning of the record.
LAYOUT = 1
#: No more wake-ups than this wait on the list: a worker that wakes for one claims many messages.
WAKE_TOKENS = 16
#: The fields of a message, always all of them and always in this order, so that stream nodes store the
#: names once and scripts read values by position. By what they are called here and in scripts.
FIELDS = {
    "P": "p",  # priority letter
    "ID": "i",
    "TASK": "t",
    "ENQUEUED": "q",  # ms
    "ATTEMPT": "a",  # attempts finished
    "DELIVERY": "d",  # deliveries charged
    "LOST": "l",  # deliveries lost
    "EXPIRES": "x",  # ms; 0: never
    "HISTORY": "y",
    "HEAD": "h",
    "BODY": "b",
}
#: What the claim script puts behind them: the stream's letter, the entry's id, '1' when the queue's limit
#: allows no delivery after this one, and for a dropped message the reason.
CLAIMED = ("FROM", "ENTRY", "LAST", "WHY")


def positions(*names: str) -> tuple[int, ...]:
    """Tell where values stand in an answer of the claim script, from 0."""
    order = [*FIELDS, *CLAIMED]
    return tuple(order.index(name) for name in names)


def constants() -> str:
    """The first line of every script."""
    return f"local LAYOUT, WAKE_TOKENS = {LAYOUT}, {WAKE_TOKENS}"


def names() -> str:
    """What lua/common.lua knows the fields by: their letters in order, and the place of each, from 1."""
    letters = ", ".join(f"'{letter}'" for letter in FIELDS.values())
    places = [*FIELDS, *CLAIMED]
    numbers = ", ".join(str(n) for n in range(1, len(places) + 1))
    return (
        f"local FIELDS, WIDTH = {{{letters}}}, {len(FIELDS)}\nlocal {', '.join(places)} = {numbers}"
    )


def filled(text: str) -> str:
    """Write out, in their order, the values of a message that a script has in locals named by its letters.

    FIELD_VALUES becomes `p, i, t, …`, and FIELD_PAIRS, as XADD takes them, `'p', p, 'i', i, …`.
    """
    values = ", ".join(FIELDS.values())
    pairs = ", ".join(f"'{letter}', {letter}" for letter in FIELDS.values())
    return text.replace("FIELD_VALUES", values).replace("FIELD_PAIRS", pairs)
