"""Places: what is done next about the workers of a queue, in tables and at random."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celeriac.backend.replicas import (
    Close,
    Drain,
    Replica,
    Start,
    State,
    Step,
    after_death,
    next_steps,
    restart_wait_s,
)

NOW = 100.0
STATES = {"s": State.STARTING, "r": State.READY, "w": State.WAITING, "d": State.DRAINING}


def replicas(text: str) -> list[Replica]:
    """Read "r1 s2 w2": a letter for the state, a digit for the revision; names are a, b, c."""
    return [
        Replica(
            name="abcdefgh"[n],
            revision=word[1],
            state=STATES[word[0]],
            since=NOW - 10 + n,
            failures=1 if word[0] == "w" else 0,
        )
        for n, word in enumerate(text.split())
    ]


def steps(text: str, wanted: int, *, revision: str = "1", one_by_one: bool = False) -> list[Step]:
    return next_steps(
        replicas(text), wanted=wanted, revision=revision, one_by_one=one_by_one, now=NOW
    )


@pytest.mark.parametrize(
    ("now", "wanted", "expected"),
    [
        ("", 0, []),
        ("", 2, [Start(), Start()]),
        ("r1", 2, [Start()]),
        ("s1 r1", 2, []),
        ("d1 d1", 1, [Start()]),
        ("w1", 1, [Start("a", 1)]),
        ("w1 r1", 1, [Close("a")]),
        ("r1 s1", 1, [Drain("b")]),
        ("r1 r1 r1", 1, [Drain("c"), Drain("b")]),
        ("w1 s1 r1 d1", 0, [Close("a"), Drain("b"), Drain("c")]),
    ],
)
def test_coming_closer_to_a_number(now: str, wanted: int, expected: list[Step]) -> None:
    assert steps(now, wanted) == expected


@pytest.mark.parametrize(
    ("now", "wanted", "expected"),
    [
        ("r1 r1", 2, [Start()]),  # one more than wanted, to begin with
        ("r1 r1 s2", 2, []),  # wait for it
        ("r1 r1 w2", 2, [Start("c", 1)]),  # it died: try again, and touch no other
        ("r1 r1 r2", 2, [Drain("b"), Start()]),  # it is ready: one for one
        ("r1 d1 r2 s2", 2, []),
        ("r1 d1 r2 r2", 2, [Drain("a")]),
        ("d1 d1 r2 r2", 2, []),
        ("r1", 3, [Start(), Start(), Start()]),  # a scale-up need not wait for the roll
        ("r1 r1 s2", 1, [Drain("b")]),  # nor a scale-down
        ("r1 r1 s2", 0, [Drain("c"), Drain("b"), Drain("a")]),
    ],
)
def test_replacing_what_runs_something_older(now: str, wanted: int, expected: list[Step]) -> None:
    assert steps(now, wanted, revision="2") == expected


def test_who_holds_least_goes_first() -> None:
    busy, idle = replicas("r1 r1")
    crowd = [replace(busy, held=0), replace(idle, held=5)]

    found = next_steps(crowd, wanted=1, revision="1", one_by_one=False, now=NOW)

    assert found == [Drain("a")]


def test_an_app_that_cannot_start_is_tried_by_one_worker_only() -> None:
    assert steps("s1 w1 w1", 3, one_by_one=True) == []
    assert steps("w1 w1 w1", 3, one_by_one=True) == [Start("a", 1)]
    waits = [replace(replica, since=NOW + n) for n, replica in enumerate(replicas("w1 w1 w1"))]
    assert next_steps(waits, wanted=3, revision="1", one_by_one=True, now=NOW) == []
    assert steps("r1", 5, one_by_one=True) == [Start()]


def test_a_gap_is_not_filled_before_its_time() -> None:
    (gap,) = replicas("w1")
    waiting = replace(gap, since=NOW + 0.1)

    assert next_steps([waiting], wanted=1, revision="1", one_by_one=False, now=NOW) == []
    assert next_steps([waiting], wanted=1, revision="1", one_by_one=False, now=NOW + 0.1) != []


def test_waits_grow_while_workers_die_young_and_begin_anew_after_a_proven_one() -> None:
    assert [restart_wait_s(n) for n in range(1, 9)] == [0, 1, 2, 4, 8, 16, 30, 30]
    (replica,) = replicas("r1")
    young = after_death(replace(replica, failures=3, since=NOW - 29), now=NOW)
    proven = after_death(replace(replica, failures=3, since=NOW - 30), now=NOW)

    assert (young.state, young.failures, young.since) == (State.WAITING, 4, NOW + 4)
    assert (proven.failures, proven.since) == (1, NOW)


crowds = st.lists(
    st.tuples(st.sampled_from("srwd"), st.sampled_from("12")).map("".join), max_size=8
).map(" ".join)


@given(crowds, st.integers(0, 6))
def test_whatever_stands_it_comes_to_rest_as_wanted_and_never_below(
    crowd: str, wanted: int
) -> None:
    """Workers get ready and drains end between the steps; nobody dies."""
    standing = replicas(crowd)
    names = iter(range(1000))
    ready = sum(replica.state is State.READY for replica in standing)
    for _ in range(40):
        now_ready = sum(replica.state is State.READY for replica in standing)
        assert now_ready >= min(ready, wanted)
        ready = now_ready
        todo = next_steps(standing, wanted=wanted, revision="2", one_by_one=False, now=NOW)
        for step in todo:
            match step:
                case Start(gap=gap):
                    standing = [it for it in standing if it.name != gap]
                    standing.append(
                        Replica(
                            name=str(next(names)), revision="2", state=State.STARTING, since=NOW
                        )
                    )
                case Close(name=name):
                    standing = [it for it in standing if it.name != name]
                case Drain(name=name):
                    standing = [
                        replace(it, state=State.DRAINING) if it.name == name else it
                        for it in standing
                    ]
        alive = [it for it in standing if it.state is not State.DRAINING]
        assert len(alive) <= max(wanted + 1, len(replicas(crowd)))
        standing = [
            replace(it, state=State.READY) if it.state is State.STARTING else it for it in alive
        ]
    assert [(it.revision, it.state) for it in standing] == [("2", State.READY)] * wanted
