"""Reads the few Secrets that hold a broker's URL: by name, never listed or watched, again and again.

A Secret is read again every 15 seconds, more rarely when there are very many of them, and at once when
its broker refuses us: that is how a rotated password arrives without a restart.
"""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from celeriac_operator import kinds
from celeriac_operator.api import Api
from celeriac_operator.resources import Object
from celeriac_operator.seen import Key

FRESH_S = 15.0
#: A Secret that is not there, while another one serves instead.
ABSENT_S = 60.0
#: All reads together stay below this.
READS_PER_S = 2.0


@dataclass(frozen=True, slots=True)
class _Read:
    at: float
    data: Mapping[str, str] | None


class Secrets:
    """Values of Secrets by namespace and name. Every method may be called from any thread."""

    def __init__(self, api: Api, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._now = monotonic
        self._lock = threading.Lock()
        self._known: dict[Key, _Read] = {}

    def read(self, key: Key) -> Mapping[str, str] | None:
        """The decoded data of a Secret; None when it does not exist. Raises ApiError."""
        with self._lock:
            known, count = self._known.get(key), len(self._known)
        if known is not None:
            fresh = max(FRESH_S if known.data is not None else ABSENT_S, count / READS_PER_S)
            if self._now() - known.at < fresh:
                return known.data
        found = self._api.get(kinds.SECRETS, *key)
        read = _Read(self._now(), None if found is None else decoded(found))
        with self._lock:
            self._known[key] = read
        return read.data

    def distrust(self, key: Key) -> None:
        """Read this Secret anew when it is asked for next."""
        with self._lock:
            self._known.pop(key, None)


def decoded(secret: Object) -> dict[str, str]:
    """The data of a Secret as text; what is no text is left out."""
    found = {}
    for name, value in (secret.get("data") or {}).items():
        try:
            found[name] = base64.b64decode(value).decode()
        except ValueError:
            continue
    return found
