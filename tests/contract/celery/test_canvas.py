"""Chains, groups, chords and callbacks, with results in a Redis backend."""

from __future__ import annotations

import pytest
from celery import chain, chord, group
from contract_app import app
from contract_tasks import (
    add,
    collect,
    fail,
    ignored,
    note_error,
    note_result,
    same,
    succeed_at,
    total,
)
from contract_worker import Watched


def test_chain(worker: Watched) -> None:
    result = chain(add.s(1, 2), add.s(10), add.s(100)).apply_async(queue=worker.name)
    assert result.get(timeout=10) == 113
    assert result.parent.parent.get(timeout=10) == 3


def test_group(worker: Watched) -> None:
    result = group(add.s(n, n) for n in range(10)).apply_async(queue=worker.name)
    assert result.get(timeout=10) == [2 * n for n in range(10)]


def test_chord(worker: Watched) -> None:
    header = [add.s(n, n).set(queue=worker.name) for n in range(10)]
    result = chord(header)(total.s().set(queue=worker.name))
    assert result.get(timeout=10) == 90
    worker.settled()
    assert worker.texts(result) == ["ran"]


def test_a_chord_hands_its_members_on_in_their_order(worker: Watched) -> None:
    header = [same.s(n).set(queue=worker.name) for n in range(4)]
    result = chord(header)(collect.s().set(queue=worker.name))
    assert result.get(timeout=10) == [0, 1, 2, 3]


def test_a_group_behind_a_chain_keeps_its_order(worker: Watched) -> None:
    flow = chain(same.s(1), group(add.s(n) for n in range(3)), collect.s(), same.s())
    assert flow.apply_async(queue=worker.name).get(timeout=10) == [1, 2, 3]


def test_a_chain_that_ends_in_a_chord(worker: Watched) -> None:
    flow = chain(add.s(1, 1), group(add.s(1), add.s(2)), total.s())
    assert flow.apply_async(queue=worker.name).get(timeout=10) == 7


def test_a_chord_waits_for_a_member_that_is_retried_by_policy(worker: Watched) -> None:
    header = [succeed_at.s(attempt).set(queue=worker.name) for attempt in (1, 2, 3)]
    result = chord(header)(total.s().set(queue=worker.name))
    assert result.get(timeout=10) == 0 + 1 + 2
    worker.settled()
    assert worker.texts(result) == ["ran"]


def test_a_chord_fails_with_its_member_and_not_before(worker: Watched, queue_name: str) -> None:
    header = [add.s(1, 1).set(queue=worker.name), fail.s().set(queue=worker.name)]
    body = total.s().set(queue=worker.name)
    body.on_error(note_error.s(key=queue_name).set(queue=worker.name))
    result = chord(header)(body)
    with pytest.raises(Exception, match="on purpose"):
        result.get(timeout=10)
    worker.noted(queue_name, "errback")
    worker.settled()
    assert worker.texts(queue_name) == ["errback"]
    assert worker.texts(result) == []


def test_link(worker: Watched) -> None:
    linked = note_result.s(key="linked-" + worker.name)
    result = worker.send("add", 2, 2, link=linked)
    assert worker.noted("linked-" + worker.name, "linked")["result"] == 4
    assert result.get(timeout=10) == 4


def test_link_error_is_called_once_after_the_last_attempt(worker: Watched, queue_name: str) -> None:
    result = worker.send("fail", link_error=note_error.s(key=queue_name).set(queue=worker.name))
    last = worker.noted(queue_name, "errback")
    worker.settled()
    assert last["failed"] == result.id
    assert worker.texts(queue_name) == ["errback"]
    assert worker.texts(result) == ["ran"] * 3 + ["task_failure"]


def test_a_chain_breaks_at_a_failure(worker: Watched) -> None:
    result = chain(fail.s(), add.s(1)).apply_async(queue=worker.name)
    with pytest.raises(Exception, match="on purpose"):
        result.get(timeout=10)
    worker.settled()
    assert worker.texts(result) == []


def test_replace(worker: Watched) -> None:
    result = worker.send("replace", 20, 22)
    assert result.get(timeout=10) == 42
    assert worker.settled().dead_total == worker.queue.stats().dead_total


def test_ignore_result_in_a_group_leaves_no_result(worker: Watched) -> None:
    result = group(ignored.s(), ignored.s()).apply_async(queue=worker.name)
    for member in result.results:
        worker.noted(member, "ran")
    worker.settled()
    assert [app.backend.get_state(member.id) for member in result.results] == ["PENDING"] * 2
