"""Prefork: each child process claims, runs and settles by itself; the parent watches over them.

pool.py         the parent                    child.py     a child, from its fork to its end
scoreboard.py   what it shows its parent      limits.py    the soft time limits it keeps itself
orphans.py      what dead children left       forking.py   forks when no thread holds a lock
"""

from __future__ import annotations

from celeriac.worker.pools.prefork.pool import Prefork

__all__ = ["Prefork"]
