"""The rules on who may import whom hold for files that nobody has written yet.

Each edit below is made in a copy of the tree, alone, and `lint-imports` must refuse it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
LINTER = "from importlinter.cli import lint_imports_command; lint_imports_command()"
RULES: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]

#: The file, which may be a new one, and the import that it must not have.
FORBIDDEN = [
    ("src/celeriac/broker/new.py", "import kombu"),
    ("src/celeriac/broker/new.py", "from celery import Celery"),
    ("src/celeriac/broker/message.py", "from celeriac.client import client"),
    ("src/celeriac/broker/new.py", "from celeriac.transport import url"),
    ("src/celeriac/client/new.py", "from kombu.utils import json"),
    ("src/celeriac/client/client.py", "from celeriac.transport import fast_path"),
    ("src/celeriac/client/new.py", "from celeriac.broker import scripts"),
    ("src/celeriac/backend/local.py", "from celeriac.broker import queue"),
    ("src/celeriac/backend/new.py", "from celeriac.control import plan"),
    ("src/celeriac/control/metrics.py", "from celeriac.backend import local"),
    ("src/celeriac/control/new.py", "from celeriac.worker import outcome"),
    ("src/celeriac/control/new.py", "import celery"),
    ("src/celeriac/worker/new.py", "from celeriac.control import scale"),
    ("src/celeriac/worker/outcome.py", "from celeriac.chaos import ledger"),
    ("src/celeriac/worker/new.py", "from celeriac.broker import record"),
    ("src/celeriac/worker/attempt.py", "from celeriac.worker import runner"),
    ("src/celeriac/worker/pools/base.py", "from celeriac.worker import main"),
    ("src/celeriac/cli/errors.py", "from celeriac.cli import up"),
    ("operator/celeriac_operator/world.py", "from celeriac_operator import reconcile"),
    ("src/celeriac/spec/new.py", "from celeriac.broker import keys"),
    ("src/celeriac/chaos/new.py", "from celeriac.worker import outcome"),
    ("src/celeriac/control/loop.py", "from celeriac.cli import errors"),
    ("src/celeriac/cli/new.py", "import kubernetes"),
    ("src/celeriac/cli/new.py", "import celeriac_operator"),
    ("src/celeriac_messaging/new.py", "from celeriac.broker import queue"),
    ("src/celeriac_messaging/new.py", "from celeriac.client.client import Client"),
    ("operator/celeriac_operator/new.py", "from celeriac import cli"),
    ("operator/celeriac_operator/reconcile.py", "from celeriac.broker import scripts"),
    ("operator/celeriac_operator/new.py", "from celeriac.worker import outcome"),
    ("operator/celeriac_operator/new.py", "import celeriac_messaging"),
    ("operator/celeriac_operator/new.py", "import celery"),
]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("tree")
    for part in ("src", "operator"):
        shutil.copytree(
            ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
        )
    shutil.copy(ROOT / "pyproject.toml", copy)
    return copy


def complaint(tree: Path) -> str:
    """What the linter says of a tree; nothing when all rules are kept."""
    run = subprocess.run(
        [sys.executable, "-c", LINTER],
        cwd=tree,
        env={"PYTHONPATH": f"{tree / 'src'}:{tree / 'operator'}", "PATH": "", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Contracts: " in run.stdout, run.stdout + run.stderr
    return run.stdout if run.returncode else ""


def test_the_tree_keeps_its_rules(tree: Path) -> None:
    assert complaint(tree) == ""


@pytest.mark.slow
@pytest.mark.parametrize(("file", "line"), FORBIDDEN, ids=[f"{it[0]}: {it[1]}" for it in FORBIDDEN])
def test_a_forbidden_import_is_refused(tree: Path, file: str, line: str) -> None:
    path = tree / file
    before = path.read_text() if path.exists() else None
    path.write_text(f"{before or ''}\n{line}\n")
    try:
        assert "BROKEN" in complaint(tree)
    finally:
        path.unlink() if before is None else path.write_text(before)


def test_every_package_stands_in_a_layer() -> None:
    (layers,) = [it["layers"] for it in RULES["contracts"] if it["type"] == "layers"]
    placed = {module.strip() for layer in layers for module in layer.split("|")}

    assert placed == {*packages("celeriac", ROOT / "src/celeriac"), *RULES["root_packages"]} - {
        "celeriac"
    }


def packages(name: str, folder: Path) -> Iterator[str]:
    for path in folder.iterdir():
        if (path / "__init__.py").exists() or (path.suffix == ".py" and path.stem != "__init__"):
            yield f"{name}.{path.stem}"
