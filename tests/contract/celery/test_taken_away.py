"""A message whose lease is lost while it runs: it runs elsewhere, so here it is stopped where it can be."""

from __future__ import annotations

import pytest
from contract_app import app
from contract_worker import Watched

from celeriac.chaos.processes import eventually

TAKEN = "its lease was lost while it ran"


def _take_away(watched: Watched) -> None:
    """Give what the worker runs back to its queue, as after a freeze, and let nobody have it yet."""
    watched.queue.pause()
    for seen in watched.queue.stats().workers:
        if seen.leased:
            watched.queue.abandon(seen.name, running=[])
    eventually(lambda: TAKEN in watched.log, what=lambda: watched.log)


@pytest.mark.parametrize(
    ("pool", "named"),
    [("prefork", "contract_app:app"), ("asyncio", "contract_coroutines:app")],
)
def test_it_is_stopped_in_a_pool_that_can(fresh: Watched, pool: str, named: str) -> None:
    fresh.start(pool, "-A", named).wait_ready()
    result = fresh.send("nap", 4.0, ignore_result=False)
    fresh.noted(result, "started")
    _take_away(fresh)
    assert "it is stopped" in fresh.log
    fresh.queue.resume()
    assert result.get(timeout=15) == "rested"
    stats = fresh.settled()
    assert fresh.texts(result) == ["started", "started", "ended"], "the first run went on"
    assert (stats.done, stats.discarded, stats.retried, stats.redelivered) == (1, 0, 0, 0)
    assert app.backend.get_state(result.id) == "SUCCESS"


@pytest.mark.parametrize("pool", ["solo", "threads"])
def test_elsewhere_it_runs_on_and_counts_for_nothing(fresh: Watched, pool: str) -> None:
    fresh.start(pool).wait_ready()
    result = fresh.send("nap", 2.5, ignore_result=False)
    fresh.noted(result, "started")
    _take_away(fresh)
    assert "this pool cannot stop it" in fresh.log
    fresh.noted(result, "ended")
    eventually(
        lambda: "finished after its lease was lost (Done)" in fresh.log, what=lambda: fresh.log
    )
    assert fresh.queue.stats().done == 0
    fresh.queue.resume()
    assert fresh.settled().done == 1
    assert fresh.texts(result) == ["started", "ended"] * 2
