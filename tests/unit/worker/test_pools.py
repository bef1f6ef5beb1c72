"""Every pool of the one list is there, and says of itself what a worker asks."""

from __future__ import annotations

from typing import Any

import pytest

from celeriac.spec.pools import POOLS
from celeriac.worker.options import WorkerOptions
from celeriac.worker.pools import pool_class
from celeriac.worker.pools.base import Pool


@pytest.mark.parametrize("name", POOLS)
def test_a_pool_is_found_by_its_name(name: str) -> None:
    found = pool_class(name)
    assert issubclass(found, Pool)
    assert (found.__name__, found.__abstractmethods__) == (POOLS[name], frozenset())


@pytest.mark.parametrize("name", ["Solo", "base", "gevent", ""])
def test_what_is_no_pool_is_told(name: str) -> None:
    with pytest.raises(ValueError, match="it must be one of solo, prefork, threads, asyncio"):
        pool_class(name)


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("threads", {"concurrency": 0}, "at least 1"),
        ("solo", {"concurrency": 2}, "one task at a time"),
    ],
)
def test_what_a_pool_cannot_do_is_told(name: str, options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        pool_class(name).check(WorkerOptions(queue="q", **options))
