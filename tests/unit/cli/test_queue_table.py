from __future__ import annotations

from typing import Any

import pytest

from celeriac.cli.queue_table import NARROW, WIDE, live_workers, queue_record, queue_row, state


def test_the_keys_of_the_json_list_are_a_contract(make_stats: Any) -> None:
    record = queue_record(make_stats(), None)
    assert list(record) == [
        "name", "accepted", "done", "discarded", "purged", "retried", "redelivered", "dead",
        "ready", "leased", "delayed", "oldestReadySeconds", "replicas", "desiredReplicas",
        "paused", "conditions",
    ]  # fmt: skip
    assert record["oldestReadySeconds"] == 4
    assert (record["replicas"], record["desiredReplicas"], record["conditions"]) == (2, None, [])


def test_what_the_control_loop_says_goes_before_what_the_broker_has_heard(make_stats: Any) -> None:
    status = {"replicas": 3, "desiredReplicas": 5, "conditions": [{"type": "Ready"}]}
    record = queue_record(make_stats(), status)
    assert (record["replicas"], record["desiredReplicas"]) == (3, 5)
    assert record["conditions"] == [{"type": "Ready"}]


def test_children_of_one_worker_are_one_and_silent_ones_none(
    make_stats: Any, make_worker: Any
) -> None:
    workers = [make_worker("a/0"), make_worker("a/1"), make_worker("b", silent_ms=60_000)]
    assert live_workers(make_stats(workers=workers)) == {"a"}


@pytest.mark.parametrize("wide", [False, True])
def test_a_row_has_a_cell_for_each_column(make_stats: Any, wide: bool) -> None:
    record = queue_record(make_stats(), {"replicas": 1, "desiredReplicas": 4})
    titles = [column.title for column in (WIDE if wide else NARROW)]
    cells = dict(zip(titles, queue_row(record, wide=wide), strict=True))
    assert (cells["NAME"], cells["READY"], cells["DEAD"], cells["OLDEST"]) == ("mail", 1, 2, "4s")
    assert cells["WORKERS"] == "1 → 4"
    assert cells.get("REDELIVERED", 2) == 2


def test_nothing_ready_has_no_age(make_stats: Any) -> None:
    record = queue_record(make_stats(ready_by={"high": 0}, oldest_ready_ms=0), None)
    assert queue_row(record)[[c.title for c in NARROW].index("OLDEST")] is None


@pytest.mark.parametrize(
    ("paused", "conditions", "word"),
    [
        (True, [{"type": "Ready", "status": "True", "reason": "Running"}], "Paused"),
        (False, [], None),
        (False, [{"type": "Ready", "status": "True", "reason": "Idle"}], "Idle"),
        (
            False,
            [
                {"type": "Ready", "status": "True", "reason": "Running"},
                {"type": "Stalled", "status": "True", "reason": "InvalidSpec"},
            ],
            "InvalidSpec",
        ),
        (
            False,
            [{"type": "Ready", "status": "False", "reason": "WorkersFailing"}],
            "WorkersFailing",
        ),
    ],
)
def test_one_word_for_the_state(paused: bool, conditions: list[Any], word: str | None) -> None:
    assert state({"paused": paused, "conditions": conditions}) == word
