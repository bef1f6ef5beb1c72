"""What the comparison with other queues decides before anything runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.jobs import all_jobs
from bench.peers.groups import GROUPS, limit
from bench.peers.install import CONSTRAINTS, NODE_PEER, PYTHON_PEERS, Home
from bench.peers.line_up import line_up, systems
from bench.peers.producer import _by_priority
from bench.peers.systems import Variant


@pytest.fixture
def variants() -> list[Variant]:
    return line_up(systems(Home(Path("/nowhere")), ":secret@127.0.0.1:1"), [])


def test_every_variant_has_a_name_of_its_own_and_a_command(variants: list[Variant]) -> None:
    assert len({it.name for it in variants}) == len(variants) > 15
    for variant in variants:
        if variant.system.name != NODE_PEER:
            assert len(variant.worker()) > 1
        assert "secret" in variant.environment()["BENCH_URL"]


def test_names_choose_who_takes_part() -> None:
    everybody = systems(Home(Path("/nowhere")), "")
    assert {it.system.name for it in line_up(everybody, ["huey", "celeriac"])} == {
        "huey",
        "celeriac",
    }


def test_every_peer_is_pinned_exactly_and_from_no_particular_place() -> None:
    assert {path.stem for path in CONSTRAINTS.iterdir()} == {*PYTHON_PEERS, NODE_PEER}
    for peer in PYTHON_PEERS:
        for line in (CONSTRAINTS / f"{peer}.txt").read_text().splitlines():
            assert re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9.]+", line)
    assert not re.search(r"[\^~*]|https?:", (CONSTRAINTS / f"{NODE_PEER}.json").read_text())


def test_one_mark_in_ten_is_urgent_where_the_queue_knows_priorities() -> None:
    split = dict(_by_priority(range(100), True))
    assert (len(split["high"]), len(split["normal"])) == (10, 90)
    assert dict(_by_priority(range(100), False)) == {"normal": list(range(100))}


def test_what_waits_is_limited_by_slots_and_what_computes_by_processes(
    variants: list[Variant],
) -> None:
    by_name = {it.name: it for it in variants}
    assert limit(by_name["Celeriac Asyncio 100"], "io") == 10_000
    assert limit(by_name["Celeriac Prefork 2"], "cpu") == 2_000
    assert limit(by_name["BullMQ 50"], "cpu") == 1_000


def test_a_table_takes_medians_and_puts_the_first_at_one(variants: list[Variant]) -> None:
    measured = {
        variants[0]: [(100.0, 200.0, 3.0), (300.0, 200.0, 3.0), (200.0, 200.0, 3.0)],
        variants[1]: [(500.0, 200.0, 3.0)],
    }
    table = GROUPS["send"].table(measured)
    assert "200 /s (100-300)" in table
    assert "1.00x" in table
    assert "2.50x" in table


def test_a_job_leaves_a_trace_for_each_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench import jobs

    monkeypatch.setattr(jobs, "_marks", None)
    monkeypatch.setenv("BENCH_MARKS", str(tmp_path / "marks"))
    for name, job in all_jobs().items():
        job(*((17, "high") if name == "mark" else ({},)))
    first, second = (tmp_path / "marks").read_text().splitlines()[0].split("...")
    assert first == ""
    assert re.fullmatch(r"17 \d+ high", second)
