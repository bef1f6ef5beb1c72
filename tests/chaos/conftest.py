"""Arenas for fault tests, and the table that they end with (settings.py: seed and size)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from celeriac.chaos.table import Row, table
from tests.chaos.clustered import Clustered
from tests.chaos.ours import Celeriac
from tests.chaos.settings import LONG, SEED
from tests.chaos.stock import Stock

_ROW = "line of the table of faults"
_rows: list[Row] = []


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Callable[[Row], None]:
    """Add a line to the table at the end of the run."""
    properties = (
        request.node.user_properties
    )  # they reach the process that prints, whoever runs the test
    return lambda row: properties.append((_ROW, asdict(row)))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Take in the lines of a test that has run."""
    if report.when == "call":
        lines: list[Any] = [it for name, it in report.user_properties if name == _ROW]
        _rows.extend(Row(**line) for line in lines)


@pytest.fixture
def _make(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    with ExitStack() as stack:

        def make(kind: Any, **options: Any) -> Any:
            print(f"CHAOS_SEED={SEED}")  # shown with a failure
            return stack.enter_context(
                kind(tmp_path, seed=f"{SEED}/{request.node.name}", **options)
            )

        yield make


@pytest.fixture
def celeriac_arena(_make: Callable[..., Any]) -> Callable[..., Celeriac]:
    """Make an arena of ours; keyword arguments are those of Celeriac."""
    return lambda **options: _make(Celeriac, **options)


@pytest.fixture
def clustered_arena(_make: Callable[..., Any]) -> Callable[..., Clustered]:
    """Make an arena on a cluster; keyword arguments are those of Clustered."""
    return lambda **options: _make(Clustered, **options)


@pytest.fixture
def stock_arena(_make: Callable[..., Any]) -> Callable[..., Stock]:
    """Make an arena of stock Celery."""
    return lambda **options: _make(Stock, **options)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give long rows the time they take; only among them stands stock Celery, whose rows judge nobody."""
    ours = [item for item in items if Path(__file__).parent in item.path.parents]
    if LONG:
        for item in ours:
            item.add_marker(pytest.mark.timeout(3600))
        return
    stock = {item for item in ours if "stock_arena" in getattr(item, "fixturenames", ())}
    config.hook.pytest_deselected(items=list(stock))
    items[:] = [item for item in items if item not in stock]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was shown, and how to repeat it."""
    if _rows:
        terminalreporter.section(f"faults (CHAOS_SEED={SEED})")
        for line in table(_rows):
            terminalreporter.write_line(line)
