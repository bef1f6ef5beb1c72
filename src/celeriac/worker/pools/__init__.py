"""How a worker process runs its messages: one by one, in threads, as coroutines, or in child processes.

To add a pool, write its class (`base.py` says what a worker asks of it) and name it in `celeriac.spec.pools`.
"""

from __future__ import annotations

from importlib import import_module

from celeriac.spec.pools import POOLS
from celeriac.worker.pools.base import Pool


def pool_class(name: str) -> type[Pool]:
    """Find a pool by its name on the command line. Raises ValueError when there is none."""
    if name not in POOLS:
        raise ValueError(f"there is no pool {name!r}; it must be one of {', '.join(POOLS)}")
    found: type[Pool] = getattr(import_module(f"{__name__}.{name}"), POOLS[name])
    return found
