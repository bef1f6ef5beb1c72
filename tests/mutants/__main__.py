"""Try every lethal edit, or some, and print which test noticed each: ``make mutants``.

python -m tests.mutants                     all
python -m tests.mutants --layer worker      those of a layer
python -m tests.mutants --only lease        those whose name or file holds the text
python -m tests.mutants --list              name them, try nothing
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from queue import SimpleQueue

from tests.layers import ROOT
from tests.mutants.run import Trial, attempt, whole
from tests.mutants.table import LAYERS, Edit, edits
from tests.mutants.trees import Tree, copied

SURVIVED = "NOBODY NOTICED"
_HEAD = ("| layer | edit | noticed by | s |", "|---|---|---|---|")


def main() -> int:
    """Print the table; 1 when an edit survived, or the tests fail without one."""
    options = _options()
    chosen = [
        (layer, edit)
        for layer, some in edits().items()
        for edit in some
        if options.layer in {None, layer} and options.only in f"{edit.name} {edit.file}"
    ]
    for layer, edit in chosen:
        edit.check(ROOT)
        if options.list:
            print(f"{layer:<10} {edit.name}")
    if options.list:
        return 0
    if not chosen:
        print("No edit fits.")
        return 1
    rows = []
    with ExitStack() as stack:
        trees = [stack.enter_context(copied()) for _ in range(options.jobs)]
        if not options.unchecked and (failed := whole(trees[0])):
            print(f"The tests fail without any edit: {failed}")
            return 1
        for layer, trial in zip((it for it, _ in chosen), _tried(chosen, trees), strict=True):
            rows.append(_row(layer, trial))
            print(rows[-1], flush=True)
    survived = sum(SURVIVED in row for row in rows)
    told = f"{len(chosen)} edits, {survived} survived."
    print(f"\n{told}")
    if options.write:
        _write([told, "", *_HEAD, *rows])
    return int(survived > 0)


def _row(layer: str, trial: Trial) -> str:
    killer = trial.killer.removeprefix("tests/").replace("|", "/") or SURVIVED
    return f"| {layer} | {trial.edit.name} | `{killer}` | {trial.seconds:.0f} |"


def _write(lines: list[str]) -> None:
    page = ROOT / "CONTRIBUTING.md"
    before, begin, rest = page.read_text().partition("<!-- mutants -->\n")
    _, end, after = rest.partition("<!-- end -->")
    page.write_text("\n".join([f"{before}{begin}", *lines, "", f"{end}{after}"]))


def _tried(chosen: list[tuple[str, Edit]], trees: list[Tree]) -> Iterator[Trial]:
    idle: SimpleQueue[Tree] = SimpleQueue()
    for tree in trees:
        idle.put(tree)

    def one(layer: str, edit: Edit) -> Trial:
        tree = idle.get()
        try:
            return attempt(edit, layer, tree)
        finally:
            idle.put(tree)

    with ThreadPoolExecutor(len(trees)) as pool:
        for trial in [pool.submit(one, layer, edit) for layer, edit in chosen]:
            yield trial.result()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants")
    parser.add_argument("--layer", choices=LAYERS, help="only the edits of one layer")
    parser.add_argument("--only", default="", metavar="TEXT", help="only those that hold the text")
    parser.add_argument("--jobs", type=int, default=1, help="copies of the tree at work at once")
    parser.add_argument("--list", action="store_true", help="name the edits, and try none")
    parser.add_argument("--write", action="store_true", help="renew the table in CONTRIBUTING.md")
    parser.add_argument("--unchecked", action="store_true", help="without a run before any edit")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
