"""The benchmark's arithmetic: which way a ratio points, and what a percentile is."""

from __future__ import annotations

import json

import pytest

from bench.harness.report import percentile, table
from bench.jobs import payload
from bench.throughput.rows import HEAD, Row


def test_a_ratio_above_one_is_always_in_our_favour() -> None:
    more = Row("rate", "/s", stock=[100, 300, 200], celeriac=[800, 400, 600])
    less = Row("latency", "ms", "less", stock=[2, 4, 6], celeriac=[1, 8, 2])
    assert more.ratio == pytest.approx(3.0)
    assert less.ratio == pytest.approx(2.0)


def test_what_is_worse_says_so() -> None:
    row = Row("rate", "/s", stock=[200], celeriac=[100])
    assert row.cells()[-1] == "0.50x (worse)"
    assert "(worse)" in table(HEAD, [row.cells()])


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.0, 0)])
def test_percentiles(share: float, expected: float) -> None:
    assert percentile(list(range(101)), share) == expected


def test_the_payload_has_the_size_that_is_told() -> None:
    assert len(json.dumps(payload(), separators=(",", ":"))) == 500
