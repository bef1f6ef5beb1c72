"""No test is forgotten: every file is run once by `make test`, and belongs to a layer of `make check`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.layers import CORE, LAYERS, ROOT, main
from tests.stages import STAGES

#: What looks at no layer: the tools beside them, and what takes a minute alone (six servers for each test).
NO_LAYER = {
    "tests/unit/bench",
    "tests/unit/ladder",
    "tests/contract/redis_cluster",
}


def _files(*paths: str) -> set[Path]:
    found: set[Path] = set()
    for name in paths:
        path = ROOT / name
        found |= set(path.rglob("test_*.py")) if path.is_dir() else {path}
    return found


def test_make_test_runs_every_file_once() -> None:
    times: dict[Path, int] = dict.fromkeys(_files("tests"), 0)
    for stage in STAGES:
        for row in stage.rows:
            for run in row:
                ignored = [it.partition("=")[2] for it in run.options if it.startswith("--ignore=")]
                for file in _files(*run.paths) - _files(*ignored):
                    times[file] += 1
    assert {str(file): number for file, number in times.items() if number != 1} == {}


def test_what_is_run_together_has_caches_of_its_own() -> None:
    caches = [run.cache for stage in STAGES for row in stage.rows for run in row]
    assert len(caches) == len(set(caches))


@pytest.mark.parametrize("name", LAYERS)
def test_a_layers_tests_are_there(name: str) -> None:
    for path in (*LAYERS[name].unit, *LAYERS[name].contract):
        assert (ROOT / path).exists(), path


def test_every_unit_test_and_contract_belongs_to_a_layer() -> None:
    known = _files(*(path for it in LAYERS.values() for path in (*it.unit, *it.contract)))
    theirs = _files("tests/unit", "tests/contract") - _files(*NO_LAYER)
    assert sorted(map(str, theirs - known)) == []


def test_the_core_is_all_unit_tests_and_more() -> None:
    assert _files("tests/unit") < _files(*CORE)


def test_without_a_layer_they_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[:-2]] == [*LAYERS]


def test_an_unknown_layer_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["wroker"]) == 1
    assert "worker" in capsys.readouterr().out
