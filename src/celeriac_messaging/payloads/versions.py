"""Reading a payload off the wire: bring an older version up to date, then validate.

A producer may be older or newer than the worker. Older payloads are lifted step by step by small
pure functions; newer ones are left to a worker that knows them (`NewerPayload` is retried).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from celeriac_messaging.errors import InvalidPayload, NewerPayload
from celeriac_messaging.payloads.explain import explain
from celeriac_messaging.payloads.models import Payload, SendMessage

P = TypeVar("P", bound=Payload)
Raw = dict[str, Any]


def _send_message_1(raw: Raw) -> Raw:
    """Version 1 had one string `to` for both channels, and called the body `text`."""
    to = raw.pop("to", None)
    if isinstance(to, str) and to.startswith(("http://", "https://")):
        raw["recipient"] = {"channel": "webhook", "url": to}
    elif to is not None:
        raw["recipient"] = {"channel": "email", "email": to}
    if "text" in raw:
        raw["body"] = raw.pop("text")
    return raw


UPCASTS: Mapping[tuple[type[Payload], int], Callable[[Raw], Raw]] = {
    (SendMessage, 1): _send_message_1,
}
"""(payload, version) -> the step that makes the next version of it."""


def load(kind: type[P], raw: object) -> P:
    """Validate `raw` as `kind`, of this version or an older one.

    Raises InvalidPayload, whose text names each field and what would be right, and NewerPayload.
    """
    if not isinstance(raw, dict):
        raise InvalidPayload(f"{kind.__name__}: payload must be an object")
    document = _upcast(kind, dict(raw))
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        raise InvalidPayload(explain(kind.__name__, error)) from None


def _upcast(kind: type[Payload], document: Raw) -> Raw:
    version = document.get("version", kind.VERSION)
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise InvalidPayload(f"{kind.__name__}.version: must be a number from 1 to {kind.VERSION}")
    if version > kind.VERSION:
        raise NewerPayload(
            f"{kind.__name__}.version: {version} is newer than this worker's {kind.VERSION}"
        )
    while version < kind.VERSION:
        step = UPCASTS.get((kind, version))
        if step is None:
            raise InvalidPayload(f"{kind.__name__}.version: {version} is no longer understood")
        document = step(document)
        version += 1
    document["version"] = kind.VERSION
    return document
