"""What fails where: the first stage ends all, the second tries again and says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import stages
from tests.stages import Run, Stage, run_all

PASSES = "def test_fine(): pass\n"
FAILS = "def test_wrong(): assert False\n"
#: Passes when it is run for the second time.
SECOND = """
from pathlib import Path
def test_moody():
    mark = Path(__file__).with_suffix(".ran")
    ran = mark.exists()
    mark.touch()
    assert ran
"""


@pytest.fixture(autouse=True)
def _caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "_CACHES", tmp_path / "caches")


def run_of(folder: Path, name: str, *texts: str) -> Run:
    paths = []
    for number, text in enumerate(texts):
        path = folder / f"test_{name}_{number}.py"
        path.write_text(text)
        paths.append(str(path))
    return Run(name, tuple(paths), ("-p", "no:xdist", f"--rootdir={folder}"))


def test_the_first_stage_ends_everything_when_it_fails(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first = Stage("first", ((run_of(tmp_path, "first", SECOND),),))
    second = Stage("second", ((run_of(tmp_path, "second", PASSES),),), second_try=True)
    assert run_all([first, second], second_try=True) == 1
    said = capfd.readouterr().out.splitlines()
    assert said[-1] == "0 passed, 1 failed, 0 skipped"
    assert any(line.startswith("FAILED") and "test_moody" in line for line in said)
    assert "test_second" not in "\n".join(said)


def test_a_test_that_needed_its_second_try_is_counted_and_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    row = run_of(tmp_path, "moody", SECOND, PASSES), run_of(tmp_path, "calm", PASSES)
    assert run_all([Stage("real", (row,), second_try=True)], second_try=True) == 0
    said = capfd.readouterr().out.splitlines()
    assert said[-2:] == ["1 tests needed a second try.", "3 passed, 0 failed, 0 skipped"]
    named = [line for line in said if line.startswith("NEEDED A SECOND TRY: ")]
    assert len(named) == 1 and named[0].endswith("test_moody_0.py::test_moody")
    assert [line for line in said if line.startswith("===== moody: 1 passed in ")]
    assert any(line.startswith("calm| ") for line in said), "side by side, each line has its name"


@pytest.mark.parametrize("second_try", [True, False])
def test_what_fails_twice_has_failed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], second_try: bool
) -> None:
    stage = Stage("real", ((run_of(tmp_path, "both", FAILS, PASSES),),), second_try=True)
    assert run_all([stage], second_try=second_try) == 1
    said = capfd.readouterr().out.splitlines()
    assert any(line.startswith("FAILED") and "test_wrong" in line for line in said)
    assert said[-1] == "1 passed, 1 failed, 0 skipped"


def test_one_row_waits_for_the_other_and_is_not_begun_when_that_failed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = (run_of(tmp_path, "a", FAILS),), (run_of(tmp_path, "b", PASSES),)
    assert run_all([Stage("first", rows)], second_try=True) == 1
    assert capfd.readouterr().out.splitlines()[-1] == "0 passed, 1 failed, 0 skipped"
