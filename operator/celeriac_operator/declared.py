"""Turns a stored MessageQueue into the model that everything else works on."""

from __future__ import annotations

from pydantic import ValidationError

from celeriac.spec.advice import advice
from celeriac.spec.errors import CeleriacError
from celeriac.spec.load import spell
from celeriac.spec.queue import API_VERSION, KIND, MessageQueue
from celeriac_operator.seen import QueueSeen


class InvalidStored(CeleriacError, ValueError):
    """A stored resource that this version cannot use: it was accepted by another version's schema."""


def declared(seen: QueueSeen) -> MessageQueue:
    """Parse a stored resource. Raises InvalidStored, which names every wrong field."""
    raw = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": seen.metadata,
        "spec": seen.spec,
    }
    try:
        return MessageQueue.model_validate(raw, by_alias=True, by_name=False)
    except ValidationError as error:
        details = []
        for detail in error.errors(include_url=False):
            path = tuple(part for part in detail["loc"] if part != "[key]")
            details.append(f"{spell(path)}: {advice(detail, path)}")
        raise InvalidStored("; ".join(details)) from error
