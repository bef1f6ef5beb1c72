"""The conservation law, and whether the broker's counts agree with what others saw."""

from __future__ import annotations

import pytest

from celeriac.chaos.ledger import Ledger, broken_laws
from celeriac.chaos.sidefile import Run

RUNS = [Run(job, 11, 1, 1, 0.0, 1.0) for job in "ab"] + [Run("c", 11, 1, 1, 0.0, None)]


def test_counts_that_add_up_and_agree_break_no_law():
    assert broken_laws(Ledger(accepted=3, done=2, dead=1), accepted="abc", runs=RUNS) == []
    whole = Ledger(accepted=28, done=1, discarded=2, purged=3, dead=4, ready=5, leased=6, delayed=7)
    assert whole.imbalance == 0


@pytest.mark.parametrize(
    ("ledger", "wrong"),
    [
        (Ledger(accepted=3, done=2), "1 messages are in no state"),
        (Ledger(accepted=3, done=2, dead=2), "-1 messages are in no state"),
        (Ledger(accepted=2, done=2), "2 accepted, the producer 3 to 3"),
        (Ledger(accepted=4, done=2, dead=2), "4 accepted, the producer 3 to 3"),
        (Ledger(accepted=3, done=3), "3 done, and 2 runs finished"),
    ],
)
def test_each_law_can_be_broken(ledger: Ledger, wrong: str):
    (broken,) = broken_laws(ledger, accepted="abc", runs=RUNS)
    assert wrong in broken


def test_a_job_without_an_answer_may_be_counted_or_not():
    for accepted in (3, 4):
        ledger = Ledger(accepted=accepted, done=2, dead=accepted - 2)
        assert not broken_laws(ledger, accepted="abc", uncertain="cd", runs=RUNS)
    ledger = Ledger(accepted=5, done=2, dead=3)
    assert broken_laws(ledger, accepted="abc", uncertain="cd", runs=RUNS)


def test_of_a_forgetful_broker_only_the_sum_is_asked():
    forgetful = Ledger(accepted=1, done=1)
    assert not broken_laws(forgetful, accepted="abc", runs=RUNS, forgetful=True)
    assert broken_laws(Ledger(accepted=1), accepted="abc", runs=RUNS, forgetful=True)
