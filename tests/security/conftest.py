"""Targets: the arenas of the fault tests, with attackers in place of faults."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.security.target import Target


@pytest.fixture
def target(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Target]]:
    """Make a target; keyword arguments are those of Target."""
    with ExitStack() as stack:

        def make(**options: Any) -> Target:
            return stack.enter_context(Target(tmp_path, seed=request.node.name, **options))

        yield make
