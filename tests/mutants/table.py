"""What a lethal edit is, and all of them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

#: The files of edits/, which are named as the layers in tests/layers.py.
LAYERS = (
    "spec",
    "broker",
    "client",
    "transport",
    "worker",
    "control",
    "backend",
    "operator",
    "messaging",
    "chaos",
    "cli",
)


class Stale(Exception):
    """An edit does not fit the tree any more."""


@dataclass(frozen=True, slots=True)
class Edit:
    """A text that stands in a file once, and what it becomes; ``name`` says what is broken by it."""

    name: str
    file: str
    old: str
    new: str

    def applied(self, text: str) -> str:
        """Make the edit. Raises Stale unless it can be made in exactly one place."""
        found = text.count(self.old)
        if found != 1 or self.old == self.new:
            raise Stale(f"{self.name}: {self.old!r} stands {found} times in {self.file}")
        return text.replace(self.old, self.new)

    def check(self, root: Path) -> None:
        """Raise Stale unless the edit can be made in the tree below ``root``."""
        path = root / self.file
        if not path.is_file():
            raise Stale(f"{self.name}: there is no {self.file}")
        self.applied(path.read_text())


def edits() -> dict[str, tuple[Edit, ...]]:
    """Every edit, by the layer that it is made in."""
    return {layer: import_module(f"tests.mutants.edits.{layer}").EDITS for layer in LAYERS}
