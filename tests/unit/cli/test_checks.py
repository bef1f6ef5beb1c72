from __future__ import annotations

from typing import Any

import pytest

from celeriac.cli import checks


@pytest.mark.parametrize(
    ("info", "level", "text"),
    [
        ({"redis_version": "6.2.14"}, "fail", "Redis 6.2.14 is too old"),
        ({"redis_version": "7.0.15"}, "ok", "Redis 7.0.15"),
        ({"redis_version": "7.2.4", "valkey_version": "9.1.2"}, "ok", "Valkey 9.1.2"),
        ({"redis_version": "7.2.4", "valkey_version": "7.1.9"}, "fail", "Valkey 7.1.9"),
        ({"redis_version": "8.2.0-rc1"}, "ok", "Redis 8.2"),
        ({"redis_version": "7.4.0", "redis_mode": "cluster"}, "fail", "cluster"),
        ({}, "fail", "too old"),
    ],
)
def test_server_version(info: dict[str, Any], level: str, text: str) -> None:
    finding = checks.check_version(info)
    assert (finding.level, text in finding.text) == (level, True)


@pytest.mark.parametrize(
    ("info", "level"),
    [
        ({"aof_enabled": 1, "aof_last_write_status": "ok"}, "ok"),
        ({"aof_enabled": 0}, "warn"),
        ({"aof_enabled": 1, "aof_last_write_status": "err"}, "fail"),
    ],
)
def test_persistence(info: dict[str, Any], level: str) -> None:
    assert checks.check_persistence(info).level == level


@pytest.mark.parametrize(
    ("policy", "limit", "used", "level"),
    [
        ("noeviction", 0, 5, "ok"),
        ("noeviction", 100, 50, "ok"),
        ("noeviction", 100, 80, "warn"),
        ("noeviction", 100, 95, "fail"),
        ("allkeys-lru", 100, 5, "fail"),
        ("allkeys-lru", 0, 5, "warn"),
        ("volatile-lru", 100, 5, "warn"),
    ],
)
def test_memory(policy: str, limit: int, used: int, level: str) -> None:
    info = {"maxmemory_policy": policy, "maxmemory": limit, "used_memory": used}
    assert checks.check_memory(info).level == level


@pytest.mark.parametrize(
    ("skew_ms", "level"), [(0, "ok"), (-900, "ok"), (1001, "warn"), (-5000, "warn")]
)
def test_clock(skew_ms: int, level: str) -> None:
    assert checks.check_clock(skew_ms).level == level


def test_permissions() -> None:
    assert checks.check_permissions([], "+get").level == "ok"
    finding = checks.check_permissions(["XCLAIM"], "~celeriac:* +xclaim")
    assert finding.level == "fail"
    assert "XCLAIM" in finding.text
    assert "+xclaim" in finding.advice


def levels(stats: Any) -> list[tuple[str, str]]:
    return [(one.level, one.text) for one in checks.check_queues([stats])]


def test_a_queue_on_which_all_is_well(make_stats: Any) -> None:
    ((level, text),) = levels(make_stats(dead=0, accepted=98))
    assert level == "ok"
    assert "98 accepted" in text
    assert "2 workers" in text


@pytest.mark.parametrize(
    ("changes", "level", "text"),
    [
        ({"accepted": 101}, "fail", "1 message missing"),
        ({"accepted": 95}, "fail", "5 messages too many"),
        ({"declared": False}, "warn", "nobody has declared it"),
        ({"workers": []}, "warn", "no worker"),
        ({"workers": [], "paused": True}, "warn", "2 dead letters"),
        ({}, "warn", "2 dead letters"),
    ],
)
def test_what_can_be_wrong_with_a_queue(
    make_stats: Any, changes: dict[str, Any], level: str, text: str
) -> None:
    first, *_ = levels(make_stats(**changes))
    assert first[0] == level
    assert text in first[1]


def test_leases_of_silent_workers_are_orphans(make_stats: Any, make_worker: Any) -> None:
    others = [make_worker("b", silent_ms=60_000), make_worker("c", leased=1)]
    lost = make_worker("a", silent_ms=60_000, leased=3)
    found = levels(make_stats(workers=[lost, *others]))
    assert ("warn", "3 messages held by 1 worker, silent for 1m") in found
    lost = make_worker("a", silent_ms=3_660_000, leased=1)
    found = levels(make_stats(workers=[lost, *others]))
    assert ("fail", "1 message held by 1 worker, silent for 1h1m") in found


def test_no_queues_at_all() -> None:
    (finding,) = checks.check_queues([])
    assert finding.level == "ok"
