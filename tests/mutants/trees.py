"""A copy of the repository, in which edits are made one at a time."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.layers import ROOT
from tests.mutants.table import Edit


class Tree:
    """The copy. Its packages come before those that are installed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._edits = 0

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs in its environment to import the copy."""
        paths = [self.root / "src", self.root / "operator"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # hundreds of runs share what is compiled
        return environment

    @contextmanager
    def edited(self, edit: Edit) -> Iterator[None]:
        """Make an edit, and undo it in the end. Raises Stale."""
        path = self.root / edit.file
        before = path.read_text()
        self._write(path, edit.applied(before))
        try:
            yield
        finally:
            self._write(path, before)

    def _write(self, path: Path, text: str) -> None:
        path.write_text(text)
        # Compiled files are recognized by time and size: two edits within a second would be one.
        self._edits += 1
        moment = path.stat().st_mtime + self._edits
        os.utime(path, (moment, moment))


@contextmanager
def copied() -> Iterator[Tree]:
    """Copy what git tracks, or would: what is new and not ignored belongs to the tree too."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    with tempfile.TemporaryDirectory(prefix="celeriac-mutants-") as folder:
        root = Path(folder)
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, root / name)
        yield Tree(root)
