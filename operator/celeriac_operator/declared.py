"""Turns a stored MessageQueue into the model that everything else works on."""

from __future__ import annotations

from celeriac.spec.advice import advice
from celeriac.spec.errors import CeleriacError
from celeriac.spec.load import spell
from celeriac.spec.queue import API_VERSION, KIND, MessageQueue
from celeriac.spec.stored import NotUnderstood, read_stored
from celeriac_operator.seen import QueueSeen


class InvalidStored(CeleriacError, ValueError):
    """A stored resource that this version cannot use: it was accepted by another version's schema."""


def declared(seen: QueueSeen) -> tuple[MessageQueue, tuple[str, ...]]:
    """Parse a stored resource; return it, and what is said of fields that only a newer version knows.

    Raises InvalidStored, which names every wrong field and value.
    """
    raw = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": seen.metadata,
        "spec": seen.spec,
    }
    try:
        queue, ignored = read_stored(MessageQueue, raw)
    except NotUnderstood as refusal:
        details = []
        for detail in refusal.error.errors(include_url=False):
            path = tuple(part for part in detail["loc"] if part != "[key]")
            details.append(f"{spell(path)}: {advice(detail, path)}")
        raise InvalidStored("; ".join([*details, *map(_passed_over, refusal.ignored)])) from refusal
    return queue, tuple(map(_passed_over, ignored))


def _passed_over(path: tuple[str | int, ...]) -> str:
    return f"{spell(path)}: is not a field here, in this version, and is ignored"
