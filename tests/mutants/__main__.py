"""Try every lethal edit, or some, and print which test noticed each: ``make mutants``.

python -m tests.mutants                     all
python -m tests.mutants --layer worker      those of a layer
python -m tests.mutants --only lease        those whose name or file holds the text
python -m tests.mutants --list              name them, try nothing
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from queue import SimpleQueue

from tests.layers import ROOT
from tests.mutants.run import Trial, attempt, whole
from tests.mutants.table import LAYERS, Edit, edits
from tests.mutants.trees import Tree, copied

SURVIVED = "NOBODY NOTICED"
PAGE = ROOT / "CONTRIBUTING.md"
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
    rows: dict[str, str] = {}
    with ExitStack() as stack:
        trees = [stack.enter_context(copied()) for _ in range(options.jobs)]
        if not options.unchecked and (failed := whole(trees[0])):
            print(f"The tests fail without any edit: {failed}")
            return 1
        for (layer, edit), trial in zip(chosen, _tried(chosen, trees), strict=True):
            rows[f"| {layer} | {edit.name} |"] = _result(trial)
            print(f"| {layer} | {edit.name} |{_result(trial)}", flush=True)
            if options.write:
                _write(rows)
    survived = sum(SURVIVED in result for result in rows.values())
    print(f"\n{len(chosen)} edits, {survived} survived.")
    return int(survived > 0)


def _result(trial: Trial) -> str:
    killer = trial.killer.removeprefix("tests/").replace("|", "/") or SURVIVED
    return f" `{killer}` | {trial.seconds:.0f} |"


def _write(rows: Mapping[str, str]) -> None:
    """Renew these rows of the table; those of edits that are gone go, and the others stay."""
    text = PAGE.read_text()
    before, begin, rest = text.partition("<!-- mutants -->\n")
    old, end, after = rest.partition("<!-- end -->")
    known = {line[: line.index("| `") + 1]: line for line in old.splitlines() if "| `" in line}
    known |= {name: name + result for name, result in rows.items()}
    names = [f"| {layer} | {edit.name} |" for layer, some in edits().items() for edit in some]
    table = [*_HEAD, *(known[name] for name in names if name in known)]
    PAGE.write_text("\n".join([f"{before}{begin}", *table, "", f"{end}{after}"]))


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
