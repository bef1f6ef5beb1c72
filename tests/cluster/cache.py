"""Where slow builds are kept: a folder outside the checkout, one sub-folder for each name and version."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path


def folder() -> Path:
    """The cache's root: $XDG_CACHE_HOME/celeriac, or ~/.cache/celeriac."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "celeriac"


def cached(name: str, build: Callable[[Path], None]) -> Path:
    """Return the folder ``name`` of the cache; build it first when it is not whole yet.

    A build happens in a scratch folder that is renamed at its end, so an interrupted one leaves nothing
    that looks finished.
    """
    target = folder() / name
    if (target / ".complete").exists():
        return target
    folder().mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder()))
    try:
        build(scratch)
        (scratch / ".complete").touch()
        shutil.rmtree(target, ignore_errors=True)
        scratch.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target
