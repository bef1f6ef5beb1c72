"""Our worker is what receivers of Celery's worker signals get as their sender."""

from __future__ import annotations

import pytest
from celery import Celery
from celery.fixups.django import DjangoWorkerFixup

from celeriac.spec.pools import POOLS
from celeriac.worker.main import Worker
from celeriac.worker.options import WorkerOptions


def worker(pool: str) -> Worker:
    app = Celery("test", set_as_current=False)
    options = WorkerOptions(queue="q", pool=pool, concurrency=1, broker="celeriac://localhost:1")
    return Worker(app, options)


@pytest.mark.parametrize("pool", POOLS)
def test_celerys_django_fixup_learns_which_pool_it_is(pool: str) -> None:
    fixup = DjangoWorkerFixup.__new__(DjangoWorkerFixup)
    fixup.worker = worker(pool)

    assert fixup._is_prefork() == (pool == "prefork")


@pytest.mark.parametrize("pool", POOLS)
def test_it_says_of_itself_what_celerys_own_worker_says(pool: str) -> None:
    sender = worker(pool)

    assert isinstance(sender.pool_cls, type)
    assert (sender.hostname, sender.concurrency, sender.loglevel) == (sender.name, 1, "INFO")
    assert (sender.logfile, sender.pidfile) == (None, None)
