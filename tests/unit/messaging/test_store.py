"""The store: once is once, also between processes; states only move up."""

from __future__ import annotations

import itertools
import multiprocessing
import threading
from pathlib import Path

import pytest
from sqlalchemy.exc import StatementError

from celeriac_messaging.adapters.base import Delivery
from celeriac_messaging.adapters.store import SqlStore


def delivery(state: str, at_ms: int = 5) -> Delivery:
    return Delivery("t", "m", "email:a@example.org", state, at_ms)  # type: ignore[arg-type]


def test_an_effect_is_recorded_once(store: SqlStore) -> None:
    assert not store.is_done("e")
    assert store.record("e", kind="notify")
    assert not store.record("e", kind="notify")
    assert store.is_done("e")


def test_an_effect_and_its_delivery_are_one_transaction(store: SqlStore) -> None:
    broken = Delivery("t", "m", None, "sent", 1)  # type: ignore[arg-type]
    with pytest.raises(StatementError):
        store.record("e", kind="send_message", delivery=broken)
    assert not store.is_done("e")


def test_errors_hold_no_values(store: SqlStore) -> None:
    broken = Delivery("t", "s3cr3t", None, "sent", 1)  # type: ignore[arg-type]
    with pytest.raises(StatementError) as raised:
        store.confirm(broken)
    assert "s3cr3t" not in str(raised.value)


def test_confirmations_come_in_any_order(store: SqlStore) -> None:
    for order in itertools.permutations(["sent", "delivered", "read"]):
        one = Delivery("t", "-".join(order), "email:a@example.org", "sent", 0)
        for state in order:
            store.confirm(Delivery(one.tenant, one.message_id, one.recipient, state, 7))  # type: ignore[arg-type]
        known = store.delivery(one.tenant, one.message_id, one.recipient)
        assert known is not None
        assert known.state == "read"


def test_a_confirmation_says_whether_it_changed_anything(store: SqlStore) -> None:
    assert store.delivery("t", "m", "email:a@example.org") is None
    assert store.confirm(delivery("delivered", 5))
    assert not store.confirm(delivery("delivered", 6))
    assert not store.confirm(delivery("bounced", 6))
    assert store.delivery("t", "m", "email:a@example.org") == delivery("delivered", 5)


def test_the_first_sealed_text_is_kept(store: SqlStore) -> None:
    assert store.sealed("t", "m") is None
    assert store.put_sealed("t", "m", b"one", "k1") == b"one"
    assert store.put_sealed("t", "m", b"two", "k1") == b"one"
    assert not store.replace_sealed("t", "m", old=b"two", new=b"three", key_id="k2")
    assert store.replace_sealed("t", "m", old=b"one", new=b"three", key_id="k2")
    assert store.sealed("t", "m") == b"three"


def test_what_is_old_goes_and_the_rest_stays(tmp_path: Path) -> None:
    now = [1_000]
    store = SqlStore(tmp_path / "s.db", now_ms=lambda: now[0])
    for number in range(5):
        store.record(f"old-{number}", kind="notify")
    now[0] = 2_000
    store.record("young", kind="notify")
    assert store.count_older("effects", 2_000) == 5
    first = store.older("effects", 2_000, limit=3)
    assert len(first) == 3
    assert store.remove("effects", first) == 3
    assert store.remove("effects", first) == 0
    assert store.remove("effects", store.older("effects", 2_000, limit=3)) == 2
    assert store.older("effects", 2_000, limit=3) == []
    assert store.is_done("young")
    store.close()


def _hammer(path: Path, worker: int, first: multiprocessing.Queue[int]) -> None:
    store = SqlStore(path, now_ms=lambda: 0)
    won = [0] * 4

    def run(thread: int) -> None:
        for number in range(50):
            won[thread] += store.record(f"shared-{number}", kind="notify")
            store.confirm(Delivery("t", f"{worker}-{thread}-{number}", "r", "sent", 0))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first.put(sum(won))


@pytest.mark.slow
def test_many_processes_and_threads_share_one_file(tmp_path: Path) -> None:
    """All open it at once, make the tables at once, and record the same effects at once."""
    context = multiprocessing.get_context("spawn")
    first: multiprocessing.Queue[int] = context.Queue()
    path = tmp_path / "shared.db"
    workers = [context.Process(target=_hammer, args=(path, n, first)) for n in range(3)]
    for worker in workers:
        worker.start()
    won = sum(first.get(timeout=60) for _ in workers)
    for worker in workers:
        worker.join(10)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert won == 50
    store = SqlStore(path, now_ms=lambda: 0)
    assert store.count_older("deliveries", 1) == 3 * 4 * 50
    store.close()
