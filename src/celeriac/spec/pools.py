"""The pools of a worker: the one list of their names, from which all others follow.

A pool is the class of this name in `celeriac.worker.pools`, in the module of the same name in lower case.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, get_args

Pool = Literal["Solo", "Prefork", "Threads", "Asyncio"]

#: By their names on command lines.
POOLS: Final[Mapping[str, Pool]] = {name.lower(): name for name in get_args(Pool)}
