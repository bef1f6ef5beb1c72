"""Tries an edit: which test notices it, and after how many seconds."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests.layers import CORE, LAYERS, QUICK, SCRIPTS
from tests.mutants.table import Edit
from tests.mutants.trees import Tree

#: A test that hangs has noticed, too.
HUNG_S = 60
PATIENCE_S = 300
#: These look at the edits themselves: each edit that is made would fail there.
_EDITS_OWN = "--ignore=tests/unit/ladder"
_OPTIONS = (
    "-x",
    "-q",
    "--tb=no",
    "-p",
    "no:cacheprovider",
    f"--timeout={HUNG_S}",
    _EDITS_OWN,
    *QUICK,
)
_NOTICED = re.compile(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of an edit; ``killer`` is empty when no test noticed it."""

    edit: Edit
    killer: str
    seconds: float


def first_looked_at(layer: str) -> tuple[str, ...]:
    """The tests most likely to notice an edit in a layer."""
    unit = LAYERS[layer].unit
    return (SCRIPTS, *unit) if layer == "broker" else unit


def attempt(edit: Edit, layer: str, tree: Tree) -> Trial:
    """Try an edit on the tests of its layer, then on all that `make unit` runs."""
    began = time.monotonic()
    with tree.edited(edit):
        killer = _sure_killer(first_looked_at(layer), tree) or _sure_killer(CORE, tree)
    return Trial(edit, killer, time.monotonic() - began)


def _sure_killer(paths: Sequence[str], tree: Tree) -> str:
    """The test that fails, and does so again: one that the machine held up has noticed nothing."""
    held_up: list[str] = []
    while killer := _killer([*paths, *(f"--deselect={it}" for it in held_up)], tree):
        if "::" not in killer or _killer([killer], tree):
            return killer
        held_up.append(killer)
    return ""


def whole(tree: Tree) -> str:
    """Run the core's tests on a tree without an edit; empty when all pass, as they must."""
    return _killer(CORE, tree)


def _killer(folders: Sequence[str], tree: Tree) -> str:
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *_OPTIONS, *folders],
        cwd=tree.root,
        env=tree.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        said, _ = process.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)  # its servers end with it
        try:
            process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        return f"hung for {PATIENCE_S} s"
    if process.returncode == 0:
        return ""
    found = _NOTICED.search(said)
    return found[1] if found else f"pytest ended with {process.returncode}"
