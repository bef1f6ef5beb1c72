"""First in, first out: the judge sees one job that overtook, and counts how many did."""

from __future__ import annotations

import pytest

from celeriac.chaos.order import Disorder, disorders
from celeriac.chaos.sidefile import Run


def started(*jobs: str) -> list[Run]:
    return [Run(job, 11, 1, 1, float(at), at + 0.5) for at, job in enumerate(jobs)]


def test_what_starts_in_the_order_of_acceptance_is_in_order():
    assert disorders("abcd", started(*"abcd")) == []


@pytest.mark.parametrize(
    ("order", "displaced", "example"),
    [
        ("bacd", 1, ("b", "a")),
        ("bcda", 1, ("b", "a")),  # one job came late
        ("cdab", 2, ("c", "b")),  # two did
        ("dcba", 3, ("b", "a")),
    ],
)
def test_the_least_number_of_jobs_that_came_at_a_wrong_time(
    order: str, displaced: int, example: tuple[str, str]
):
    assert disorders("abcd", started(*order)) == [Disorder("normal", displaced, example)]


def test_each_priority_has_an_order_of_its_own():
    priorities = {"A": "high", "B": "high"}
    assert disorders("abAB", started(*"ABab"), priorities=priorities) == []
    (found,) = disorders("abAB", started(*"BAab"), priorities=priorities)
    assert (found.priority, found.displaced) == ("high", 1)


def test_a_second_run_changes_nothing_and_a_job_that_never_ran_is_no_matter_of_order():
    assert disorders("abc", started(*"aba")) == []
