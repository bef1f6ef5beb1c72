"""The root of every exception of ours, in the lowest layer: each layer derives its own from it."""

from __future__ import annotations


class CeleriacError(Exception):
    """Something of Celeriac's went wrong.

    Each exception of ours is one, beside what else it is: a `BrokerURLError` is a `ValueError`, and a
    `BrokerUnreachable` is redis-py's `ConnectionError`.
    """
