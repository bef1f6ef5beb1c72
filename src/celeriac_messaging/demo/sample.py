"""The shipped sample: one job a line, with places that only exist once the demo runs.

`{web}` stands for the address of the demo's web sink, and a push target names a `device`, whose
keys are made when the demo first starts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from celeriac_messaging import payloads
from celeriac_messaging.errors import InvalidPayload
from celeriac_messaging.payloads import Payload, load
from celeriac_messaging.routing import ROUTES

KINDS: dict[str, type[Payload]] = {kind.__name__: kind for kind in ROUTES}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the sample: a job to send after `delay` seconds, or why it cannot be sent."""

    number: int
    kind: type[Payload]
    job: Payload | None
    delay: int = 0
    refusal: str = ""


def read(*, web: str, device: Callable[[str], dict[str, Any]]) -> Iterator[Line]:
    """All lines, resolved and validated. `device` gives the push target of a device's name."""
    text = (files("celeriac_messaging.demo") / "sample.jsonl").read_text("utf-8")
    for number, line in enumerate(text.splitlines(), start=1):
        document = json.loads(line)
        kind = KINDS[document["job"]]
        raw = _resolve(document["payload"], web, device)
        try:
            yield Line(number, kind, load(kind, raw), document.get("delay", 0))
        except InvalidPayload as refusal:
            yield Line(number, kind, None, refusal=str(refusal))


def _resolve(value: Any, web: str, device: Callable[[str], dict[str, Any]]) -> Any:
    if isinstance(value, str):
        return value.replace("{web}", web)
    if isinstance(value, list):
        return [_resolve(one, web, device) for one in value]
    if isinstance(value, dict):
        if "device" in value:
            return device(value["device"])
        return {name: _resolve(one, web, device) for name, one in value.items()}
    return value


def delivered(jobs: list[Payload]) -> dict[str, int]:
    """How many effects of each channel these jobs have in the end, if nothing fails."""
    counts = {"webhook": 0, "email": 0, "push": 0}
    for job in jobs:
        match job:
            case payloads.SendMessage():
                counts[job.recipient.channel] += 1
            case payloads.Notification():
                counts[job.target.channel] += 1
            case payloads.BatchSend():
                for one in job.recipients:
                    counts[one.recipient.channel] += 1
    return counts
