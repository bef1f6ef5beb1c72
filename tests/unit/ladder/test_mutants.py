"""The table of lethal edits fits the tree, and an edit that nobody notices is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.layers import LAYERS, ROOT
from tests.mutants import __main__ as main
from tests.mutants.table import Edit, Stale, edits
from tests.mutants.trees import Tree

ALL = [(layer, edit) for layer, some in edits().items() for edit in some]


@pytest.mark.parametrize(("layer", "edit"), ALL, ids=[edit.name for _, edit in ALL])
def test_every_edit_can_be_made_in_one_place(layer: str, edit: Edit) -> None:
    edit.check(ROOT)
    assert layer in LAYERS


def test_there_are_many_each_with_a_sentence_of_its_own() -> None:
    assert len(ALL) >= 40
    assert len({edit.name for _, edit in ALL}) == len(ALL)


@pytest.mark.parametrize(("old", "new"), [("a", "b"), ("absent", "b"), ("x", "x")])
def test_an_edit_that_does_not_fit_is_an_error(old: str, new: str) -> None:
    with pytest.raises(Stale, match="stands"):
        Edit("wrong", "file", old, new).applied("a a x")


def test_a_file_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(Stale, match="there is no gone"):
        Edit("wrong", "gone.py", "a", "b").check(tmp_path)


def test_an_edit_is_undone_and_each_has_a_time_of_its_own(tmp_path: Path) -> None:
    path, tree = tmp_path / "it.py", Tree(tmp_path)
    path.write_text("A = 1\n")
    times = {path.stat().st_mtime_ns}
    for new in ("2", "3"):
        with tree.edited(Edit("other", "it.py", "1", new)):
            assert path.read_text() == f"A = {new}\n"
            times.add(path.stat().st_mtime_ns)
        assert path.read_text() == "A = 1\n"
    assert len(times) == 3


def test_a_table_keeps_the_rows_of_edits_that_were_not_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.md"
    monkeypatch.setattr(main, "PAGE", page)
    (layer, first), (_, second) = ALL[:2]
    page.write_text(
        "before\n<!-- mutants -->\n| gone | an edit of earlier | `nobody` | 1 |\n<!-- end -->\nafter\n"
    )
    main._write({f"| {layer} | {second.name} |": " `b` | 2 |"})
    main._write({f"| {layer} | {first.name} |": " `a` | 3 |"})
    assert page.read_text().splitlines()[4:] == [
        "|---|---|---|---|",
        f"| {layer} | {first.name} | `a` | 3 |",
        f"| {layer} | {second.name} | `b` | 2 |",
        "",
        "<!-- end -->",
        "after",
    ]
