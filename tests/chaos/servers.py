"""The servers that a row of the matrix is run on."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.programs import program


@dataclass(frozen=True, slots=True)
class Kind:
    """A server program, looked for when a test needs it."""

    name: str
    program: str

    def binary(self) -> str:
        """Where it is; a test that it is missing for is skipped, and in CI fails."""
        return program(self.program)


def servers() -> list[object]:
    """The embedded Valkey, and the Redis of the machine."""
    kinds = [Kind("Valkey", "embedded"), Kind("Redis", "redis-server")]
    return [pytest.param(kind, id=kind.name) for kind in kinds]
