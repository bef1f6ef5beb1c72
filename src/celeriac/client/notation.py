"""How values are written that JSON lacks: times, UUIDs, decimals, bytes, an app's own types.

Celery reads what we write and writes what we read, so the notation is kombu's, types that an app has
registered with it included. This layer imports neither: `celeriac.transport.registration` says here what to
call, and importing `celeriac` runs that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Notation:
    """What writes and reads such values."""

    default: Callable[[Any], Any]
    """As `json.JSONEncoder.default`: a value JSON can carry in place of one that it cannot, or TypeError."""
    loads: Callable[[bytes], Any]
    """Reads JSON with such values in it."""


notation = Notation()
