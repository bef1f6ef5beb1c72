"""Arenas for fault tests, the seed they share, and the table they end with.

CHAOS_SEED=n repeats a run's choices; CHAOS=long makes every row larger.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.arena import Arena, Celeriac
from tests.chaos.report import Row, table
from tests.chaos.stock import Stock

SEED = os.environ.get("CHAOS_SEED") or str(secrets.randbelow(10**9))
LONG = os.environ.get("CHAOS", "") == "long"

_rows: list[Row] = []


@pytest.fixture
def report() -> Callable[[Row], None]:
    """Add a line to the table at the end of the run."""
    return _rows.append


@pytest.fixture
def scale() -> Callable[[int, int], int]:
    """Choose between the size of a row's short form and that of its long form."""
    return lambda short, long: long if LONG else short


@pytest.fixture
def _stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def celeriac_arena(
    tmp_path: Path, request: pytest.FixtureRequest, _stack: ExitStack
) -> Callable[..., Celeriac]:
    """Make an arena of ours; keyword arguments are those of Celeriac."""
    return lambda **options: _stack.enter_context(_made(Celeriac, tmp_path, request, options))


@pytest.fixture
def stock_arena(
    tmp_path: Path, request: pytest.FixtureRequest, _stack: ExitStack
) -> Callable[..., Stock]:
    """Make an arena of stock Celery."""
    return lambda **options: _stack.enter_context(_made(Stock, tmp_path, request, options))


def _made(
    kind: type[Any], folder: Path, request: pytest.FixtureRequest, options: dict[str, Any]
) -> Any:
    print(f"CHAOS_SEED={SEED}")  # shown with a failure
    arena: Arena = kind(folder, seed=f"{SEED}/{request.node.name}", **options)
    return arena


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was shown, and how to repeat it."""
    if _rows:
        terminalreporter.section(f"faults (CHAOS_SEED={SEED})")
        for line in table(_rows):
            terminalreporter.write_line(line)
